"""Intermediate results that the metrics of one representation share, computed once and when first needed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from scbatchnorm.metrics._clusters import choose_best_clusters, cluster_kmeans, cluster_leiden
from scbatchnorm.metrics._isolated import find_isolated_labels
from scbatchnorm.metrics._kbet import KBET_NEIGHBORS, LabelNeighbors, find_diffusion_neighbors
from scbatchnorm.metrics._knn_preservation import find_neighbors_within_batches
from scbatchnorm.metrics._lisi import (
    LISI_NEIGHBORS,
    BlockwiseNeighbors,
    WeightedNeighbors,
    find_weighted_neighbors,
    weigh_neighbors,
    weigh_neighbors_within_labels,
)
from scbatchnorm.metrics._neighbors import Neighbors
from scbatchnorm.metrics._search import NeighborIndex, find_nearest, use_exact_search
from scbatchnorm.metrics._silhouette import silhouette_widths

if TYPE_CHECKING:
    from scbatchnorm._data.types import Codes, Floats
    from scbatchnorm.metrics._inputs import Flavor, Groups


@dataclass(eq=False)
class Representation:
    """Coordinates of the cells, `points` (cells, dimensions), with their true batches and, where known, labels.

    `before` is the representation of the same cells before integration. Neighbours are searched for the cells in `rows`,
    by default for all.
    """

    points: Floats
    batches: Groups
    labels: Groups
    before: Representation | None
    flavor: Flavor = "default"
    n_jobs: int | None = None
    seed: int = 0
    rows: Codes | None = None

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.points)

    @cached_property
    def neighbors(self) -> Neighbors:
        """Nearest neighbours, as many as any metric needs; of many cells those for LISI are not kept."""
        k = KBET_NEIGHBORS if self._is_large else LISI_NEIGHBORS
        return Neighbors(*find_nearest(self.points, k, n_jobs=self.n_jobs, rng=self.seed))

    @cached_property
    def weighted_neighbors(self) -> WeightedNeighbors | BlockwiseNeighbors:
        """Weighted neighbours, for LISI."""
        if self.rows is not None:
            return find_weighted_neighbors(NeighborIndex(self.points, exact=True), self.rows, flavor=self.flavor)
        if self._is_large:
            return BlockwiseNeighbors(lambda: self._index, self.flavor)
        return weigh_neighbors(self.neighbors, flavor=self.flavor)

    @cached_property
    def within_labels(self) -> dict[int, WeightedNeighbors | BlockwiseNeighbors]:
        """Weighted neighbours among the cells of each label, by code of the label, for CiLISI."""
        return dict(weigh_neighbors_within_labels(self.points, self.labels, self.rows))

    @cached_property
    def within_batches(self) -> list[tuple[Codes, Codes]]:
        """Neighbours among the cells of each batch, for kNN preservation."""
        return find_neighbors_within_batches(self.points, self.batches, self.rows)

    @property
    def _is_large(self) -> bool:
        return not use_exact_search(self.n_cells)

    @cached_property
    def _index(self) -> NeighborIndex:
        return NeighborIndex(self.points, n_jobs=self.n_jobs, rng=self.seed)

    @cached_property
    def diffusion_neighbors(self) -> dict[int, LabelNeighbors]:
        """Neighbours within each label in diffusion components, for kBET."""
        return find_diffusion_neighbors(self.neighbors, self.labels, self.batches, flavor=self.flavor)

    @cached_property
    def label_widths(self) -> Floats:
        """Silhouette widths of labels, shape (cells,)."""
        return silhouette_widths(self.points, self.labels)

    @cached_property
    def isolated_labels(self) -> Codes:
        """Codes of the labels that fewest batches have."""
        return find_isolated_labels(self.labels, self.batches)

    @cached_property
    def kmeans(self) -> Codes:
        """Clusters of k-means, as many as labels."""
        return cluster_kmeans(self.points, self.labels.n, rng=self.seed)

    @cached_property
    def leiden(self) -> list[Codes]:
        """Clusters of Leiden, for each resolution."""
        return cluster_leiden(self.neighbors, rng=self.seed)

    @cached_property
    def best_leiden(self) -> Codes:
        """The Leiden clusters that agree best with the labels."""
        return choose_best_clusters(self.leiden, self.labels)[0]
