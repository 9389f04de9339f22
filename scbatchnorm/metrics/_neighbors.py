"""The neighbourhoods that the local metrics share, so that they are sought once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from scipy import sparse

from scbatchnorm.metrics import _inputs, _search

if TYPE_CHECKING:
    import numpy.typing as npt

    from scbatchnorm._data.types import Codes, Floats, Matrix

Method = Literal["auto", "exact", "approximate"]


@dataclass(frozen=True, eq=False)
class Neighbors:
    """The nearest other cells of every cell, nearest first; a cell is not its own neighbour.

    Metrics that look at neighbourhoods take one of these instead of an embedding, so that several of them share one
    search. Make it with :meth:`from_embedding`, with :meth:`from_distances` out of a graph such as scanpy's, or
    directly from the result of another search.

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
    def from_embedding(
        cls,
        X: npt.ArrayLike,
        *,
        k: int = 90,
        method: Method = "auto",
        n_jobs: int | None = None,
        rng: int | np.random.Generator | None = 0,
    ) -> Neighbors:
        """Search by Euclidean distance.

        Parameters
        ----------
        X
            Coordinates, shape (cells, dimensions).
        k
            Neighbours of each cell; all others where there are fewer than `k + 1` cells.
        method
            `"exact"` compares all pairs of cells; `"approximate"` is pynndescent, which finds nearly all neighbours; `"auto"` is exact up to 100 000 cells, where both
            take as long.
        n_jobs
            Threads of the approximate search; `None` is one per core.
        rng
            Seed or generator of the approximate search.

        Raises
        ------
        ValueError
            `X` is not an array of finite numbers, or another parameter is out of its range.
        """
        _inputs.one_of(method, name="method", allowed=get_args(Method))
        k = _inputs.count(k, name="k")
        points = _inputs.embedding(X)
        exact = method == "exact" or (method == "auto" and len(points) <= _search.MOST_EXACT)
        return cls(*_search.nearest(points, k, exact=exact, n_jobs=n_jobs, rng=rng))

    @classmethod
    def from_distances(cls, graph: Matrix) -> Neighbors:
        """Neighbours out of a graph, such as `adata.obsp["distances"]` of :func:`scanpy.pp.neighbors`.

        Where cells have different numbers of neighbours, as after removing cells, as many are kept as every cell has.

        Parameters
        ----------
        graph
            Sparse matrix, shape (cells, cells): row i holds the distances of cell i to its neighbours. Entries on the
            diagonal are ignored, stored zeros are neighbours at distance 0.

        Raises
        ------
        ValueError
            The graph is not a sparse square matrix, has negative or non-finite distances, or a cell has no neighbour.

        Examples
        --------
        >>> import scanpy as sc
        >>> import scbatchnorm as sbn
        >>> adata = sbn.datasets.pbmc_planted()
        >>> sc.pp.pca(adata)
        >>> sc.pp.neighbors(adata, n_neighbors=91)
        >>> neighbors = sbn.metrics.Neighbors.from_distances(adata.obsp["distances"])
        >>> neighbors.k
        90
        >>> round(sbn.metrics.clisi(neighbors, adata.obs["cell_type"]), 2)
        0.96
        """
        if not sparse.issparse(graph) or graph.shape[0] != graph.shape[1]:
            shape = getattr(graph, "shape", None)
            msg = f"graph must be a sparse matrix of shape (cells, cells); got {type(graph).__name__} of shape {shape}."
            raise ValueError(msg)
        entries = sparse.coo_matrix(graph)
        other = entries.row != entries.col
        row, column, distance = entries.row[other], entries.col[other], entries.data[other]
        if not np.isfinite(distance).all() or (distance < 0).any():
            msg = "graph must hold distances, which are finite and not negative."
            raise ValueError(msg)
        counts = np.bincount(row, minlength=graph.shape[0])
        k = int(counts.min()) if len(counts) else 0
        if k == 0:
            msg = (
                f"graph must give every cell a neighbour; {int((counts == 0).sum())} of {len(counts)} cells have none."
            )
            raise ValueError(msg)
        order = np.lexsort((distance, row))
        starts = np.cumsum(counts) - counts
        places = order[starts[:, None] + np.arange(k)]
        return cls(column[places].astype(np.intp), distance[places])

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
