"""What neighbourhoods say of genes, and which genes tell a state apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scbatchnorm._data.types import Codes, Floats, Labels, Matrix
    from scbatchnorm.tl._diagnosis.states import States

# Genes that are dense at once.
_BLOCK = 256
_MARKERS = 3


def signal(X: Matrix, rows: Sequence[Codes], near: Sequence[Codes]) -> Floats:
    """Correlation of each gene with its mean over the neighbours in the same batch, shape (genes,).

    `X` is (cells, genes), `near` as of `_noise.within`. Means of batches are taken off, so nothing but differences
    inside batches counts. 0 where neighbourhoods know nothing of a gene; nan where it does not vary.
    """
    n_cells, n_genes = X.shape
    members = [(cells, others) for cells, others in zip(rows, near, strict=True) if others.shape[1]]
    if not members:
        return np.full(n_genes, np.nan)
    row = np.concatenate([np.repeat(cells, others.shape[1]) for cells, others in members])
    column = np.concatenate([cells[others].ravel() for cells, others in members])
    weight = np.concatenate([np.full(others.size, 1 / others.shape[1]) for _, others in members])
    mean = sparse.csr_matrix((weight.astype(np.float32), (row, column)), shape=(n_cells, n_cells))
    found = np.full(n_genes, np.nan)
    X = sparse.csc_matrix(X) if sparse.issparse(X) else X
    for start in range(0, n_genes, _BLOCK):
        block = X[:, start : start + _BLOCK]
        values = np.asarray(block.toarray() if sparse.issparse(block) else block, dtype=np.float32)
        around = mean @ values
        sums = np.sum([_products(values[cells], around[cells]) for cells, _ in members], axis=0)
        found[start : start + _BLOCK] = _correlation(*sums)
    return found


def _products(values: Floats, around: Floats) -> np.ndarray:
    """Sums of squares and products of deviations from the mean, shape (3, genes)."""
    values, around = values - values.mean(axis=0), around - around.mean(axis=0)
    return np.stack(
        [(a * b).sum(axis=0, dtype=np.float64) for a, b in ((values, around), (values, values), (around, around))]
    )


def _correlation(product: Floats, first: Floats, second: Floats) -> Floats:
    scale = np.sqrt(first * second)
    return np.divide(product, scale, out=np.full(len(scale), np.nan), where=scale > 1e-12)


def markers(X: Matrix, genes: Labels, states: States, rows: Sequence[Codes]) -> list[str]:
    """For each state the genes that set it apart from the rest of its batch, most telling first, separated by ", "."""
    names = []
    for level, cells in enumerate(rows):
        numbers = states.of(level)
        codes = states.codes[cells] - numbers[0]
        size = np.bincount(codes)
        member = sparse.csr_matrix((np.ones(len(cells)), (codes, np.arange(len(cells)))), (len(numbers), len(cells)))
        part = X[cells]
        total = _dense(member @ part)
        square = _dense((part.multiply(part) if sparse.issparse(part) else np.square(part)).sum(axis=0)).ravel()
        spread = np.sqrt(np.maximum(square / len(cells) - (total.sum(axis=0) / len(cells)) ** 2, 0)) + 0.1
        for number, n_cells in enumerate(size):
            if n_cells == len(cells):
                names.append("")
                continue
            rest = (total.sum(axis=0) - total[number]) / (len(cells) - n_cells)
            effect = (total[number] / n_cells - rest) / spread
            top = np.argsort(-effect, kind="stable")[:_MARKERS]
            names.append(", ".join(str(genes[gene]) for gene in top if effect[gene] > 0))
    return names


def _dense(values: Matrix) -> Floats:
    return np.asarray(values.toarray() if sparse.issparse(values) else values, dtype=np.float64)
