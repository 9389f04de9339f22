"""Local inverse Simpson index: how many groups a cell effectively has around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from scbatchnorm._data.types import Codes, Floats
    from scbatchnorm.metrics._inputs import Groups
    from scbatchnorm.metrics._neighbors import Neighbors
    from scbatchnorm.metrics._search import Index

# Neighbours looked at; the effective number is a third of them (perplexity 30), as in the R package lisi.
K = 90
_TOLERANCE = 1e-5
_TRIES = 50
# Cells whose neighbours are weighed at once, for their distances take memory many times over.
_BLOCK = 10_000


@dataclass(frozen=True, eq=False)
class Neighborhoods:
    """Neighbours `indices` of each cell and how much each counts, `weights`; both (cells, neighbours).

    Of all cells, or of those with these `rows`.
    """

    indices: Codes
    weights: Floats
    rows: Codes | None = None

    def simpson(self, groups: Groups) -> Floats:
        """Inverse Simpson index of each cell's neighbours, shape (cells,), from 1 to `groups.n`; nan without neighbours.

        1 / sum_g p_g^2, where p_g is the weight of group g.
        """
        if self.rows is None:
            return self.counted(groups)
        found = np.full(len(groups.codes), np.nan)
        found[self.rows] = self.counted(groups)
        return found

    def counted(self, groups: Groups) -> Floats:
        """The index of those cells alone that the neighbours are of."""
        found = np.full(len(self.indices), np.nan)
        for start in range(0, len(found), _BLOCK) if self.indices.shape[1] else ():
            block = slice(start, start + _BLOCK)
            of_neighbor, weights = groups.codes[self.indices[block]], self.weights[block]
            simpson = np.zeros(len(weights))
            for group in range(groups.n):
                simpson += np.square((weights * (of_neighbor == group)).sum(axis=1))
            found[block] = 1 / simpson
        return found


@dataclass(frozen=True, eq=False)
class Sought:
    """Neighbourhoods of more cells than are kept: sought block by block, each time that they are asked for."""

    index: Callable[[], Index]
    flavor: str = "default"

    def simpson(self, groups: Groups) -> Floats:
        """As of :class:`Neighborhoods`."""
        found, index = np.full(len(groups.codes), np.nan), self.index()
        for rows in index.blocks():
            found[rows] = around(index, rows, flavor=self.flavor).counted(groups)
        return found


def around(index: Index, rows: Codes, *, flavor: str = "default") -> Neighborhoods:
    """Neighbourhoods of some cells among all."""
    own = flavor == "scib"
    indices, distances = index.nearest(rows, K - own)
    return Neighborhoods(indices, _of_distances(distances, own=own), rows)


def neighborhoods(neighbors: Neighbors, *, flavor: str = "default") -> Neighborhoods:
    """The nearest 90 cells around each, with weights exp(-beta d).

    d is the distance, and beta is such that the weights' entropy is that of a third as many equal neighbours.
    scib-metrics 0.5 counts the cell itself, with weight 0, as one of the 90.
    """
    own = flavor == "scib"
    near = neighbors.nearest(K - own)
    return Neighborhoods(near.indices, _of_distances(near.distances, own=own))


def _of_distances(distances: Floats, *, own: bool) -> Floats:
    """Weights of neighbours at these distances, (cells, neighbours)."""
    k = distances.shape[1]
    perplexity = max(1, (k + own) // 3)
    starts = range(0, len(distances), _BLOCK) if k else ()
    weights = np.empty(distances.shape)
    for start in starts:
        weights[start : start + _BLOCK] = _weights(distances[start : start + _BLOCK], perplexity)
    return weights


def _weights(distances: Floats, perplexity: float) -> Floats:
    """Weights of neighbours, shape (cells, neighbours), rows summing to 1, by bisection on their entropy."""
    # Relative to the nearest neighbour the weights are the same, and cannot all underflow.
    distances = distances.astype(np.float64) - distances[:, :1]
    weights = np.empty_like(distances)
    open_, beta = np.arange(len(distances)), np.ones(len(distances))
    low, high = np.zeros_like(beta), np.full_like(beta, np.inf)
    for _ in range(_TRIES):
        near, at = distances[open_], beta[open_]
        found = np.exp(-at[:, None] * near)
        total = found.sum(axis=1)
        found /= total[:, None]
        weights[open_] = found
        excess = np.log(total) + at * (found * near).sum(axis=1) - np.log(perplexity)
        off = np.abs(excess) >= _TOLERANCE
        open_, at, excess = open_[off], at[off], excess[off]
        if not len(open_):
            break
        wide = excess > 0
        low[open_] = np.where(wide, at, low[open_])
        high[open_] = np.where(wide, high[open_], at)
        # Where neighbours are equally far beta grows up to here, and the weights stay equal.
        beta[open_] = np.where(np.isinf(high[open_]), at * 2, (low[open_] + high[open_]) / 2)
    return weights
