"""What calls may end in: a result, or an error that says what is wrong; every other end is a failure."""

from __future__ import annotations

import pickle
import re
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anndata import AnnData

#: Errors of which the message says what is wrong with the input, by a name for the table.
REFUSALS = {
    "raw counts": r"looks like raw counts",
    "too large": r"must lie between -1e\+12 and 1e\+12",
    "fewer than 2 cells or features": r"at least 2 genes|minimum of 2|at least 2 columns",
    "far from the fit": r"must lie within 1e\+12 times the spread",
    "nothing to recalibrate": r"mode='recalibrate' needs (layers with statistics|a reference with statistics)",
    "no cells": r"query must have cells",
}
#: Warnings that the docstrings name.
WARNINGS = (
    r"has one batch only",
    r"batches of one cell cannot be aligned reliably",
    r"run sc\.pp\.log1p\(adata\) first",
    r"^query batch .* (fewer than the 20|has no anchors in the reference)",
    r"is not defined, mixing_\w+ is nan",
    r"is too small for norm=|too few for statistics=",
)


class Refused(Exception):
    """An error of `REFUSALS`, by its name."""


@contextmanager
def documented() -> Iterator[None]:
    """Raise `Refused` for an error of `REFUSALS`, and AssertionError for a warning that is none of `WARNINGS`."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("error")
        warnings.simplefilter("always", UserWarning)
        try:
            yield
        except ValueError as error:
            for name, pattern in REFUSALS.items():
                if re.search(pattern, str(error)):
                    raise Refused(name) from error
            raise
    for warning in caught:
        text = str(warning.message)
        assert warning.category is UserWarning and any(re.search(known, text) for known in WARNINGS), text


def apply(verb: Callable[..., Any], adata: AnnData, *arguments: Any, **options: Any) -> Any:
    """What `verb` returns; where it is refused, `adata` must be as it was."""
    before = contents(adata)
    try:
        with documented():
            return verb(adata, *arguments, **options)
    except Refused:
        assert contents(adata) == before, "changed although refused"
        raise


def contents(adata: AnnData) -> bytes:
    """All that is in `adata`, to see whether a call has changed it."""
    slots = [dict(getattr(adata, slot)) for slot in ("layers", "obsm", "varm", "obsp", "varp", "uns")]
    return pickle.dumps((adata.X, adata.obs, adata.var, slots))


def not_finite(value: Any, *, nan: bool, where: str = "") -> list[str]:
    """Places in nested dicts, tables and arrays with infinite numbers, or missing ones unless `nan`."""
    if isinstance(value, pd.DataFrame):
        value = {str(name): column.to_numpy() for name, column in value.items()}
    if sparse.issparse(value):
        value = value.data
    if hasattr(value, "items"):
        return [place for name, entry in value.items() for place in not_finite(entry, nan=nan, where=f"{where}/{name}")]
    array = np.asarray(value)
    if array.dtype.kind != "f" or np.isfinite(array).all() or (nan and not np.isinf(array).any()):
        return []
    return [where]
