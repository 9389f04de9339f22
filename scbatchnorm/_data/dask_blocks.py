"""Expression in a Dask array: its blocks are computed by threads of this process, or by the cluster that is connected."""

from __future__ import annotations

import importlib.metadata
import sys
import threading
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse
from threadpoolctl import threadpool_limits

from scbatchnorm._data.blocks import ROWS, Blocks, PerBlockFunction, column_sums, map_in_order, restrict_to_block
from scbatchnorm._data.checks import LOG_CEILING, check_finite, check_not_counts, check_not_negative
from scbatchnorm._data.matrix import as_csr
from scbatchnorm._runtime.device import one_blas_thread
from scbatchnorm._runtime.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from scbatchnorm._data.blocks import Function
    from scbatchnorm._data.types import Codes, Floats, Labels, Matrix

# Blocks for each thread of a cluster to have at once.
_AHEAD = 2


def is_lazy(values: object) -> bool:
    """Whether `values` are a Dask array; does not import Dask."""
    arrays = sys.modules.get("dask.array")
    return arrays is not None and isinstance(values, arrays.Array)


class DaskBlocks(Blocks):
    """Columns of a Dask array of shape (cells, all features), with dense or sparse chunks of any size.

    Parameters
    ----------
    array
        The values.
    where
        What errors call it.
    columns
        Features to use, by their places; `None`: all.
    names
        Of these features.
    expression
        Whether they must be log-normalised expression.
    progress
        Progress bar over the blocks; `None` shows it in terminals and notebooks.
    """

    def __init__(
        self,
        array: Any,
        *,
        where: str,
        columns: Codes | None = None,
        names: Labels | None = None,
        expression: bool = False,
        progress: bool | None = None,
    ) -> None:
        if array.ndim != 2 or array.dtype.kind not in "fiub":
            msg = f"{where} must be a matrix of real numbers (cells, features); got shape {array.shape}, type {array.dtype}."
            raise ValueError(msg)
        if np.isnan(array.shape).any() or np.isnan(np.concatenate(array.chunks)).any():
            msg = f"{where} must be a Dask array that knows its size; run {where}.compute_chunk_sizes() first."
            raise ValueError(msg)
        n_features = array.shape[1] if columns is None else len(columns)
        self.array, self.shape, self.progress = array, (array.shape[0], n_features), progress
        self._expression = expression
        self._read = BlockReader(where, columns, np.arange(n_features).astype(str) if names is None else names)

    def map(self, function: Function, *, what: str, starts: Sequence[int] | None = None) -> Iterator[Any]:
        """See `Blocks`."""
        starts = self.starts if starts is None else starts
        with progress_bar(len(self.starts), desc=what, unit="block", progress=self.progress) as bar:
            bar.update(len(self.starts) - len(starts))
            for result in _compute_in_order(lambda start: self._task(function, start), starts):
                bar.update()
                yield result

    def _task(self, function: Function, start: int) -> Any:
        """The Dask task that reads a block and calls the function."""
        import dask

        grid = self.array[start : start + ROWS].to_delayed()
        # A list of lists, for Dask looks into lists only.
        return dask.delayed(_Task(self._read, restrict_to_block(function, start)))([list(row) for row in grid], start)

    def feature_sums(self) -> Floats:
        """See `Blocks`."""
        survey = ValueSurvey(self._read.where, self._read.names, expression=self._expression)
        sums, (fractions, above_one, beyond) = self.total(survey, what="reading")
        if self._expression:
            check_not_counts(self._read.where, whole=fractions == 0 and above_one > 0, too_high=beyond > 0)
        return sums

    def all(self) -> Matrix:
        """See `Blocks`."""
        return self.rows(np.arange(self.shape[0]), what="reading")

    def rows(self, places: Codes, *, what: str) -> Matrix:
        """See `Blocks`."""
        starts = [
            start for start in self.starts if np.searchsorted(places, start) < np.searchsorted(places, start + ROWS)
        ]
        parts = list(self.map(_SelectRows(places), what=what, starts=starts))
        return sparse.vstack(parts, format="csr") if parts else sparse.csr_matrix((0, self.shape[1]), dtype=np.float32)


