"""The neighbourhoods that the local metrics share, so that they are sought once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sklearn.neighbors import NearestNeighbors

from scbatchnorm.metrics import _inputs

if TYPE_CHECKING:
    import numpy.typing as npt

    from scbatchnorm._typing import Codes, Floats


@dataclass(frozen=True, eq=False)
class Neighbors:
    """The nearest other cells of every cell, nearest first; a cell is not its own neighbour.

    Metrics that look at neighbourhoods take one of these instead of an embedding, so that several of them share one
    search. Make it with :meth:`from_embedding`, or directly from the result of another search.

    Parameters
    ----------
    indices
        Rows of the neighbours, shape (cells, neighbours).
    distances
        Euclidean distances to them, the same shape, ascending along each row.

    Raises
    ------
    ValueError
        The arrays do not fit each other, point outside the data, are not ascending, or a cell is its own neighbour.

    Examples
    --------
    >>> import numpy as np
    >>> import scbatchnorm as sbn
    >>> neighbors = sbn.metrics.Neighbors.from_embedding(np.array([[0.0], [1.0], [3.0]]), k=2)
    >>> neighbors.indices.tolist()
    [[1, 2], [0, 2], [1, 0]]
    >>> neighbors.distances[2].tolist()
    [2.0, 3.0]
    """

    indices: Codes
    distances: Floats

    def __post_init__(self) -> None:
        shape = np.shape(self.indices)
        if len(shape) != 2 or shape != np.shape(self.distances):
            msg = (
                "indices and distances must both have shape (cells, neighbours); "
                f"got {shape} and {np.shape(self.distances)}."
            )
            raise ValueError(msg)
        n_cells = shape[0]
        if not np.issubdtype(self.indices.dtype, np.integer):
            msg = f"indices must be integers; got values of type {self.indices.dtype}."
            raise ValueError(msg)
        if self.indices.size and not 0 <= self.indices.min() <= self.indices.max() < n_cells:
            msg = f"indices must be rows of the {n_cells} cells; got {self.indices.min()} to {self.indices.max()}."
            raise ValueError(msg)
        if (self.indices == np.arange(n_cells)[:, None]).any():
            msg = "indices must leave out the cell itself; some cells are listed as their own neighbour."
            raise ValueError(msg)
        if not (np.diff(self.distances, axis=1) >= 0).all() or not (self.distances >= 0).all():
            msg = "distances must not be negative, and ascend along each row."
            raise ValueError(msg)

    @classmethod
    def from_embedding(cls, X: npt.ArrayLike, *, k: int = 90) -> Neighbors:
        """Exact search by Euclidean distance.

        Parameters
        ----------
        X
            Coordinates, shape (cells, dimensions).
        k
            Neighbours of each cell; all others where there are fewer than `k + 1` cells.
        """
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
            msg = f"k must be an integer of at least 1; got {k!r}."
            raise ValueError(msg)
        points = _inputs.embedding(X)
        n_cells = len(points)
        k = min(int(k), n_cells - 1)
        if k == 0:
            return cls(np.empty((n_cells, 0), dtype=np.intp), np.empty((n_cells, 0)))
        # The search subtracts squared norms: far from the origin it would lose its digits.
        points = points - points.mean(axis=0, dtype=np.float64).astype(points.dtype)
        # Asked without points, scikit-learn leaves out the cell itself, and not one of its duplicates.
        distances, indices = NearestNeighbors(n_neighbors=k).fit(points).kneighbors()
        return cls(indices, distances)

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return self.indices.shape[0]

    @property
    def k(self) -> int:
        """Neighbours of each cell."""
        return self.indices.shape[1]

    def nearest(self, k: int) -> Neighbors:
        """Only the nearest `k` neighbours.

        Raises
        ------
        ValueError
            Fewer than `k` neighbours are known although there are that many other cells.
        """
        k = min(k, self.n_cells - 1)
        if self.k < k:
            msg = f"neighbors must hold at least {k} neighbours per cell; got {self.k}. Use Neighbors.from_embedding(X, k={k})."
            raise ValueError(msg)
        return self if self.k == k else Neighbors(self.indices[:, :k], self.distances[:, :k])


def as_neighbors(X: npt.ArrayLike | Neighbors, k: int) -> Neighbors:
    """The nearest `k` neighbours (fewer only in smaller data) of an embedding, or out of a search already done."""
    return X.nearest(k) if isinstance(X, Neighbors) else Neighbors.from_embedding(X, k=k)
