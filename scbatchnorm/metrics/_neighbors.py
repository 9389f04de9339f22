"""Nearest neighbours that several metrics share, and the weighted graphs made of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from scipy import sparse

from scbatchnorm.metrics._inputs import check_choice, check_count, check_embedding
from scbatchnorm.metrics._search import find_nearest, use_exact_search

if TYPE_CHECKING:
    import numpy.typing as npt

    from scbatchnorm._data.types import Codes, Floats, Matrix

Method = Literal["auto", "exact", "approximate"]
_TOLERANCE = 1e-5
_MAX_BISECTIONS = 64
# Smallest width of a kernel, as a share of the mean distance.
_MIN_WIDTH = 1e-3


@dataclass(frozen=True, eq=False)
class Neighbors:
    """The nearest other cells of every cell, nearest first; a cell is not its own neighbour.

    Metrics of neighbourhoods take this instead of an embedding, so that several of them share one search. Create it
    with :meth:`from_embedding`, with :meth:`from_distances` from a graph such as scanpy's, or directly from the result
    of another search.

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
        """Search neighbours by Euclidean distance.

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
        check_choice(method, name="method", allowed=get_args(Method))
        k = check_count(k, name="k")
        points = check_embedding(X)
        exact = method == "exact" or (method == "auto" and use_exact_search(len(points)))
        return cls(*find_nearest(points, k, exact=exact, n_jobs=n_jobs, rng=rng))

    @classmethod
    def from_distances(cls, graph: Matrix) -> Neighbors:
        """Take neighbours from a graph, such as `adata.obsp["distances"]` of :func:`scanpy.pp.neighbors`.

        Where cells have different numbers of neighbours, as after removing cells, each keeps as many as the cell with fewest has.

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
        off_diagonal = entries.row != entries.col
        row, column = entries.row[off_diagonal], entries.col[off_diagonal]
        distance = entries.data[off_diagonal]
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
        nearest = order[starts[:, None] + np.arange(k)]
        return cls(column[nearest].astype(np.intp), distance[nearest])

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return self.indices.shape[0]

    @property
    def k(self) -> int:
        """Neighbours of each cell."""
        return self.indices.shape[1]

    def nearest(self, k: int) -> Neighbors:
        """Take the nearest `k` neighbours.

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
    """The nearest `k` neighbours (fewer only in smaller data) of an embedding, or taken from given neighbours."""
    return X.nearest(k) if isinstance(X, Neighbors) else Neighbors.from_embedding(X, k=k)


def directed_graph(neighbors: Neighbors, weights: Floats | None = None) -> Matrix:
    """Edges from each cell to its neighbours: CSR matrix (cells, cells) of `weights` (cells, neighbours), by default ones."""
    n_cells, k = neighbors.indices.shape
    values = np.ones(n_cells * k) if weights is None else weights.ravel()
    return sparse.csr_matrix((values, neighbors.indices.ravel(), np.arange(n_cells + 1) * k), shape=(n_cells, n_cells))


def umap_connectivities(neighbors: Neighbors) -> Matrix:
    """Symmetric weights from 0 to 1, CSR matrix (cells, cells), as UMAP makes them of distances (McInnes et al. 2018).

    exp(-(d - r) / s), r the distance of the nearest neighbour that is not at the same place, s such that weights sum up
    to log2(k), k counting the cell itself; then the union a + b - a b of both directions. Own code, because umap
    compiles for ten seconds before its first call.
    """
    if neighbors.k == 0:
        return directed_graph(neighbors)
    distances = neighbors.distances.astype(np.float32).astype(np.float64)
    nearest = np.where(distances > 0, distances, np.inf).min(axis=1)
    excess_distances = np.maximum(distances - np.where(np.isfinite(nearest), nearest, 0)[:, None], 0)
    # The cell itself counts in the means, at distance 0.
    mean = distances.sum(axis=1) / (neighbors.k + 1)
    minimum = _MIN_WIDTH * np.where(np.isfinite(nearest), mean, mean.mean())
    width = np.maximum(_kernel_widths(excess_distances, np.log2(neighbors.k + 1)), minimum)
    weights = np.exp(
        -np.divide(excess_distances, width[:, None], out=np.zeros_like(excess_distances), where=excess_distances > 0)
    )
    graph = directed_graph(neighbors, weights.astype(np.float32))
    graph.eliminate_zeros()  # weights that are 0 in single precision
    return sparse.csr_matrix(graph + graph.T - graph.multiply(graph.T))


def _kernel_widths(excess_distances: Floats, target: float) -> Floats:
    """Width of each cell's kernel, shape (cells,), by bisection until its weights sum to `target`."""
    width = np.ones(len(excess_distances))
    low, high = np.zeros_like(width), np.full_like(width, np.inf)
    rows = np.arange(len(excess_distances))
    for _ in range(_MAX_BISECTIONS):
        excess = np.exp(-excess_distances[rows] / width[rows, None]).sum(axis=1) - target
        unfinished = np.abs(excess) >= _TOLERANCE
        rows, excess = rows[unfinished], excess[unfinished]
        if not len(rows):
            break
        high[rows] = np.where(excess > 0, width[rows], high[rows])
        low[rows] = np.where(excess > 0, low[rows], width[rows])
        doubled = np.isinf(high[rows])
        width[rows] = np.where(doubled, 2 * width[rows], (low[rows] + np.where(doubled, 0, high[rows])) / 2)
    return width
