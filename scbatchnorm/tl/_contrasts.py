"""Differences between groups of cells within each batch, gene by gene; arrays in, numbers out."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import sparse
from scipy.stats import spearmanr

from scbatchnorm._data.blocks import Narrowing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scbatchnorm._data.blocks import Blocks, Function
    from scbatchnorm._data.types import Codes, Floats, Matrix


class Contrast(NamedTuple):
    """Two groups of cells of one batch, as codes, and how alike their differences are before and after."""

    batch: int
    groups: tuple[int, int]
    n_cells: tuple[int, int]
    n_genes: int
    spearman: float


def contrasts(before: Floats, after: Floats, n_cells: Codes, *, min_cells: int) -> Iterator[Contrast]:
    """Each pair of groups within each batch.

    Parameters
    ----------
    before, after
        Mean expression, shape (batches, groups, genes). Genes that are 0 in both groups before are left out.
    n_cells
        Cells, shape (batches, groups).
    min_cells
        Cells that a group needs in a batch.

    Returns
    -------
    Spearman correlation over genes, nan where there are fewer than 3 or nothing differs.
    """
    for batch, sizes in enumerate(n_cells):
        for pair in combinations(np.flatnonzero(sizes >= min_cells).tolist(), 2):
            first, second = pair
            genes = (before[batch, first] != 0) | (before[batch, second] != 0)
            changes = [(means[batch, first] - means[batch, second])[genes] for means in (before, after)]
            defined = genes.sum() > 2 and all(np.ptp(change) > 0 for change in changes)
            rho = float(spearmanr(*changes).statistic) if defined else float("nan")
            yield Contrast(batch, pair, (int(sizes[first]), int(sizes[second])), int(genes.sum()), rho)


def means(X: Matrix, codes: Codes, n_groups: int) -> Floats:
    """Mean of each gene in each group, shape (groups, genes), 0 for a group without cells.

    `X` is dense or sparse, (cells, genes); `codes` is the group of each cell, and -1 is none.
    """
    cells = np.flatnonzero(codes >= 0)
    share = 1 / np.bincount(codes[cells], minlength=n_groups)[codes[cells]]
    found = sparse.csr_matrix((share, (codes[cells], cells)), shape=(n_groups, len(codes))) @ X
    return np.asarray(found.toarray() if sparse.issparse(found) else found, dtype=np.float64)


def streamed_means(blocks: Blocks, codes: Codes, n_groups: int) -> Floats:
    """As `means`, of expression that is not in memory."""
    found = np.zeros((n_groups, blocks.shape[1]))
    for groups, sums in blocks.map(_Sums(codes), what="means"):
        found[groups] += sums
    size = np.bincount(codes[codes >= 0], minlength=n_groups)
    return np.divide(found, size[:, None], out=found, where=size[:, None] > 0)


class _Sums(Narrowing):
    """Sums of genes over the cells of each group that a block has."""

    def __init__(self, codes: Codes) -> None:
        self.codes = codes

    def narrowed(self, start: int, stop: int) -> Function:
        """See `Narrowing`."""
        return _Sums(self.codes[start:stop])

    def __call__(self, block: Matrix, start: int) -> tuple[Codes, Floats]:
        cells = np.flatnonzero(self.codes >= 0)
        groups, own = np.unique(self.codes[cells], return_inverse=True)
        member = sparse.csr_matrix((np.ones(len(cells)), (own, cells)), shape=(len(groups), len(self.codes)))
        sums = member @ block
        return groups, np.asarray(sums.toarray() if sparse.issparse(sums) else sums, dtype=np.float64)
