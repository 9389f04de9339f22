"""Result of a metric: its value, the values of single cells, and why it is not defined."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from scbatchnorm._data.types import Bools, Codes, Floats
    from scbatchnorm.metrics._inputs import Groups


@dataclass(frozen=True, eq=False)
class MetricScore:
    """Result of a metric: `value`, nan if it is not defined, for a `reason`.

    `cells` has the value of each cell, shape (cells,), nan for cells that are left out; `aggregate` computes the value
    of a subset from these. `cells` is `None` for a metric without values of single cells.
    """

    value: float
    reason: str = ""
    cells: Floats | None = None
    aggregate: Callable[[Floats], float] = np.mean

    @property
    def has_cells(self) -> bool:
        """Whether the metric has values of single cells, or would have, were it defined."""
        return self.cells is not None or bool(self.reason)

    def of_subset(self, mask: Bools) -> float:
        """Value of the cells in `mask`, shape (cells,); nan where all of them are left out."""
        if self.cells is None:
            return float("nan")
        values = self.cells[mask & ~np.isnan(self.cells)]
        return float(self.aggregate(values)) if len(values) else float("nan")


def expand_score(score: MetricScore, rows: Codes, n_cells: int) -> MetricScore:
    """The score of the cells in `rows` as a score of all `n_cells` cells: the others are nan."""
    if score.cells is None:
        return score
    cells = np.full(n_cells, np.nan)
    cells[rows] = score.cells
    return replace(score, cells=cells)


def undefined_score(reason: str) -> MetricScore:
    """A score that is not defined, and why."""
    return MetricScore(float("nan"), reason)


def mean_score(cells: Floats) -> MetricScore:
    """Mean over cells, nan left out."""
    return MetricScore(float(np.nanmean(cells)), cells=cells)


def median_score(cells: Floats) -> MetricScore:
    """Median over cells, nan left out."""
    values = cells[~np.isnan(cells)]
    return MetricScore(float(np.median(values)) if len(values) else float("nan"), cells=cells, aggregate=np.median)


def label_mean_score(cells: Floats, labels: Groups) -> MetricScore:
    """Mean over labels of the mean over their cells, nan left out: rare labels count as much as frequent ones."""
    defined = ~np.isnan(cells)
    codes = labels.codes[defined]
    sizes = np.bincount(codes, minlength=labels.n)
    means = np.bincount(codes, cells[defined], labels.n)[sizes > 0] / sizes[sizes > 0]
    return MetricScore(float(means.mean()), cells=cells)
