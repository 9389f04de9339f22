"""Genes: how well neighbourhoods predict them, which ones mark a state, and whether control genes lost their signal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scbatchnorm._data.types import Codes, Floats, Labels, Matrix
    from scbatchnorm.tl._diagnosis.states import States

# Genes that are dense at once.
_BLOCK = 256
_N_MARKERS = 3
# A correlation is a signal from this many standard errors on.
_MIN_STANDARD_ERRORS = 3.0
CONTROL_COLUMNS = ("signal_before", "signal_again", "signal_after", "variance_lost", "largest_shift")


def measure_signal(X: Matrix, rows: Sequence[Codes], neighbours: Sequence[Codes]) -> Floats:
    """Correlation of each gene with its mean over the neighbours in the same batch, shape (genes,).

    `X` is (cells, genes), `neighbours` as of `find_batch_neighbours`. Means of batches are subtracted, so that only
    differences within batches count. 0 where neighbourhoods do not predict a gene; nan where it does not vary.
    """
    n_cells, n_genes = X.shape
    batches = [(cells, near) for cells, near in zip(rows, neighbours, strict=True) if near.shape[1]]
    if not batches:
        return np.full(n_genes, np.nan)
    row = np.concatenate([np.repeat(cells, near.shape[1]) for cells, near in batches])
    column = np.concatenate([cells[near].ravel() for cells, near in batches])
    weight = np.concatenate([np.full(near.size, 1 / near.shape[1]) for _, near in batches])
    mean = sparse.csr_matrix((weight.astype(np.float32), (row, column)), shape=(n_cells, n_cells))
    signal = np.full(n_genes, np.nan)
    X = sparse.csc_matrix(X) if sparse.issparse(X) else X
    for start in range(0, n_genes, _BLOCK):
        block = X[:, start : start + _BLOCK]
        values = np.asarray(block.toarray() if sparse.issparse(block) else block, dtype=np.float32)
        around = mean @ values
        sums = np.sum([_sum_products(values[cells], around[cells]) for cells, _ in batches], axis=0)
        signal[start : start + _BLOCK] = _correlate(*sums)
    return signal


def _sum_products(values: Floats, around: Floats) -> np.ndarray:
    """Sums of products and squares of deviations from the mean, shape (3, genes)."""
    values, around = values - values.mean(axis=0), around - around.mean(axis=0)
    return np.stack(
        [(a * b).sum(axis=0, dtype=np.float64) for a, b in ((values, around), (values, values), (around, around))]
    )


def _correlate(product: Floats, first: Floats, second: Floats) -> Floats:
    """Correlation by the sums of products and of squares, nan without variance."""
    scale = np.sqrt(first * second)
    return np.divide(product, scale, out=np.full(len(scale), np.nan), where=scale > 1e-12)


def find_markers(X: Matrix, genes: Labels, states: States, rows: Sequence[Codes]) -> list[str]:
    """Marker genes of each state against the rest of its batch, by standardised difference, joined with ", "."""
    names = []
    for level, cells in enumerate(rows):
        numbers = states.in_batch(level)
        codes = states.codes[cells] - numbers[0]
        sizes = np.bincount(codes)
        member = sparse.csr_matrix((np.ones(len(cells)), (codes, np.arange(len(cells)))), (len(numbers), len(cells)))
        part = X[cells]
        total = _as_dense(member @ part)
        square = _as_dense((part.multiply(part) if sparse.issparse(part) else np.square(part)).sum(axis=0)).ravel()
        sd = np.sqrt(np.maximum(square / len(cells) - (total.sum(axis=0) / len(cells)) ** 2, 0)) + 0.1
        for number, n_cells in enumerate(sizes):
            if n_cells == len(cells):
                names.append("")
                continue
            rest = (total.sum(axis=0) - total[number]) / (len(cells) - n_cells)
            difference = (total[number] / n_cells - rest) / sd
            top = np.argsort(-difference, kind="stable")[:_N_MARKERS]
            names.append(", ".join(str(genes[gene]) for gene in top if difference[gene] > 0))
    return names


def _as_dense(values: Matrix) -> Floats:
    return np.asarray(values.toarray() if sparse.issparse(values) else values, dtype=np.float64)


def make_control_table(genes: Sequence[str], values: Mapping[str, Floats], n_cells: int) -> pd.DataFrame:
    """Negative controls: one row a gene, with its `values` (genes,) of `CONTROL_COLUMNS`, and whether it is `flagged`.

    A gene is flagged if its signal is significant, before and after a second measurement, and after integration less
    than half of that after a second measurement.
    """
    table = pd.DataFrame(
        {name: values[name] for name in CONTROL_COLUMNS}, index=pd.Index(list(genes), dtype=object), dtype=float
    )
    signal = np.minimum(table["signal_before"], table["signal_again"])
    lost = table["signal_after"] < table["signal_again"] / 2
    table["flagged"] = ((signal > _MIN_STANDARD_ERRORS / np.sqrt(n_cells)) & lost).astype(bool)
    return table


def explain_control_genes(table: pd.DataFrame) -> str:
    """How many control genes lost their signal, and which, as a sentence."""
    lost = [str(gene) for gene in table.index[table["flagged"]]]
    head = "Control genes, by how well the nearest cells of the same batch predict them: "
    if not lost:
        return f"{head}none of {len(table)} lost more than half of what noise leaves."
    before, after = table["signal_before"].to_dict(), table["signal_after"].to_dict()
    rows = [f"{gene} (correlation {before[gene]:.2f} before, {after[gene]:.2f} now)" for gene in lost[:5]]
    more = ", ..." if len(lost) > 5 else ""
    return f"{head}{len(lost)} of {len(table)} lost more than half of what noise leaves: {', '.join(rows)}{more}."
