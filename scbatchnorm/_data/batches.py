"""Batches as codes: any values that can be told apart, numbered from 0."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scbatchnorm._data.checks import join_names

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from scbatchnorm._data.types import Codes, Labels


def factorize_batches(batch: ArrayLike | None, n_cells: int) -> tuple[Codes, Labels]:
    """Code of each cell, shape (cells,), and the names of the batches, shape (batches,).

    Codes follow the order of appearance, so that renaming the batches changes nothing. `None` is one batch named "all".
    """
    if batch is None:
        return np.zeros(n_cells, dtype=np.int64), np.array(["all"])
    codes, levels = pd.factorize(_values(batch, n_cells))
    return codes.astype(np.int64), np.asarray(levels)


def encode_batches(batch: ArrayLike | None, levels: Labels, n_cells: int) -> Codes:
    """Code of each cell, shape (cells,), among known `levels`; `None` stands for the only one there is.

    Raises
    ------
    ValueError
        A batch is not among the `levels`, or there are several and `batch` is `None`.
    """
    if batch is None:
        if len(levels) > 1:
            msg = f"batch must name the batch of each cell; the model was fitted on {join_names(levels)}."
            raise ValueError(msg)
        return np.zeros(n_cells, dtype=np.int64)
    names = _values(batch, n_cells)
    known = pd.Index(levels)
    found = known.get_indexer(pd.Index(names))
    if levels.dtype.kind == "U" and (found < 0).any():  # pp.integrate keeps batches of any type by their names
        values, kinds = pd.factorize(names)
        found = known.get_indexer(pd.Index([str(kind) for kind in kinds], dtype=object))[values]
    if (found < 0).any():
        unknown = join_names(pd.unique(names[found < 0]))
        msg = f"batch must name batches of the fit; {unknown} was not among them: {join_names(levels)}."
        raise ValueError(msg)
    return found.astype(np.int64)


def _values(batch: ArrayLike, n_cells: int) -> np.ndarray:
    """Batch of each cell as an array of shape (cells,), each with a value."""
    values = np.asarray(batch)
    if values.dtype.kind == "U" and not hasattr(batch, "dtype"):
        # Of a list with "1" and 1 numpy makes the same word twice.
        objects = np.asarray(batch, dtype=object)
        values = values if all(isinstance(value, str) for value in objects.flat) else objects
    if values.shape != (n_cells,):
        msg = f"batch must have one value for each of the {n_cells} cells; got shape {values.shape}."
        raise ValueError(msg)
    missing = pd.isna(values)
    if missing.any():
        msg = f"batch must give every cell a batch; {missing.sum()} of {n_cells} have a missing value, the first at {missing.argmax()}."
        raise ValueError(msg)
    return values
