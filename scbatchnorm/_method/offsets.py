"""Offset of each batch in component space, by the anchors between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scbatchnorm._method.anchors import cells_per_batch, offsets_in_rounds, sketch_batches
from scbatchnorm._method.pca import batchwise_scores

if TYPE_CHECKING:
    import numpy as np

    from scbatchnorm._data.types import Codes, Floats, Matrix


def estimate_offsets(X: Matrix, points: Floats, codes: Codes, n_neighbors: int, rng: np.random.Generator) -> Floats:
    """Offset of each batch, shape (batches, components), from a sketch of the cells.

    `X` (cells, features) is what the components `points` (cells, components) are of: first anchors are sought in its features,
    scaled within each batch.
    """
    rows = sketch_batches(codes, cells_per_batch(int(codes.max()) + 1), rng)
    scores = batchwise_scores(X[rows], codes[rows], points.shape[1], rng)
    return offsets_in_rounds(points[rows], scores, codes[rows], n_neighbors, rng)
