"""How far groups of cells lie within each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from scbatchnorm._data.types import Codes, Floats


def neighbours_in(near: Codes, codes: Codes, n_groups: int) -> Floats:
    """How many of each cell's neighbours are in each group, shape (cells, groups)."""
    n_cells, k = near.shape
    cell = np.repeat(np.arange(n_cells), k)
    return sparse.coo_matrix((np.ones(n_cells * k), (cell, codes[near].ravel())), shape=(n_cells, n_groups)).toarray()


def between(counts: Floats, codes: Codes, sizes: Codes, weights: Floats | None = None) -> Floats:
    """Mingling of every two groups, shape (groups, groups): 0 apart, 1 as if their cells had been shuffled.

    Of the neighbours that a cell has in its own group i and in group j together, those in j, divided by what
    shuffling the two would give; then the mean of both directions. `counts` are those of `neighbours_in`; `weights`
    (cells,) count cells more than once, for a bootstrap.
    """
    n_groups = len(sizes)
    member = sparse.csr_matrix(
        (np.ones(len(codes)) if weights is None else weights, (codes, np.arange(len(codes)))), (n_groups, len(codes))
    )
    total = np.asarray(member @ counts)
    own = np.diag(total)[:, None]
    share = total / np.maximum(own + total, 1)
    by_chance = sizes[None, :] / np.maximum(sizes[:, None] + sizes[None, :] - 1, 1)
    found = np.divide(share, by_chance, out=np.zeros_like(share), where=by_chance > 0)
    found = np.minimum((found + found.T) / 2, 1)
    np.fill_diagonal(found, 0)
    return found
