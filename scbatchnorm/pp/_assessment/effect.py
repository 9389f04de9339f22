"""How much of the variance within a group of cells lies between batches, against permuted batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scbatchnorm._data.types import Codes, Floats

# Fewer cells of a batch say nothing about where it lies.
AT_LEAST = 5
_ROUNDING = 1e-9
# Cells that are permuted at once: bounds the memory.
_ENTRIES = 1_000_000


@dataclass(frozen=True)
class Effect:
    """Effect of the batch in one group of cells.

    Effects are shares of the variance: that of the means of batches, over itself plus that within batches. Each batch
    counts as if all had the same number of cells, and what errors of the means add is subtracted, so that effects
    scatter around 0 where there is none.
    """

    n_cells: int
    batches: Codes  # (judged,) batches with enough cells
    sizes: Codes  # (judged,) their cells
    value: float
    null: Floats  # (permutations,) the same with batches permuted among the cells
    each: Floats  # (judged,) of each batch against the mean of the others
    each_null: Floats  # (permutations, judged)

    @property
    def p_value(self) -> float:
        """Share of the permutations whose effect is at least as large, the observed one counted."""
        return _p_value(self.value, self.null)

    @property
    def chance(self) -> float:
        """Effect that 95 % of the permutations stay below."""
        return float(np.quantile(self.null, 0.95))


def measure(points: Floats, codes: Codes, n_permutations: int, rng: np.random.Generator) -> Effect | None:
    """Effect of the batch on `points` (cells, components) of one group; `None` unless two batches have enough cells."""
    sizes = np.bincount(codes)
    batches = np.flatnonzero(sizes >= AT_LEAST)
    if len(batches) < 2:
        return None
    kept = np.isin(codes, batches)
    points, codes, sizes = points[kept], np.searchsorted(batches, codes[kept]), sizes[batches]
    points = (points - points.mean(axis=0)).astype(np.float32)
    total = float(np.square(points, dtype=np.float64).sum())
    value, each = _shares(_means(points, np.argsort(codes, kind="stable")[None], sizes), sizes, total)
    values, eaches = [], []
    step = max(1, _ENTRIES // len(codes))
    for start in range(0, n_permutations, step):
        cells = np.tile(np.arange(len(codes)), (min(step, n_permutations - start), 1))
        found = _shares(_means(points, rng.permuted(cells, axis=1), sizes), sizes, total)
        values.append(found[0])
        eaches.append(found[1])
    return Effect(len(codes), batches, sizes, float(value[0]), np.concatenate(values), each[0], np.concatenate(eaches))


def _means(points: Floats, cells: Codes, sizes: Codes) -> Floats:
    """Mean of each batch, shape (permutations, batches, components).

    Each row of `cells` (permutations, cells) names the cells of the first batch, then those of the second, and so on.
    """
    n_rows = len(cells) * len(sizes)
    ends = np.concatenate([[0], np.cumsum(np.tile(sizes, len(cells)))])
    ones = np.ones(cells.size, dtype=np.float32)
    sums = sparse.csr_matrix((ones, cells.ravel(), ends), shape=(n_rows, len(points))) @ points
    return sums.reshape(len(cells), len(sizes), -1).astype(np.float64) / sizes[:, None]


def _shares(means: Floats, sizes: Codes, total: float) -> tuple[Floats, Floats]:
    """Effects over all batches (permutations,), and of each one against the others (permutations, batches).

    The first is of the variance of means, which is the mean of the others' numerators. Squared distances between means are
    too large by the errors of the means, which are known from the variance within batches.
    """
    n = len(sizes)
    square = np.square(means).sum(axis=-1)
    within = np.maximum(total - square @ sizes, 0) / (sizes.sum() - n)
    error = 1 / sizes
    spread = square.sum(axis=-1) - n * np.square(means.mean(axis=1)).sum(axis=-1)
    between = spread / (n - 1) - within * error.mean()
    others = (means.sum(axis=1, keepdims=True) - means) / (n - 1)
    apart = np.square(means - others).sum(axis=-1)
    each = (apart - within[:, None] * (error + (error.sum() - error) / (n - 1) ** 2)) * (n - 1) / n
    # Of constant data rounding leaves something.
    tiny = np.finfo(np.float32).tiny + 1e-6 * total / sizes.sum()
    return between / np.maximum(between + within, tiny), each / np.maximum(each + within[:, None], tiny)


@dataclass(frozen=True)
class Deviation:
    """How far one batch lies from the mean of the others: mean over the groups that hold it, by its cells there."""

    value: float
    null: Floats  # (permutations,)

    @property
    def p_value(self) -> float:
        """As that of an effect."""
        return _p_value(self.value, self.null)


def of_batches(effects: list[Effect], n_batches: int) -> list[Deviation | None]:
    """Deviation of each batch; `None` for a batch in none of the groups."""
    found: list[Deviation | None] = []
    for batch in range(n_batches):
        held = [(effect, int(np.searchsorted(effect.batches, batch))) for effect in effects if batch in effect.batches]
        if not held:
            found.append(None)
            continue
        weight = np.array([effect.sizes[place] for effect, place in held], dtype=float)
        value = float(np.average([effect.each[place] for effect, place in held], weights=weight))
        null = np.average([effect.each_null[:, place] for effect, place in held], axis=0, weights=weight)
        found.append(Deviation(value, null))
    return found


def _p_value(value: float, null: Floats) -> float:
    # Permutations that restore the batches differ by rounding.
    return float((1 + (null >= value - _ROUNDING).sum()) / (len(null) + 1))


def adjusted(found: Sequence[Effect | Deviation]) -> Floats:
    """p-values corrected for their number, shape (found,): how often chance makes the most striking of all as striking.

    Westfall and Young's step: values in units of their null distribution, against the largest of all in each permutation.
    However many there are, p-values can be as small as without correction.
    """
    if not found:
        return np.empty(0)
    null = np.stack([each.null for each in found], axis=1)
    centre, unit = null.mean(axis=0), np.maximum(null.std(axis=0), _ROUNDING)
    largest = np.sort(((null - centre) / unit).max(axis=1))
    striking = (np.array([each.value for each in found]) - centre) / unit
    n_below = np.searchsorted(largest, striking - _ROUNDING, side="left")
    return (1 + len(largest) - n_below) / (len(largest) + 1)
