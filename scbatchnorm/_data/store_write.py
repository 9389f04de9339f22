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
from scipy import sparse
from scipy.sparse import get_index_dtype

from scbatchnorm._data.blocks import ROWS
from scbatchnorm._runtime.atomic_files import check_output_path, replace_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

# Values that are compressed together, 4 MB as float32; h5ad is not compressed, and readers cache 1 MB of it.
_CHUNK_ZARR = 2**20
_CHUNK_H5AD = 2**17
# Chunks that are appended at once.
_CHUNKS_APPENDED = 4
SUFFIXES = (".zarr", ".h5ad")


def check_store_path(name: str, path: str | Path) -> Path:
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


def write_store(path: Path, annotation: ad.AnnData, blocks: Iterable[Mapping[str, sparse.csr_matrix]]) -> None:
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
    with replace_atomically(path) as (new,), _create_store(new) as (root, check):
        ad.io.write_elem(root, "/", annotation)
        for missing in ("raw", "X"):  # written as missing, which older readers of h5ad do not know
            if missing in root:
                del root[missing]
        matrices: dict[str, _MatrixWriter] = {}
        for block in blocks:
            for name, rows in block.items():
                if name not in matrices:
                    matrices[name] = _MatrixWriter(root, name)
                matrices[name].append(rows)
            check()
        for matrix in matrices.values():
            matrix.close()


def read_store(path: Path) -> ad.AnnData:
    """A store that `write_store` made, annotation in memory and expression as Dask arrays of CSR blocks."""
    with open_store(path) as root:
        annotation = {name: ad.io.read_elem(root[name]) for name in ("obs", "var", "uns")}
    return attach_expression(path, ad.AnnData(**annotation))


def attach_expression(path: Path, annotation: ad.AnnData) -> ad.AnnData:
    """The annotation, and the expression of a store as Dask arrays of CSR blocks."""
    with open_store(path) as root:
        layers = {name: _open_matrix(root["layers"][name]) for name in root["layers"]}
        return ad.AnnData(
            _open_matrix(root["X"]), obs=annotation.obs, var=annotation.var, uns=annotation.uns, layers=layers
        )


def _open_matrix(group: Any) -> Any:
    """One matrix; a Dask block holds about as many values as the file's chunks, so that few are read twice."""
    n_cells, n_genes = group.attrs["shape"]
    # A power of two, so that a block of `ROWS` cells consists of whole chunks.
    block, per_cell = ROWS, group["data"].shape[0] / n_cells
    while block > 1 and block * per_cell > 2 * _CHUNK_ZARR:
        block //= 2
    return ad.experimental.read_elem_lazy(group, chunks=(min(block, n_cells), n_genes))


@contextlib.contextmanager
def open_store(path: Path) -> Iterator[Any]:
    """The root of a store, for reading."""
    if path.suffix == ".zarr":
        import zarr

        yield zarr.open_group(path, mode="r")
    else:
        import h5py

        with h5py.File(path, "r") as root:
            yield root


def anndata_zarr_format() -> Literal[2, 3]:
    """The version of the zarr format that anndata writes: a setting up to 0.13, which deprecates it."""
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        return getattr(ad.settings, "zarr_write_format", 3)


@contextlib.contextmanager
def _create_store(path: Path) -> Iterator[tuple[Any, Callable[[], None]]]:
    """The root of a new store, in the version of the format that anndata writes; and what raises if writing has failed."""
    if path.suffix == ".zarr":
        import zarr

        root = zarr.open_group(path, mode="w-", zarr_format=anndata_zarr_format())
        # Chunks of zeros as well, so that a file that is missing is a loss.
        with zarr.config.set({"array.write_empty_chunks": True}):
            yield root, lambda: None
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Consolidated metadata")  # version 3 does not know it yet
            zarr.consolidate_metadata(root.store)
    else:
        import h5py

        with _BufferedFile(path, "w+b") as sink:
            try:
                with h5py.File(sink, "w") as root:
                    yield root, sink.check
            except Exception:
                sink.check()  # of which this may be a consequence
                raise
            sink.check()


class _BufferedFile(io.FileIO):
    """A file for HDF5 whose writes never fail; `check` raises the first error.

    After a failed write HDF5 cannot close the file, and crashes the process later. What could not be written is therefore kept in
    memory, from where HDF5 can read it, until `check` is called. Neither h5py nor anndata has anything for this.
    """

    _error: OSError | None = None

    def __init__(self, path: Path, mode: str) -> None:
        super().__init__(path, mode)
        self._kept: list[tuple[int, bytes]] = []
        self._end = 0

    def check(self) -> None:
        """Raise the first error; nothing was written after it."""
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


class _MatrixWriter:
    """A CSR matrix in a store, to which anndata appends blocks of rows.

    Blocks are collected until they hold a few chunks of values, for each call of anndata's `append` writes the last chunk anew.
    """

    def __init__(self, root: Any, name: str) -> None:
        """`name` is `"X"`, or `"layers/name"`."""
        slot, _, layer = name.partition("/")
        self._parent, self._key = (root.require_group(slot), layer) if layer else (root, name)
        self._in_zarr = hasattr(root, "create_array")
        self._chunk = _CHUNK_ZARR if self._in_zarr else _CHUNK_H5AD
        self._blocks: list[sparse.csr_matrix] = []
        self._n_values = 0

    def append(self, rows: sparse.csr_matrix) -> None:
        self._blocks.append(rows)
        self._n_values += rows.nnz
        if self._n_values >= _CHUNKS_APPENDED * self._chunk:
            self._write()

    def _write(self) -> None:
        rows = sparse.vstack(self._blocks, format="csr")
        self._blocks, self._n_values = [], 0
        if self._key in self._parent:
            ad.io.sparse_dataset(self._parent[self._key], should_cache_indptr=False).append(rows)
            return
        # With 64 bits, for it is not known yet how many values there will be.
        options: dict[str, Any] = {"chunks": (min(self._chunk, max(rows.nnz, 1)),), "indptr_dtype": np.int64}
        if self._in_zarr:
            options["shards"] = None  # a shard would be written anew by each append
        ad.io.write_elem(self._parent, self._key, rows, dataset_kwargs=options)

    def close(self) -> None:
        """Write what is left, and `indptr` in the type that scipy has for so many values."""
        if self._blocks:
            self._write()
        group = self._parent[self._key]
        indptr = group["indptr"][:]
        del group["indptr"]
        group["indptr"] = indptr.astype(get_index_dtype(maxval=int(indptr[-1])))
