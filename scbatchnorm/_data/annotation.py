"""What anndata's lazy readers leave on disk beside expression, in memory: it is small, and anndata writes it from there only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from scbatchnorm._data.dask_blocks import is_lazy

if TYPE_CHECKING:
    from anndata import AnnData


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
