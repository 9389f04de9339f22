"""All that can be said of one integration without genes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scbatchnorm.tl._diagnosis import merging as _merging
from scbatchnorm.tl._diagnosis import noise as _noise
from scbatchnorm.tl._diagnosis import pulled as _private
from scbatchnorm.tl._diagnosis import states as _states

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from scbatchnorm._data.types import Bools, Codes, Floats
    from scbatchnorm.tl._diagnosis.states import States


@dataclass(frozen=True, eq=False)
class Findings:
    """States of the batches, and what became of them; states are numbers."""

    rows: Sequence[Codes]  # cells of each batch
    states: States
    kept: Floats  # (cells,) share of the neighbours in the batch that are still neighbours
    kept_again: Floats  # (cells,) the same after a second measurement
    lost: Bools  # (states,) whether neighbourhoods are closer to random ones than to those of a second measurement
    split: Bools  # (states,)
    pairs: pd.DataFrame  # see `_merging.pairs`
    private: pd.DataFrame  # see `_private.find`
    near: Sequence[Codes]  # neighbours before, measured again and after, of `_noise.within`
    near_again: Sequence[Codes]
    near_after: Sequence[Codes]

    @property
    def merged(self) -> pd.DataFrame:
        """Rows of `pairs` that were merged."""
        return self.pairs[self.pairs["merged"]]

    @property
    def pulled(self) -> pd.DataFrame:
        """Rows of `private` that were pulled onto each other."""
        return self.private[self.private["pulled"]]


def find(
    before: Floats, after: Floats, codes: Codes, rng: np.random.Generator, *, much: float = _merging.MUCH
) -> Findings:
    """Compare coordinates `before` and `after` integration, both (cells, dimensions), of cells in the batches `codes`.

    Two draws of a second measurement are made before: one says which states there are, the other one what noise does
    to them.
    """
    before, after = (np.ascontiguousarray(points, dtype=np.float32) for points in (before, after))
    rows = [np.flatnonzero(codes == level) for level in range(int(codes.max()) + 1)]
    near, near_after = _noise.within(before, rows), _noise.within(after, rows)
    states = _states.find(before, rows, _noise.within(_noise.measured_again(before, rows, near, rng), rows), rng)
    again = _noise.measured_again(before, rows, near, rng)
    near_again = _noise.within(again, rows)
    noisy = _noise.within(_noise.measured_again(after, rows, near_after, rng), rows)
    pieces = _states.find(after, rows, noisy, rng)
    kept = _noise.kept(near, near_after, rows, len(codes))
    kept_again = _noise.kept(near, near_again, rows, len(codes))
    return Findings(
        rows,
        states,
        kept,
        kept_again,
        _lost(kept, kept_again, near, states, rows),
        _merging.split(states, pieces, rows, near_again, noisy),
        _merging.pairs(before, again, after, states, rows, much, rng),
        _private.find(before, after, codes, states, rng),
        near,
        near_again,
        near_after,
    )


def _lost(kept: Floats, kept_again: Floats, near: Sequence[Codes], states: States, rows: Sequence[Codes]) -> Bools:
    """Which states keep less than half way between random neighbours and those of a second measurement."""
    found = np.zeros(states.n, dtype=bool)
    for level, cells in enumerate(rows):
        k = near[level].shape[1]
        if k == 0:
            continue
        by_chance = k / (len(cells) - 1)
        for number in states.of(level):
            inside = states.codes == number
            found[number] = kept[inside].mean() < (kept_again[inside].mean() + by_chance) / 2
    return found
