"""A function of blocks of expression, and in the same pass the checks of their values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from scbatchnorm._data.blocks import Narrowing, restrict_to_block
from scbatchnorm._data.checks import check_not_counts
from scbatchnorm._data.dask_blocks import DaskBlocks, ValueSurvey

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scbatchnorm._data.blocks import Blocks, Function
    from scbatchnorm._data.types import Codes, Floats, Matrix


def checked_map(blocks: Blocks, function: Function, *, what: str, places: Codes | None = None) -> Iterator[Any]:
    """`function` of each block, as `Blocks.map`; what is in memory was checked before.

    Raises
    ------
    ValueError
        Features are no log-normalised expression; only those at these `places` are looked at, if they are given. That they are raw
        counts is known after the last block.
    """
    if not isinstance(blocks, DaskBlocks):
        yield from blocks.map(function, what=what)
        return
    read, total = blocks._read, np.zeros(3)
    survey = ValueSurvey(read.where, read.names if places is None else read.names[places], expression=True)
    for found, counts in blocks.map(_Surveyed(function, survey, places), what=what):
        total += counts
        yield found
    fractions, above_one, beyond = total.tolist()
    check_not_counts(read.where, whole=fractions == 0 and above_one > 0, too_high=beyond > 0)


class _Surveyed(Narrowing):
    """What a function makes of a block, and what `_Survey` counts in it."""

    def __init__(self, function: Function, survey: ValueSurvey, places: Codes | None) -> None:
        self.function, self.survey, self.places = function, survey, places

    def narrowed(self, start: int, stop: int) -> Function:
        """See `Narrowing`."""
        return _Surveyed(restrict_to_block(self.function, start), self.survey, self.places)

    def __call__(self, block: Matrix, start: int) -> tuple[Any, Floats]:
        counts = self.survey(block if self.places is None else block[:, self.places], start)[1]
        return self.function(block, start), counts
