"""Expression to be corrected that is a Dask array: read block by block, and corrected when somebody computes the layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from scbatchnorm._data.adata import read_features, read_like_fit
from scbatchnorm._data.batches import encode_batches
from scbatchnorm._data.blocks import Narrowing
from scbatchnorm._data.dask_blocks import describe_block, one_blas_thread_per_process
from scbatchnorm._data.matrix import as_csr
from scbatchnorm._data.surveyed import checked_map
from scbatchnorm._runtime.device import one_blas_thread
from scbatchnorm.tl._correction import regression as _expression
from scbatchnorm.tl._correction.in_memory import not_negative

if TYPE_CHECKING:
    from anndata import AnnData

    from scbatchnorm._data.blocks import Function
    from scbatchnorm._data.dask_blocks import BlockReader, DaskBlocks
    from scbatchnorm._data.types import Codes, Matrix
    from scbatchnorm._method.fitted import FittedModel
    from scbatchnorm.tl._correction.regression import Cells, Correction, Sums


class Streamed:
    """Like `_measured.Measured`, of which see the parameters, but nothing of all cells and genes is ever there."""

    def __init__(
        self, adata: AnnData, model: FittedModel, slot: str, layer: str | None, *, hvg: bool, progress: bool | None
    ) -> None:
        batch = read_like_fit(adata, model.features, None, slot)[1]
        self.codes = encode_batches(batch, model.batches, adata.n_obs)
        whole: Any = read_features(adata, layer=layer, use_rep=None, mask_var=None).matrix
        self._blocks: DaskBlocks = whole
        self._blocks.progress = progress
        places = adata.var_names.get_indexer(pd.Index(model.features))
        self._state = _State(model, places)
        self._columns = places if hvg else None
        self.n_genes = len(places) if hvg else adata.n_vars

    def sums(self) -> Sums | None:
        """What the regressions need, from one pass over the blocks; `None` if no cell is corrected."""
        model = self._state.model
        if model.strength.value == 0 and model.strength.states is None:
            return None
        total = _expression.no_sums(len(model.batches), model.stem.components.shape[1], self.n_genes)
        part = _Part(self._state, self._columns, self.codes, self._blocks._read)
        with one_blas_thread():  # also for what a cluster leaves to be summed here
            for found in checked_map(self._blocks, part, what="regressions", places=self._state.places):
                total.add(found if isinstance(found, _expression.Part) else _part(*found))
        return total if total.n.any() else None

    def corrected(self, correction: Correction | None, threshold: float | None) -> Any:
        """The layer as a Dask array; without a `correction` it is a copy of the expression."""
        import dask
        import dask.array as da

        values = self._blocks.array
        change = _Change(self._blocks._read, self._state, self._columns, correction, threshold)
        cells = [da.from_array(known, chunks=(values.chunks[0],)) for known in (np.arange(len(self.codes)), self.codes)]
        return da.blockwise(
            _changed, "ig", values, "ij", cells[0], "i", cells[1], "i",
            # Once in the graph, and not in every task.
            change=dask.delayed(change, traverse=False),
            new_axes={"g": values.shape[1]},
            concatenate=False,
            dtype=np.float32,
            meta=np.empty((0, 0), np.float32) if threshold is None else sparse.csr_matrix((0, 0), dtype=np.float32),
            name="corrected-" + dask.base.tokenize(values.name, self.codes, change),
        )  # fmt: skip


class _State:
    """Where cells are after correction, by the integrated genes, which have these `places`, and their batches."""

    def __init__(self, model: FittedModel, places: Codes) -> None:
        self.model, self.places = model.without_cells(), places

    def __call__(self, block: Matrix, codes: Codes) -> Cells:
        stem = self.model.stem
        points = stem.encode(as_csr(block[:, self.places], where="expression"))
        after = stem.unembed(stem.embed(self.model.correct(points, codes)))
        return _expression.Cells(after, codes, self.model.strength.at(points, codes).ravel())


class _Part(Narrowing):
    """Sums over a block, or what they are of, if that is smaller."""

    def __init__(self, state: _State, columns: Codes | None, codes: Codes, read: BlockReader) -> None:
        self.state, self.columns, self.codes, self.read = state, columns, codes, read

    def narrowed(self, start: int, stop: int) -> Function:
        """See `Narrowing`."""
        return _Part(self.state, self.columns, self.codes[start:stop], self.read)

    def __call__(self, block: Matrix, start: int) -> _expression.Part | tuple[Matrix, Cells]:
        cells = self.state(block, self.codes)
        if self.columns is None:
            not_negative(block, describe_block(self.read.where, start, block.shape[0]), self.read.names)
        else:
            block = block[:, self.columns]
        n_sums = len(np.unique(self.codes)) * (1 + cells.points.shape[1]) * block.shape[1]
        return (block, cells) if 8 * n_sums > block.data.nbytes + block.indices.nbytes else _part(block, cells)


def _part(block: Matrix, cells: Cells) -> _expression.Part:
    """Sums over a block."""
    return _expression.part(block.__getitem__, cells, block.shape[1])


class _Change:
    """What is done to a chunk of the array."""

    def __init__(
        self,
        read: BlockReader,
        state: _State,
        columns: Codes | None,
        correction: Correction | None,
        threshold: float | None,
    ) -> None:
        self.read, self.state, self.columns = read, state, columns
        self.correction, self.threshold = correction, threshold

    def __call__(self, chunks: list[Any], places: Codes, codes: Codes) -> Matrix:
        block = self.read([chunks], int(places[0]) if len(places) else 0)
        cells = None if self.correction is None else self.state(block, codes)
        parts, layer = [], np.empty(block.shape if self.threshold is None else (0, 0), dtype=np.float32)
        for rows in _expression.chunks(len(codes)):
            values = block[rows].toarray()
            if cells is not None and self.correction is not None:
                chosen = block[rows] if self.columns is None else block[rows][:, self.columns]
                values[:, slice(None) if self.columns is None else self.columns] = self.correction.apply(
                    chosen, cells[rows]
                )
            if self.threshold is None:
                layer[rows] = values
            else:
                values[values < self.threshold] = 0
                parts.append(sparse.csr_matrix(values))
        if self.threshold is None:
            return layer
        return sparse.vstack(parts, format="csr") if parts else sparse.csr_matrix(block.shape, dtype=np.float32)


def _changed(chunks: Any, places: Codes, codes: Codes, change: _Change) -> Matrix:
    """A chunk of the layer, of the chunks of the array beside each other."""
    with one_blas_thread_per_process():
        return change(chunks if isinstance(chunks, list) else [chunks], places, codes)
