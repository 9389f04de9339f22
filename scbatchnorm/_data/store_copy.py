"""Copies of AnnData stores with something added: expression goes from file to file, it may be larger than memory.

anndata writes what is added. Elements of the input are copied here: files as they are, and where the format changes array by
array, for anndata's writers read an element as a whole.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import warnings
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np

from scbatchnorm._data.store_read import StoreFiles, count_bytes
from scbatchnorm._data.store_write import anndata_zarr_format, open_store
from scbatchnorm._runtime.atomic_files import replace_atomically
from scbatchnorm._runtime.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    # Elements by their names, by where they are: {"obsm": {"X_pca": ...}, ...}.
    Added = Mapping[str, Mapping[str, Any]]

# Bytes that are in memory at once.
_PIECE = 2**24
# Groups whose parts are elements themselves.
_GROUPS = ("anndata", "raw", "dict", "dataframe")
_SPARSE = ("csr_matrix", "csc_matrix")
# What compression leaves of expression, at the least.
_COMPRESSED = 0.2


def check_disk_space(source: StoreFiles, target: Path, *, name: str, more: int) -> None:
    """Raise OSError unless there is room for a copy of `source` at `target`, which `name` calls, with `more` bytes."""
    if source.path.suffix == target.suffix:
        needed: float = source.n_bytes
    else:
        with open_store(source.path) as root:
            needed = count_bytes(root) * (_COMPRESSED if target.suffix == ".zarr" else 1)
    free = shutil.disk_usage(target.resolve().parent).free
    if needed + more > free:
        msg = f"the disk of {name} must have room for a copy of the input, about {(needed + more) / 1e9:.1f} GB; it has {free / 1e9:.1f} GB free."
        raise OSError(msg)


def copy_store(source: StoreFiles, target: Path, added: Added, *, progress: bool | None = None) -> None:
    """Write a copy of a store with more in it; `target` is whole in the end, or as it was before.

    Parameters
    ----------
    source
        The store, as it was when what is `added` was computed.
    target
        A zarr or h5ad file, of the same format or not.
    added
        What anndata can write, `added["obsm"]["X_pca"]`, in place of what has the same name; columns of `obs` as well. Dask
        arrays are computed block by block.
    progress
        Progress bar over the files or elements; `None` shows it in terminals and notebooks.

    Raises
    ------
    OSError
        Files of the source are gone or changed; the disk is full.
    """
    source.check_unchanged()
    with replace_atomically(target) as (new,):
        if source.path.suffix == target.suffix:
            _copy_files(source, new, progress=progress)
        with _open_for_writing(new) as root:
            if source.path.suffix != target.suffix:
                _convert(source.path, root, progress=progress)
            for slot, elements in added.items():
                _add_elements(root, slot, elements)
        source.check_unchanged()


def _copy_files(source: StoreFiles, new: Path, *, progress: bool | None) -> None:
    """All files, one by one."""
    if new.suffix == ".zarr":
        with progress_bar(len(source.states), desc="copying", unit="file", progress=progress) as bar:
            for name in source.states:
                (new / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source.path / name, new / name)
                bar.update()
        return
    n_pieces = math.ceil(source.n_bytes / _PIECE)
    with (
        source.path.open("rb") as old,
        new.open("xb") as copy,
        progress_bar(n_pieces, desc="copying", unit="block", progress=progress) as bar,
    ):
        while piece := old.read(_PIECE):
            copy.write(piece)
            bar.update()


@contextlib.contextmanager
def _open_for_writing(path: Path) -> Iterator[Any]:
    """The root of a store that is written to, new or not."""
    if path.suffix == ".zarr":
        import zarr

        new: dict[str, Any] = {} if path.exists() else {"zarr_format": anndata_zarr_format()}
        with warnings.catch_warnings():
            # Version 3 does not know them yet, and anndata will write chunks in other files: nothing that users can act on.
            warnings.filterwarnings("ignore", message="Consolidated metadata|zarr v3 autosharding")
            # What is said of all elements in one place is of the past, and renewed at the end.
            root = zarr.open_group(path, mode="a", use_consolidated=False, **new)
            yield root
            zarr.consolidate_metadata(root.store)
        return
    import h5py

    try:
        with h5py.File(path, "a") as root:
            yield root
    except RuntimeError as error:  # so h5py says that a file cannot be closed
        msg = f"the file cannot be written: {error}"
        raise OSError(msg) from error


def _add_elements(root: Any, slot: str, elements: Mapping[str, Any]) -> None:
    """Write elements into a group of the root, and say so where it is a table."""
    if slot not in root:
        ad.io.write_elem(root, slot, {})
    group = root[slot]
    for name, element in elements.items():
        ad.io.write_elem(group, name, element)
    if slot in {"obs", "var"}:
        columns = [str(name) for name in group.attrs["column-order"]]
        group.attrs["column-order"] = [*columns, *(name for name in elements if name not in columns)]


def _convert(source: Path, root: Any, *, progress: bool | None) -> None:
    """Write all elements of a store into an empty one of another format."""
    with open_store(source) as old:
        names = list(old)
        _copy_attributes(old, root)
        with progress_bar(len(names), desc="converting", unit="element", progress=progress) as bar:
            for name in names:
                _convert_element(old[name], root, name)
                bar.update()


def _convert_element(old: Any, group: Any, name: str) -> None:
    """Write an element into a group: tables and mappings part by part, numbers piece by piece."""
    kind = old.attrs.get("encoding-type", "")
    if kind in _GROUPS and (kind, old.attrs["encoding-version"]) != ("dataframe", "0.1.0"):
        new = group.require_group(name)
        _copy_attributes(old, new)
        for part in old:
            _convert_element(old[part], new, part)
    elif kind in _SPARSE:
        new = group.create_group(name)
        _copy_attributes(old, new)
        for part in ("data", "indices", "indptr"):
            _convert_array(old[part], new, part)
    elif kind == "array" and old.ndim and old.dtype.kind in "fiub":
        _copy_attributes(old, _convert_array(old, group, name))
    else:
        ad.io.write_elem(group, name, ad.io.read_elem(old))


def _convert_array(old: Any, group: Any, name: str) -> Any:
    """Write numbers, a few megabytes at once; returns the new array."""
    row = max(math.prod(old.shape[1:]) * old.dtype.itemsize, 1)
    n_rows = max(_PIECE // row, 1)
    if _is_zarr(group):
        # A quarter of a piece is compressed together.
        chunks = (max(min(n_rows // 4, old.shape[0]), 1), *(max(n, 1) for n in old.shape[1:]))
        new = group.create_array(name, shape=old.shape, dtype=old.dtype, chunks=chunks)
        n_rows = chunks[0] * max(n_rows // chunks[0], 1)
    else:
        new = group.create_dataset(name, shape=old.shape, dtype=old.dtype)
    for start in range(0, old.shape[0], n_rows):
        new[start : start + n_rows] = old[start : start + n_rows]
    return new


def _is_zarr(group: Any) -> bool:
    import zarr

    return isinstance(group, zarr.Group)


def _copy_attributes(old: Any, new: Any) -> None:
    """Copy the attributes of an element; they are arrays in HDF5, lists in zarr."""
    # All at first: h5py holds its lock in between, which what zarr's threads clear away waits for.
    for name, value in dict(old.attrs).items():
        new.attrs[name] = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
