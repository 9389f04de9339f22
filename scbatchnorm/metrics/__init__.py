"""Scores of an integration: arrays in, one number out, 1 is best, nan where a score is not defined."""

from scbatchnorm.metrics._conservation import clisi, silhouette_label
from scbatchnorm.metrics._mixing import ilisi, silhouette_batch
from scbatchnorm.metrics._neighbors import Neighbors

__all__ = ["Neighbors", "clisi", "ilisi", "silhouette_batch", "silhouette_label"]
