"""The only door to AnnData: reads matrix, genes and batches, checks them, and says where results are written."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd

from scbatchnorm._data.batches import Batches
from scbatchnorm._data.blocks import Blocks, InMemory
from scbatchnorm._data.checks import check_finite, check_log_normalised, check_unique_genes, join_names
from scbatchnorm._data.dask_blocks import DaskBlocks, is_lazy
from scbatchnorm._data.matrix import as_array, as_csr, as_real_matrix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from scbatchnorm._data.types import Bools, Codes, Floats, Labels


@dataclass(frozen=True)
class Keys:
    """Where a result is written: `obsm[obsm]`, `varm[varm]` and `uns[uns]`."""

    obsm: str
    varm: str
    uns: str

    @classmethod
    def of(cls, key_added: str | None) -> Keys:
        """Keys for scanpy's `key_added`: `None` gives the package's own, a word replaces them all."""
        if key_added is None:
            return cls("X_scbatchnorm", "scbatchnorm", "scbatchnorm")
        if not isinstance(key_added, str) or key_added in {"", "."} or "/" in key_added:
            msg = f"key_added must be a non-empty str without '/', and not '.'; got {key_added!r}."
            raise ValueError(msg)
        return cls(key_added, key_added, key_added)


@dataclass(frozen=True)
class Features:
    """What is integrated: checked `blocks` (cells, features), and a name for each feature."""

    blocks: Blocks
    names: Labels
    mask: Bools | None  # (n_vars,) which genes these are; None for a representation


def read_batches(adata: AnnData, batch_key: str | Sequence[str]) -> Batches:
    """Batch of every cell, with names of type str; several columns are combined to "a | b".

    Raises
    ------
    KeyError
        A key is not a column of `adata.obs`.
    ValueError
        A cell has no value.
    """
    _check_anndata(adata)
    several = isinstance(batch_key, Iterable) and getattr(batch_key, "ndim", 1) > 0
    keys = [batch_key] if isinstance(batch_key, str) else list(batch_key) if several else []
    if not keys or not all(isinstance(key, str) for key in keys):
        msg = f"batch_key must be a column of adata.obs or a sequence of columns; got {batch_key!r}."
        raise ValueError(msg)
    columns = []
    for key in keys:
        values = read_column(adata, "batch_key", key)
        missing = values.isna().to_numpy()
        if missing.any():
            cells = ", ".join(map(str, adata.obs_names[missing][:5]))
            msg = (
                f"batch_key={key!r} must give every cell a batch; {missing.sum()} of {adata.n_obs} cells have none "
                f"(missing value): {cells}{', ...' if missing.sum() > 5 else ''}. Remove them: adata = adata[adata.obs[{key!r}].notna()]."
            )
            raise ValueError(msg)
        try:
            columns.append(Batches.from_column(values))
        except TypeError as error:
            msg = f"batch_key={key!r} must hold values that can be told apart, such as words or numbers ({error})."
            raise ValueError(msg) from error
    return columns[0] if len(columns) == 1 else Batches.from_combinations(columns)


def read_column(adata: AnnData, parameter: str, key: str) -> pd.Series:
    """`adata.obs[key]`, which `parameter` named, in memory also where `adata` was read lazily.

    Raises
    ------
    KeyError
        There is no such column.
    """
    if key not in adata.obs:
        msg = f"{parameter}={key!r} is not a column of adata.obs; columns: {', '.join(map(str, adata.obs.columns)) or 'none'}."
        raise KeyError(msg)
    values = adata.obs[key]
    # Of a lazy table the column alone would lose its categories.
    return values if isinstance(values, pd.Series) else to_memory(adata.obs[[key]])[key]


def _check_anndata(adata: object) -> None:
    """Raise TypeError unless this is an AnnData."""
    if not isinstance(adata, ad.AnnData):
        msg = f"adata must be an AnnData; got {type(adata).__name__}."
        raise TypeError(msg)


def check_writable(adata: AnnData, *, copy: bool = False) -> None:
    """Raise ValueError, before anything is computed, if results could not be written: to a part of a file that is open.

    With `copy` they go elsewhere.
    """
    if isinstance(adata, ad.AnnData) and adata.is_view and adata.isbacked and not copy:
        msg = "adata is a part of a backed AnnData, to which nothing can be written. Read it first: adata = adata.to_memory()."
        raise ValueError(msg)


def read_features(
    adata: AnnData, *, layer: str | None, use_rep: str | None, mask_var: Bools | Sequence[bool] | str | None
) -> Features:
    """Blocks to integrate: expression as CSR, a representation as an array; `adata` is not changed.

    What is in memory is checked here, and need not be checked again; a Dask array is checked when its blocks are read.
    """
    _check_anndata(adata)
    if use_rep is not None:
        if layer is not None:
            msg = f"layer={layer!r} and use_rep={use_rep!r} exclude each other: give the one to integrate."
            raise ValueError(msg)
        if not (mask_var is None or (isinstance(mask_var, str) and mask_var == "auto")):
            msg = f"mask_var and use_rep={use_rep!r} exclude each other: a representation has no genes to choose from."
            raise ValueError(msg)
        return _read_representation(adata, use_rep)
    mask = _read_mask(adata, mask_var)
    names = np.asarray(adata.var_names[mask], dtype=str)
    return Features(_read_expression(adata, layer, np.flatnonzero(mask), names), names, mask)


def _read_expression(adata: AnnData, layer: str | None, places: Codes, names: Labels) -> Blocks:
    """Log-normalised expression of the genes at these places, which have these names."""
    if layer is not None and not (isinstance(layer, str) and layer in adata.layers):
        available = ", ".join(map(str, [k for k in adata.layers if k is not None])) or "none"
        msg = f"layer={layer!r} is not a key of adata.layers; keys: {available}."
        raise KeyError(msg)
    if layer is None and adata.X is None:
        msg = "adata.X is None; give the layer with log-normalised expression: layer=..."
        raise ValueError(msg)
    check_unique_genes(names)
    where = "adata.X" if layer is None else f"adata.layers[{layer!r}]"
    lazy = adata.X if layer is None else adata.layers[layer]
    if is_lazy(lazy):
        whole = np.array_equal(places, np.arange(adata.n_vars))
        return DaskBlocks(lazy, where=where, columns=None if whole else places, names=names, expression=True)
    if layer is None and adata.isbacked and not adata.is_view:
        values = adata[:, places].X
    else:
        # Columns are taken here, from what was checked: views of AnnData would lose a mask, and trust any index.
        values = as_real_matrix(adata.X if layer is None else adata.layers[layer], where=where)
        values = values if np.array_equal(places, np.arange(adata.n_vars)) else values[:, places]
    matrix = as_csr(values, where=where)
    check_log_normalised(matrix, where=where, cells=adata.obs_names, genes=names)
    return InMemory(matrix, checked=True)


def _read_representation(adata: AnnData, use_rep: str) -> Features:
    if not (isinstance(use_rep, str) and use_rep in adata.obsm):
        available = ", ".join(map(str, adata.obsm.keys())) or "none"
        msg = f"use_rep={use_rep!r} is not a key of adata.obsm; keys: {available}."
        raise KeyError(msg)
    matrix = as_array(adata.obsm[use_rep], where=f"adata.obsm[{use_rep!r}]")
    if matrix.shape[1] < 2:
        msg = f"adata.obsm[{use_rep!r}] must have at least 2 columns; it has {matrix.shape[1]}."
        raise ValueError(msg)
    names = np.array([f"{use_rep}_{i}" for i in range(matrix.shape[1])])
    check_finite(matrix, where=f"adata.obsm[{use_rep!r}]", cells=adata.obs_names, genes=names)
    return Features(InMemory(matrix, checked=True), names, None)


def _read_mask(adata: AnnData, mask_var: Bools | Sequence[bool] | str | None) -> Bools:
    """Genes to use, shape (n_vars,)."""
    if mask_var is None or (isinstance(mask_var, str) and mask_var == "auto" and "highly_variable" not in adata.var):
        return np.ones(adata.n_vars, dtype=bool)
    if isinstance(mask_var, str):
        column = "highly_variable" if mask_var == "auto" else mask_var
        if column not in adata.var:
            available = ", ".join(map(str, adata.var.columns)) or "none"
            msg = f"mask_var={mask_var!r} is not a column of adata.var; columns: {available}."
            raise KeyError(msg)
        values, name = adata.var[column].to_numpy(), f"adata.var[{column!r}]"
    else:
        values, name = np.asarray(mask_var), "mask_var"
        if values.shape != (adata.n_vars,):
            msg = f"mask_var must have one value for each of the {adata.n_vars} genes; got shape {values.shape}."
            raise ValueError(msg)
    if values.dtype != bool:
        if not all(isinstance(value, Real | np.bool_) and value in {0, 1} for value in values.tolist()):
            msg = f"{name} must hold True or False for each gene; got values of type {values.dtype}."
            raise ValueError(msg)
        values = values.astype(bool)
    if values.sum() < 2:
        msg = f"{name} must select at least 2 genes; it selects {values.sum()} of {adata.n_vars}."
        raise ValueError(msg)
    return values


def read_like_fit(adata: AnnData, names: Labels, batch: Any, key: str | None) -> tuple[Blocks, Any]:
    """Blocks and batches of `adata` as the model with the features `names` was given them by `pp.integrate`.

    What was integrated is read from the record of the integration, if there is one; `batch` may name another column.

    Raises
    ------
    KeyError
        There is no such record, no such column, or genes of the model are missing.
    """
    slot = Keys.of(key).uns
    record = to_memory(adata.uns.get(slot, {}))
    if not record and (key is not None or batch is None):
        msg = f"key={key!r} has no integration in adata.uns[{slot!r}]; keys of adata.uns: {join_names(adata.uns) or 'none'}."
        raise KeyError(msg)
    if batch is None or isinstance(batch, str):
        batch = read_batches(adata, batch or recorded_keys(record["batch_key"]))
    layer, use_rep = (record.get(name) or None for name in ("layer", "use_rep"))
    if use_rep is not None:
        return _read_representation(adata, use_rep).blocks, batch
    missing = pd.Index(names).difference(adata.var_names)
    if len(missing):
        msg = f"adata must have the {len(names)} genes of the model; {len(missing)} are missing: {join_names(missing)}."
        raise KeyError(msg)
    known = np.flatnonzero(adata.var_names.isin(names))
    check_unique_genes(np.asarray(adata.var_names[known], dtype=str))
    places = known[adata.var_names[known].get_indexer(pd.Index(names))]
    return _read_expression(adata, layer, places, names), batch


def recorded_keys(batch_key: Any) -> str | list[str]:
    """The columns that a record names."""
    return batch_key if isinstance(batch_key, str) else [str(key) for key in batch_key]


def write_integration(
    adata: AnnData, keys: Keys, *, embedding: Floats, loadings: Floats | None, record: dict[str, Any]
) -> None:
    """Write a result; `loadings` (n_vars, components) are left out for a representation.

    Raises
    ------
    ValueError
        A coordinate is not finite: nothing is written.
    """
    if not np.isfinite(embedding).all():
        cells = int((~np.isfinite(embedding).all(axis=1)).sum())
        msg = f"the model gives {cells} of {len(embedding)} cells coordinates that are not finite; nothing was written. Is it damaged, or from somebody you do not know?"
        raise ValueError(msg)
    with warnings.catch_warnings():
        # A view becomes an object of its own, as in scanpy: the caller asked for the result to be written to it.
        warnings.simplefilter("ignore", ad.ImplicitModificationWarning)
        load_annotation(adata)
        adata.obsm[keys.obsm] = embedding
        if loadings is not None:
            adata.varm[keys.varm] = loadings
        adata.uns[keys.uns] = record


def write_columns(
    adata: AnnData, columns: dict[str, Floats], key: str, record: dict[str, Any], *, stale: Iterable[str] = ()
) -> None:
    """Write values of cells to `obs`, and how they came about to `uns[key]`; `stale` columns go."""
    with warnings.catch_warnings():
        # As in `write_integration`.
        warnings.simplefilter("ignore", ad.ImplicitModificationWarning)
        load_annotation(adata)
        for column in stale:
            if column in adata.obs:
                del adata.obs[column]
        for column, values in columns.items():
            adata.obs[column] = values
        adata.uns[key] = record


def to_memory(value: Any) -> Any:
    """`value`, a table or an entry of `uns`, with all arrays and tables in it in memory."""
    if is_lazy(value):
        return value.compute()
    if _is_lazy_table(value):  # which is a mapping, too
        return value.to_memory()
    return {key: to_memory(entry) for key, entry in value.items()} if isinstance(value, Mapping) else value


def load_annotation(adata: AnnData) -> None:
    """Take `obs`, `var` and `uns` of `adata` into memory, if it was read lazily."""
    if _is_lazy_table(adata.obs):
        adata.obs = adata.obs.to_memory()
    if _is_lazy_table(adata.var):
        adata.var = adata.var.to_memory()
        adata.uns = to_memory(adata.uns)


def _is_lazy_table(value: Any) -> bool:
    """Whether this is anndata's `Dataset2D`."""
    return hasattr(value, "to_memory")
