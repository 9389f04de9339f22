"""A quantity that varies over cell states, known at some cells of each batch and read off for any cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scbatchnorm._method.anchors import find_nearest, l2_normalise, sketch_batches

if TYPE_CHECKING:
    from scbatchnorm._data.types import Codes, Floats

# Cells kept of each batch, and landmarks that a value is the mean of.
PER_BATCH = 500
_NEAR = 15


@dataclass(frozen=True)
class Landmarks:
    """Cells with a value each."""

    points: Floats  # (landmarks, components), uncorrected coordinates
    codes: Codes  # (landmarks,) batch of each
    values: Floats  # (landmarks,)

    @classmethod
    def keep(cls, points: Floats, codes: Codes, values: Floats, rng: np.random.Generator) -> Landmarks:
        """At most 500 random ones of each batch."""
        rows = sketch_batches(codes, PER_BATCH, rng)
        return cls(points[rows], codes[rows].astype(np.int64), values[rows].astype(np.float32))

    def at(self, points: Floats, codes: Codes | None = None) -> Floats:
        """Mean value of the 15 nearest landmarks, by cosine, of each cell's batch, shape (cells,).

        Where a batch has none, or without `codes`, those of all batches are asked.
        """
        points, marks = l2_normalise(points), l2_normalise(self.points)
        found = np.empty(len(points), dtype=np.float32)
        asked = np.full(len(points), -1) if codes is None else np.where(np.isin(codes, self.codes), codes, -1)
        for level in np.unique(asked):
            rows = asked == level
            own = (self.codes == level) | (level < 0)
            found[rows] = self.values[own][find_nearest(points[rows], marks[own], _NEAR)].mean(axis=1)
        return found
