"""States without a counterpart in another batch that integration moved onto one of its states."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scbatchnorm._method.anchors import cells_per_batch, clean_anchors, find_anchors, offsets_in_rounds, sketch_batches
from scbatchnorm._method.support import neighbourhood_overlap, neighbours_within_batch
from scbatchnorm.metrics._search import find_nearest
from scbatchnorm.tl._diagnosis.noise import N_NEIGHBORS
from scbatchnorm.tl._diagnosis.overlap import (
    MIN_CHANGE,
    SAME_GROUP,
    assign_folds,
    knn_mixing,
    misclassification,
    overlap_of_rates,
)
from scbatchnorm.tl._diagnosis.states import MIN_CELLS, States

if TYPE_CHECKING:
    from scbatchnorm._data.types import Codes, Floats

_N_ANCHORS = 5
_CELLS_PER_BATCH = 500
_DISPLACED, _DISSIMILAR = 0.1, 0.15
# Two states are not the same if their distance is this many times the largest of other pairs that are together, and their
# support less than this share of what is usual. Set on real data: conditions and donors stay below, private types do not.
_MIN_DISTANCE = 1.4
_MAX_SUPPORT = 1 / 3
_MIN_OTHERS = 2
_COLUMNS = {
    "first": int, "second": int, "together_before": float, "together": float, "support": float, "usual_support": float,
    "distance": float, "usual_distance": float, "pulled": bool,
}  # fmt: skip


def find_pulled(before: Floats, after: Floats, codes: Codes, states: States, rng: np.random.Generator) -> pd.DataFrame:
    """States of different batches that are together after integration, a row a pair, and whether one was `pulled`.

    A pair is compared with the other pairs of the same two batches: it was pulled if it has less than a third of
    their support (share of cells whose neighbourhood has an anchor in the other batch) and lies further apart, the offset
    between the batches subtracted, than any of them.
    """
    if int(codes.max()) == 0:
        return _make_table([])
    rows = _sample_cells(codes, states, rng)
    before, after, codes = before[rows], after[rows], codes[rows]
    states = States(states.codes[rows], states.batch)
    aligned, support = _measure_support(before, codes, states, rng)
    centres = np.stack([aligned[states.codes == number].mean(axis=0) for number in range(states.n_states)])
    together_before, together = _measure_overlap(before, states, rng), _measure_overlap(after, states, rng)
    pairs = []
    for u, v in combinations(range(int(codes.max()) + 1), 2):
        pairs += _compare_pairs(u, v, states, centres, support, together_before, together)
    return _make_table(pairs)


def _make_table(pairs: list[tuple]) -> pd.DataFrame:
    table = pd.DataFrame(pairs, columns=list(_COLUMNS)).astype(_COLUMNS)
    return table.sort_values(["pulled", "distance"], ascending=False, kind="stable", ignore_index=True)


def _sample_cells(codes: Codes, states: States, rng: np.random.Generator) -> Codes:
    """Cells that are used: some of each batch, and enough of each state."""
    rows = sketch_batches(codes, cells_per_batch(int(codes.max()) + 1, _CELLS_PER_BATCH), rng)
    rare = [rng.permutation(np.flatnonzero(states.codes == number))[:MIN_CELLS] for number in range(states.n_states)]
    return np.unique(np.concatenate([rows, *rare]))


def _measure_support(before: Floats, codes: Codes, states: States, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Coordinates without the offsets of batches, and the support of each state in each batch, (states, batches)."""
    points = before.astype(np.float32)
    mean = np.stack([points[codes == level].mean(axis=0) for level in range(int(codes.max()) + 1)])
    aligned = points - offsets_in_rounds(points, points - mean[codes], codes, _N_ANCHORS, rng)[codes]
    anchors = find_anchors(aligned, codes, _N_ANCHORS, rng)
    anchors = clean_anchors(anchors, aligned, displaced=_DISPLACED, dissimilar=_DISSIMILAR)
    overlap = neighbourhood_overlap(anchors, neighbours_within_batch(aligned, codes), codes)
    return aligned, np.stack([overlap[states.codes == number].mean(axis=0) for number in range(states.n_states)])


def _measure_overlap(points: Floats, states: States, rng: np.random.Generator) -> Floats:
    """Overlap of states by neighbours or by misclassification, whichever is larger, shape (states, states)."""
    mixing = knn_mixing(find_nearest(points, N_NEIGHBORS)[0], states.codes, states.n_states)
    rates = misclassification(points, states.codes, states.n_states, assign_folds(states.codes, rng))
    return np.maximum(mixing, overlap_of_rates(rates))


def _compare_pairs(
    u: int, v: int, states: States, centres: Floats, support: Floats, together_before: Floats, together: Floats
) -> list[tuple]:
    """Rows of the pairs of states of the batches `u` and `v`."""
    i, j = (grid.ravel() for grid in np.meshgrid(states.in_batch(u), states.in_batch(v), indexing="ij"))
    overlapping = together[i, j] > MIN_CHANGE
    i, j = i[overlapping], j[overlapping]
    distance = np.linalg.norm(centres[i] - centres[j], axis=1)
    supported = (support[i, v] + support[j, u]) / 2
    before, after = together_before[i, j], together[i, j]
    rows = []
    for pair in range(len(i)):
        others = (after > SAME_GROUP) & (i != i[pair]) & (j != j[pair])
        enough = others.sum() >= _MIN_OTHERS
        usual_support = float(np.median(supported[others])) if enough else float("nan")
        usual_distance = float(distance[others].max()) if enough else float("nan")
        far = supported[pair] < _MAX_SUPPORT * usual_support and distance[pair] > _MIN_DISTANCE * usual_distance
        pulled = bool(far and after[pair] - before[pair] > MIN_CHANGE)
        rows.append((
            i[pair], j[pair], before[pair], after[pair], supported[pair], usual_support, distance[pair], usual_distance, pulled
        ))  # fmt: skip
    return rows
