"""Offset of each batch in component space, by the anchors between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scbatchnorm._method import anchors as _anchors
from scbatchnorm._method import pca as _principal

if TYPE_CHECKING:
    import numpy as np

    from scbatchnorm._data.types import Codes, Floats, Matrix


def find(X: Matrix, points: Floats, codes: Codes, n_neighbors: int, rng: np.random.Generator) -> Floats:
    """Offset of each batch, shape (batches, components), from a sketch of the cells.

    `X` (cells, features) is what the components `points` (cells, components) are of: first anchors are sought in its features,
    scaled within each batch.
    """
    rows = _anchors.sketch(codes, _anchors.per_batch(int(codes.max()) + 1), rng)
    scores = _principal.batchwise_scores(X[rows], codes[rows], points.shape[1], rng)
    return _anchors.align(points[rows], scores, codes[rows], n_neighbors, rng)
