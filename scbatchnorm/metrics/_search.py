"""Nearest neighbours: exact by comparing all pairs, or approximate with pynndescent where there are too many cells."""

from __future__ import annotations

import contextlib
import warnings
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from sklearn.neighbors import NearestNeighbors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pynndescent import NNDescent

    from scbatchnorm._data.types import Codes, Floats

# Both took about as long here (50 dimensions, 90 neighbours); below, the exact search is faster.
MAX_EXACT = 100_000
# Cells of one query.
_BLOCK = 20_000
# Of pynndescent: neighbours in its graph, and epsilon of a query: how far beyond the farthest neighbour it searches.
# A graph of 90 neighbours needs no query, but three times the time and the memory.
_N_LINKS = 30
_EPSILON = 0.2


def find_nearest(
    points: Floats,
    k: int,
    *,
    exact: bool | None = None,
    n_jobs: int | None = None,
    rng: int | np.random.Generator | None = 0,
) -> tuple[Codes, Floats]:
    """Rows of the `k` nearest other cells (all, where there are fewer) and distances, both (cells, k), nearest first.

    `exact` is by default decided by the number of cells. Results of the approximate search have half as many bytes.
    """
    n_cells = len(points)
    k = min(k, n_cells - 1)
    if k == 0:
        return np.empty((n_cells, 0), dtype=np.intp), np.empty((n_cells, 0))
    if use_exact_search(n_cells) if exact is None else exact:
        # Called without points, scikit-learn leaves out the cell itself, and not one of its duplicates.
        distances, indices = NearestNeighbors(n_neighbors=k).fit(centre_points(points)).kneighbors()
        return indices, distances
    index = NeighborIndex(points, exact=False, n_jobs=n_jobs, rng=rng)
    indices, distances = np.empty((n_cells, k), dtype=np.int32), np.empty((n_cells, k), dtype=np.float32)
    for rows in index.blocks():
        indices[rows], distances[rows] = index.query(rows, k)
    return indices, distances


def use_exact_search(n_cells: int) -> bool:
    """Whether so many cells are few enough to compare all pairs."""
    return n_cells <= MAX_EXACT


def centre_points(points: Floats) -> Floats:
    """Points minus their mean: a search subtracts squared norms, which loses digits far from the origin."""
    return points - points.mean(axis=0, dtype=np.float64).astype(points.dtype)


class NeighborIndex:
    """Index of cells, to find the neighbours of all or of some of them: exact, or a graph of pynndescent."""

    def __init__(
        self,
        points: Floats,
        *,
        exact: bool | None = None,
        n_jobs: int | None = None,
        rng: int | np.random.Generator | None = 0,
    ) -> None:
        """`exact` is by default decided by the number of cells."""
        self._points = centre_points(points)
        self._n_jobs = n_jobs
        exact = use_exact_search(len(points)) if exact is None else exact
        # Of few cells an approximate search is no faster.
        exact = exact or len(points) <= 2 * _N_LINKS
        self._graph = None if exact else self._build_graph(int(np.random.default_rng(rng).integers(2**31)))

    def blocks(self) -> Iterator[Codes]:
        """Rows of all cells in blocks, as many as :meth:`query` should be given."""
        for start in range(0, len(self._points), _BLOCK):
            yield np.arange(start, min(start + _BLOCK, len(self._points)))

    def query(self, rows: Codes, k: int) -> tuple[Codes, Floats]:
        """Rows of the `k` nearest other cells of each cell in `rows` (all, where there are fewer), and distances; both (rows, k)."""
        k = min(k, len(self._points) - 1)
        if self._graph is None:
            return self._query_exact(rows, k)
        with _numba_threads(self._n_jobs):
            indices, distances = self._graph.query(self._points[rows], k + 1, epsilon=_EPSILON)
        indices, distances = _without_self(indices, distances, rows)
        incomplete = (indices < 0).any(axis=1)
        if incomplete.any():
            indices[incomplete], distances[incomplete] = self._query_exact(rows[incomplete], k)
        return indices, distances

    def _query_exact(self, rows: Codes, k: int) -> tuple[Codes, Floats]:
        distances, indices = self._exact_index.kneighbors(self._points[rows], k + 1)
        return _without_self(indices, distances, rows)

    @cached_property
    def _exact_index(self) -> NearestNeighbors:
        return NearestNeighbors().fit(self._points)

    def _build_graph(self, seed: int) -> NNDescent:
        # Imported here: it compiles for seconds, which small data do not need.
        from pynndescent import NNDescent

        with warnings.catch_warnings(), _numba_threads(self._n_jobs):
            # Cells that the graph does not reach: `query` compares these with all cells.
            warnings.filterwarnings("ignore", "Failed to correctly find n_neighbors", UserWarning)
            graph = NNDescent(
                self._points,
                n_neighbors=_N_LINKS,
                random_state=seed,
                low_memory=True,
                compressed=False,
                parallel_batch_queries=True,
            )
            graph.prepare()
        return graph


@contextlib.contextmanager
def _numba_threads(n_jobs: int | None) -> Iterator[None]:
    """Limit numba to `n_jobs` threads; it refuses more than it started with, which are those that this process may use."""
    import numba

    maximum = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    before = numba.get_num_threads()
    numba.set_num_threads(min(n_jobs or maximum, maximum))
    try:
        yield
    finally:
        numba.set_num_threads(before)


def _without_self(indices: Codes, distances: Floats, rows: Codes) -> tuple[Codes, Floats]:
    """Neighbours without the cell itself: one column less."""
    # The cell itself comes first, unless it has duplicates: then it may be anywhere, or missing.
    is_itself = indices == rows[:, None]
    is_itself[~is_itself.any(axis=1), -1] = True
    shape = (len(rows), indices.shape[1] - 1)
    return indices[~is_itself].reshape(shape), distances[~is_itself].reshape(shape)
