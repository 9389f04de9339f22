"""Which states batches share, and clusters in which cells of several batches meet."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from scbatchnorm._method.offsets import estimate_offsets
from scbatchnorm._method.stem import root_mean_square
from scbatchnorm._method.support import find_shared_states, knn_mixing

if TYPE_CHECKING:
    from scbatchnorm._data.types import Bools, Codes, Floats

_NEIGHBOURS = 5
# Support from which on a cell has counterparts.
_HAS_COUNTERPART = 0.2
# Cells of a batch for one cluster: small clusters hold one state each, so that composition is no effect.
_PER_CLUSTER = 15
_MOST_CLUSTERS = 30
_STARTS = 3


@dataclass(frozen=True)
class Counterparts:
    """Where cells meet those of other batches."""

    points: Floats  # (cells, components)
    has: Bools  # (cells, batches): whether a cell has counterparts in a batch
    compared: Bools  # (batches, batches): not all pairs, if there are very many
    mixing: float  # of cells with counterparts, from 0 to about 1

    def shared(self, codes: Codes) -> tuple[Floats, Floats]:
        """Share of each batch's cells with counterparts in each other batch, and in any.

        Shapes (batches, batches), nan on the diagonal and where two were not compared, and (batches,).
        """
        n = int(codes.max()) + 1
        each = np.array([self.has[codes == batch].mean(axis=0) for batch in range(n)])
        each[~self.compared] = np.nan
        return each, np.array([self.has[codes == batch].any(axis=1).mean() for batch in range(n)])


def as_they_are(points: Floats, codes: Codes, rng: np.random.Generator) -> Counterparts:
    """Counterparts by the anchors among `points` (cells, components).

    Where there is no effect this does not depend on which batch a cell is of, so that a comparison of batches among those
    that have counterparts, and within their clusters, is fair.
    """
    return _found(_normed(points), codes, rng)


def moved(points: Floats, codes: Codes, rng: np.random.Generator) -> Counterparts:
    """The same after batches were moved onto each other by their anchors: for batches that differ.

    Where they are, cells of a cluster are alike, so differences between their batches look smaller than they are, and
    batches far apart have no cluster in common.
    """
    points = _normed(points)
    return _found(points - estimate_offsets(points, points, codes, _NEIGHBOURS, rng)[codes], codes, rng)


def _normed(points: Floats) -> Floats:
    """Points around 0, as anchors go by angles, whose root mean square is 1."""
    points = (points - points.mean(axis=0)).astype(np.float32)
    return points / np.float32(root_mean_square(points))


def _found(points: Floats, codes: Codes, rng: np.random.Generator) -> Counterparts:
    states = find_shared_states(points, codes, _NEIGHBOURS, rng)
    mixing = knn_mixing(points, codes, states.overlap.max(axis=1), rng)
    # Two batches that are compared have at least one anchor: the two cells that are nearest.
    n_batches = int(codes.max()) + 1
    pairs = np.bincount(states.anchors.group, minlength=n_batches**2).reshape(n_batches, n_batches) > 0
    return Counterparts(points, states.overlap >= _HAS_COUNTERPART, pairs | pairs.T, mixing)


def clusters(counterparts: Counterparts, codes: Codes, rng: np.random.Generator) -> Codes:
    """Cluster of each cell, shape (cells,), largest first; -1 for cells without counterpart in any other batch."""
    kept = np.flatnonzero(counterparts.has.any(axis=1))
    found = np.full(len(codes), -1)
    if not len(kept):
        return found
    # Clusters of all cells: those without counterpart keep their place, so that others do not spread into it.
    typical = np.median(np.bincount(codes))
    n = int(np.clip(typical // _PER_CLUSTER, 1, _MOST_CLUSTERS))
    n = min(n, len(np.unique(counterparts.points, axis=0)))
    seed = int(rng.integers(2**31))
    with warnings.catch_warnings():
        # Clusters that stay empty, where cells differ by less than distances are precise to.
        warnings.simplefilter("ignore", ConvergenceWarning)
        all_of = KMeans(n, n_init=_STARTS, random_state=seed).fit_predict(counterparts.points)
    order = np.argsort(-np.bincount(all_of[kept], minlength=n), kind="stable")
    rank = np.empty(n, dtype=int)
    rank[order] = np.arange(n)
    found[kept] = rank[all_of[kept]]
    return found
