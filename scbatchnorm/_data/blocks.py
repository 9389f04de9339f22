"""Expression in blocks of cells, so that the same code computes with what is in memory and with what is larger."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from scipy import sparse

from scbatchnorm._data.checks import check_finite
from scbatchnorm._runtime.device import one_blas_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from scbatchnorm._data.types import Codes, Floats, Matrix

    # Takes the values of some cells, and the row of the first of them.
    Function = Callable[[Matrix, int], Any]

T = TypeVar("T")
#: Cells of a block. Where blocks begin decides how sums over them are rounded, so it is the same wherever the values are.
ROWS = 8192
# Blocks at once, each with its products of features: many threads would take much memory.
_MOST_THREADS = 8


class Notes:
    """Keeps intermediate results of sums over blocks, for a fit that is continued; this one keeps nothing."""

    def recall(self, what: str) -> tuple[int, list[Floats]]:
        """Number of blocks that are done, and the sums over them."""
        return 0, []

    def note(self, what: str, n_done: int, sums: list[Floats], *, last: bool) -> None:
        """Keep the sums over the first `n_done` blocks; `last` if these are all."""


class PerBlockFunction(ABC):
    """A function of blocks that holds values of every cell; with a block only the values of its cells are sent to a worker."""

    @abstractmethod
    def for_block(self, start: int, stop: int) -> Function:
        """The function for the block of the cells from `start` to before `stop`."""


def restrict_to_block(function: Function, start: int) -> Function:
    """The function to call for the block that begins at `start`."""
    return function.for_block(start, start + ROWS) if isinstance(function, PerBlockFunction) else function


class Blocks(ABC):
    """Expression, or a representation, of shape (cells, features), in blocks of `ROWS` cells."""

    shape: tuple[int, int]
    notes = Notes()

    @property
    def starts(self) -> range:
        """First row of each block."""
        return range(0, self.shape[0], ROWS)

    @abstractmethod
    def map(self, function: Function, *, what: str, starts: Sequence[int] | None = None) -> Iterator[Any]:
        """Results of `function` for all blocks, or those with these `starts`, in their order.

        Only a few blocks and results are in memory at once. `function` is called by several threads or processes, with one
        thread of BLAS each. `what` is the label of the progress bar.
        """

    @abstractmethod
    def feature_sums(self) -> Floats:
        """Sum of each feature over all cells, float64 of shape (features,); raises where values are not what they must be."""

    @abstractmethod
    def all(self) -> Matrix:
        """All cells in memory."""

    @abstractmethod
    def rows(self, places: Codes, *, what: str) -> Matrix:
        """Some cells, in memory, in the order of `places`, which ascend."""

    def total(self, function: Function, *, what: str) -> list[Floats]:
        """Sums over all blocks of the arrays that `function` returns a list of, added in the order of the blocks."""
        n_done, sums = self.notes.recall(what)
        starts = self.starts[n_done:]
        for i, part in enumerate(self.map(function, what=what, starts=starts), n_done + 1):
            sums = [a + b for a, b in zip(sums, part, strict=True)] if sums else part
            self.notes.note(what, i, sums, last=i == len(self.starts))
        return sums

    def product(self, axes: Floats, *, what: str) -> Floats:
        """The values times `axes` (features, n), float32 of shape (cells, n)."""
        products = np.empty((self.shape[0], axes.shape[1]), np.float32)
        for start, part in zip(self.starts, self.map(Product(axes), what=what), strict=True):
            products[start : start + ROWS] = part
        return products


class InMemory(Blocks):
    """A matrix in memory.

    Parameters
    ----------
    matrix
        Canonical CSR or C-contiguous array of float32, shape (cells, features).
    checked
        Whether its values are known to be finite and not beyond 1e12; otherwise `feature_sums` checks them.
    """

    def __init__(self, matrix: Matrix, *, checked: bool = False) -> None:
        self.matrix, self.shape, self._checked = matrix, matrix.shape, checked

    def map(self, function: Function, *, what: str, starts: Sequence[int] | None = None) -> Iterator[Any]:
        """See `Blocks`."""
        with one_blas_thread() as n_threads:
            yield from map_in_order(
                lambda start: restrict_to_block(function, start)(self.matrix[start : start + ROWS], start),
                self.starts if starts is None else starts,
                n_threads,
            )

    def feature_sums(self) -> Floats:
        """See `Blocks`."""
        if not self._checked:
            check_finite(self.matrix, where="X", cells=np.arange(self.shape[0]), genes=np.arange(self.shape[1]))
            self._checked = True
        return self.total(lambda block, _: [column_sums(block)], what="means")[0]

    def all(self) -> Matrix:
        """See `Blocks`."""
        return self.matrix

    def rows(self, places: Codes, *, what: str) -> Matrix:
        """See `Blocks`."""
        return self.matrix[places]


class Product:
    """Product of a block with these axes; a class, so that it can be pickled for the workers of a cluster."""

    def __init__(self, axes: Floats) -> None:
        self.axes = axes

    def __call__(self, block: Matrix, start: int) -> Floats:
        return np.asarray(block @ self.axes, dtype=np.float32)


def map_in_order(function: Callable[[int], T], items: Sequence[int], n_threads: int) -> Iterator[T]:
    """Results of `function` for all items in their order, from threads that are at most a few items ahead."""
    n_threads = min(n_threads, _MOST_THREADS, len(items))
    if n_threads <= 1:
        yield from map(function, items)
        return
    ahead: deque[Any] = deque()
    with ThreadPoolExecutor(n_threads) as pool:
        try:
            for item in items:
                ahead.append(pool.submit(function, item))
                if len(ahead) > n_threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def column_sums(block: Matrix) -> Floats:
    """Sum of each column, float64 of shape (features,)."""
    if sparse.issparse(block):  # its `sum` would add in float32
        rows = block.tocsr()
        return np.bincount(rows.indices, weights=rows.data, minlength=rows.shape[1]).astype(np.float64, copy=False)
    return block.sum(axis=0, dtype=np.float64)


def to_dense(block: Matrix) -> Floats:
    """A few cells as an array."""
    return block.toarray() if sparse.issparse(block) else block
