"""Batches of cells as codes: any values that can be told apart, numbered from 0."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scbatchnorm._data.checks import join_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Self

    from numpy.typing import ArrayLike

    from scbatchnorm._data.types import Codes, Labels


@dataclass(frozen=True, eq=False)
class Batches:
    """The batch of each cell.

    Attributes
    ----------
    codes
        Batch of each cell, int64 of shape (cells,), from 0 in order of appearance: renaming the batches changes nothing.
    levels
        Names of the batches, shape (batches,), each of which has cells.
    """

    codes: Codes
    levels: Labels

    @classmethod
    def from_values(cls, batch: ArrayLike | Batches | None, n_cells: int) -> Batches:
        """Batches by a value for each of `n_cells` cells; `None` is one batch named "all".

        Raises
        ------
        ValueError
            There is another number of values, or some are missing.
        """
        if isinstance(batch, Batches):
            return batch
        if batch is None:
            return cls(np.zeros(n_cells, dtype=np.int64), np.array(["all"]))
        codes, levels = pd.factorize(_values(batch, n_cells))
        return cls(codes.astype(np.int64), np.asarray(levels))

    @classmethod
    def from_column(cls, column: pd.Series) -> Self:
        """Batches by a column of a table, which has no missing values, with names of type str."""
        codes, levels = pd.factorize(column)
        return cls._named(codes, levels, str)

    @classmethod
    def from_combinations(cls, columns: Sequence[Batches]) -> Self:
        """Batches by several columns: each combination is one, with the names joined to "a | b"."""
        codes = pd.DataFrame({i: column.codes for i, column in enumerate(columns)})
        combined = codes.groupby(list(codes), sort=False).ngroup().to_numpy()
        names = [column.levels.tolist() for column in columns]
        levels = [
            tuple(name[code] for name, code in zip(names, row, strict=True))
            for row in codes.drop_duplicates().to_numpy()
        ]
        return cls._named(combined, levels, " | ".join)

    @classmethod
    def _named(cls, codes: Codes, levels: Iterable[Any], name: Callable[[Any], str]) -> Self:
        """Batches with names of type str; different values with the same name (1 and "1") stay apart."""
        names = np.asarray([name(level) for level in levels], dtype=str)
        if len(set(names)) < len(names):
            names = np.asarray([repr(level) for level in levels], dtype=str)
        merged, names = pd.factorize(names)  # what even `repr` does not tell apart is one batch
        return cls(merged[codes].astype(np.int64), names)

    @property
    def n_batches(self) -> int:
        """Number of batches."""
        return len(self.levels)

    @cached_property
    def counts(self) -> Codes:
        """Number of cells of each batch, shape (batches,)."""
        return np.bincount(self.codes, minlength=self.n_batches)

    @property
    def names(self) -> Labels:
        """Name of the batch of each cell, shape (cells,); large for millions of cells."""
        return self.levels[self.codes]

    def select(self, cells: Codes) -> Batches:
        """The batches of some cells, by their rows; those without a cell there are left out."""
        codes, present = pd.factorize(self.codes[cells])
        return Batches(codes.astype(np.int64), self.levels[present])

    def sorted_by_name(self) -> Batches:
        """The same batches with codes in the order of their names, not of their appearance."""
        order = np.argsort(self.levels)
        return Batches(np.argsort(order)[self.codes], self.levels[order])

    def as_categorical(self) -> pd.Categorical[Any]:
        """The batch of each cell as pandas has it, with categories in the order of their names."""
        batches = self.sorted_by_name()
        return pd.Categorical.from_codes(batches.codes, categories=pd.Index(batches.levels))


def encode_batches(batch: ArrayLike | Batches | None, levels: Labels, n_cells: int) -> Codes:
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
    batches = Batches.from_values(batch, n_cells)
    known = pd.Index(levels)
    codes = known.get_indexer(pd.Index(batches.levels))
    if levels.dtype.kind == "U" and (codes < 0).any():  # pp.integrate keeps batches of any type by their names
        codes = known.get_indexer(pd.Index([str(level) for level in batches.levels], dtype=object))
    if (codes < 0).any():
        unknown = join_names(batches.levels[codes < 0])
        msg = f"batch must name batches of the fit; {unknown} was not among them: {join_names(levels)}."
        raise ValueError(msg)
    return codes[batches.codes].astype(np.int64)


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
