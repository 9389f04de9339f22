"""States of one batch that integration put together, and states that it took apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scbatchnorm.tl._diagnosis import mingling as _mingling
from scbatchnorm.tl._diagnosis import overlap as _overlap
from scbatchnorm.tl._diagnosis.states import HALF, LEAST_CELLS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scbatchnorm._data.types import Bools, Codes, Floats
    from scbatchnorm.tl._diagnosis.states import States

# What counts as merged or split: this share of the way from what noise does to all or nothing.
MUCH = 0.25
# One-sided 95 % of a normal distribution.
_QUANTILE = 1.645


def pairs(
    before: Floats,
    again: Floats,
    after: Floats,
    states: States,
    rows: Sequence[Codes],
    much: float,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Overlap of every two states of a batch `before`, measured `again`, and `after`; a row a pair, most merged first.

    `excess` is how far overlap went from what noise does to 1. They are `merged` if that is more than `much` of the
    way, and not by chance.
    """
    tables = []
    for level, cells in enumerate(rows):
        numbers = states.of(level)
        if len(numbers) < 2:
            continue
        codes = states.codes[cells] - numbers[0]
        sizes, fold = np.bincount(codes), _overlap.folds(codes, rng)
        i, j = np.triu_indices(len(numbers), 1)
        wrong = [_overlap.mistaken(points[cells], codes, len(numbers), fold) for points in (before, again, after)]
        first, second, third = (_overlap.between(each)[i, j] for each in wrong)
        noise = np.maximum(first, second)
        error = np.hypot(_overlap.error(wrong[1], sizes), _overlap.error(wrong[2], sizes))[i, j]
        excess = (third - noise) / np.maximum(1 - noise, 1e-9)
        tables.append(
            pd.DataFrame(
                {
                    "first": numbers[i], "second": numbers[j], "before": first, "again": second, "after": third,
                    "excess": excess, "merged": (excess > much) & (third - noise > _QUANTILE * error),
                }
            )
        )  # fmt: skip
    columns = {"first": int, "second": int, "before": float, "again": float, "after": float, "excess": float}
    if not tables:
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in (columns | {"merged": bool}).items()})
    return pd.concat(tables).sort_values("excess", ascending=False, kind="stable", ignore_index=True)


def split(
    states: States, pieces: States, rows: Sequence[Codes], before: Sequence[Codes], after: Sequence[Codes]
) -> Bools:
    """Which states fell apart, shape (states,).

    `pieces` are the states found after integration, `before` and `after` the neighbours within each batch after a
    second measurement. A state fell apart if two pieces of it, each large enough to be a state, were mingled and are
    not.
    """
    found = np.zeros(states.n, dtype=bool)
    for level, cells in enumerate(rows):
        for number in states.of(level):
            inside = states.codes[cells] == number
            piece, counts = np.unique(pieces.codes[cells[inside]], return_counts=True)
            piece = piece[counts >= LEAST_CELLS]
            if len(piece) < 2:
                continue
            # All other cells are a group of their own.
            codes = np.full(len(cells), len(piece))
            place = np.searchsorted(piece, pieces.codes[cells])
            member = inside & np.isin(pieces.codes[cells], piece)
            codes[member] = place[member]
            sizes = np.bincount(codes, minlength=len(piece) + 1)
            then, now = (
                _mingling.between(_mingling.neighbours_in(near[level], codes, len(sizes)), codes, sizes)[:-1, :-1]
                for near in (before, after)
            )
            found[number] = bool(((then > HALF + MUCH) & (now < HALF - MUCH))[np.triu_indices(len(piece), 1)].any())
    return found
