"""Strength of the correction: is there a batch effect, and in which states? Decided before training, without labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scbatchnorm._method.anchors import find_nearest, l2_normalise, sketch_batches
from scbatchnorm._method.coherence import Chance, coherence_by_chance, find_displaced_pairs, measure_coherence

if TYPE_CHECKING:
    from scbatchnorm._data.types import Codes, Floats
    from scbatchnorm._method.coherence import Evidence

# Where batches are too small to be split: what splits of larger ones give.
_DEFAULT_CHANCE = Chance(median=1.1, high=1.5, peak_bound=2.0, low_bound=1.3)
# Landmarks kept of each batch, and landmarks that a value is the mean of.
PER_BATCH = 500
_NEAR = 15
# If less than this share of the correction would be left out, it is noise of the evidence, not states of their own.
_ALIKE = 0.1
_HALF = 0.5
_FEWEST_AFFECTED = 20


@dataclass(frozen=True)
class Landmarks:
    """Cells with a value each: a quantity that varies over cell states, read off for any cell."""

    points: Floats  # (landmarks, components), uncorrected coordinates
    codes: Codes  # (landmarks,) batch of each
    values: Floats  # (landmarks,)

    @classmethod
    def sample(cls, points: Floats, codes: Codes, values: Floats, rng: np.random.Generator) -> Landmarks:
        """At most 500 random cells of each batch."""
        rows = sketch_batches(codes, PER_BATCH, rng)
        return cls(points[rows], codes[rows].astype(np.int64), values[rows].astype(np.float32))

    def at(self, points: Floats, codes: Codes | None = None) -> Floats:
        """Mean value of the 15 nearest landmarks, by cosine, of each cell's batch, shape (cells,).

        Where a batch has none, or without `codes`, those of all batches are asked.
        """
        points, marks = l2_normalise(points), l2_normalise(self.points)
        mean = np.empty(len(points), dtype=np.float32)
        asked = np.full(len(points), -1) if codes is None else np.where(np.isin(codes, self.codes), codes, -1)
        for level in np.unique(asked):
            rows = asked == level
            used = (self.codes == level) | (level < 0)
            mean[rows] = self.values[used][find_nearest(points[rows], marks[used], _NEAR)].mean(axis=1)
        return mean


@dataclass(frozen=True)
class Strength:
    """How much of the correction is applied, from 0 (none) to 1 (all), and why."""

    value: float  # mean over the landmarks
    evidence: float  # coherence that four of five pairs reach
    reason: str
    states: Landmarks | None = None  # where it is not the same for all cells

    def at(self, points: Floats, codes: Codes | None = None) -> Floats:
        """Strength for each cell by its uncorrected coordinates (cells, components), shape (cells, 1)."""
        if self.states is None:
            return np.full((len(points), 1), self.value, dtype=np.float32)
        return self.states.at(points, codes)[:, None]

    def affected(self, points: Floats, codes: Codes) -> Codes | slice:
        """Cells to learn the correction from: those that get at least half of it, and all cells of batches with fewer than 20 of these."""
        if self.states is None:
            return slice(None)
        chosen = self.at(points, codes)[:, 0] >= _HALF
        few = np.bincount(codes[chosen], minlength=int(codes.max()) + 1) < _FEWEST_AFFECTED
        return np.flatnonzero(chosen | few[codes])


def decide_strength(wanted: float | str, points: Floats, codes: Codes, rng: np.random.Generator) -> Strength:
    """Strength to apply: what the caller `wanted`, or by the data if that is `"auto"`."""
    if codes.max() == 0:
        return Strength(0.0, float("nan"), "there is only one batch")
    if wanted == "auto":
        return estimate_strength(points, codes, rng)
    return Strength(float(wanted), float("nan"), "set by the caller")


def estimate_strength(points: Floats, codes: Codes, rng: np.random.Generator) -> Strength:
    """Strength that the data ask for, state by state.

    Parameters
    ----------
    points
        Uncorrected coordinates, shape (cells, components).
    codes
        Batch of each cell, counted from 0.
    rng
        Draws the cells looked at, the partners and the splits that show what chance gives.
    """
    evidence = measure_coherence(points, codes, rng)
    if not len(evidence):
        return Strength(0.0, evidence.low, "batches share no cell states: there is nothing that could be aligned")
    chance = coherence_by_chance(points, codes, rng) or _DEFAULT_CHANCE
    numbers = f"coherence {evidence.low:.2f}; by chance up to {chance.low_bound:.2f}"
    if evidence.low > chance.low_bound:
        return _everywhere(points, codes, evidence, chance, numbers, rng)
    return _in_some(points, codes, evidence, chance, numbers, rng)


def _everywhere(
    points: Floats, codes: Codes, evidence: Evidence, chance: Chance, numbers: str, rng: np.random.Generator
) -> Strength:
    """Nearly all states are displaced; those that are not are left in place."""
    values = _ramp(evidence, chance)
    states = _by_cell(points, codes, evidence, values, rng)
    value = 1.0 if states is None else float(states.values.mean())
    where = "" if states is None else f", but not in all states: {value:.0%} of the correction on average"
    reason = f"neighbouring cells of different batches differ in a common direction: there is a batch effect{where} ({numbers})"
    return Strength(value, evidence.low, reason, states)


def _in_some(
    points: Floats, codes: Codes, evidence: Evidence, chance: Chance, numbers: str, rng: np.random.Generator
) -> Strength:
    """Many states are not displaced; of the others only those are corrected that are surely the same in both batches."""
    accepted, doubtful = find_displaced_pairs(points, codes, evidence, chance)
    doubt = (
        "; some states differ as much as cell types do, so they may be types found in one batch only: they are left as they are"
        if doubtful
        else ""
    )
    if not accepted.any():
        reason = f"neighbouring cells of different batches differ in no common direction: no batch effect beyond chance{doubt} ({numbers})"
        return Strength(0.0, evidence.low, reason)
    values = np.where(accepted, _ramp(evidence, chance), 0)
    states = _by_cell(points, codes, evidence, values, rng)
    share = float(accepted.mean())
    reason = f"batches differ in a common direction in {share:.0%} of the shared states only: these are corrected{doubt} ({numbers})"
    return Strength(1.0 if states is None else float(states.values.mean()), evidence.low, reason, states)


def _ramp(evidence: Evidence, chance: Chance) -> Floats:
    """0 where displacements are no more coherent than half of those by chance, 1 above nearly all of those, shape (pairs,)."""
    return np.clip((evidence.coherence - chance.median) / (chance.high - chance.median), 0, 1)


def _by_cell(
    points: Floats, codes: Codes, evidence: Evidence, values: Floats, rng: np.random.Generator
) -> Landmarks | None:
    """Mean value over the pairs of each anchored cell; `None` if it is 1 for all."""
    cells, inverse, count = np.unique(evidence.left, return_inverse=True, return_counts=True)
    mean = np.bincount(inverse, weights=values) / count
    if mean.mean() > 1 - _ALIKE:
        return None
    return Landmarks.sample(points[cells], codes[cells], mean, rng)
