"""What the metrics of one representation share, computed once and when first needed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from scbatchnorm.metrics import _clusters, _isolated, _kbet, _lisi, _mixing, _search, _silhouette
from scbatchnorm.metrics import _knn_preservation as _conservation
from scbatchnorm.metrics._neighbors import Neighbors

if TYPE_CHECKING:
    from scbatchnorm._data.types import Codes, Floats
    from scbatchnorm.metrics._inputs import Flavor, Groups


@dataclass(eq=False)
class Representation:
    """Coordinates of the cells, `points` (cells, dimensions), with their true batches and, where known, labels.

    `before` are the coordinates of the same cells before integration. Neighbours are sought of the cells with these
    `rows`, by default of all.
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
        """As many as the most demanding metric looks at; of many cells those of LISI are not kept."""
        k = _kbet.K if self._many else _lisi.K
        return Neighbors(*_search.nearest(self.points, k, n_jobs=self.n_jobs, rng=self.seed))

    @cached_property
    def neighborhoods(self) -> _lisi.Neighborhoods | _lisi.Sought:
        """Weighted, for LISI."""
        if self.rows is not None:
            return _lisi.around(_search.Index(self.points, exact=True), self.rows, flavor=self.flavor)
        if self._many:
            return _lisi.Sought(lambda: self._index, self.flavor)
        return _lisi.neighborhoods(self.neighbors, flavor=self.flavor)

    @cached_property
    def within_labels(self) -> dict[int, _lisi.Neighborhoods | _lisi.Sought]:
        """Weighted, among the cells of each label."""
        return dict(_mixing.within_labels(self.points, self.labels, self.rows))

    @cached_property
    def within_batches(self) -> list[tuple[Codes, Codes]]:
        """Neighbours among the cells of each batch."""
        return _conservation.within_batches(self.points, self.batches, self.rows)

    @property
    def _many(self) -> bool:
        return self.n_cells > _search.MOST_EXACT

    @cached_property
    def _index(self) -> _search.Index:
        return _search.Index(self.points, n_jobs=self.n_jobs, rng=self.seed)

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
