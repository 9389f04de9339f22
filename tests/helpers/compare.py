"""What is in an AnnData, to see what a call has changed."""

from __future__ import annotations

import hashlib
import pickle
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

if TYPE_CHECKING:
    import anndata as ad


def digest(adata: ad.AnnData) -> dict[str, str]:
    """Hashes of everything in `adata`, by name."""
    if adata.isbacked:
        adata = adata.to_memory()

    def of(value) -> str:
        if sparse.issparse(value):
            value = (
                value.format,
                value.dtype.str,
                value.data.tobytes(),
                value.indices.tobytes(),
                value.indptr.tobytes(),
            )
        elif isinstance(value, np.ndarray) and value.dtype != object:
            value = (value.dtype.str, value.shape, value.tobytes())
        elif isinstance(value, pd.DataFrame):
            value = (value.dtypes.astype(str).to_dict(), value.to_csv())
        elif isinstance(value, dict):
            value = {key: of(entry) for key, entry in value.items()}
        return hashlib.sha256(pickle.dumps(value)).hexdigest()

    parts = {"X": of(adata.X), "obs": of(adata.obs), "var": of(adata.var)}
    for slot in ("layers", "obsm", "varm", "obsp", "varp", "uns"):
        parts |= {f"{slot}[{key!r}]": of(value) for key, value in getattr(adata, slot).items() if key is not None}
    return parts


def written(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """Names of what is new, provided that nothing else is changed or gone."""
    assert {name: after.get(name) for name in before} == before
    return set(after) - set(before)


def same_embedding(adata: ad.AnnData, other: ad.AnnData, tolerance: float = 0) -> None:
    np.testing.assert_allclose(adata.obsm["X_scbatchnorm"], other.obsm["X_scbatchnorm"], atol=tolerance, rtol=0)


def rounding(values: np.ndarray, n_terms: int) -> float:
    """How far float32 sums of `n_terms` values may lie apart that are added up in another order, if the sums are `values`.

    Each addition rounds to a unit in the last place of the largest. The difference of two such sums keeps this error,
    however small it is itself: it is absolute, and no relative tolerance holds for differences.
    """
    return n_terms * float(np.finfo(np.float32).eps) * float(np.abs(values).max())
