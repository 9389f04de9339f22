"""A metric's result: its value, what each cell adds to it, and why there is none."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from scbatchnorm._data.types import Bools, Codes, Floats
    from scbatchnorm.metrics._inputs import Groups


@dataclass(frozen=True, eq=False)
class Score:
    """Result of a metric: `value`, nan if it is not defined, for a `reason`.

    `cells` is what each cell adds, shape (cells,), nan for cells that are not judged, and `typical` makes one number of
    some of these; `None` for a metric to which cells add nothing of their own.
    """

    value: float
    reason: str = ""
    cells: Floats | None = None
    typical: Callable[[Floats], float] = np.mean

    @property
    def of_cells(self) -> bool:
        """Whether single cells add to it, or would, were it defined."""
        return self.cells is not None or bool(self.reason)

    def of(self, chosen: Bools) -> float:
        """Value of some cells, `chosen` (cells,); nan where none of them is judged."""
        if self.cells is None:
            return float("nan")
        judged = self.cells[chosen & ~np.isnan(self.cells)]
        return float(self.typical(judged)) if len(judged) else float("nan")


def of_sample(score: Score, rows: Codes, n_cells: int) -> Score:
    """A score of the cells with these `rows`, as one of all: the others are not judged."""
    if score.cells is None:
        return score
    cells = np.full(n_cells, np.nan)
    cells[rows] = score.cells
    return replace(score, cells=cells)


def undefined(reason: str) -> Score:
    """No score, and why."""
    return Score(float("nan"), reason)


def mean(cells: Floats) -> Score:
    """Mean over the cells that are judged."""
    return Score(float(np.nanmean(cells)), cells=cells)


def median(cells: Floats) -> Score:
    """Median over the cells that are judged."""
    judged = cells[~np.isnan(cells)]
    return Score(float(np.median(judged)) if len(judged) else float("nan"), cells=cells, typical=np.median)


def label_mean(cells: Floats, labels: Groups) -> Score:
    """Mean over labels of the mean over their cells that are judged: rare labels count as much as frequent ones."""
    judged = ~np.isnan(cells)
    codes = labels.codes[judged]
    sizes = np.bincount(codes, minlength=labels.n)
    means = np.bincount(codes, cells[judged], labels.n)[sizes > 0] / sizes[sizes > 0]
    return Score(float(means.mean()), cells=cells)
