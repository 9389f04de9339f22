"""What metrics accept, checked in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import numpy.typing as npt

    from scbatchnorm._typing import Codes, Floats


@dataclass(frozen=True)
class Groups:
    """Groups of cells as integers: `codes` (cells,) in 0, ..., `n` - 1, each of which occurs."""

    codes: Codes
    n: int


def groups(values: npt.ArrayLike, *, name: str, n_cells: int) -> Groups:
    """Read one group per cell; which names the groups have makes no difference.

    Raises
    ------
    ValueError
        `values` is not one-dimensional, of another length than `n_cells`, or has missing entries.
    """
    # pandas keeps values of different types apart, where numpy would turn 1 and "1" into the same string.
    column = values if isinstance(values, (pd.Series, pd.Categorical, pd.Index)) else np.asarray(values, dtype=object)
    if column.shape != (n_cells,):
        msg = f"{name} must have one value for each of the {n_cells} cells; got shape {column.shape}."
        raise ValueError(msg)
    codes, levels = pd.factorize(column)
    missing = int((codes < 0).sum())
    if missing:
        msg = f"{name} must give every cell a value; {missing} of {n_cells} are missing."
        raise ValueError(msg)
    return Groups(codes, len(levels))


def embedding(X: npt.ArrayLike) -> Floats:
    """Coordinates of cells, shape (cells, dimensions), as floating point numbers.

    Raises
    ------
    ValueError
        `X` is not a two-dimensional array of finite numbers with at least one cell and one dimension.
    """
    if hasattr(X, "toarray"):
        msg = f"X must be a dense array of shape (cells, dimensions); got {type(X).__name__}: use X.toarray()."
        raise ValueError(msg)
    points = np.asarray(X)
    if points.ndim != 2 or 0 in points.shape:
        msg = f"X must have shape (cells, dimensions) with at least one of each; got shape {points.shape}."
        raise ValueError(msg)
    if points.dtype.kind not in "fiub":
        msg = f"X must hold real numbers; got values of type {points.dtype}."
        raise ValueError(msg)
    points = points if points.dtype in (np.float32, np.float64) else points.astype(np.float64)
    bad = ~np.isfinite(points).all(axis=1)
    if bad.any():
        msg = f"X must be finite; {int(bad.sum())} of {len(points)} cells have NaN or infinite coordinates, the first is cell {int(bad.argmax())}."
        raise ValueError(msg)
    return points
