"""The batches of a query, with the unexplained expression of their cells; the expression of many batches is read in one pass."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scbatchnorm._data.blocks import InMemory, PerBlockFunction
from scbatchnorm._method.pca import count_normal_draws
from scbatchnorm._method.reference import MIN_CELLS, BatchModel, sketch_batch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from scbatchnorm._data.blocks import Blocks, Function
    from scbatchnorm._data.types import Codes, Floats, Matrix
    from scbatchnorm._method.stem import Stem

# Batches whose sketches are in memory at once.
_BATCHES_AT_ONCE = 64


@dataclass
class QueryBatch:
    """One batch of a query; positions in a sketch are positions among its cells."""

    rows: Codes  # (cells of the batch,) positions among all cells of the query
    anchor_sketch: Codes  # cells that anchors are searched for
    model: BatchModel | None = None  # None where unexplained expression is not known, or there are too few cells
    model_sketch: Codes | None = None  # cells that `model` was fitted to
    products: Floats | None = None  # (cells of the batch, components): expression times the components of `model`

    def unexplained(self) -> Floats | None:
        """Unexplained expression of the cells, shape (cells of the batch,), where the batch has a model."""
        if self.model is None or self.model_sketch is None or self.products is None:
            return None
        return self.model.unexplained(self.model.stem.standardise(self.products), self.model_sketch)


def read_query_batches(
    blocks: Blocks, reference_stem: Stem, codes: Codes, rng: np.random.Generator, *, with_models: bool
) -> Iterator[QueryBatch]:
    """Batches of a query, in the order of their `codes`.

    Parameters
    ----------
    blocks
        Expression of the cells, (cells, features).
    reference_stem
        Stem of the reference, restricted to these features.
    codes
        Batch of each cell, shape (cells,), counted from 0.
    rng
        Draws sketches, and start vectors of decompositions.
    with_models
        Whether unexplained expression is wanted, which takes two passes over expression for up to 64 batches.
    """
    order = np.argsort(codes, kind="stable")
    rows_by_code = np.split(order, np.cumsum(np.bincount(codes))[:-1])
    for first in range(0, len(rows_by_code), _BATCHES_AT_ONCE):
        group = rows_by_code[first : first + _BATCHES_AT_ONCE]
        prefetch = _Prefetch(blocks, group, rng) if with_models else None
        batches = [_sketch_query_batch(rows, prefetch, reference_stem, rng) for rows in group]
        if with_models:
            _compute_products(blocks, batches, first, codes)
        yield from batches


def _sketch_query_batch(
    rows: Codes, prefetch: _Prefetch | None, reference_stem: Stem, rng: np.random.Generator
) -> QueryBatch:
    """A batch with its sketches and, if there is a `prefetch`, its model; without products."""
    batch = QueryBatch(rows, sketch_batch(len(rows), rng))
    if prefetch is not None and len(rows) >= MIN_CELLS:
        batch.model_sketch = sketch_batch(len(rows), rng)
        batch.model = BatchModel(prefetch.rows(rows[batch.model_sketch]), reference_stem, rng)
    return batch


def _compute_products(blocks: Blocks, batches: Sequence[QueryBatch], first: int, codes: Codes) -> None:
    """Set `products` of the batches with models, in one pass over `blocks`; `first` is the code of the first batch."""
    components: dict[int, Floats] = {}
    products: dict[int, Floats] = {}
    for code, batch in enumerate(batches, first):
        if batch.model is not None:
            components[code] = batch.model.stem.components
            batch.products = products[code] = np.empty((len(batch.rows), components[code].shape[1]), np.float32)
    n_done = dict.fromkeys(components, 0)
    size = blocks.starts.step
    starts = [start for start in blocks.starts if np.isin(codes[start : start + size], list(components)).any()]
    for block_products in blocks.map(_BatchProducts(components, codes), what="novelty", starts=starts):
        for code, part in block_products.items():
            products[code][n_done[code] : n_done[code] + len(part)] = part
            n_done[code] += len(part)


class _BatchProducts(PerBlockFunction):
    """Expression of the cells of each batch in a block times the components of this batch."""

    def __init__(self, components: dict[int, Floats], codes: Codes) -> None:
        self.components, self.codes = components, codes

    def for_block(self, start: int, stop: int) -> Function:
        """See `PerBlockFunction`."""
        codes = self.codes[start:stop]
        present = [int(code) for code in np.unique(codes) if code in self.components]
        return _BatchProducts({code: self.components[code] for code in present}, codes)

    def __call__(self, block: Matrix, start: int) -> dict[int, Floats]:
        return {
            code: np.asarray(block[self.codes == code] @ components, np.float32)
            for code, components in self.components.items()
        }


class _Prefetch:
    """Expression of the sketches of several batches, read in one pass where it is not in memory.

    Which cells they are is predicted from the state of the generator and the numbers that each decomposition draws. If a decomposition
    draws more (ARPACK restarts where variance is missing), the prediction is wrong for later batches, and their cells are read one
    batch at a time: the result is the same.

    Parameters
    ----------
    blocks
        Expression of all cells, (cells, features).
    group
        Positions of the cells of each batch.
    rng
        In the state before the first batch is sketched; it is copied.
    """

    def __init__(self, blocks: Blocks, group: Sequence[Codes], rng: np.random.Generator) -> None:
        self._blocks = blocks
        self._positions = np.empty(0, np.intp)
        if not isinstance(blocks, InMemory):
            predicted = _predict_sketches(group, blocks.shape[1], copy.deepcopy(rng))
            self._positions = np.sort(np.concatenate([self._positions, *predicted]))
            self._expression = blocks.rows(self._positions, what="sketch")

    def rows(self, positions: Codes) -> Matrix:
        """Expression of the cells at these `positions`, which ascend, in memory."""
        indices = np.searchsorted(self._positions, positions)
        n = len(self._positions)
        if n and np.array_equal(self._positions[np.minimum(indices, n - 1)], positions):
            return self._expression[indices]
        return self._blocks.rows(positions, what="sketch")


def _predict_sketches(group: Sequence[Codes], n_features: int, rng: np.random.Generator) -> Iterator[Codes]:
    """Positions of the cells that each batch with a model will be sketched by; draws what `_sketch_query_batch` will draw."""
    for rows in group:
        sketch_batch(len(rows), rng)
        if len(rows) >= MIN_CELLS:
            sketch = sketch_batch(len(rows), rng)
            yield rows[sketch]
            for n in count_normal_draws(len(sketch), n_features):
                rng.standard_normal(n)
