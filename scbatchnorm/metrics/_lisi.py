"""Local inverse Simpson index: how many groups a cell effectively has around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scbatchnorm._typing import Floats
    from scbatchnorm.metrics._inputs import Groups
    from scbatchnorm.metrics._neighbors import Neighbors

# Neighbours looked at; the effective number is a third of them (perplexity 30), as in the R package lisi.
K = 90
_TOLERANCE = 1e-5
_TRIES = 50


def per_cell(neighbors: Neighbors, groups: Groups) -> Floats:
    """Inverse Simpson index of `groups` in each cell's weighted neighbourhood, shape (cells,), from 1 to `groups.n`.

    1 / sum_g p_g^2, where p_g is the weight of group g among the neighbours. Weights are exp(-beta d), d the distance
    and beta so that the weights' entropy is that of a third as many equal neighbours. nan without neighbours.
    """
    if neighbors.k == 0:
        return np.full(neighbors.n_cells, np.nan)
    weights = _weights(neighbors.distances, perplexity=max(1, neighbors.k // 3))
    of_neighbor = groups.codes[neighbors.indices]
    simpson = np.zeros(neighbors.n_cells)
    for group in range(groups.n):
        simpson += np.square((weights * (of_neighbor == group)).sum(axis=1))
    return 1 / simpson


def _weights(distances: Floats, perplexity: float) -> Floats:
    """Weights of neighbours, shape (cells, neighbours), rows summing to 1, by bisection on their entropy."""
    # Relative to the nearest neighbour the weights are the same, and cannot all underflow.
    distances = distances.astype(np.float64) - distances[:, :1]
    beta = np.ones(len(distances))
    low, high = np.zeros_like(beta), np.full_like(beta, np.inf)
    for _ in range(_TRIES):
        weights = np.exp(-beta[:, None] * distances)
        total = weights.sum(axis=1)
        weights /= total[:, None]
        entropy = np.log(total) + beta * (weights * distances).sum(axis=1)
        excess = entropy - np.log(perplexity)
        if (np.abs(excess) < _TOLERANCE).all():
            break
        wide = excess > 0
        low, high = np.where(wide, beta, low), np.where(wide, high, beta)
        # Where neighbours are equally far beta grows up to here, and the weights stay equal.
        beta = np.where(np.isinf(high), beta * 2, (low + high) / 2)
    return weights
