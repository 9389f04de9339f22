"""What the metrics of one representation share, computed once and when first needed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from scbatchnorm.metrics import _clusters, _conservation, _isolated, _kbet, _lisi, _mixing, _search, _silhouette
from scbatchnorm.metrics._neighbors import Neighbors

if TYPE_CHECKING:
    from scbatchnorm._typing import Codes, Floats
    from scbatchnorm.metrics._inputs import Flavor, Groups


@dataclass(eq=False)
class Representation:
    """Coordinates of the cells, `points` (cells, dimensions), with their true batches and, where known, labels.

    `before` are the coordinates of the same cells before integration.
    """

    points: Floats
    batches: Groups
    labels: Groups
    before: Representation | None
    flavor: Flavor = "default"
    n_jobs: int | None = None
    seed: int = 0

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.points)

    @cached_property
    def neighbors(self) -> Neighbors:
        """As many as the most demanding metric looks at."""
        return Neighbors(*_search.nearest(self.points, _lisi.K, n_jobs=self.n_jobs, rng=self.seed))

    @cached_property
    def neighborhoods(self) -> _lisi.Neighborhoods:
        """Weighted, for LISI."""
        return _lisi.neighborhoods(self.neighbors, flavor=self.flavor)

    @cached_property
    def within_labels(self) -> dict[int, _lisi.Neighborhoods]:
        """Weighted, among the cells of each label."""
        return dict(_mixing.within_labels(self.points, self.labels))

    @cached_property
    def within_batches(self) -> list[tuple[Codes, Codes]]:
        """Neighbours among the cells of each batch."""
        return _conservation.within_batches(self.points, self.batches)

    @cached_property
    def diffusion(self) -> dict[int, _kbet.Neighborhoods]:
        """Neighbours within each label, for kBET."""
        return _kbet.neighborhoods(self.neighbors, self.labels, self.batches, flavor=self.flavor)

    @cached_property
    def widths(self) -> Floats:
        """Silhouette widths of labels."""
        return _silhouette.widths(self.points, self.labels)

    @cached_property
    def isolated(self) -> Codes:
        """Labels that fewest batches have."""
        return _isolated.codes(self.labels, self.batches)

    @cached_property
    def kmeans(self) -> Codes:
        """As many clusters as labels."""
        return _clusters.kmeans(self.points, self.labels.n, rng=self.seed)

    @cached_property
    def leiden(self) -> list[Codes]:
        """Clusters at each resolution."""
        return _clusters.leiden(self.neighbors, rng=self.seed)

    @cached_property
    def best_leiden(self) -> Codes:
        """Of the clusters at each resolution those that agree best with the labels."""
        return _clusters.best(self.leiden, self.labels)[0]
