"""What integration did to the states of each batch: merged, split, lost or pulled; needs coordinates only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scbatchnorm.tl._diagnosis.noise import find_batch_neighbours, share_kept, simulate_remeasurement
from scbatchnorm.tl._diagnosis.overlap import (
    MIN_CHANGE,
    SAME_GROUP,
    assign_folds,
    knn_mixing,
    misclassification,
    overlap_error,
    overlap_of_rates,
)
from scbatchnorm.tl._diagnosis.pulled import find_pulled
from scbatchnorm.tl._diagnosis.states import MIN_CELLS, find_states

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scbatchnorm._data.types import Bools, Codes, Floats
    from scbatchnorm.tl._diagnosis.states import States

# One-sided 95 % quantile of the normal distribution.
_QUANTILE = 1.645
_PAIR_COLUMNS = {
    "first": int, "second": int, "before": float, "again": float, "after": float, "excess": float, "merged": bool
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Findings:
    """States of the batches, by number, and what became of them.

    Attributes
    ----------
    rows
        Cells of each batch.
    states
        States before integration.
    kept, kept_again
        Share of each cell's neighbours in its batch that are kept after integration, and after a second measurement,
        shape (cells,).
    lost
        Whether neighbourhoods of a state are closer to random ones than to those of a second measurement, (states,).
    split
        Whether a state fell apart, (states,).
    pairs
        Pairs of states of one batch: see `find_merged`.
    private
        Pairs of states of different batches: see `find_pulled`.
    neighbours_before, neighbours_again, neighbours_after
        Neighbours within batches: before integration, after a second measurement, after integration.
    """

    rows: Sequence[Codes]
    states: States
    kept: Floats
    kept_again: Floats
    lost: Bools
    split: Bools
    pairs: pd.DataFrame
    private: pd.DataFrame
    neighbours_before: Sequence[Codes]
    neighbours_again: Sequence[Codes]
    neighbours_after: Sequence[Codes]

    @property
    def merged(self) -> pd.DataFrame:
        """Pairs of one batch that were merged."""
        return self.pairs[self.pairs["merged"]]

    @property
    def pulled(self) -> pd.DataFrame:
        """Pairs of different batches of which one was pulled onto the other."""
        return self.private[self.private["pulled"]]


def compare_embeddings(
    before: Floats, after: Floats, codes: Codes, rng: np.random.Generator, *, min_excess: float = MIN_CHANGE
) -> Findings:
    """Compare coordinates `before` and `after` integration, both (cells, dimensions), of cells in the batches `codes`.

    A second measurement is simulated twice: one defines the states, the other shows what noise does to them.
    """
    before, after = (np.ascontiguousarray(points, dtype=np.float32) for points in (before, after))
    rows = [np.flatnonzero(codes == level) for level in range(int(codes.max()) + 1)]
    near, near_after = find_batch_neighbours(before, rows), find_batch_neighbours(after, rows)
    near_defining = find_batch_neighbours(simulate_remeasurement(before, rows, near, rng), rows)
    states = find_states(before, rows, near_defining, rng)
    again = simulate_remeasurement(before, rows, near, rng)
    near_again = find_batch_neighbours(again, rows)
    near_after_again = find_batch_neighbours(simulate_remeasurement(after, rows, near_after, rng), rows)
    states_after = find_states(after, rows, near_after_again, rng)
    kept = share_kept(near, near_after, rows, len(codes))
    kept_again = share_kept(near, near_again, rows, len(codes))
    return Findings(
        rows=rows,
        states=states,
        kept=kept,
        kept_again=kept_again,
        lost=find_lost(kept, kept_again, near, states, rows),
        split=find_split(states, states_after, rows, near_again, near_after_again),
        pairs=find_merged(before, again, after, states, rows, min_excess, rng),
        private=find_pulled(before, after, codes, states, rng),
        neighbours_before=near,
        neighbours_again=near_again,
        neighbours_after=near_after,
    )


def find_merged(
    before: Floats,
    again: Floats,
    after: Floats,
    states: States,
    rows: Sequence[Codes],
    min_excess: float,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Overlap of every two states of a batch `before`, measured `again`, and `after`; a row a pair, most merged first.

    `excess` is how far the overlap went from what noise does (0) to complete overlap (1). A pair is `merged` if that is
    more than `min_excess`, and significant.
    """
    tables = []
    for level, cells in enumerate(rows):
        numbers = states.in_batch(level)
        if len(numbers) < 2:
            continue
        codes = states.codes[cells] - numbers[0]
        sizes, folds = np.bincount(codes), assign_folds(codes, rng)
        i, j = np.triu_indices(len(numbers), 1)
        rates = [misclassification(points[cells], codes, len(numbers), folds) for points in (before, again, after)]
        first, second, third = (overlap_of_rates(each)[i, j] for each in rates)
        noise = np.maximum(first, second)
        error = np.hypot(overlap_error(rates[1], sizes), overlap_error(rates[2], sizes))[i, j]
        excess = (third - noise) / np.maximum(1 - noise, 1e-9)
        merged = (excess > min_excess) & (third - noise > _QUANTILE * error)
        values = (numbers[i], numbers[j], first, second, third, excess, merged)
        tables.append(pd.DataFrame(dict(zip(_PAIR_COLUMNS, values, strict=True))))
    if not tables:
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in _PAIR_COLUMNS.items()})
    return pd.concat(tables).sort_values("excess", ascending=False, kind="stable", ignore_index=True)


def find_split(
    states: States,
    states_after: States,
    rows: Sequence[Codes],
    neighbours_again: Sequence[Codes],
    neighbours_after_again: Sequence[Codes],
) -> Bools:
    """Which states fell apart, shape (states,).

    A state fell apart if parts of it are in two states after integration, each part large enough to be a state, that
    mixed before and do not after; neighbours are those after a second measurement.
    """
    split = np.zeros(states.n_states, dtype=bool)
    for level, cells in enumerate(rows):
        codes_after = states_after.codes[cells]
        for number in states.in_batch(level):
            inside = states.codes[cells] == number
            parts, counts = np.unique(codes_after[inside], return_counts=True)
            parts = parts[counts >= MIN_CELLS]
            if len(parts) < 2:
                continue
            # All other cells form one more group.
            codes = np.full(len(cells), len(parts))
            member = inside & np.isin(codes_after, parts)
            codes[member] = np.searchsorted(parts, codes_after[member])
            before, after = (
                knn_mixing(neighbours[level], codes, len(parts) + 1)[:-1, :-1]
                for neighbours in (neighbours_again, neighbours_after_again)
            )
            apart = (before > SAME_GROUP + MIN_CHANGE) & (after < SAME_GROUP - MIN_CHANGE)
            split[number] = bool(apart[np.triu_indices(len(parts), 1)].any())
    return split


def find_lost(
    kept: Floats, kept_again: Floats, neighbours: Sequence[Codes], states: States, rows: Sequence[Codes]
) -> Bools:
    """Which states keep less than the mean of what random neighbours and a second measurement keep, shape (states,)."""
    lost = np.zeros(states.n_states, dtype=bool)
    for level, cells in enumerate(rows):
        k = neighbours[level].shape[1]
        if k == 0:
            continue
        by_chance = k / (len(cells) - 1)
        for number in states.in_batch(level):
            inside = states.codes == number
            lost[number] = kept[inside].mean() < (kept_again[inside].mean() + by_chance) / 2
    return lost
