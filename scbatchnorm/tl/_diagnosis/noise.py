"""The yardstick: the same cells, measured once more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scbatchnorm.metrics import _search

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scbatchnorm._data.types import Codes, Floats

# Neighbours of a cell inside its batch; in a batch of few cells not more than half of the others.
N_NEIGHBORS = 15
# Cells whose neighbours are averaged at once.
_ROWS = 4096


def within(points: Floats, rows: Sequence[Codes]) -> list[Codes]:
    """Neighbours of each cell in its batch: for each batch positions in `rows[batch]`, (cells, neighbours)."""
    return [_search.nearest(points[cells], min(N_NEIGHBORS, (len(cells) - 1) // 2))[0] for cells in rows]


def measured_again(points: Floats, rows: Sequence[Codes], near: Sequence[Codes], rng: np.random.Generator) -> Floats:
    """Coordinates that a second measurement of the same cells might give, shape (cells, dimensions).

    Each cell gets noise with the covariance of its neighbours `near` in its batch. Inside a state these differ by
    chance alone, so this is how far coordinates can be trusted; it is an upper bound where neighbours differ in more
    than noise.
    """
    again = points.copy()
    for cells, others in zip(rows, near, strict=True):
        k = others.shape[1]
        if k < 2:
            continue
        weight = rng.standard_normal(others.shape).astype(points.dtype)
        weight -= weight.mean(axis=1, keepdims=True)
        for start in range(0, len(cells), _ROWS):
            block = slice(start, start + _ROWS)
            around = points[cells[others[block]]]
            again[cells[block]] += np.einsum("ck,ckd->cd", weight[block], around) / np.sqrt(k - 1)
    return again


def kept(before: Sequence[Codes], after: Sequence[Codes], rows: Sequence[Codes], n_cells: int) -> Floats:
    """Share of each cell's neighbours `before` that are among those `after`, shape (cells,); nan without neighbours."""
    shares = np.full(n_cells, np.nan)
    for cells, then, now in zip(rows, before, after, strict=True):
        if then.shape[1]:
            both = np.sort(np.hstack([then, now]), axis=1)
            shares[cells] = (both[:, 1:] == both[:, :-1]).sum(axis=1) / then.shape[1]
    return shares
