"""Plotting: functions for one picture draw on `ax`, or on a new figure, and return the axes; those for several return the figure."""

from scbatchnorm.pl._change import change
from scbatchnorm.pl._composition import composition
from scbatchnorm.pl._embedding import embedding
from scbatchnorm.pl._history import history
from scbatchnorm.pl._mixing import mixing
from scbatchnorm.pl._report.report import report
from scbatchnorm.pl._scores import scores
from scbatchnorm.pl._statistics import statistics
from scbatchnorm.pl._strength import strength

__all__ = ["change", "composition", "embedding", "history", "mixing", "report", "scores", "statistics", "strength"]