class BlockReader:
    """Reads a block from the chunks that it lies in; a class that can be pickled for the workers of a cluster."""

    def __init__(self, where: str, columns: Codes | None, names: Labels) -> None:
        self.where, self.columns, self.names = where, columns, names

    def __call__(self, grid: list[list[Any]], start: int) -> Matrix:
        where = describe_block(self.where, start, sum(row[0].shape[0] for row in grid))
        rows = [row[0] if len(row) == 1 else _join_columns(row) for row in grid]
        block = rows[0] if len(rows) == 1 else _join_rows(rows)
        if sparse.issparse(block) and _has_lost_chunks(block):
            msg = f"{where} must be whole; cells have several entries of the same gene that are 0, as where files of a store are missing."
            raise OSError(msg)
        matrix = as_csr(block if self.columns is None else block[:, self.columns], where=where)
        check_finite(matrix, where=where, cells=_RowNames(start), genes=self.names)
        return matrix


def describe_block(where: str, start: int, n_cells: int) -> str:
    """A block in words."""
    return f"{where}, block {start // ROWS} (rows {start} to {start + n_cells - 1}),"


class _RowNames:
    """Names of cells by their rows, where their own were not read."""

    def __init__(self, start: int) -> None:
        self._start = start

    def __getitem__(self, i: int) -> str:
        return f"row {self._start + i}"


def _join_columns(row: list[Any]) -> Any:
    return sparse.hstack(row, format="csr") if sparse.issparse(row[0]) else np.concatenate(row, axis=1)


def _join_rows(rows: list[Any]) -> Any:
    return sparse.vstack(rows, format="csr") if sparse.issparse(rows[0]) else np.concatenate(rows)


def _has_lost_chunks(block: Any) -> bool:
    """Whether entries are stored twice, and as 0: what zarr gives for files that are gone."""
    block = block.tocsr()
    same = (np.diff(block.indices) == 0) & (block.data[1:] == 0)
    same[block.indptr[1:-1][(block.indptr[1:-1] > 0) & (block.indptr[1:-1] < block.nnz)] - 1] = False
    return bool(same.any())


class _Task:
    """A function of a block that is read on the spot."""

    def __init__(self, read: BlockReader, function: Function) -> None:
        self.read, self.function = read, function

    def __call__(self, grid: list[list[Any]], start: int) -> Any:
        with one_blas_thread_per_process():
            return self.function(self.read(grid, start), start)


class ValueSurvey:
    """Sums of features, and how many values are no whole numbers, above 1, and beyond what logarithms reach."""

    def __init__(self, where: str, names: Labels, *, expression: bool) -> None:
        self.where, self.names, self.expression = where, names, expression

    def __call__(self, block: Matrix, start: int) -> list[Floats]:
        if self.expression:
            where = describe_block(self.where, start, block.shape[0])
            check_not_negative(block, where=where, cells=_RowNames(start), genes=self.names)
        values = block.data
        counts = [values != np.rint(values), values > 1, values > LOG_CEILING]
        return [column_sums(block), np.array([count.sum() for count in counts], dtype=np.float64)]


def checked_map(blocks: Blocks, function: Function, *, what: str, places: Codes | None = None) -> Iterator[Any]:
    """Results of `Blocks.map`, and in the same pass the checks of the values; what is in memory was checked before.

    Raises
    ------
    ValueError
        Features are no log-normalised expression; only those at these `places` are looked at, if they are given. That they are raw
        counts is known after the last block.
    """
    if not isinstance(blocks, DaskBlocks):
        yield from blocks.map(function, what=what)
        return
    reader, total = blocks._read, np.zeros(3)
    survey = ValueSurvey(reader.where, reader.names if places is None else reader.names[places], expression=True)
    for result, counts in blocks.map(_CheckedFunction(function, survey, places), what=what):
        total += counts
        yield result
    fractions, above_one, beyond = total.tolist()
    check_not_counts(reader.where, whole=fractions == 0 and above_one > 0, too_high=beyond > 0)


