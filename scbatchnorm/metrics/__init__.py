"""Scores of an integration: arrays in, one number out, 1 is best, nan where a score is not defined."""

from scbatchnorm.metrics._clusters import nmi_ari
from scbatchnorm.metrics._connectivity import graph_connectivity
from scbatchnorm.metrics._evaluate import evaluate
from scbatchnorm.metrics._isolated import isolated_labels
from scbatchnorm.metrics._kbet import kbet
from scbatchnorm.metrics._knn_preservation import knn_preservation
from scbatchnorm.metrics._lisi import cilisi, clisi, ilisi
from scbatchnorm.metrics._neighbors import Neighbors
from scbatchnorm.metrics._pcr import pcr_comparison
from scbatchnorm.metrics._silhouette import bras, silhouette_batch, silhouette_label

__all__ = [
    "Neighbors",
    "bras",
    "cilisi",
    "clisi",
    "evaluate",
    "graph_connectivity",
    "ilisi",
    "isolated_labels",
    "kbet",
    "knn_preservation",
    "nmi_ari",
    "pcr_comparison",
    "silhouette_batch",
    "silhouette_label",
]
