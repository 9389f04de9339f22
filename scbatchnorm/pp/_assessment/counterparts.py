"""Cells with counterparts in other batches, and clusters in which cells of several batches occur together."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from scbatchnorm._method.anchors import estimate_offsets
from scbatchnorm._method.stem import root_mean_square
from scbatchnorm._method.support import find_shared_states, knn_mixing

if TYPE_CHECKING:
    from scbatchnorm._data.types import Bools, Codes, Floats

_N_NEIGHBORS = 5
# A cell has counterparts in a batch from this neighbourhood overlap on.
_MIN_OVERLAP = 0.2
# Cells of a batch per cluster: small clusters hold one state each, so that differences in composition are no effect.
_CELLS_PER_CLUSTER = 15
_MAX_CLUSTERS = 30
_N_INIT = 3


@dataclass(frozen=True)
class Counterparts:
    """Which cells have counterparts in which batches.

    Attributes
    ----------
    points
        Centred and scaled coordinates in which counterparts were found, shape (cells, components).
    has_counterpart
        Whether a cell has counterparts in a batch, shape (cells, batches).
    compared
        Which pairs of batches were compared, shape (batches, batches); not all of them if there are very many.
    mixing
        Mixing of the batches around cells with counterparts, from 0 to about 1.
    """

    points: Floats
    has_counterpart: Bools
    compared: Bools
    mixing: float

    def shared_by_batch(self, codes: Codes) -> tuple[Floats, Floats]:
        """Share of each batch's cells with counterparts in each other batch, and in any other batch.

        Shapes (batches, batches), nan on the diagonal and for pairs that were not compared, and (batches,).
        """
        members = [self.has_counterpart[codes == batch] for batch in range(int(codes.max()) + 1)]
        pairwise = np.array([rows.mean(axis=0) for rows in members])
        pairwise[~self.compared] = np.nan
        return pairwise, np.array([rows.any(axis=1).mean() for rows in members])


def find_counterparts(points: Floats, codes: Codes, rng: np.random.Generator, *, align: bool) -> Counterparts:
    """Find counterparts by the anchors (mutual nearest neighbours) among `points` (cells, components).

    Without `align`, and without a batch effect, having counterparts does not depend on a cell's batch, so comparing
    batches among cells with counterparts is unbiased.

    With `align`, estimated offsets of the batches are subtracted first: batches far apart would have no cluster in
    common, and cells of a common cluster would be selected to be similar, which makes effects look smaller.
    """
    points = (points - points.mean(axis=0)).astype(np.float32)  # around 0, as anchors use cosine distances
    points /= np.float32(root_mean_square(points))
    if align:
        points = points - estimate_offsets(points, points, codes, _N_NEIGHBORS, rng)[codes]
    states = find_shared_states(points, codes, _N_NEIGHBORS, rng)
    mixing = knn_mixing(points, codes, states.overlap.max(axis=1), rng)
    # Two batches that were compared have at least one anchor: the two nearest cells.
    n_batches = int(codes.max()) + 1
    compared = np.bincount(states.anchors.group, minlength=n_batches**2).reshape(n_batches, n_batches) > 0
    return Counterparts(points, states.overlap >= _MIN_OVERLAP, compared | compared.T, mixing)


def cluster_cells(counterparts: Counterparts, codes: Codes, rng: np.random.Generator) -> Codes:
    """Cluster of each cell, shape (cells,), largest first; -1 for cells without counterparts in any other batch."""
    rows = np.flatnonzero(counterparts.has_counterpart.any(axis=1))
    clusters = np.full(len(codes), -1)
    if not len(rows):
        return clusters
    # Cells without counterparts are clustered as well, or clusters of the others would extend into their place.
    n = int(np.clip(np.median(np.bincount(codes)) // _CELLS_PER_CLUSTER, 1, _MAX_CLUSTERS))
    n = min(n, len(np.unique(counterparts.points, axis=0)))
    seed = int(rng.integers(2**31))
    with warnings.catch_warnings():
        # Clusters that stay empty, where cells differ by less than the precision of distances.
        warnings.simplefilter("ignore", ConvergenceWarning)
        numbers = KMeans(n, n_init=_N_INIT, random_state=seed).fit_predict(counterparts.points)[rows]
    rank = np.argsort(np.argsort(-np.bincount(numbers, minlength=n), kind="stable"))
    clusters[rows] = rank[numbers]
    return clusters
