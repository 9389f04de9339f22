"""Which cells have counterparts in which other batches, and how well batches are mixed: what keeps private states in place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scbatchnorm._method.anchors import clean_anchors, find_anchors, find_nearest, l2_normalise

if TYPE_CHECKING:
    from scbatchnorm._data.types import Codes, Floats
    from scbatchnorm._method.anchors import Anchors

# Shares of the anchors that are left out as doubtful.
_DISPLACED = 0.1
_DISSIMILAR = 0.15
# Cells that a local average is taken over.
_LOCAL = 15
# Cells whose neighbours are looked at to see how well batches are mixed.
_ASKED = 2000


@dataclass(frozen=True)
class SharedStates:
    """States that batches share: anchors between them, and how much each cell takes part in each comparison."""

    anchors: Anchors
    overlap: Floats  # (cells, batches), see `neighbourhood_overlap`
    pair_weights: Floats  # (cells, batches), see the function of that name


def find_shared_states(points: Floats, codes: Codes, n_neighbors: int, rng: np.random.Generator) -> SharedStates:
    """States that the batches of these cells share, by their places in `points` (cells, components)."""
    anchors = find_anchors(points, codes, n_neighbors, rng)
    anchors = clean_anchors(anchors, points, displaced=_DISPLACED, dissimilar=_DISSIMILAR)
    near = neighbours_within_batch(points, codes)
    overlap = neighbourhood_overlap(anchors, near, codes)
    return SharedStates(anchors, overlap, pair_weights(anchors, overlap, near, codes))


def neighbours_within_batch(points: Floats, codes: Codes) -> Codes:
    """The 15 nearest cells, by cosine, of each cell inside its batch, itself included, shape (cells, 15).

    Cells of a smaller batch have all its cells, in turn until there are 15.
    """
    points = l2_normalise(points)
    neighbours = np.empty((len(codes), _LOCAL), dtype=np.intp)
    for level in range(int(codes.max()) + 1):
        rows = np.flatnonzero(codes == level)
        near = rows[find_nearest(points[rows], points[rows], _LOCAL)]
        neighbours[rows] = near[:, np.arange(_LOCAL) % near.shape[1]]
    return neighbours


def neighbourhood_overlap(anchors: Anchors, near: Codes, codes: Codes) -> Floats:
    """Share of each cell's `near` cells that have an anchor in each batch, shape (cells, batches).

    Near 1 for cell states that the other batch has too, near 0 for states that it lacks and for a cell's own batch.
    """
    anchored = np.zeros((len(codes), int(codes.max()) + 1), dtype=np.float32)
    anchored[anchors.left, codes[anchors.right]] = 1
    anchored[anchors.right, codes[anchors.left]] = 1
    return _local_mean(anchored, near)


def pair_weights(anchors: Anchors, overlap: Floats, near: Codes, codes: Codes) -> Floats:
    """How much each cell counts when its batch is compared with each other batch, shape (cells, batches).

    The anchors among the `near` cells, each counted by the `overlap` (of `neighbourhood_overlap`) that both its ends have in the other's batch.
    As an anchor counts for both its cells, two batches weigh the same in every state they share, however unequal their
    numbers of cells are; a state that only one of them has weighs nothing. Scaled so that the mean over cells is
    that of the squared largest overlap with any batch: data of which less is shared count less.
    """
    left, right = codes[anchors.left], codes[anchors.right]
    weight = overlap[anchors.left, right] * overlap[anchors.right, left]
    count = np.zeros_like(overlap)
    np.add.at(count, (anchors.left, right), weight)
    np.add.at(count, (anchors.right, left), weight)
    local = _local_mean(count, near)
    total = float(local.sum())
    scale = float(np.square(overlap.max(axis=1)).sum()) / total if total > 0 else 0.0
    return local * np.float32(scale)


def knn_mixing(points: Floats, codes: Codes, weight: Floats, rng: np.random.Generator) -> float:
    """How well batches are mixed: 1 if the 15 nearest neighbours of cells are of other batches as often as by chance.

    Cells count by their `weight`, shape (cells,): a state without counterpart cannot mix. Of more than 2000 cells the
    neighbours of 2000 random ones are sought.
    """
    points = l2_normalise(points)
    rows = rng.permutation(len(codes))[:_ASKED]
    nearest = find_nearest(points[rows], points, _LOCAL + 1)[:, 1:]
    others = (codes[nearest] != codes[rows, None]).mean(axis=1)
    by_chance = 1 - np.bincount(codes)[codes[rows]] / len(codes)
    total = float(weight[rows] @ by_chance)
    return float(weight[rows] @ others) / total if total > 0 else 1.0


def _local_mean(values: Floats, near: Codes) -> Floats:
    """Mean of `values` (cells, batches) over the `near` cells of each cell."""
    total = np.zeros_like(values)
    for column in near.T:
        total += values[column]
    return total / np.float32(near.shape[1])
