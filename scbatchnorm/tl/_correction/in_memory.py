"""Expression to be corrected that is in memory, or in a file that AnnData reads rows from."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from scbatchnorm._data.adata import read_like_fit
from scbatchnorm._data.batches import encode_batches
from scbatchnorm._data.blocks import ROWS, InMemory
from scbatchnorm._data.checks import check_finite
from scbatchnorm._data.matrix import as_csr, as_real_matrix
from scbatchnorm._runtime.device import one_blas_thread
from scbatchnorm.tl._correction import regression as _expression

if TYPE_CHECKING:
    from anndata import AnnData

    from scbatchnorm._data.types import Labels, Matrix
    from scbatchnorm._method.fitted import FittedModel
    from scbatchnorm.tl._correction.regression import Cells, Correction, Sums


class Measured:
    """The expression that a `model` integrated, read a few cells at a time, and what is known of the cells.

    Parameters
    ----------
    adata
        Integrated.
    model
        The one in its `uns[slot]`.
    slot
        Key of the integration.
    layer
        That was integrated, `None` for `X`.
    hvg
        Correct only the genes that were integrated.
    """

    def __init__(self, adata: AnnData, model: FittedModel, slot: str, layer: str | None, *, hvg: bool) -> None:
        self._cells = _cells(adata, model, slot)
        self.codes = self._cells.codes
        self._where = "adata.X" if layer is None else f"adata.layers[{layer!r}]"
        values = adata.X if layer is None else adata.layers[layer]
        if layer is not None or not adata.isbacked or adata.is_view:
            values = as_real_matrix(values, where=self._where)
        # Rows of another sparse format would each be searched for in the whole matrix.
        self._values = values.tocsr() if sparse.issparse(values) else values
        self._names, self._genes, self._shape = adata.obs_names, adata.var_names, adata.shape
        # All genes are taken as they lie, some by their places.
        self._columns = adata.var_names.get_indexer(pd.Index(model.features)) if hvg else slice(None)
        self.n_genes = len(model.features) if hvg else self._shape[1]
        self._n_batches = len(model.batches)

    def sums(self) -> Sums | None:
        """What the regressions need, from one pass over the cells; `None` if no cell is corrected."""
        if not self._cells.strength.any():
            return None
        total = _expression.no_sums(self._n_batches, self._cells.points.shape[1], self.n_genes)
        with one_blas_thread():
            for start in range(0, self._shape[0], ROWS):
                read = partial(self._of_block, start)
                total.add(_expression.part(read, self._cells[start : start + ROWS], self.n_genes))
        return total

    def corrected(self, correction: Correction | None, threshold: float | None) -> Matrix:
        """The layer, from a second pass over the cells; without a `correction` a copy of the expression."""
        parts, layer = [], np.empty(self._shape if threshold is None else (0, 0), dtype=np.float32)
        for rows in _expression.chunks(self._shape[0]):
            block = self._rows(rows)
            block = block.toarray() if sparse.issparse(block) else block.copy()
            if correction is not None:
                block[:, self._columns] = correction.apply(self._to_correct(rows), self._cells[rows])
            if threshold is None:
                layer[rows] = block
            else:
                block[block < threshold] = 0
                parts.append(sparse.csr_matrix(block))
        return layer if threshold is None else sparse.vstack(parts, format="csr")

    def _rows(self, rows: slice) -> Matrix:
        """All genes of some cells, as they were measured, all finite; not to be written to."""
        block = as_csr(self._values[rows], where=self._where)
        check_finite(block, where=self._where, cells=self._names[rows], genes=self._genes)
        return block

    def _of_block(self, start: int, rows: slice) -> Matrix:
        """The genes to correct of some cells of the block that begins at `start`."""
        return self._to_correct(slice(start + rows.start, start + rows.stop))

    def _to_correct(self, rows: slice) -> Matrix:
        """The genes to correct of some cells; raises where they are no log-normalised expression."""
        block = self._rows(rows)
        if not isinstance(self._columns, slice):
            return block[:, self._columns]  # checked as what was integrated
        not_negative(block, self._where, self._genes)
        return block


def _cells(adata: AnnData, model: FittedModel, slot: str) -> Cells:
    """Corrected components, batches and strengths of the cells."""
    integrated, batch = read_like_fit(adata, model.features, None, slot)
    codes = encode_batches(batch, model.batches, adata.n_obs)
    blocks = InMemory(integrated)
    embedding = model.embed(blocks.product(model.stem.components, what="embedding"), codes)
    strength = model.strength.at(model.stem.encode(integrated), codes).ravel()
    return _expression.Cells(model.stem.unembed(embedding), codes, strength)


def not_negative(block: Matrix, where: str, genes: pd.Index | Labels) -> None:
    """Raise where genes to be corrected are no log-normalised expression."""
    if (block.data if sparse.issparse(block) else block).min(initial=0) < 0:
        lowest = block.min(axis=0)
        gene = int(np.argmin(lowest.toarray() if sparse.issparse(lowest) else lowest))
        msg = (
            f"{where} must be log-normalised expression, which is never negative; gene {str(genes[gene])!r} "
            "has negative values. To correct only the genes that were integrated: genes='hvg'."
        )
        raise ValueError(msg)
