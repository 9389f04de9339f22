"""Do neighbouring cells of different batches differ in a common direction? Coherence at each anchor, and what chance gives.

Where only some states are displaced, it is decided whether the two sides are one state or two cell types that are each other's nearest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from scbatchnorm._method.anchors import cells_per_batch, find_anchors, find_nearest, l2_normalise, sketch_batches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scbatchnorm._data.types import Bools, Codes, Floats

# Cells looked at in each batch, and in each split of a batch into two.
_CELLS = 1000
_SPLIT_CELLS = 1000
_NEIGHBOURS = 5  # whatever `n_neighbors` is: evidence must not depend on it
# Pairs around each pair: few enough that small states keep neighbourhoods of their own.
_AROUND = (10, 30)
_AROUND_SHARE = 0.1
_SPLITS = 20
# Fewer cells, or fewer pairs, say nothing.
_FEWEST_CELLS = 20
_FEWEST_PAIRS = 30
# Of which all pairs but the least coherent ones are to be judged.
_LOW = 0.2
# What is beyond chance: of pairs, and of splits in standard deviations.
_HIGH = 0.95
_FAR = 4
_MARGIN = 1.2
# Pairs that are joined to regions, and the fewest of a region; the fewest cells of either side.
_JOINED = 5
_REGION_PAIRS = 10
_SIDE_CELLS = 15
# One state displaced: its two clouds overlap (distance in standard deviations), and moved onto each other they mix as one.
_APART = 4.0
_MIXED = 0.9
_NEAR = 10


@dataclass(frozen=True)
class Evidence:
    """Pairs of nearest cells of two batches and how coherent displacements are around each.

    A cell is `left` once for each other batch; `group` numbers the ordered pairs of batches.
    """

    left: Codes  # (pairs,) positions of cells
    right: Codes  # (pairs,)
    group: Codes  # (pairs,)
    coherence: Floats  # (pairs,) about 1 by chance

    def __len__(self) -> int:
        return len(self.left)

    @property
    def low(self) -> float:
        """What four of five pairs reach: large only if nearly all shared states are displaced."""
        return float(np.quantile(self.coherence, _LOW)) if len(self) else float("nan")


@dataclass(frozen=True)
class Chance:
    """Coherence where there is no batch effect: batches of the data, each split at random in two."""

    median: float  # over pairs
    high: float  # 95 % of the pairs are below
    # What the highest of the pairs, and `Evidence.low`, do not reach: 4 standard deviations or 20 %, whichever is more, above their
    # means over splits.
    peak_bound: float
    low_bound: float


def measure_coherence(points: Floats, codes: Codes, rng: np.random.Generator) -> Evidence:
    """Evidence at the pairs of at most 1000 cells per batch.

    Around each pair, the squared sum of the displacements of the nearest pairs, divided by its expectation if each displacement had
    a random sign (pairs that share a cell share it); then averaged over the same nearest pairs.

    Parameters
    ----------
    points
        Uncorrected coordinates, shape (cells, components).
    codes
        Batch of each cell, counted from 0.
    rng
        Draws the cells looked at and the partners.
    """
    n_batches = int(codes.max()) + 1
    rows = sketch_batches(codes, cells_per_batch(n_batches, _CELLS), rng)
    points, codes = points[rows], codes[rows]
    anchors = find_anchors(points, codes, _NEIGHBOURS, rng)
    both_ways = np.concatenate(
        [np.stack([anchors.left, anchors.right]), np.stack([anchors.right, anchors.left])], axis=1
    )
    group = codes[both_ways[0]] * n_batches + codes[both_ways[1]]
    parts = []
    for g in np.unique(group):
        pairs = both_ways[:, group == g]
        # one random partner per cell
        pairs = pairs[:, rng.permutation(pairs.shape[1])]
        pairs = pairs[:, np.unique(pairs[0], return_index=True)[1]]
        around = find_nearest_pairs(points, pairs[0], pairs[1])
        smooth = coherence_ratios(points, pairs[0], pairs[1], around)[around].mean(axis=1)
        parts.append((rows[pairs[0]], rows[pairs[1]], np.full(pairs.shape[1], g), smooth))
    if not parts:
        none = np.empty(0, dtype=np.intp)
        return Evidence(none, none, none, np.empty(0))
    return Evidence(*map(np.concatenate, zip(*parts, strict=True)))


def find_nearest_pairs(points: Floats, left: Codes, right: Codes) -> Codes:
    """The pairs whose midpoints are nearest to that of each pair, itself included, shape (pairs, around)."""
    fewest, most = _AROUND
    middle = points[left] + points[right]
    return find_nearest(middle, middle, int(np.clip(_AROUND_SHARE * len(left), fewest, most)))


def coherence_ratios(points: Floats, left: Codes, right: Codes, around: Codes) -> Floats:
    """Squared sum of the displacements `around` each pair over its expectation under random signs, shape (pairs,)."""
    displacement = (points[left] - points[right]).astype(np.float64)
    total = displacement[around].sum(axis=1)
    n, k = around.shape
    # Sum within (pair, partner cell): displacements that share a partner are one draw, not several.
    partner = np.unique(right, return_inverse=True)[1]
    key, inverse = np.unique(np.repeat(np.arange(n), k) * n + partner[around].ravel(), return_inverse=True)
    member = sparse.csr_matrix((np.ones(n * k), (inverse, around.ravel())), shape=(len(key), n))
    shared = np.square(member @ displacement).sum(axis=1)
    expected = np.bincount(key // n, weights=shared, minlength=n)
    return np.square(total).sum(axis=1) / np.maximum(expected, np.finfo(float).tiny)


def coherence_by_chance(points: Floats, codes: Codes, rng: np.random.Generator) -> Chance | None:
    """What chance gives in these data, from 20 random splits of single batches; `None` if all batches are too small.

    A split has the proportions of the batch and another one, so that unequal batches are compared with unequal halves.
    """
    splits = [evidence for evidence in _splits(points, codes, rng) if len(evidence) >= _FEWEST_PAIRS]
    if not splits:
        return None
    pooled = np.concatenate([evidence.coherence for evidence in splits])
    low = np.array([evidence.low for evidence in splits])
    peak = np.array([evidence.coherence.max() for evidence in splits])
    median, high = np.quantile(pooled, [0.5, _HIGH])
    bounds = [float(v.mean() + max(_FAR * v.std(), (_MARGIN - 1) * v.mean())) for v in (peak, low)]
    return Chance(float(median), float(high), *bounds)


def _splits(points: Floats, codes: Codes, rng: np.random.Generator) -> Iterator[Evidence]:
    """Evidence between two random parts of a batch, for 20 draws of a batch."""
    sizes = np.bincount(codes)
    large = np.flatnonzero(sizes >= 2 * _FEWEST_CELLS)
    if not len(large):
        return
    order = np.concatenate([rng.permutation(large) for _ in range(-(-_SPLITS // len(large)))])[:_SPLITS]
    for level in order:
        rows = np.flatnonzero(codes == level)
        rows = rng.permutation(rows)[:_SPLIT_CELLS]
        other = rng.choice(np.delete(np.arange(len(sizes)), level))
        share = sizes[other] / (sizes[other] + sizes[level])
        n_second = int(np.clip(round(share * len(rows)), _FEWEST_CELLS, len(rows) - _FEWEST_CELLS))
        yield measure_coherence(points[rows], (np.arange(len(rows)) < n_second).astype(np.int64), rng)


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
    if min(len(left), len(right)) < _SIDE_CELLS:
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
    mixed = np.mean([others[side].mean() / (~side).sum() for side in (is_left, ~is_left)])
    return bool(mixed * (len(cells) - 1) >= _MIXED)


def _regions(points: Floats, evidence: Evidence, members: Codes, chance: Chance) -> Iterator[Codes]:
    """Connected pairs that are more displaced than chance allows, with a peak that chance does not reach."""
    displaced = members[evidence.coherence[members] > chance.high]
    if len(displaced) < _REGION_PAIRS:
        return
    middle = points[evidence.left[displaced]] + points[evidence.right[displaced]]
    near = find_nearest(middle, middle, _JOINED + 1)
    start = np.repeat(np.arange(len(displaced)), near.shape[1])
    graph = sparse.csr_matrix((np.ones(near.size), (start, near.ravel())), shape=(len(displaced), len(displaced)))
    for part in _parts(connected_components(graph, directed=False)[1]):
        region = displaced[part]
        if len(region) >= _REGION_PAIRS and evidence.coherence[region].max() > chance.peak_bound:
            yield region


def _parts(labels: Codes) -> Iterator[Codes]:
    for label in range(int(labels.max()) + 1):
        yield np.flatnonzero(labels == label)


def _sides(points: Floats, codes: Codes, evidence: Evidence, members: Codes, region: Codes) -> tuple[Floats, Floats]:
    """Cells of either batch whose nearest anchored cell, of their batch, is one of the region's."""
    u, v = codes[evidence.left[members[0]]], codes[evidence.right[members[0]]]
    sides = []
    for level, cells in ((u, evidence.left), (v, evidence.right)):
        rows = np.flatnonzero(codes == level)
        anchored = np.unique(cells[members])
        inside = np.isin(anchored, cells[region])
        nearest = find_nearest(l2_normalise(points[rows]), l2_normalise(points[anchored]), 1)[:, 0]
        sides.append(points[rows[inside[nearest]]])
    return sides[0], sides[1]
