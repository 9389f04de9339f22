"""Rank correlation of log fold changes between cell types, within each batch, in corrected and in uncorrected expression."""

from __future__ import annotations

from itertools import combinations
from numbers import Integral
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.stats import spearmanr

from scbatchnorm._data.adata import read_batches, read_column
from scbatchnorm._data.blocks import Blocks, PerBlockFunction
from scbatchnorm._data.checks import join_names
from scbatchnorm._data.dask_blocks import DaskBlocks, is_lazy
from scbatchnorm._data.matrix import as_csr

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anndata import AnnData

    from scbatchnorm._data.blocks import Function
    from scbatchnorm._data.types import Codes, Floats, Matrix


def concordance(
    adata: AnnData,
    batch_key: str | Sequence[str],
    label_key: str,
    *,
    corrected: str = "scbatchnorm",
    layer: str | None = None,
    min_cells: int = 10,
) -> pd.DataFrame:
    """Rank correlation of log fold changes between cell types in corrected and uncorrected expression, in each batch.

    Within a batch there is no batch effect, so the correction should preserve differences between its cell types. For
    each batch and each two types in it, the log fold change of every gene (difference of mean log-normalised
    expression) is computed in corrected and in uncorrected expression, and the two are compared by rank correlation. Values near
    1 are good; below about 0.9 the correction has changed how two types differ: do not interpret corrected expression there.
    It does not measure the removal of batch effects: expression that was not corrected has 1 everywhere.

    Parameters
    ----------
    adata
        Annotated data with corrected expression. A Dask array is read block by block: only means are in memory.
    batch_key
        Column of `adata.obs` with the batch, or several that are combined.
    label_key
        Column of `adata.obs` with cell types, or other groups. Cells without a value are left out.
    corrected
        Layer with corrected expression, of :func:`correct` or any other tool.
    layer
        Layer with uncorrected expression, instead of `adata.X`.
    min_cells
        Fewest cells of a type in a batch to be compared there.

    Returns
    -------
    One row for each batch and two types, in ascending order of the correlation: `batch`, `group_1`, `group_2`, `n_cells_1`,
    `n_cells_2`, `n_genes` (those expressed in one of the two), `spearman` (from -1 to 1; nan if no gene differs).

    Raises
    ------
    KeyError
        A key is not in `adata`.
    ValueError
        A cell has no batch, `min_cells` is no positive integer, or no batch has two types with so many cells.

    Examples
    --------
    >>> import scbatchnorm as sbn
    >>> adata = sbn.datasets.pbmc_planted()
    >>> table = sbn.tl.concordance(adata, "batch", "cell_type", corrected="truth")
    >>> bool(table["spearman"].median() > 0.95)
    True
    """
    if not isinstance(min_cells, Integral) or isinstance(min_cells, bool) or min_cells < 1:
        msg = f"min_cells must be an integer of at least 1; got {min_cells!r}."
        raise ValueError(msg)
    if not isinstance(corrected, str):
        msg = f"corrected must be a layer of adata; got {corrected!r}."
        raise ValueError(msg)
    batches = read_batches(adata, batch_key)
    label_codes, labels = pd.factorize(read_column(adata, "label_key", label_key), sort=True)
    shape = batches.n_batches, len(labels)
    codes = np.where(label_codes < 0, -1, batches.codes * len(labels) + label_codes)
    n_cells = np.bincount(codes[codes >= 0], minlength=shape[0] * shape[1]).reshape(shape)
    if (np.sum(n_cells >= min_cells, axis=1) < 2).all():
        msg = f"no batch has two values of label_key={label_key!r} with min_cells={min_cells} cells or more each."
        raise ValueError(msg)
    matrices = _read_layer(adata, "layer", layer), _read_layer(adata, "corrected", corrected)
    before, after = (group_means(matrix, codes, n_cells.size).reshape(*shape, -1) for matrix in matrices)
    rows = [
        {
            "batch": str(batches.levels[contrast.batch]),
            "group_1": str(labels[contrast.groups[0]]),
            "group_2": str(labels[contrast.groups[1]]),
            "n_cells_1": contrast.n_cells[0],
            "n_cells_2": contrast.n_cells[1],
            "n_genes": contrast.n_genes,
            "spearman": contrast.spearman,
        }
        for contrast in compare_contrasts(before, after, n_cells, min_cells=min_cells)
    ]
    return pd.DataFrame(rows).sort_values("spearman", kind="stable", ignore_index=True)


