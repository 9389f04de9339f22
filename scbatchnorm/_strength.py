"""The dial: is there a batch effect to correct? Decided before any training, without labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from scbatchnorm import _anchors

if TYPE_CHECKING:
    from scbatchnorm._typing import Codes, Floats

# Set on null splits and real sets: coherence stays below the first without a batch effect; the weakest real effect
# looked at (8 donors of one run) comes close to the second.
_NO_EFFECT = 1.35
_CLEAR_EFFECT = 1.60
_CELLS = 1500
_NEIGHBOURS = 5
_AROUND = 30
_QUANTILE = 0.3


@dataclass(frozen=True)
class Strength:
    """How much of the correction is applied, from 0 (none) to 1 (all), and why."""

    value: float
    evidence: float
    reason: str


def decide(wanted: float | str, points: Floats, codes: Codes, rng: np.random.Generator) -> Strength:
    """Strength to apply: what the caller `wanted`, or by the data if that is `"auto"`."""
    if codes.max() == 0:
        return Strength(0.0, float("nan"), "there is only one batch")
    if wanted == "auto":
        return choose(points, codes, rng)
    return Strength(float(wanted), float("nan"), "set by the caller")


def choose(points: Floats, codes: Codes, rng: np.random.Generator) -> Strength:
    """Strength that the data ask for.

    Parameters
    ----------
    points
        Uncorrected coordinates, shape (cells, components).
    codes
        Batch of each cell, counted from 0.
    rng
        Draws the cells looked at and the partners.
    """
    evidence = coherence(points, codes, rng)
    if np.isnan(evidence):
        return Strength(0.0, evidence, "batches share no cell states: there is nothing that could be aligned")
    value = float(np.clip((evidence - _NO_EFFECT) / (_CLEAR_EFFECT - _NO_EFFECT), 0, 1))
    if value == 0:
        reason = "neighbouring cells of different batches differ in no common direction: no batch effect beyond chance"
    elif value < 1:
        reason = "neighbouring cells of different batches differ in a weakly common direction: partial correction"
    else:
        reason = "neighbouring cells of different batches differ in a common direction: there is a batch effect"
    return Strength(value, evidence, f"{reason} (coherence {evidence:.2f}; {_NO_EFFECT} or less means chance)")


def coherence(points: Floats, codes: Codes, rng: np.random.Generator) -> float:
    """Coherence of the displacements between batches: about 1 by chance, larger where there is a batch effect.

    For each of the mutual nearest neighbour pairs between two batches, the squared sum of the displacements of the 30
    pairs around it, divided by its expectation if each displacement had a random sign (pairs that share a cell share
    it). Returned is the 30 % quantile over all pairs, so that most shared states have to agree; nan without pairs.
    """
    n_batches = int(codes.max()) + 1
    rows = _anchors.sketch(codes, _anchors.per_batch(n_batches, _CELLS), rng)
    points, codes = points[rows], codes[rows]
    anchors = _anchors.find(points, codes, _NEIGHBOURS, rng)
    directed = np.concatenate(
        [np.stack([anchors.left, anchors.right]), np.stack([anchors.right, anchors.left])], axis=1
    )
    ratios = []
    group = codes[directed[0]] * n_batches + codes[directed[1]]
    for g in np.unique(group):
        pairs = directed[:, group == g]
        # one random partner per cell
        pairs = pairs[:, rng.permutation(pairs.shape[1])]
        pairs = pairs[:, np.unique(pairs[0], return_index=True)[1]]
        ratios.append(_ratios(points, *pairs))
    return float(np.quantile(np.concatenate(ratios), _QUANTILE)) if ratios else float("nan")


def _ratios(points: Floats, left: Codes, right: Codes) -> Floats:
    """Squared local sum of displacements over its expectation under random signs, shape (pairs,)."""
    displacement = (points[left] - points[right]).astype(np.float64)
    middle = points[left] + points[right]
    around = _anchors.nearest(middle, middle, _AROUND)  # (pairs, 30)
    total = displacement[around].sum(axis=1)
    n, k = around.shape
    # Sum within (pair, partner cell): displacements that share a partner are one draw, not several.
    partner = np.unique(right, return_inverse=True)[1]
    key, inverse = np.unique(np.repeat(np.arange(n), k) * n + partner[around].ravel(), return_inverse=True)
    member = sparse.csr_matrix((np.ones(n * k), (inverse, around.ravel())), shape=(len(key), n))
    shared = np.square(member @ displacement).sum(axis=1)
    expected = np.bincount(key // n, weights=shared, minlength=n)
    return np.square(total).sum(axis=1) / np.maximum(expected, np.finfo(float).tiny)
