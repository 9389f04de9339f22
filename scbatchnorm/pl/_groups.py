"""Groups of cells in columns of `obs`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from anndata import AnnData


def read_groups(adata: AnnData, column: str, *, parameter: str, otherwise: str = "") -> pd.Categorical:
    """Read the group of each cell, missing values included; the column is not changed.

    Raises
    ------
    KeyError
        `column` is not a column of `adata.obs`; the message says which `parameter` named it.
    ValueError
        The column holds numbers; `otherwise` ends the message.
    """
    if column not in adata.obs:
        columns = ", ".join(map(str, adata.obs.columns)) or "none"
        msg = f"{parameter}={column!r} is not a column of adata.obs; columns: {columns}."
        raise KeyError(msg)
    values = adata.obs[column]
    if isinstance(values.dtype, pd.CategoricalDtype):
        return values.array
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        msg = (
            f"{parameter}={column!r} must hold groups; adata.obs[{column!r}] holds numbers ({values.dtype}). If they name "
            f"groups: adata.obs[{column!r}] = adata.obs[{column!r}].astype('category'){otherwise}."
        )
        raise ValueError(msg)
    return pd.Categorical(values.astype(str).where(values.notna()))
