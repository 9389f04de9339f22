"""Whether corrected expression tells the same about cell types as the uncorrected expression of the same batch."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scbatchnorm._data.adata import read_batches, read_column
from scbatchnorm._data.blocks import Blocks
from scbatchnorm._data.checks import join_names
from scbatchnorm._data.dask_blocks import DaskBlocks, is_lazy
from scbatchnorm._data.matrix import as_csr
from scbatchnorm.tl import _contrasts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

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
    """Whether genes differ between cell types in corrected expression as they do before, in each batch.

    Within a batch there is no batch effect, so differences between its cell types should survive the correction. For
    each batch and each two types in it: the log fold change of every gene (difference of the mean log-normalised
    expression) in corrected and in uncorrected expression, and their rank correlation. Values near 1 are good; below
    0.9 or so the correction has changed how two types differ: do not interpret corrected expression there. It says
    nothing about whether batches are alike now: expression that was not corrected has 1 everywhere.

    Parameters
    ----------
    adata
        Annotated data with corrected expression. What is a Dask array is read block by block: only the means are in memory.
    batch_key
        Column of `adata.obs` with the batch, or several that are combined.
    label_key
        Column of `adata.obs` with cell types, or other groups. Cells without a value are left out.
    corrected
        Layer with corrected expression, of :func:`correct` or any other tool.
    layer
        Layer with uncorrected expression, instead of `adata.X`.
    min_cells
        Cells that a type needs in a batch to be looked at there.

    Returns
    -------
    One row for each batch and two types, the least alike first: `batch`, `group_1`, `group_2`, `n_cells_1`,
    `n_cells_2`, `n_genes` (those expressed in one of the two), `spearman` (from -1 to 1; nan if nothing differs).

    Raises
    ------
    KeyError
        A key names nothing in `adata`.
    ValueError
        A cell has no batch, `min_cells` is no positive integer, or no batch has two types of so many cells.

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
    matrices = _read(adata, "layer", layer), _read(adata, "corrected", corrected)
    before, after = (_means(matrix, codes, n_cells.size).reshape(*shape, -1) for matrix in matrices)
    rows = [
        {
            "batch": str(batches.levels[found.batch]),
            "group_1": str(labels[found.groups[0]]),
            "group_2": str(labels[found.groups[1]]),
            "n_cells_1": found.n_cells[0],
            "n_cells_2": found.n_cells[1],
            "n_genes": found.n_genes,
            "spearman": found.spearman,
        }
        for found in _contrasts.contrasts(before, after, n_cells, min_cells=min_cells)
    ]
    return pd.DataFrame(rows).sort_values("spearman", kind="stable", ignore_index=True)


def _read(adata: AnnData, parameter: str, layer: str | None) -> Matrix | Blocks:
    """The layer that `parameter` names, or `adata.X`; a Dask array as blocks."""
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


def _means(matrix: Matrix | Blocks, codes: Codes, n_groups: int) -> Floats:
    """Mean of each gene in each group, shape (groups, genes)."""
    if isinstance(matrix, Blocks):
        return _contrasts.streamed_means(matrix, codes, n_groups)
    return _contrasts.means(matrix, codes, n_groups)
