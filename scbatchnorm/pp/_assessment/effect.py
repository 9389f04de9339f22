"""Batch effect within groups of cells: the share of the variance between batches, tested by permutation of the batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scbatchnorm._data.types import Codes, Floats

# The mean of a batch with fewer cells in a group is too uncertain to compare.
MIN_CELLS = 5
_ROUNDING = 1e-9
# Cells times permutations that are computed at once: bounds the memory.
_ENTRIES = 1_000_000


@dataclass(frozen=True)
class Effect:
    """Effect of the batch in one group of cells.

    Effects are shares of the variance: that between the means of batches, over itself plus that within batches. Batches
    are weighted equally whatever their sizes, and the sampling variance of the means is subtracted, so that effects
    scatter around 0 where there is none.
    """

    n_cells: int
    batches: Codes  # (compared,) batches with enough cells in the group
    sizes: Codes  # (compared,) their cells in the group
    value: float
    null: Floats  # (permutations,) the effect with batches permuted among the cells
    per_batch: Floats  # (compared,) effect of each batch against the mean of the others
    per_batch_null: Floats  # (permutations, compared)

    @property
    def p_value(self) -> float:
        """Share of the permutations whose effect is at least as large, the observed one counted."""
        return _p_value(self.value, self.null)

    @property
    def chance(self) -> float:
        """95 % quantile of the effects of the permutations."""
        return float(np.quantile(self.null, 0.95))


@dataclass(frozen=True)
class Group:
    """A cluster or label in which batches could be compared."""

    name: str
    n_cells: int
    effect: Effect


def measure_effect(points: Floats, codes: Codes, n_permutations: int, rng: np.random.Generator) -> Effect | None:
    """Effect of the batch on `points` (cells, components) of one group; `None` unless two batches have enough cells."""
    sizes = np.bincount(codes)
    batches = np.flatnonzero(sizes >= MIN_CELLS)
    if len(batches) < 2:
        return None
    compared = np.isin(codes, batches)
    points, codes, sizes = points[compared], np.searchsorted(batches, codes[compared]), sizes[batches]
    points = (points - points.mean(axis=0)).astype(np.float32)
    total = float(np.square(points, dtype=np.float64).sum())
    value, per_batch = _variance_shares(
        _batch_means(points, np.argsort(codes, kind="stable")[None], sizes), sizes, total
    )
    null, per_batch_null = [], []
    step = max(1, _ENTRIES // len(codes))
    for start in range(0, n_permutations, step):
        cells = np.tile(np.arange(len(codes)), (min(step, n_permutations - start), 1))
        permuted = _variance_shares(_batch_means(points, rng.permuted(cells, axis=1), sizes), sizes, total)
        null.append(permuted[0])
        per_batch_null.append(permuted[1])
    return Effect(
        n_cells=len(codes),
        batches=batches,
        sizes=sizes,
        value=float(value[0]),
        null=np.concatenate(null),
        per_batch=per_batch[0],
        per_batch_null=np.concatenate(per_batch_null),
    )


def _batch_means(points: Floats, cells: Codes, sizes: Codes) -> Floats:
    """Mean of each batch, shape (permutations, batches, components).

    Each row of `cells` (permutations, cells) lists the cells of the first batch, then those of the second, and so on.
    """
    n_rows = len(cells) * len(sizes)
    ends = np.concatenate([[0], np.cumsum(np.tile(sizes, len(cells)))])
    ones = np.ones(cells.size, dtype=np.float32)
    sums = sparse.csr_matrix((ones, cells.ravel(), ends), shape=(n_rows, len(points))) @ points
    return sums.reshape(len(cells), len(sizes), -1).astype(np.float64) / sizes[:, None]


def _variance_shares(means: Floats, sizes: Codes, total: float) -> tuple[Floats, Floats]:
    """Effects over all batches (permutations,), and of each batch against the others (permutations, batches).

    The numerator of the first is the mean over batches of the numerators of the second. Squared distances between
    means overestimate by the sampling variance of the means, which is known from the variance within batches.
    """
    n = len(sizes)
    square = np.square(means).sum(axis=-1)
    within = np.maximum(total - square @ sizes, 0) / (sizes.sum() - n)
    error = 1 / sizes
    spread = square.sum(axis=-1) - n * np.square(means.mean(axis=1)).sum(axis=-1)
    between = spread / (n - 1) - within * error.mean()
    others = (means.sum(axis=1, keepdims=True) - means) / (n - 1)
    distance = np.square(means - others).sum(axis=-1)
    per_batch = (distance - within[:, None] * (error + (error.sum() - error) / (n - 1) ** 2)) * (n - 1) / n
    # For constant data rounding leaves a small remainder.
    tiny = np.finfo(np.float32).tiny + 1e-6 * total / sizes.sum()
    return between / np.maximum(between + within, tiny), per_batch / np.maximum(per_batch + within[:, None], tiny)


@dataclass(frozen=True)
class Deviation:
    """Effect of one batch against the others: mean over the groups that contain it, weighted by its cells there."""

    value: float
    null: Floats  # (permutations,)

    @property
    def p_value(self) -> float:
        """Share of the permutations whose deviation is at least as large, the observed one counted."""
        return _p_value(self.value, self.null)


def measure_deviations(effects: Sequence[Effect], n_batches: int) -> list[Deviation | None]:
    """Deviation of each batch; `None` for a batch in none of the groups."""
    deviations: list[Deviation | None] = []
    for batch in range(n_batches):
        places = [
            (effect, int(np.searchsorted(effect.batches, batch))) for effect in effects if batch in effect.batches
        ]
        if not places:
            deviations.append(None)
            continue
        weights = np.array([effect.sizes[place] for effect, place in places], dtype=float)
        value = float(np.average([effect.per_batch[place] for effect, place in places], weights=weights))
        null = np.average([effect.per_batch_null[:, place] for effect, place in places], axis=0, weights=weights)
        deviations.append(Deviation(value, null))
    return deviations


def _p_value(value: float, null: Floats) -> float:
    # Permutations that restore the batches differ by rounding.
    return float((1 + (null >= value - _ROUNDING).sum()) / (len(null) + 1))


def adjust_p_values(tests: Sequence[Effect | Deviation]) -> Floats:
    """p-values corrected for the number of tests, shape (tests,), by the single-step method of Westfall and Young.

    Values, standardised by their null distributions, are compared with the largest of all tests in each permutation.
    However many tests there are, p-values can be as small as without correction.
    """
    if not tests:
        return np.empty(0)
    null = np.stack([test.null for test in tests], axis=1)
    mean, sd = null.mean(axis=0), np.maximum(null.std(axis=0), _ROUNDING)
    largest = np.sort(((null - mean) / sd).max(axis=1))
    statistic = (np.array([test.value for test in tests]) - mean) / sd
    n_below = np.searchsorted(largest, statistic - _ROUNDING, side="left")
    return (1 + len(largest) - n_below) / (len(largest) + 1)


def make_effects_table(groups: Sequence[Group]) -> pd.DataFrame:
    """The table `Assessment.effects`: a row for each group."""
    effects = [group.effect for group in groups]
    columns = {
        "cells": np.array([group.n_cells for group in groups], dtype=int),
        "batches": np.array([len(effect.batches) for effect in effects], dtype=int),
        "effect": np.array([effect.value for effect in effects], dtype=float),
        "chance": np.array([effect.chance for effect in effects], dtype=float),
        "p_value": np.array([effect.p_value for effect in effects], dtype=float),
        "p_adjusted": adjust_p_values(effects),
    }
    return pd.DataFrame(columns, index=pd.Index([group.name for group in groups], dtype=object))


def make_batches_table(sizes: Codes, shared: Floats, groups: Sequence[Group], names: pd.Index) -> pd.DataFrame:
    """The table `Assessment.batches`: a row for each batch, its effect nan where it is in none of the groups."""
    deviations = measure_deviations([group.effect for group in groups], len(names))
    tests = [deviation for deviation in deviations if deviation is not None]
    rows = np.array([deviation is not None for deviation in deviations])
    table = pd.DataFrame({"cells": sizes, "shared": shared}, index=names)
    for column, values in (
        ("effect", np.array([test.value for test in tests])),
        ("p_value", np.array([test.p_value for test in tests])),
        ("p_adjusted", adjust_p_values(tests)),
    ):
        table[column] = np.nan
        table.loc[rows, column] = values
    return table
