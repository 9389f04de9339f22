"""Anchors: mutual nearest neighbours between batches, and the offset of each batch that follows from them.

All that moves batches relative to each other rests on anchors: the offsets (here), the displacement loss of training
(`training.losses`), and the weights of the discriminator, which say how far a cell has a counterpart in another batch (`support`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import torch

from scbatchnorm._method.pca import batchwise_scores

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scbatchnorm._data.types import Bools, Codes, Floats, Matrix

# Most cells of each batch that anchors are sought among, and of all batches together (pairs of cells grow with the square); least of each.
_PER_BATCH = 1000
_IN_ALL = 16_000
_AT_LEAST = 50
_PAIRS_OF_BATCHES = 120
# Rounds of the estimate of offsets, and the share of anchors with the lowest cosine that each leaves out.
_ROUNDS = 2
_OFFSET_DISSIMILAR = 0.15
# Anchors that a local average is taken over.
_LOCAL = 15
# Query rows compared with all references at once: bounds the memory of a search.
_ROWS = 2048
_PARTLY_SORTED = 64


@dataclass(frozen=True)
class Anchors:
    """Mutual nearest neighbours between batches; `left` is always in the batch with the lower code."""

    left: Codes  # (n_anchors,) positions of cells
    right: Codes  # (n_anchors,)
    group: Codes  # (n_anchors,) one number for each pair of batches

    def __len__(self) -> int:
        return len(self.left)

    def __getitem__(self, keep: Codes) -> Anchors:
        return Anchors(self.left[keep], self.right[keep], self.group[keep])

    def groups(self) -> Iterator[Codes]:
        """Positions of the anchors of each pair of batches, in turn."""
        order = np.argsort(self.group, kind="stable")
        yield from np.split(order, np.flatnonzero(np.diff(self.group[order])) + 1) if len(order) else ()


def l2_normalise(points: Floats) -> Floats:
    """Points scaled to length 1, so that Euclidean neighbours are cosine neighbours."""
    length = np.linalg.norm(points, axis=1, keepdims=True)
    return points / np.maximum(length, np.float32(1e-12))


def find_nearest(query: Floats, reference: Floats, k: int) -> Codes:
    """Positions in `reference` of the `k` Euclidean neighbours of each row of `query`, nearest first."""
    target = torch.from_numpy(np.ascontiguousarray(reference, dtype=np.float32))
    half_square = 0.5 * (target * target).sum(1)
    k = min(k, len(target))
    source = torch.from_numpy(np.ascontiguousarray(query, dtype=np.float32))
    return torch.cat([_top_k(block @ target.T - half_square, k) for block in source.split(_ROWS)]).numpy()


def _top_k(values: torch.Tensor, k: int) -> torch.Tensor:
    """Positions of the `k` largest entries of each row, largest first.

    Torch sorts only a part of rows of at least 64 k entries, which is twice as fast: shorter ones are made so long.
    """
    lacking = _PARTLY_SORTED * k - values.shape[1]
    if 0 < lacking <= values.shape[1]:
        values = torch.nn.functional.pad(values, (0, lacking), value=-torch.inf)
    return values.topk(k, dim=1).indices


def cells_per_batch(n_batches: int, most: int = _PER_BATCH) -> int:
    """Cells of each batch that anchors are sought among, at most `most`: fewer the more batches there are."""
    return max(_AT_LEAST, min(most, _IN_ALL // n_batches))


def sketch_batches(codes: Codes, per_batch: int, rng: np.random.Generator) -> Codes:
    """Positions of at most `per_batch` random cells of every batch, in ascending order."""
    kept = []
    for level in range(int(codes.max()) + 1):
        rows = np.flatnonzero(codes == level)
        kept.append(rng.choice(rows, per_batch, replace=False) if len(rows) > per_batch else rows)
    return np.sort(np.concatenate(kept))


def find_anchors(points: Floats, codes: Codes, k: int, rng: np.random.Generator | None = None) -> Anchors:
    """Mutual `k` nearest neighbours, by cosine, between every two batches of `points` (cells, components).

    With `rng`, and so many batches that there are more than 120 pairs of them, 120 random pairs are searched.
    """
    points = l2_normalise(points)
    n_batches = int(codes.max()) + 1
    rows = [np.flatnonzero(codes == level) for level in range(n_batches)]
    tensors = [torch.from_numpy(np.ascontiguousarray(points[r], dtype=np.float32)) for r in rows]
    left, right, group = [], [], []
    pairs = list(combinations(range(n_batches), 2))
    if rng is not None and len(pairs) > _PAIRS_OF_BATCHES:
        pairs = [pairs[p] for p in rng.choice(len(pairs), _PAIRS_OF_BATCHES, replace=False)]
    for u, v in pairs:
        i, j = _mutual(tensors[u] @ tensors[v].T, k)
        left.append(rows[u][i])
        right.append(rows[v][j])
        group.append(np.full(len(i), u * n_batches + v))
    if not left:
        empty = np.empty(0, dtype=np.intp)
        return Anchors(empty, empty, empty)
    return Anchors(np.concatenate(left), np.concatenate(right), np.concatenate(group))


def _mutual(similarity: torch.Tensor, k: int) -> tuple[Codes, Codes]:
    """Row and column of each entry that is among the `k` largest of both its row and its column."""
    n, m = similarity.shape
    forward = similarity.topk(min(k, m), dim=1, sorted=False).indices
    backward = similarity.T.contiguous().topk(min(k, n), dim=1, sorted=False).indices
    from_rows = (torch.arange(n)[:, None] * m + forward).flatten().numpy()
    from_columns = (backward * m + torch.arange(m)[:, None]).flatten().numpy()
    both = np.intersect1d(from_rows, from_columns, assume_unique=True)
    return both // m, both % m


def clean_anchors(anchors: Anchors, points: Floats, *, displaced: float, dissimilar: float) -> Anchors:
    """Anchors without those that disagree with the anchors around them, all measured between `points` scaled to length 1.

    Two filters, one after the other and within each pair of batches: the share `displaced` whose displacement is
    furthest from the mean displacement of the 15 nearest anchors, then the share `dissimilar` with the
    lowest cosine. What a private cell type is wrongly anchored to differs in both.
    """
    unit = l2_normalise(points)
    keep = []
    for members in anchors.groups():
        if displaced:
            i, j = anchors.left[members], anchors.right[members]
            displacement = unit[i] - unit[j]
            around = displacement[find_nearest(unit[i] + unit[j], unit[i] + unit[j], _LOCAL)]
            deviation = np.linalg.norm(displacement - around.mean(axis=1), axis=1)
            members = members[_without_highest(deviation, displaced)]
        distance = np.linalg.norm(unit[anchors.left[members]] - unit[anchors.right[members]], axis=1)
        keep.append(members[_without_highest(distance, dissimilar)])
    return anchors[np.sort(np.concatenate(keep))] if keep else anchors


def _without_highest(values: Floats, dropped: float) -> Codes:
    """Positions of `values` without the share `dropped` of highest ones."""
    return np.sort(np.argsort(values, kind="stable")[: len(values) - int(dropped * len(values))])


def estimate_offsets(X: Matrix, points: Floats, codes: Codes, n_neighbors: int, rng: np.random.Generator) -> Floats:
    """Offset of each batch, shape (batches, components), from a sketch of the cells.

    Parameters
    ----------
    X
        Features that `points` are the components of, (cells, features): the first anchors are sought in them, scaled within
        each batch.
    points
        Coordinates before any correction, (cells, components).
    codes
        Batch of each cell, counted from 0.
    n_neighbors
        Nearest neighbours that make two cells anchors if mutual.
    rng
        Source of randomness.
    """
    rows = sketch_batches(codes, cells_per_batch(int(codes.max()) + 1), rng)
    scores = batchwise_scores(X[rows], codes[rows], points.shape[1], rng)
    return offsets_in_rounds(points[rows], scores, codes[rows], n_neighbors, rng)


def offsets_in_rounds(points: Floats, scores: Floats, codes: Codes, k: int, rng: np.random.Generator) -> Floats:
    """Offset of each batch, shape (batches, components), in two rounds.

    Anchors are sought first among `scores` (cells, components), where batches are already comparable, then among the `points`
    that the first offsets have moved; the displacements are always those of `points`.
    """
    n_batches = int(codes.max()) + 1
    offsets, searched = np.zeros((n_batches, points.shape[1]), dtype=np.float32), scores
    for _ in range(_ROUNDS):
        anchors = find_anchors(searched, codes, k, rng)
        anchors = clean_anchors(anchors, searched, displaced=0, dissimilar=_OFFSET_DISSIMILAR)
        offsets = solve_offsets(anchors, points, n_batches)
        searched = points - offsets[codes]
    return offsets


def solve_offsets(anchors: Anchors, points: Floats, n_batches: int) -> Floats:
    """Offset of each batch, shape (batches, components), that the anchors ask for; their mean is 0.

    Least squares over the batches of |o_u - o_v - m_uv|^2 with m_uv the median displacement of the anchors between u and v,
    weighted by the square root of their number. Batches without anchors get 0.
    """
    design, target = [np.ones((1, n_batches))], [np.zeros((1, points.shape[1]))]
    for members in anchors.groups():
        u, v = divmod(int(anchors.group[members[0]]), n_batches)
        row = np.zeros((1, n_batches))
        row[0, u], row[0, v] = 1, -1
        weight = len(members) ** 0.25  # least squares square it
        shift = np.median(points[anchors.left[members]] - points[anchors.right[members]], axis=0)
        design.append(weight * row)
        target.append(weight * shift[None])
    solution = np.linalg.lstsq(np.concatenate(design), np.concatenate(target), rcond=None)[0]
    return solution.astype(np.float32)


class AnchorPartners:
    """The partners of each anchored cell, to draw from at random."""

    def __init__(self, anchors: Anchors, n_cells: int) -> None:
        cell = np.concatenate([anchors.left, anchors.right])
        other = np.concatenate([anchors.right, anchors.left])
        self._other = other[np.argsort(cell, kind="stable")]
        self._count = np.bincount(cell, minlength=n_cells)
        self._start = np.cumsum(self._count) - self._count

    def draw(self, cells: Codes, rng: np.random.Generator) -> tuple[Bools, Codes]:
        """Which of the `cells` have an anchor, shape (cells,), and a random partner of each of those."""
        anchored = self._count[cells] > 0
        cells = cells[anchored]
        turn = (rng.random(len(cells)) * self._count[cells]).astype(np.intp)
        return anchored, self._other[self._start[cells] + turn]
