"""AnnData files, zarr or h5ad, whose expression is written and read in blocks of cells: it may be larger than memory."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import anndata as ad
import numpy as np
from scipy.sparse import get_index_dtype

from scbatchnorm._data.blocks import ROWS
from scbatchnorm._runtime.atomic_files import check_output_path, replace_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from scipy import sparse

# Values that are compressed together, 4 MB as float32; h5ad is not compressed, and readers cache 1 MB of it.
_CHUNK_ZARR = 2**20
_CHUNK_H5AD = 2**17
SUFFIXES = (".zarr", ".h5ad")


def check_target(name: str, path: str | Path) -> Path:
    """Path of a store that is to be written.

    Raises
    ------
    TypeError, ValueError
        It is no path, or ends in something else than `SUFFIXES`.
    FileExistsError, FileNotFoundError, PermissionError
        Something is there already; its folder does not exist, or cannot be written to.
    ImportError
        Dask, which reads such a store, is missing.
    """
    if not isinstance(path, str | os.PathLike):
        msg = f"{name} must be a path or None; got {type(path).__name__}."
        raise TypeError(msg)
    path = Path(path)
    if path.suffix not in SUFFIXES:
        msg = f"{name} must end in {' or '.join(SUFFIXES)}; got {path}."
        raise ValueError(msg)
    if os.path.lexists(path):
        msg = f"{name} exists already: {path}. Remove it, or give another path."
        raise FileExistsError(msg)
    check_output_path(name, path, overwrite=False, hint="another path", folder=path.suffix == ".zarr")
    require_dask(name)
    return path


def require_dask(name: str) -> None:
    """Raise ImportError, naming the extra, unless there is Dask for what is called `name`."""
    try:
        import dask.array  # noqa: F401
    except ImportError as error:
        msg = f"{name} needs Dask, which reads expression in blocks: pip install 'scbatchnorm[scale]'."
        raise ImportError(msg) from error


def write(path: Path, annotation: ad.AnnData, blocks: Iterable[Mapping[str, sparse.csr_matrix]]) -> None:
    """Write an AnnData whose expression comes in blocks; `path` is whole in the end, or it is not there.

    Parameters
    ----------
    path
        A zarr or h5ad file.
    annotation
        Everything but the expression.
    blocks
        Consecutive cells, with all genes: CSR for the element `"X"` and for layers, `"layers/name"`; the same elements
        and types of values in all blocks.
    """
    with replace_atomically(path) as (new,), _created(new) as (root, check):
        ad.io.write_elem(root, "/", annotation)
        for missing in ("raw", "X"):  # written as missing, which older readers of h5ad do not know
            if missing in root:
                del root[missing]
        matrices: dict[str, _Rows] = {}
        for block in blocks:
            for name, rows in block.items():
                if name not in matrices:
                    matrices[name] = _Rows(root, name, rows, n_cells=annotation.n_obs)
                matrices[name].append(rows)
            check()
        for matrix in matrices.values():
            matrix.close()


def read(path: Path) -> ad.AnnData:
    """A store that `write` made, annotation in memory and expression as Dask arrays of CSR blocks."""
    with opened(path) as root:
        annotation = {name: ad.io.read_elem(root[name]) for name in ("obs", "var", "uns")}
    return with_expression(path, ad.AnnData(**annotation))


def with_expression(path: Path, annotation: ad.AnnData) -> ad.AnnData:
    """The annotation, and the expression of a store as Dask arrays of CSR blocks."""
    with opened(path) as root:
        layers = {name: _lazy_rows(root["layers"][name]) for name in root["layers"]}
        return ad.AnnData(
            _lazy_rows(root["X"]), obs=annotation.obs, var=annotation.var, uns=annotation.uns, layers=layers
        )


def _lazy_rows(group: Any) -> Any:
    """One matrix; a Dask block holds about as many values as the file's chunks, so that few are read twice."""
    n_cells, n_genes = group.attrs["shape"]
    # A power of two, so that blocks of `_blocks` consist of whole ones.
    block, per_cell = ROWS, group["data"].shape[0] / n_cells
    while block > 1 and block * per_cell > 2 * _CHUNK_ZARR:
        block //= 2
    return ad.experimental.read_elem_lazy(group, chunks=(min(block, n_cells), n_genes))


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The root of a store, for reading."""
    if path.suffix == ".zarr":
        import zarr

        yield zarr.open_group(path, mode="r")
    else:
        import h5py

        with h5py.File(path, "r") as root:
            yield root


def zarr_format() -> Literal[2, 3]:
    """The version of the zarr format that anndata writes: a setting up to 0.13, which deprecates it."""
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        return getattr(ad.settings, "zarr_write_format", 3)


@contextlib.contextmanager
def _created(path: Path) -> Iterator[tuple[Any, Callable[[], None]]]:
    """The root of a new store, in the version of the format that anndata writes; and what raises if writing has failed."""
    if path.suffix == ".zarr":
        import zarr

        root = zarr.open_group(path, mode="w-", zarr_format=zarr_format())
        yield root, lambda: None
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Consolidated metadata")  # version 3 does not know it yet
            zarr.consolidate_metadata(root.store)
    else:
        import h5py

        with _Sink(path, "w+b") as sink:
            try:
                with h5py.File(sink, "w") as root:
                    yield root, sink.check
            except Exception:
                sink.check()  # of which this may be a consequence
                raise
            sink.check()


class _Sink(io.FileIO):
    """A file of HDF5, which does not bear that writing fails: that is to be asked for.

    What could not be written is kept and can be read, for HDF5 crashes on what it reads otherwise.
    """

    _error: OSError | None = None

    def __init__(self, path: Path, mode: str) -> None:
        super().__init__(path, mode)
        self._kept: list[tuple[int, bytes]] = []
        self._end = 0

    def check(self) -> None:
        """Raise what went wrong; nothing has been written since."""
        if self._error is not None:
            raise self._error

    def write(self, data: Any) -> int:
        start, rest = self.tell(), memoryview(data).cast("B")
        n_bytes = len(rest)
        try:
            while rest and self._error is None:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self._error = error
        if rest:
            self._kept.append((start + n_bytes - len(rest), bytes(rest)))
        self._end = max(self._end, start + n_bytes)
        super().seek(start + n_bytes)
        return n_bytes

    def readinto(self, buffer: Any) -> int:
        start, view = self.tell(), memoryview(buffer).cast("B")
        n_read = super().readinto(view) or 0
        if self._error is None:
            return n_read
        view[n_read:] = bytes(len(view) - n_read)
        for first, data in self._kept:
            low, high = max(first, start), min(first + len(data), start + len(view))
            if low < high:
                view[low - start : high - start] = data[low - first : high - first]
        super().seek(start + len(view))
        return len(view)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return super().seek(offset + self._end) if whence == io.SEEK_END else super().seek(offset, whence)

    def truncate(self, size: int | None = None) -> int:
        self._end = self.tell() if size is None else size
        try:
            return super().truncate(size) if self._error is None else self._end
        except OSError as error:
            self._error = error
            return self._end


class _Rows:
    """A CSR matrix in a store that blocks of rows are appended to."""

    def __init__(self, root: Any, name: str, rows: sparse.csr_matrix, *, n_cells: int) -> None:
        """`rows` gives the number of columns and the types of what will be appended; `n_cells` is a bound."""
        self._group = root.create_group(name)
        self._group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0"})
        self._shape = (0, rows.shape[1])
        most = n_cells * rows.shape[1]
        self._data = _Vector(self._group, "data", rows.data.dtype, most=most)
        self._indices = _Vector(self._group, "indices", rows.indices.dtype, most=most)
        self._indptr = [np.zeros(1, dtype=np.int64)]  # kept: its type depends on the number of values

    def append(self, rows: sparse.csr_matrix) -> None:
        self._indptr.append(self._data.length + rows.indptr[1:].astype(np.int64))
        self._data.append(rows.data)
        self._indices.append(rows.indices)
        self._shape = (self._shape[0] + rows.shape[0], self._shape[1])

    def close(self) -> None:
        values = np.concatenate(self._indptr)
        # As scipy has it, 64 bits for more than 2^31 values.
        dtype = get_index_dtype(maxval=int(values[-1]))
        indptr = _Vector(self._group, "indptr", dtype, most=values.size)
        indptr.append(values.astype(dtype))
        for vector in (self._data, self._indices, indptr):
            vector.close()
        self._group.attrs["shape"] = self._shape


class _Vector:
    """An array in a store that grows; chunks are written once, when they are full."""

    def __init__(self, group: Any, name: str, dtype: np.dtype, *, most: int) -> None:
        import zarr

        self.length = 0
        self._waiting: list[np.ndarray] = []
        in_zarr = isinstance(group, zarr.Group)
        self._chunk = min(_CHUNK_ZARR if in_zarr else _CHUNK_H5AD, max(most, 1))
        if in_zarr:
            # Zeros are written, so that a file that is missing is a loss.
            self._array = group.create_array(
                name, shape=(0,), chunks=(self._chunk,), dtype=dtype, config={"write_empty_chunks": True}
            )
        else:
            self._array = group.create_dataset(name, shape=(0,), maxshape=(None,), chunks=(self._chunk,), dtype=dtype)

    def append(self, values: np.ndarray) -> None:
        self._waiting.append(values)
        self.length += values.size
        if self.length - self._array.shape[0] >= self._chunk:
            self._write(self.length - self.length % self._chunk)

    def close(self) -> None:
        self._write(self.length)

    def _write(self, stop: int) -> None:
        """Write what is waiting, up to the value number `stop`."""
        start = self._array.shape[0]
        values = np.concatenate(self._waiting) if self._waiting else np.empty(0)
        if stop > start:
            self._array.resize((stop,))
            self._array[start:stop] = values[: stop - start]
        self._waiting = [values[stop - start :]]
