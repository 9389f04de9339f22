"""Pictures: each draws on the axes given as `ax`, or on a new figure, and returns the axes."""

from scbatchnorm.pl._embedding import embedding
from scbatchnorm.pl._history import history
from scbatchnorm.pl._statistics import statistics

__all__ = ["embedding", "history", "statistics"]
