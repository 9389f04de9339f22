"""Expression to be corrected that is in memory, or in a file that AnnData reads rows from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from scbatchnorm._data.adata import read_like_fit
from scbatchnorm._data.batches import encode_batches
from scbatchnorm._data.blocks import ROWS
from scbatchnorm._data.checks import check_finite
from scbatchnorm._data.matrix import as_csr, as_real_matrix
from scbatchnorm._runtime.device import one_blas_thread
from scbatchnorm.tl._correction.regression import Covariates, Sums, correct_layer, sum_block

if TYPE_CHECKING:
    from anndata import AnnData

    from scbatchnorm._data.types import Labels, Matrix
    from scbatchnorm._method.fitted import FittedModel
    from scbatchnorm.tl._correction.regression import Correction


class ExpressionInMemory:
    """The expression that was integrated, read a few cells at a time, and the covariates of all cells.

    Parameters
    ----------
    adata
        Integrated.
    model
        The one in its `uns[slot]`.
    slot
        Key of the integration.
    layer
        Layer that was integrated, `None` for `X`.
    hvg
        Whether only the genes that were integrated are corrected.
    """

    def __init__(self, adata: AnnData, model: FittedModel, slot: str, layer: str | None, *, hvg: bool) -> None:
        self._cells = _read_covariates(adata, model, slot)
        self.codes = self._cells.codes
        self._where = "adata.X" if layer is None else f"adata.layers[{layer!r}]"
        values = adata.X if layer is None else adata.layers[layer]
        if layer is not None or not adata.isbacked or adata.is_view:
            values = as_real_matrix(values, where=self._where)
        # Taking rows of CSC searches the whole matrix each time.
        self._values = values.tocsr() if sparse.issparse(values) else values
        self._names, self._genes, self._shape = adata.obs_names, adata.var_names, adata.shape
        # A slice takes all genes without a copy of their values.
        self._columns = adata.var_names.get_indexer(pd.Index(model.features)) if hvg else slice(None)
        self.n_genes = len(model.features) if hvg else self._shape[1]
        self._n_batches = len(model.batches)

    def sums(self) -> Sums | None:
        """Sufficient statistics of the regressions, from one pass over the cells; `None` if the strength of all cells is 0.

        Raises
        ------
        ValueError
            Expression has negative or infinite values, or missing ones.
        """
        if not self._cells.strength.any():
            return None
        total = Sums.zeros(self._n_batches, self._cells.points.shape[1], self.n_genes)
        with one_blas_thread():
            for start in range(0, self._shape[0], ROWS):

                def read_rows(rows: slice, start: int = start) -> Matrix:
                    return self._read_genes_to_correct(slice(start + rows.start, start + rows.stop))

                total.add_block(sum_block(read_rows, self._cells[start : start + ROWS], self.n_genes))
        return total

    def corrected(self, correction: Correction | None, threshold: float | None) -> Matrix:
        """The layer, from a second pass over the cells; without a `correction` a copy of the expression."""
        return correct_layer(self._read_rows, self._shape, self._columns, correction, self._cells, threshold)

    def _read_rows(self, rows: slice) -> Matrix:
        """Expression of all genes of some cells, checked to be finite; it must not be changed."""
        block = as_csr(self._values[rows], where=self._where)
        check_finite(block, where=self._where, cells=self._names[rows], genes=self._genes)
        return block

    def _read_genes_to_correct(self, rows: slice) -> Matrix:
        """Expression of the genes to be corrected of some cells, checked to be log-normalised."""
        block = self._read_rows(rows)
        if not isinstance(self._columns, slice):
            return block[:, self._columns]  # already checked by `read_like_fit`
        check_genes_not_negative(block, self._where, self._genes)
        return block


def _read_covariates(adata: AnnData, model: FittedModel, slot: str) -> Covariates:
    """Corrected components, batches and strengths of all cells."""
    integrated, batch = read_like_fit(adata, model.features, None, slot)
    codes = encode_batches(batch, model.batches, adata.n_obs)
    products = integrated.product(model.stem.components, what="embedding")
    strength = model.strength.at(model.stem.standardise(products), codes).ravel()
    return Covariates(model.stem.unembed(model.embed(products, codes)), codes, strength)


def check_genes_not_negative(block: Matrix, where: str, genes: pd.Index | Labels) -> None:
    """Raise ValueError if expression of genes that were not integrated is negative."""
    if (block.data if sparse.issparse(block) else block).min(initial=0) < 0:
        lowest = block.min(axis=0)
        gene = int(np.argmin(lowest.toarray() if sparse.issparse(lowest) else lowest))
        msg = (
            f"{where} must be log-normalised expression, which is never negative; gene {str(genes[gene])!r} "
            "has negative values. To correct only the genes that were integrated: genes='hvg'."
        )
        raise ValueError(msg)
