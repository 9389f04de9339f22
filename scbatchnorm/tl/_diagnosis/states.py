"""States: clusters of cells of one batch that stay separate under measurement noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage

from scbatchnorm._method.anchors import find_nearest
from scbatchnorm.tl._diagnosis.overlap import SAME_GROUP, knn_mixing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scbatchnorm._data.types import Codes, Floats

# Smallest state, and most states of a batch.
MIN_CELLS = 15
_MAX_STATES = 40
# Cells of a batch that are clustered; the others get the cluster of the majority of their nearest ones.
_MAX_CLUSTERED = 2500
_N_VOTES = 5


@dataclass(frozen=True, eq=False)
class States:
    """States of all batches, numbered consecutively: `codes` (cells,) is the state of each cell, `batch` of each state."""

    codes: Codes
    batch: Codes  # (states,)

    @property
    def n_states(self) -> int:
        """Number of states."""
        return len(self.batch)

    @property
    def sizes(self) -> Codes:
        """Cells of each state, shape (states,)."""
        return np.bincount(self.codes, minlength=self.n_states)

    def in_batch(self, batch: int) -> Codes:
        """States of a batch."""
        return np.flatnonzero(self.batch == batch)


def find_states(
    points: Floats, rows: Sequence[Codes], neighbours_again: Sequence[Codes], rng: np.random.Generator
) -> States:
    """States of each batch, numbered by size within their batch.

    They are Ward clusters of `points` (cells, dimensions), merged until no two mix more than `SAME_GROUP` among the
    neighbours after a second measurement, `neighbours_again`.
    """
    codes = np.zeros(len(points), dtype=np.intp)
    batch: list[int] = []
    for level, (cells, neighbours) in enumerate(zip(rows, neighbours_again, strict=True)):
        clusters = _merge_clusters(_find_clusters(points[cells], rng), neighbours)
        rank = np.argsort(np.argsort(-np.bincount(clusters), kind="stable"))
        codes[cells] = rank[clusters] + len(batch)
        batch += [level] * (int(clusters.max()) + 1)
    return States(codes, np.array(batch))


def _find_clusters(points: Floats, rng: np.random.Generator) -> Codes:
    """Many small clusters of the cells of a batch, shape (cells,)."""
    n_cells = len(points)
    sample = (
        np.arange(n_cells) if n_cells <= _MAX_CLUSTERED else np.sort(rng.choice(n_cells, _MAX_CLUSTERED, replace=False))
    )
    n_clusters = min(len(sample) // (2 * MIN_CELLS), _MAX_STATES)
    if n_clusters < 2:
        return np.zeros(n_cells, dtype=np.intp)
    clusters = np.unique(fcluster(linkage(points[sample], "ward"), n_clusters, "maxclust"), return_inverse=True)[1]
    if len(sample) == n_cells:
        return clusters
    nearest = clusters[find_nearest(points, points[sample], _N_VOTES)]
    votes = np.zeros((n_cells, int(clusters.max()) + 1), dtype=np.intp)
    np.add.at(votes, (np.arange(n_cells)[:, None], nearest), 1)
    return votes.argmax(axis=1)


def _merge_clusters(codes: Codes, neighbours: Codes) -> Codes:
    """Clusters merged, those that mix most first, until all are separate and large enough."""
    while codes.max() > 0:
        sizes = np.bincount(codes)
        mixing = knn_mixing(neighbours, codes, len(sizes))
        first, second = divmod(int(mixing.argmax()), len(sizes))
        if mixing[first, second] < SAME_GROUP:
            first = int(sizes.argmin())
            if sizes[first] >= MIN_CELLS:
                break
            second = int(mixing[first].argmax())
            if second == first:
                second = int(np.delete(np.arange(len(sizes)), first)[0])
        codes = np.where(codes == second, first, codes)
        codes = np.unique(codes, return_inverse=True)[1]
    return codes