class _CheckedFunction(PerBlockFunction):
    """Result of a function for a block, and the counts of `ValueSurvey`."""

    def __init__(self, function: Function, survey: ValueSurvey, places: Codes | None) -> None:
        self.function, self.survey, self.places = function, survey, places

    def for_block(self, start: int, stop: int) -> Function:
        """See `PerBlockFunction`."""
        return _CheckedFunction(restrict_to_block(self.function, start), self.survey, self.places)

    def __call__(self, block: Matrix, start: int) -> tuple[Any, Floats]:
        counts = self.survey(block if self.places is None else block[:, self.places], start)[1]
        return self.function(block, start), counts


class _SelectRows(PerBlockFunction):
    """Those of these cells that are in a block."""

    def __init__(self, places: Codes) -> None:
        self.places = places

    def for_block(self, start: int, stop: int) -> Function:
        """See `PerBlockFunction`."""
        first, last = np.searchsorted(self.places, [start, stop])
        return _SelectRows(self.places[first:last])

    def __call__(self, block: Matrix, start: int) -> Matrix:
        first, last = np.searchsorted(self.places, [start, start + block.shape[0]])
        return block[self.places[first:last] - start]


def _compute_in_order(task: Callable[[int], Any], starts: Sequence[int]) -> Iterator[Any]:
    """Results of the tasks in their order, only a few of them at once."""
    client = _active_client()
    if client is None:
        import dask

        # One block of many cells for each thread; Dask's own threads would hold many of them.
        with one_blas_thread() as n_threads:
            yield from map_in_order(
                lambda start: dask.compute(task(start), scheduler="synchronous")[0], starts, n_threads
            )
        return
    _check_workers(client)
    n_ahead = max(2, _AHEAD * sum(client.nthreads().values()))
    ahead: deque[Any] = deque()
    try:
        for start in starts:
            ahead.append(client.compute(task(start)))
            if len(ahead) > n_ahead:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        client.cancel(list(ahead))


def _active_client() -> Any:
    """The connection to a cluster that is active, if there is one."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    try:
        return distributed.default_client()
    except ValueError:
        return None


def _check_workers(client: Any) -> None:
    """Raise unless all workers have this version of the package."""
    version = importlib.metadata.version("scbatchnorm")
    # A function made by another is sent as it is, where one of this module would have to be imported there.
    versions = client.run(_version_of_worker())
    other = {worker: answer for worker, answer in versions.items() if answer != version}
    if other:
        worker, answer = next(iter(other.items()))
        what = "lack the package" if answer is None else f"have another version of it, {answer}"
        msg = (
            f"all workers of the Dask cluster must have scbatchnorm {version}; {len(other)} of {len(versions)} {what}, the first is {worker}. "
            "Install it in their environment, or close the client: client.close()."
        )
        raise ImportError(msg)


def _version_of_worker() -> Callable[[], str | None]:
    """A function that finds the version where it is called."""

    def find() -> str | None:
        import importlib.metadata

        try:
            return importlib.metadata.version("scbatchnorm")
        except importlib.metadata.PackageNotFoundError:
            return None

    return find


class _BlasLimit:
    """One thread of BLAS for as long as anybody is at work in this process."""

    def __init__(self) -> None:
        self.lock, self.n = threading.Lock(), 0
        self.limits: Any = None


_limit = _BlasLimit()


@contextmanager
def one_blas_thread_per_process() -> Iterator[None]:
    """Limit BLAS to one thread; several threads may hold this limit at once, for all of them ask for the same."""
    with _limit.lock:
        if _limit.n == 0:
            _limit.limits = threadpool_limits(1, user_api="blas")
        _limit.n += 1
    try:
        yield
    finally:
        with _limit.lock:
            _limit.n -= 1
            if _limit.n == 0:
                _limit.limits.restore_original_limits()
