"""Where only some states of two batches differ: one state displaced, or two types that are each other's nearest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from scbatchnorm._method.anchors import find_nearest, l2_normalise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scbatchnorm._data.types import Bools, Codes, Floats
    from scbatchnorm._method.coherence import Chance, Evidence

# Pairs that are joined to regions, and the fewest of a region; the fewest cells of either side.
_JOINED = 5
_FEWEST_PAIRS = 10
_FEWEST_CELLS = 15
# One state displaced: its two clouds overlap (distance in standard deviations), and moved onto each other they mix as one.
_APART = 4.0
_MIXED = 0.9
_NEAR = 10


def find_displaced_pairs(points: Floats, codes: Codes, evidence: Evidence, chance: Chance) -> tuple[Bools, int]:
    """Pairs of `evidence` in regions where one state is displaced, shape (pairs,), and the number of regions left as doubtful."""
    accepted = np.zeros(len(evidence), dtype=bool)
    doubtful = 0
    for group in np.unique(evidence.group):
        members = np.flatnonzero(evidence.group == group)
        for region in _regions(points, evidence, members, chance):
            if is_one_state(*_sides(points, codes, evidence, members, region)):
                accepted[region] = True
            else:
                doubtful += 1
    return accepted, doubtful


def is_one_state(left: Floats, right: Floats) -> bool:
    """Whether two clouds of cells, each (cells, components), can be one state displaced.

    Two types differ in more than their mean: moved onto each other by it, their cells still keep apart. And where there is
    a gap between the clouds, nothing tells a displaced state from two types.
    """
    if min(len(left), len(right)) < _FEWEST_CELLS:
        return False
    step = left.mean(axis=0) - right.mean(axis=0)
    direction = step / max(float(np.linalg.norm(step)), np.finfo(np.float32).tiny)
    spread = np.sqrt(((left @ direction).var() + (right @ direction).var()) / 2)
    if np.linalg.norm(step) > _APART * spread:
        return False
    cells = np.concatenate([left - step, right])
    is_left = np.arange(len(cells)) < len(left)
    near = find_nearest(cells, cells, _NEAR + 1)[:, 1:]
    others = is_left[near] != is_left[:, None]
    # Each side weighs the same, however unequal their numbers of cells are.
    found = np.mean([others[side].mean() / (~side).sum() for side in (is_left, ~is_left)])
    return bool(found * (len(cells) - 1) >= _MIXED)


def _regions(points: Floats, evidence: Evidence, members: Codes, chance: Chance) -> Iterator[Codes]:
    """Connected pairs that are more displaced than chance allows, with a peak that chance does not reach."""
    hot = members[evidence.coherence[members] > chance.high]
    if len(hot) < _FEWEST_PAIRS:
        return
    middle = points[evidence.left[hot]] + points[evidence.right[hot]]
    near = find_nearest(middle, middle, _JOINED + 1)
    start = np.repeat(np.arange(len(hot)), near.shape[1])
    graph = sparse.csr_matrix((np.ones(near.size), (start, near.ravel())), shape=(len(hot), len(hot)))
    for part in _parts(connected_components(graph, directed=False)[1]):
        region = hot[part]
        if len(region) >= _FEWEST_PAIRS and evidence.coherence[region].max() > chance.peak:
            yield region


def _parts(labels: Codes) -> Iterator[Codes]:
    for label in range(int(labels.max()) + 1):
        yield np.flatnonzero(labels == label)


def _sides(points: Floats, codes: Codes, evidence: Evidence, members: Codes, region: Codes) -> tuple[Floats, Floats]:
    """Cells of either batch whose nearest anchored cell, of their batch, is one of the region's."""
    u, v = codes[evidence.left[members[0]]], codes[evidence.right[members[0]]]
    found = []
    for level, cells in ((u, evidence.left), (v, evidence.right)):
        rows = np.flatnonzero(codes == level)
        anchored = np.unique(cells[members])
        inside = np.isin(anchored, cells[region])
        nearest = find_nearest(l2_normalise(points[rows]), l2_normalise(points[anchored]), 1)[:, 0]
        found.append(points[rows[inside[nearest]]])
    return found[0], found[1]