def _read_layer(adata: AnnData, parameter: str, layer: str | None) -> Matrix | Blocks:
    """The layer that `parameter` names, or `adata.X`, (cells, genes); a Dask array as blocks."""
    if layer is None and adata.X is not None:
        values = adata.X[:] if adata.isbacked else adata.X
        return DaskBlocks(values, where="adata.X") if is_lazy(values) else as_csr(values, where="adata.X")
    if layer not in adata.layers:
        available = join_names(key for key in adata.layers if key is not None) or "none"
        msg = f"{parameter}={layer!r} is not a layer of adata; layers: {available}."
        if layer == "scbatchnorm":
            msg += " Run sbn.tl.correct(adata) first."
        raise KeyError(msg)
    values, where = adata.layers[layer], f"adata.layers[{layer!r}]"
    return DaskBlocks(values, where=where) if is_lazy(values) else as_csr(values, where=where)


class Contrast(NamedTuple):
    """Two groups of cells of one batch, as codes, and the rank correlation of their log fold changes before and after correction."""

    batch: int
    groups: tuple[int, int]
    n_cells: tuple[int, int]
    n_genes: int
    spearman: float


def compare_contrasts(before: Floats, after: Floats, n_cells: Codes, *, min_cells: int) -> Iterator[Contrast]:
    """Contrasts of each two groups within each batch.

    Parameters
    ----------
    before, after
        Mean expression, shape (batches, groups, genes). Genes whose mean before is 0 in both groups are left out.
    n_cells
        Number of cells, shape (batches, groups).
    min_cells
        Fewest cells of a group in a batch.

    Returns
    -------
    `spearman` is nan with fewer than 3 genes, and where all log fold changes are equal.
    """
    for batch, sizes in enumerate(n_cells):
        for first, second in combinations(np.flatnonzero(sizes >= min_cells).tolist(), 2):
            genes = (before[batch, first] != 0) | (before[batch, second] != 0)
            changes = [(means[batch, first] - means[batch, second])[genes] for means in (before, after)]
            defined = genes.sum() > 2 and all(np.ptp(change) > 0 for change in changes)
            rho = float(spearmanr(*changes).statistic) if defined else float("nan")
            n_cells_of_both = (int(sizes[first]), int(sizes[second]))
            yield Contrast(batch, (first, second), n_cells_of_both, int(genes.sum()), rho)


def group_means(X: Matrix | Blocks, codes: Codes, n_groups: int) -> Floats:
    """Mean of each gene in each group of cells, float64 of shape (groups, genes); 0 for a group without cells.

    Parameters
    ----------
    X
        Expression, dense, sparse or in blocks, (cells, genes).
    codes
        Group of each cell; -1 is none.
    n_groups
        Number of groups.
    """
    sizes = np.bincount(codes[codes >= 0], minlength=n_groups)
    if isinstance(X, Blocks):
        total = np.zeros((n_groups, X.shape[1]))
        for groups, sums in X.map(_GroupSums(codes), what="means"):
            total[groups] += sums
        return np.divide(total, sizes[:, None], out=total, where=sizes[:, None] > 0)
    cells = np.flatnonzero(codes >= 0)
    weights = 1 / sizes[codes[cells]]
    means = sparse.csr_matrix((weights, (codes[cells], cells)), shape=(n_groups, len(codes))) @ X
    return np.asarray(means.toarray() if sparse.issparse(means) else means, dtype=np.float64)


class _GroupSums(PerBlockFunction):
    """Sums of genes over the cells of each group that a block has."""

    def __init__(self, codes: Codes) -> None:
        self.codes = codes

    def for_block(self, start: int, stop: int) -> Function:
        """See `PerBlockFunction`."""
        return _GroupSums(self.codes[start:stop])

    def __call__(self, block: Matrix, start: int) -> tuple[Codes, Floats]:
        cells = np.flatnonzero(self.codes >= 0)
        groups, codes = np.unique(self.codes[cells], return_inverse=True)
        indicator = sparse.csr_matrix((np.ones(len(cells)), (codes, cells)), shape=(len(groups), len(self.codes)))
        sums = indicator @ block
        return groups, np.asarray(sums.toarray() if sparse.issparse(sums) else sums, dtype=np.float64)
