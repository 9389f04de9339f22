"""The batches of new cells, and what of their expression the model of a reference cannot say: read once for many batches."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scbatchnorm._data.blocks import InMemory, Narrowing
from scbatchnorm._method.novelty import MIN_CELLS, BatchModel, sketch_batch
from scbatchnorm._method.pca import count_normal_draws

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from scbatchnorm._data.blocks import Blocks, Function
    from scbatchnorm._data.types import Codes, Floats, Matrix
    from scbatchnorm._method.stem import Stem

# Batches whose sketches are in memory at once.
_TOGETHER = 64


@dataclass
class New:
    """A batch."""

    rows: Codes  # (its cells,)
    looked: Codes  # those of them that anchors are sought for
    own: BatchModel | None  # None: it is not asked, or there are too few cells
    sketch: Codes  # those of them that `own` was fitted to
    products: Floats  # (its cells, components) with those of `own`

    def unexplained(self) -> Floats | None:
        """What of its cells the known stem leaves, shape (its cells,), if that can be said."""
        if self.own is None:
            return None
        return self.own.unexplained(self.own.stem.standardise(self.products), self.sketch)


def read(blocks: Blocks, known: Stem, codes: Codes, rng: np.random.Generator, *, unexplained: bool) -> Iterator[New]:
    """The batches, in the order of their `codes` (cells,).

    Parameters
    ----------
    blocks
        Expression of the cells, (cells, features).
    known
        The stem of these features.
    codes
        Batch of each cell, counted from 0.
    rng
        Draws cells, and vectors to start with.
    unexplained
        Whether it is asked what the stem leaves of cells.
    """
    order = np.argsort(codes, kind="stable")
    groups = np.split(order, np.cumsum(np.bincount(codes))[:-1])
    for first in range(0, len(groups), _TOGETHER):
        some = groups[first : first + _TOGETHER]
        ahead = _Ahead(blocks, some, rng) if unexplained else None
        news = [_drawn(rows, ahead, known, rng) for rows in some]
        if unexplained:
            _multiply(blocks, news, first, codes)
        yield from news


def _drawn(rows: Codes, ahead: _Ahead | None, known: Stem, rng: np.random.Generator) -> New:
    """A batch of which nothing is known yet but its own stem."""
    new = New(rows, sketch_batch(len(rows), rng), None, np.empty(0, np.intp), np.empty((0, 0), np.float32))
    if ahead is not None and len(rows) >= MIN_CELLS:
        new.sketch = sketch_batch(len(rows), rng)
        new.own = BatchModel(ahead.rows(rows[new.sketch]), known, rng)
    return new


def _multiply(blocks: Blocks, news: Sequence[New], first: int, codes: Codes) -> None:
    """Fill in `products` of the batches with their own stems, in one pass; `first` is the code of the first of them."""
    axes = {code: new.own.stem.components for code, new in enumerate(news, first) if new.own is not None}
    done = dict.fromkeys(axes, 0)
    for code, own in axes.items():
        news[code - first].products = np.empty((len(news[code - first].rows), own.shape[1]), np.float32)
    size = blocks.starts.step
    starts = [start for start in blocks.starts if np.isin(codes[start : start + size], list(axes)).any()]
    for found in blocks.map(_OwnProducts(axes, codes), what="novelty", starts=starts):
        for code, part in found.items():
            news[code - first].products[done[code] : done[code] + len(part)] = part
            done[code] += len(part)


class _OwnProducts(Narrowing):
    """Values of the cells of each batch times the axes of this batch."""

    def __init__(self, axes: dict[int, Floats], codes: Codes) -> None:
        self.axes, self.codes = axes, codes

    def narrowed(self, start: int, stop: int) -> Function:
        """See `Narrowing`."""
        codes = self.codes[start:stop]
        return _OwnProducts({int(code): self.axes[code] for code in np.unique(codes) if code in self.axes}, codes)

    def __call__(self, block: Matrix, start: int) -> dict[int, Floats]:
        return {code: np.asarray(block[self.codes == code] @ own, np.float32) for code, own in self.axes.items()}


class _Ahead:
    """The cells that batches will be sketched by, read in one pass where they are not in memory.

    Which ones these will be follows from the state of the generator and what a fit draws from it. Should a fit draw more (ARPACK
    begins anew where variance is missing), the cells are others, and are read when they are known.
    """

    def __init__(self, blocks: Blocks, groups: Sequence[Codes], rng: np.random.Generator) -> None:
        self._blocks, self._places = blocks, np.empty(0, np.intp)
        if not isinstance(blocks, InMemory):
            self._places = np.sort(
                np.concatenate([np.empty(0, np.intp), *_foreseen(blocks, groups, copy.deepcopy(rng))])
            )
            self._read = blocks.rows(self._places, what="sketch")

    def rows(self, places: Codes) -> Matrix:
        """Some cells, in memory."""
        at = np.searchsorted(self._places, places)
        if len(self._places) and np.array_equal(self._places[np.minimum(at, len(self._places) - 1)], places):
            return self._read[at]
        return self._blocks.rows(places, what="sketch")


def _foreseen(blocks: Blocks, groups: Sequence[Codes], rng: np.random.Generator) -> Iterator[Codes]:
    """The cells of each batch that `_drawn` will ask for."""
    n_features = blocks.shape[1]
    for rows in groups:
        sketch_batch(len(rows), rng)
        if len(rows) >= MIN_CELLS:
            chosen = sketch_batch(len(rows), rng)
            yield rows[chosen]
            for n in count_normal_draws(len(chosen), n_features):
                rng.standard_normal(n)
