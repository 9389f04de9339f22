"""Checks of what metrics are given, and groups of cells as integer codes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import pandas as pd

from scbatchnorm._data.checks import LARGEST

if TYPE_CHECKING:
    import numpy.typing as npt

    from scbatchnorm._data.batches import Batches
    from scbatchnorm._data.types import Codes, Floats

# "scib" reproduces scib-metrics 0.5.10 where it differs, on purpose or by mistake.
Flavor = Literal["default", "scib"]


@dataclass(frozen=True, eq=False)
class Groups:
    """Groups of cells as integer codes: `codes`, shape (cells,), in 0, ..., `n` - 1; every code occurs, `names[code]` is its name."""

    codes: Codes
    names: npt.NDArray[np.object_]

    @property
    def n(self) -> int:
        """Number of groups."""
        return len(self.names)

    @cached_property
    def sizes(self) -> Codes:
        """Cells of each group, shape (groups,)."""
        return np.bincount(self.codes, minlength=self.n)

    @property
    def sorted_codes(self) -> list[int]:
        """Codes in alphabetical order of the names."""
        names = [str(name) for name in self.names]
        return sorted(range(self.n), key=names.__getitem__)

    def members(self, code: int | np.integer) -> Codes:
        """Rows of the cells of one group."""
        return np.flatnonzero(self.codes == code)

    def select(self, cells: Codes) -> Groups:
        """Groups of the cells in these rows; groups without a cell there are dropped."""
        present, codes = np.unique(self.codes[cells], return_inverse=True)
        return Groups(codes, self.names[present])


def cross_tabulate(rows: Groups, columns: Groups) -> Codes:
    """Contingency table: number of cells in each pair of groups, shape (rows.n, columns.n)."""
    pairs = rows.codes * columns.n + columns.codes
    return np.bincount(pairs, minlength=rows.n * columns.n).reshape(rows.n, columns.n)


def encode_groups(values: npt.ArrayLike, *, name: str, n_cells: int) -> Groups:
    """Encode one group per cell as integers; values of any type can be names.

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
    return Groups(codes.astype(np.intp), np.asarray(levels, dtype=object))


def batches_as_groups(batches: Batches) -> Groups:
    """Batches as :class:`Groups`."""
    return Groups(batches.codes.astype(np.intp, copy=False), batches.levels.astype(object))


def check_embedding(X: npt.ArrayLike, *, name: str = "X", n_cells: int | None = None) -> Floats:
    """Coordinates of cells as floating point numbers, shape (cells, dimensions), checked.

    Raises
    ------
    ValueError
        `X` is not a two-dimensional array of finite numbers up to 1e12 with at least one cell and one dimension, or does not have `n_cells` rows.
    """
    if hasattr(X, "toarray") and not isinstance(X, np.ndarray):  # anndata's views of arrays have it, too
        msg = f"{name} must be a dense array of shape (cells, dimensions); got {type(X).__name__}: use its toarray()."
        raise ValueError(msg)
    points = np.asarray(X)
    if points.ndim != 2 or 0 in points.shape:
        msg = f"{name} must have shape (cells, dimensions) with at least one of each; got shape {points.shape}."
        raise ValueError(msg)
    if points.dtype.kind not in "fiub":
        msg = f"{name} must hold real numbers; got values of type {points.dtype}."
        raise ValueError(msg)
    if n_cells is not None and len(points) != n_cells:
        msg = f"{name} must have a row for each of the {n_cells} cells; got shape {points.shape}."
        raise ValueError(msg)
    points = points if points.dtype in (np.float32, np.float64) else points.astype(np.float64)
    invalid = ~np.isfinite(points).all(axis=1)
    if invalid.any():
        msg = f"{name} must be finite; {int(invalid.sum())} of {len(points)} cells have NaN or infinite coordinates, the first is cell {int(invalid.argmax())}."
        raise ValueError(msg)
    if max(points.max(), -points.min()) > LARGEST:
        cell = int(np.abs(points).max(axis=1).argmax())
        msg = f"{name} must lie between {-LARGEST:g} and {LARGEST:g}; it reaches {np.abs(points[cell]).max():g} in cell {cell}."
        raise ValueError(msg)
    return points


def check_flavor(flavor: object) -> None:
    """Raise ValueError unless `flavor` is a :data:`Flavor`."""
    check_choice(flavor, name="flavor", allowed=get_args(Flavor))


def check_choice(value: object, *, name: str, allowed: tuple[str, ...]) -> None:
    """Raise ValueError unless `value` is one of the `allowed` strings."""
    if value not in allowed:
        msg = f"{name} must be one of {', '.join(map(repr, allowed))}; got {value!r}."
        raise ValueError(msg)


def check_count(value: object, *, name: str, minimum: int = 1) -> int:
    """`value` as an int; raise ValueError unless it is an integer (also of numpy) of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < minimum:
        msg = f"{name} must be an integer of at least {minimum}; got {value!r}."
        raise ValueError(msg)
    return int(value)
