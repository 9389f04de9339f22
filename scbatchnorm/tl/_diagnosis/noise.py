"""The reference for all comparisons: the same cells as if measured a second time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scbatchnorm.metrics._search import find_nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scbatchnorm._data.types import Codes, Floats

# Neighbours of a cell within its batch; in a batch of few cells at most half of the others.
N_NEIGHBORS = 15
# Cells whose neighbours are combined at once: bounds the memory.
_N_ROWS = 4096


def find_batch_neighbours(points: Floats, rows: Sequence[Codes]) -> list[Codes]:
    """Neighbours of each cell within its batch: for each batch positions in `rows[batch]`, shape (cells, k)."""
    return [find_nearest(points[cells], min(N_NEIGHBORS, (len(cells) - 1) // 2))[0] for cells in rows]


def simulate_remeasurement(
    points: Floats, rows: Sequence[Codes], neighbours: Sequence[Codes], rng: np.random.Generator
) -> Floats:
    """Coordinates that a second measurement of the same cells might give, shape (cells, dimensions).

    Each cell gets normal noise with the covariance of its `neighbours` in its batch. Within a cell state these differ by
    noise alone; where they differ in more, the simulated noise is too large, and the comparison conservative.
    """
    again = points.copy()
    for cells, near in zip(rows, neighbours, strict=True):
        k = near.shape[1]
        if k < 2:
            continue
        weight = rng.standard_normal(near.shape).astype(points.dtype)
        weight -= weight.mean(axis=1, keepdims=True)
        for start in range(0, len(cells), _N_ROWS):
            block = slice(start, start + _N_ROWS)
            around = points[cells[near[block]]]
            again[cells[block]] += np.einsum("ck,ckd->cd", weight[block], around) / np.sqrt(k - 1)
    return again


def share_kept(before: Sequence[Codes], after: Sequence[Codes], rows: Sequence[Codes], n_cells: int) -> Floats:
    """Share of each cell's neighbours `before` that are among those `after`, shape (cells,); nan without neighbours."""
    shares = np.full(n_cells, np.nan)
    for cells, then, now in zip(rows, before, after, strict=True):
        if then.shape[1]:
            both = np.sort(np.hstack([then, now]), axis=1)
            shares[cells] = (both[:, 1:] == both[:, :-1]).sum(axis=1) / then.shape[1]
    return shares
