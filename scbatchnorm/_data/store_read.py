"""AnnData stores, zarr or h5ad, opened without reading their expression: blocks of it are read when they are needed."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd

from scbatchnorm._data.blocks import ROWS
from scbatchnorm._data.store_write import open_store, require_dask

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self

    from anndata import AnnData

# Encodings of expression that blocks of cells can be read from.
_BLOCKS = ("csr_matrix", "array")


def open_lazily(
    path: Path, *, batch_keys: Sequence[str] = (), layer: str | None = None, use_rep: str | None = None
) -> AnnData:
    """What an integration needs of a store: expression as a Dask array in blocks of `ROWS` cells, the rest in memory.

    Parameters
    ----------
    path
        A zarr or h5ad file.
    batch_keys
        Columns of `obs` to read; there are no others, and cells have their rows as names.
    layer
        Expression to open instead of `X`.
    use_rep
        Key of `obsm` to read; then no expression is opened.

    Raises
    ------
    KeyError
        There is no such column, layer or representation.
    ValueError
        Expression is not stored cell by cell.
    OSError
        Files of it are missing.
    ImportError
        Dask is missing.
    """
    with open_store(path) as root:
        obs, var = _read_columns(root["obs"], batch_keys), ad.io.read_elem(root["var"])
        if use_rep is not None:
            adata = _make_adata(obs, var)
            adata.obsm[use_rep] = ad.io.read_elem(_find_element(root, "obsm", use_rep, "use_rep"))
            return adata
        if layer is not None:
            adata = _make_adata(obs, var)
            adata.layers[layer] = _open_blocks(
                _find_element(root, "layers", layer, "layer"), f"layers[{layer!r}]", path
            )
            return adata
        return _make_adata(obs, var, _open_blocks(root["X"], "X", path) if _has_x(root) else None)


def _has_x(root: Any) -> bool:
    return "X" in root and root["X"].attrs.get("encoding-type") != "null"


def _find_element(root: Any, slot: str, key: str, parameter: str) -> Any:
    """An element of `obsm` or `layers`, which a parameter names."""
    keys = sorted(root[slot]) if slot in root else []
    if key not in keys:
        msg = f"{parameter}={key!r} is not a key of adata.{slot}; keys: {', '.join(keys) or 'none'}."
        raise KeyError(msg)
    return root[slot][key]


def _read_columns(obs: Any, names: Sequence[str]) -> pd.DataFrame:
    """Columns of `obs`, with rows as an index: the names of millions of cells would take as much memory as much else."""
    if obs.attrs["encoding-version"] == "0.1.0":  # categories are elsewhere
        return ad.io.read_elem(obs)[list(names)].reset_index(drop=True)
    columns = [str(name) for name in obs.attrs["column-order"]]
    for name in names:
        if name not in columns:
            msg = f"batch_key={name!r} is not a column of adata.obs; columns: {', '.join(columns) or 'none'}."
            raise KeyError(msg)
    index = obs[obs.attrs["_index"]]
    if index.attrs["encoding-type"] == "nullable-string-array":  # as anndata 0.13 writes the names of pandas 3
        index = index["values"]
    return pd.DataFrame({name: ad.io.read_elem(obs[name]) for name in names}, index=pd.RangeIndex(index.shape[0]))


def _make_adata(obs: pd.DataFrame, var: pd.DataFrame, X: Any = None) -> AnnData:
    """An AnnData that keeps the index of `obs`, of which a new one makes words."""
    words = pd.Index(np.full(len(obs), "", dtype=object))
    with ad.settings.override(check_uniqueness=False):
        adata = ad.AnnData(X, obs=obs.set_axis(words), var=var)
    adata.obs.index = obs.index
    return adata


def _open_blocks(elem: Any, name: str, path: Path) -> Any:
    """A matrix of a store as a Dask array, in chunks of whole blocks."""
    require_dask("a store that is larger than memory")
    encoding = elem.attrs.get("encoding-type", "")
    if encoding not in _BLOCKS:
        how = "gene by gene (CSC)" if encoding == "csc_matrix" else f"as {encoding or 'something unknown'}"
        msg = (
            f"{name} of {path} is stored {how}: cells cannot be read from it block by block. Store it once as a CSR matrix, "
            "adata.X = adata.X.tocsr(), or read all of it into memory, on the command line with --no-lazy."
        )
        raise ValueError(msg)
    parts = [elem[part] for part in ("data", "indices", "indptr")] if encoding == "csr_matrix" else []
    for part in parts:
        # What zarr does not find it takes for zeros. A dense matrix may have chunks of zeros, which are not written.
        if (missing := getattr(part, "nchunks", 0) - getattr(part, "nchunks_initialized", 0)) > 0:
            msg = f"{name} of {path} must be whole; {missing} of {part.nchunks} chunks of its {Path(part.name).name} are missing."
            raise OSError(msg)
    n_cells, n_genes = (int(n) for n in (elem.attrs["shape"] if parts else elem.shape))
    return ad.experimental.read_elem_lazy(elem, chunks=(min(ROWS, n_cells), n_genes))


def is_current_format(root: Any) -> bool:
    """Whether it is a store as anndata has written them since 2020."""
    return root["obs"].attrs.get("encoding-type") == "dataframe"


def has_row_blocks(root: Any, layer: str | None) -> bool:
    """Whether expression can be read from a store block by block."""
    elem = root["X"] if layer is None and "X" in root else root.get(f"layers/{layer}")
    return elem is not None and elem.attrs.get("encoding-type") in _BLOCKS


def count_expression_bytes(root: Any) -> int:
    """Bytes that the expression of a store takes in memory: `X`, all layers and `raw`."""
    return sum(count_bytes(root[name]) for name in ("X", "layers", "raw") if name in root)


def count_bytes(elem: Any) -> int:
    """Bytes of all arrays of an element, uncompressed."""
    if hasattr(elem, "shape"):
        return math.prod(elem.shape) * elem.dtype.itemsize if elem.ndim else 0
    return sum(count_bytes(elem[name]) for name in elem)


@dataclass(frozen=True)
class StoreFiles:
    """The files of a store as they were, by which one notices that some are gone, which zarr takes for zeros."""

    path: Path
    states: dict[str, tuple[int, int]]  # size and time of the last change

    @classmethod
    def snapshot(cls, path: Path) -> Self:
        """The files as they are now."""
        return cls(path, {name: (status.st_size, status.st_mtime_ns) for name, status in _list_files(path)})

    @property
    def n_bytes(self) -> int:
        """Bytes on the disk."""
        return sum(n for n, _ in self.states.values())

    def check_unchanged(self) -> None:
        """Raise OSError if files are gone, or are others than they were."""
        now = dict.fromkeys(self.states) | (StoreFiles.snapshot(self.path).states if self.path.exists() else {})
        changed = [name for name, state in self.states.items() if now[name] != state]
        if changed:
            what = "gone" if now[changed[0]] is None else "changed"
            msg = f"input must stay as it is while it is read; {len(changed)} of {len(now)} files of {self.path} are gone or changed, the first ({what}) is {changed[0]}. Nothing was written."
            raise OSError(msg)


def _list_files(path: Path) -> Iterator[tuple[str, os.stat_result]]:
    """All files below `path`, or itself, by their places in it."""
    if not path.is_dir():
        yield path.name, path.stat()
        return
    for folder, _, names in os.walk(path):
        for name in names:
            file = Path(folder, name)
            yield str(file.relative_to(path)), file.stat()
