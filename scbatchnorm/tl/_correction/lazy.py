"""Expression to be corrected that is a Dask array: read block by block, and corrected when the layer is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from scbatchnorm._data.adata import read_features, read_like_fit
from scbatchnorm._data.batches import encode_batches
from scbatchnorm._data.blocks import PerBlockFunction
from scbatchnorm._data.dask_blocks import checked_map, describe_block, one_blas_thread_per_process
from scbatchnorm._data.matrix import as_csr
from scbatchnorm._runtime.device import one_blas_thread
from scbatchnorm.tl._correction.in_memory import check_genes_not_negative
from scbatchnorm.tl._correction.regression import BlockSums, Covariates, Sums, correct_layer, sum_block

if TYPE_CHECKING:
    from anndata import AnnData

    from scbatchnorm._data.blocks import Function
    from scbatchnorm._data.dask_blocks import BlockReader, DaskBlocks
    from scbatchnorm._data.types import Codes, Matrix
    from scbatchnorm._method.fitted import FittedModel
    from scbatchnorm.tl._correction.regression import Correction


class LazyExpression:
    """Like `ExpressionInMemory`, with the same parameters, but a matrix of all cells and genes is never in memory."""

    def __init__(
        self, adata: AnnData, model: FittedModel, slot: str, layer: str | None, *, hvg: bool, progress: bool | None
    ) -> None:
        batch = read_like_fit(adata, model.features, None, slot)[1]
        self.codes = encode_batches(batch, model.batches, adata.n_obs)
        blocks: Any = read_features(adata, layer=layer, use_rep=None, mask_var=None).blocks
        self._blocks: DaskBlocks = blocks
        self._blocks.progress = progress
        positions = adata.var_names.get_indexer(pd.Index(model.features))
        self._predict_covariates = _CovariatePredictor(model, positions)
        self._columns: Codes | slice = positions if hvg else slice(None)
        self.n_genes = len(positions) if hvg else adata.n_vars

    def sums(self) -> Sums | None:
        """Sufficient statistics of the regressions, from one pass over the blocks; `None` if the strength of all cells is 0.

        Raises
        ------
        ValueError
            Expression has negative or infinite values, or missing ones, or is raw counts.
        """
        model = self._predict_covariates.model
        if model.strength.value == 0 and model.strength.states is None:
            return None
        total = Sums.zeros(len(model.batches), model.stem.components.shape[1], self.n_genes)
        function = _BlockStatistics(self._predict_covariates, self._columns, self.codes, self._blocks._read)
        positions = self._predict_covariates.positions
        with one_blas_thread():  # blocks that are smaller than their sums are summed here
            for result in checked_map(self._blocks, function, what="regressions", places=positions):
                total.add_block(result if isinstance(result, BlockSums) else _sum_matrix(*result))
        return total if total.n.any() else None

    def corrected(self, correction: Correction | None, threshold: float | None) -> Any:
        """The layer as a Dask array; without a `correction` it is a copy of the expression."""
        import dask
        import dask.array as da

        values = self._blocks.array
        correct_chunk = _ChunkCorrector(
            self._blocks._read, self._predict_covariates, self._columns, correction, threshold
        )
        rows, codes = (
            da.from_array(of_cells, chunks=(values.chunks[0],)) for of_cells in (np.arange(len(self.codes)), self.codes)
        )
        return da.blockwise(
            _correct_chunks, "ig", values, "ij", rows, "i", codes, "i",
            # As `delayed` it is in the graph once, not in every task.
            correct_chunk=dask.delayed(correct_chunk, traverse=False),
            new_axes={"g": values.shape[1]},
            concatenate=False,
            dtype=np.float32,
            meta=np.empty((0, 0), np.float32) if threshold is None else sparse.csr_matrix((0, 0), dtype=np.float32),
            name="corrected-" + dask.base.tokenize(values.name, self.codes, correct_chunk),
        )  # fmt: skip


class _CovariatePredictor:
    """Covariates of the cells of a block from expression, in which integrated genes have these `positions`, and batches.

    It travels to the workers of a cluster, so it leaves out what only the fit and the mapping of new cells need.
    """

    def __init__(self, model: FittedModel, positions: Codes) -> None:
        self.model, self.positions = model.without_cells(), positions

    def __call__(self, block: Matrix, codes: Codes) -> Covariates:
        stem = self.model.stem
        points = stem.encode(as_csr(block[:, self.positions], where="expression"))
        corrected = stem.unembed(stem.embed(self.model.correct(points, codes)))
        return Covariates(corrected, codes, self.model.strength.at(points, codes).ravel())


class _BlockStatistics(PerBlockFunction):
    """Sums over a block, or expression and covariates to be summed elsewhere, whichever is smaller."""

    def __init__(
        self, predict_covariates: _CovariatePredictor, columns: Codes | slice, codes: Codes, read: BlockReader
    ) -> None:
        self.predict_covariates, self.columns, self.codes, self.read = predict_covariates, columns, codes, read

    def for_block(self, start: int, stop: int) -> Function:
        """See `PerBlockFunction`."""
        return _BlockStatistics(self.predict_covariates, self.columns, self.codes[start:stop], self.read)

    def __call__(self, block: Matrix, start: int) -> BlockSums | tuple[Matrix, Covariates]:
        cells = self.predict_covariates(block, self.codes)
        if isinstance(self.columns, slice):
            check_genes_not_negative(block, describe_block(self.read.where, start, block.shape[0]), self.read.names)
        else:
            block = block[:, self.columns]
        n_sums = len(np.unique(self.codes)) * (1 + cells.points.shape[1]) * block.shape[1]
        is_smaller = 8 * n_sums > block.data.nbytes + block.indices.nbytes
        return (block, cells) if is_smaller else _sum_matrix(block, cells)


def _sum_matrix(block: Matrix, cells: Covariates) -> BlockSums:
    """Sums over a block that is in memory."""
    return sum_block(block.__getitem__, cells, block.shape[1])


class _ChunkCorrector:
    """Corrects a chunk of the array; it is sent to each worker once."""

    def __init__(
        self,
        read: BlockReader,
        predict_covariates: _CovariatePredictor,
        columns: Codes | slice,
        correction: Correction | None,
        threshold: float | None,
    ) -> None:
        self.read, self.predict_covariates, self.columns = read, predict_covariates, columns
        self.correction, self.threshold = correction, threshold

    def __call__(self, chunks: list[Any], rows: Codes, codes: Codes) -> Matrix:
        block = self.read([chunks], int(rows[0]) if len(rows) else 0)
        cells = None if self.correction is None else self.predict_covariates(block, codes)
        return correct_layer(block.__getitem__, block.shape, self.columns, self.correction, cells, self.threshold)


def _correct_chunks(chunks: Any, rows: Codes, codes: Codes, correct_chunk: _ChunkCorrector) -> Matrix:
    """A chunk of the layer: all genes of some cells, from one chunk of the array or several beside each other."""
    with one_blas_thread_per_process():
        return correct_chunk(chunks if isinstance(chunks, list) else [chunks], rows, codes)
