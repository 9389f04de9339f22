"""The weighted graph of neighbours that UMAP and scanpy use, for clusters and diffusion."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from scbatchnorm._data.types import Floats, Matrix
    from scbatchnorm.metrics._neighbors import Neighbors

_TOLERANCE = 1e-5
_TRIES = 64
# Widths are not smaller than this share of the mean distance.
_LEAST_WIDTH = 1e-3


def directed(neighbors: Neighbors, weights: Floats | None = None) -> Matrix:
    """Who has whom as a neighbour: CSR matrix (cells, cells) of `weights` (cells, neighbours), by default ones."""
    n_cells, k = neighbors.indices.shape
    values = np.ones(n_cells * k) if weights is None else weights.ravel()
    return sparse.csr_matrix((values, neighbors.indices.ravel(), np.arange(n_cells + 1) * k), shape=(n_cells, n_cells))


def connectivities(neighbors: Neighbors) -> Matrix:
    """Symmetric weights from 0 to 1, CSR matrix (cells, cells), as UMAP makes them of distances (McInnes et al. 2018).

    exp(-(d - r) / s), r the distance of the nearest neighbour that is not at the same place, s such that weights sum up
    to log2(k), k counting the cell itself; then the union a + b - a b of both directions. Written anew because umap
    compiles for ten seconds before it does this.
    """
    if neighbors.k == 0:
        return directed(neighbors)
    distances = neighbors.distances.astype(np.float32).astype(np.float64)
    nearest = np.where(distances > 0, distances, np.inf).min(axis=1)
    beyond = np.maximum(distances - np.where(np.isfinite(nearest), nearest, 0)[:, None], 0)
    # The cell itself counts in the means, at distance 0.
    mean = distances.sum(axis=1) / (neighbors.k + 1)
    least = _LEAST_WIDTH * np.where(np.isfinite(nearest), mean, mean.mean())
    width = np.maximum(_widths(beyond, np.log2(neighbors.k + 1)), least)
    weights = np.exp(-np.divide(beyond, width[:, None], out=np.zeros_like(beyond), where=beyond > 0))
    one_way = directed(neighbors, weights.astype(np.float32))
    one_way.eliminate_zeros()  # what single precision calls 0 is no edge
    both = one_way.multiply(one_way.T)
    return sparse.csr_matrix(one_way + one_way.T - both)


def _widths(beyond: Floats, target: float) -> Floats:
    """Width of each cell's kernel, shape (cells,), by bisection on the sum of its weights."""
    width = np.ones(len(beyond))
    low, high = np.zeros_like(width), np.full_like(width, np.inf)
    rows = np.arange(len(beyond))
    for _ in range(_TRIES):
        excess = np.exp(-beyond[rows] / width[rows, None]).sum(axis=1) - target
        off = np.abs(excess) >= _TOLERANCE
        rows, excess = rows[off], excess[off]
        if not len(rows):
            break
        high[rows] = np.where(excess > 0, width[rows], high[rows])
        low[rows] = np.where(excess > 0, low[rows], width[rows])
        doubled = np.isinf(high[rows])
        width[rows] = np.where(doubled, 2 * width[rows], (low[rows] + np.where(doubled, 0, high[rows])) / 2)
    return width
