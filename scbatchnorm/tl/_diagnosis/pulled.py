"""States without a counterpart in another batch that integration put onto one of its states."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scbatchnorm._method.anchors import cells_per_batch, clean_anchors, find_anchors, offsets_in_rounds, sketch_batches
from scbatchnorm._method.support import neighbourhood_overlap, neighbours_within_batch
from scbatchnorm.metrics import _search
from scbatchnorm.tl._diagnosis import mingling as _mingling
from scbatchnorm.tl._diagnosis import overlap as _overlap
from scbatchnorm.tl._diagnosis.merging import MUCH
from scbatchnorm.tl._diagnosis.states import HALF, LEAST_CELLS, States

if TYPE_CHECKING:
    from scbatchnorm._data.types import Codes, Floats

_ANCHORS = 5
_PER_BATCH = 500
_DISPLACED, _DISSIMILAR = 0.1, 0.15
# Two states are not one if they are this much further apart than any others that were put together, and have less than
# this share of their usual support. Set on real sets: conditions and donors stay below, clearly private types do not.
_FURTHER = 1.4
_LESS = 1 / 3
_LEAST_OTHERS = 2
_COLUMNS = {
    "first": int, "second": int, "together_before": float, "together": float, "support": float, "usual_support": float,
    "distance": float, "usual_distance": float, "pulled": bool,
}  # fmt: skip


def find(before: Floats, after: Floats, codes: Codes, states: States, rng: np.random.Generator) -> pd.DataFrame:
    """States of different batches that are together after integration, a row a pair, and whether one was `pulled`.

    A pair is judged by the other pairs of the same two batches: it was pulled if it has less than a third of
    their support (share of cells whose surroundings have an anchor in the other batch) and lies further apart, once the
    common offset of the batches is taken off, than any of them.
    """
    if int(codes.max()) == 0:
        return _table([])
    rows = _drawn(codes, states, rng)
    before, after, codes = before[rows], after[rows], codes[rows]
    states = States(states.codes[rows], states.batch)
    aligned, support = _counterparts(before, codes, states, rng)
    centre = np.stack([aligned[states.codes == number].mean(axis=0) for number in range(states.n)])
    then, now = _together(before, states, rng), _together(after, states, rng)
    found = []
    for u, v in combinations(range(int(codes.max()) + 1), 2):
        found += _judge(u, v, states, centre, support, then, now)
    return _table(found)


def _table(found: list[tuple]) -> pd.DataFrame:
    table = pd.DataFrame(found, columns=list(_COLUMNS)).astype(_COLUMNS)
    return table.sort_values(["pulled", "distance"], ascending=False, kind="stable", ignore_index=True)


def _drawn(codes: Codes, states: States, rng: np.random.Generator) -> Codes:
    """Cells looked at: some of each batch, and of each state enough to be one."""
    rows = sketch_batches(codes, cells_per_batch(int(codes.max()) + 1, _PER_BATCH), rng)
    rare = [rng.permutation(np.flatnonzero(states.codes == number))[:LEAST_CELLS] for number in range(states.n)]
    return np.unique(np.concatenate([rows, *rare]))


def _counterparts(before: Floats, codes: Codes, states: States, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Coordinates without the offsets of batches, and the support of each state in each batch, (states, batches)."""
    points = before.astype(np.float32)
    mean = np.stack([points[codes == level].mean(axis=0) for level in range(int(codes.max()) + 1)])
    aligned = points - offsets_in_rounds(points, points - mean[codes], codes, _ANCHORS, rng)[codes]
    anchors = find_anchors(aligned, codes, _ANCHORS, rng)
    anchors = clean_anchors(anchors, aligned, displaced=_DISPLACED, dissimilar=_DISSIMILAR)
    share = neighbourhood_overlap(anchors, neighbours_within_batch(aligned, codes), codes)
    return aligned, np.stack([share[states.codes == number].mean(axis=0) for number in range(states.n)])


def _together(points: Floats, states: States, rng: np.random.Generator) -> Floats:
    """How far states lie within each other, by neighbours or by a linear rule, whichever says more; (states, states)."""
    near = _search.nearest(points, 15)[0]
    mingled = _mingling.between(_mingling.neighbours_in(near, states.codes, states.n), states.codes, states.sizes)
    wrong = _overlap.mistaken(points, states.codes, states.n, _overlap.folds(states.codes, rng))
    return np.maximum(mingled, _overlap.between(wrong))


def _judge(u: int, v: int, states: States, centre: Floats, support: Floats, then: Floats, now: Floats) -> list[tuple]:
    """Rows of the states of two batches."""
    i, j = (grid.ravel() for grid in np.meshgrid(states.of(u), states.of(v), indexing="ij"))
    both = now[i, j] > MUCH
    i, j = i[both], j[both]
    distance = np.linalg.norm(centre[i] - centre[j], axis=1)
    supported = (support[i, v] + support[j, u]) / 2
    clear = now[i, j] > HALF
    rows = []
    for place in range(len(i)):
        others = clear & (i != i[place]) & (j != j[place])
        enough = others.sum() >= _LEAST_OTHERS
        usual_support = float(np.median(supported[others])) if enough else float("nan")
        usual_distance = float(distance[others].max()) if enough else float("nan")
        far = supported[place] < _LESS * usual_support and distance[place] > _FURTHER * usual_distance
        came = now[i[place], j[place]] - then[i[place], j[place]] > MUCH
        values = (then[i[place], j[place]], now[i[place], j[place]], supported[place], usual_support)
        rows.append((i[place], j[place], *values, distance[place], usual_distance, bool(far and came)))
    return rows
