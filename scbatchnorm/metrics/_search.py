"""Nearest neighbours: compare all pairs, or pynndescent where there are too many."""

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
MOST_EXACT = 100_000
# Cells whose neighbours are sought at once.
_BLOCK = 20_000
# Of pynndescent: neighbours in its graph, and how much farther than the farthest neighbour it looks for others. 90 in
# the graph need no second search, but three times the time and the memory.
_LINKS = 30
_MARGIN = 0.2


def nearest(
    points: Floats,
    k: int,
    *,
    exact: bool | None = None,
    n_jobs: int | None = None,
    rng: int | np.random.Generator | None = 0,
) -> tuple[Codes, Floats]:
    """Rows of the `k` nearest other cells (all, where there are fewer) and distances, both (cells, k), nearest first.

    `exact` is by default decided by the number of cells; otherwise results have half as many bytes.
    """
    n_cells = len(points)
    k = min(k, n_cells - 1)
    if k == 0:
        return np.empty((n_cells, 0), dtype=np.intp), np.empty((n_cells, 0))
    if n_cells <= MOST_EXACT if exact is None else exact:
        # Asked without points, scikit-learn leaves out the cell itself, and not one of its duplicates.
        distances, indices = NearestNeighbors(n_neighbors=k).fit(centred(points)).kneighbors()
        return indices, distances
    index = Index(points, exact=False, n_jobs=n_jobs, rng=rng)
    indices, distances = np.empty((n_cells, k), dtype=np.int32), np.empty((n_cells, k), dtype=np.float32)
    for rows in index.blocks():
        indices[rows], distances[rows] = index.nearest(rows, k)
    return indices, distances


def centred(points: Floats) -> Floats:
    """Around the origin: searches subtract squared norms, and would lose their digits far from it."""
    return points - points.mean(axis=0, dtype=np.float64).astype(points.dtype)


class Index:
    """Cells among which neighbours are sought, of all or of some of them: comparing all pairs, or pynndescent."""

    def __init__(
        self,
        points: Floats,
        *,
        exact: bool | None = None,
        n_jobs: int | None = None,
        rng: int | np.random.Generator | None = 0,
    ) -> None:
        """`exact` is by default decided by the number of cells."""
        self._points = centred(points)
        self._n_jobs = n_jobs
        exact = len(points) <= MOST_EXACT if exact is None else exact
        # A graph of few cells is not worth a search.
        exact = exact or len(points) <= 2 * _LINKS
        self._graph = None if exact else self._searchable(int(np.random.default_rng(rng).integers(2**31)))

    def blocks(self) -> Iterator[Codes]:
        """Rows of all cells, as many at once as :meth:`nearest` has room for."""
        for start in range(0, len(self._points), _BLOCK):
            yield np.arange(start, min(start + _BLOCK, len(self._points)))

    def nearest(self, rows: Codes, k: int) -> tuple[Codes, Floats]:
        """Rows of the `k` nearest other cells of each of these (all, where there are fewer), and distances."""
        k = min(k, len(self._points) - 1)
        if self._graph is None:
            return self._compared(rows, k)
        with _numba_threads(self._n_jobs):
            indices, distances = self._graph.query(self._points[rows], k + 1, epsilon=_MARGIN)
        indices, distances = _others(indices, distances, rows)
        missed = (indices < 0).any(axis=1)
        if missed.any():
            indices[missed], distances[missed] = self._compared(rows[missed], k)
        return indices, distances

    def _compared(self, rows: Codes, k: int) -> tuple[Codes, Floats]:
        distances, indices = self._pairs.kneighbors(self._points[rows], k + 1)
        return _others(indices, distances, rows)

    @cached_property
    def _pairs(self) -> NearestNeighbors:
        return NearestNeighbors().fit(self._points)

    def _searchable(self, seed: int) -> NNDescent:
        # Seconds of compilation that small data do not need.
        from pynndescent import NNDescent

        with warnings.catch_warnings(), _numba_threads(self._n_jobs):
            # Cells that the search did not reach, which are seen to afterwards.
            warnings.filterwarnings("ignore", "Failed to correctly find n_neighbors", UserWarning)
            graph = NNDescent(
                self._points,
                n_neighbors=_LINKS,
                random_state=seed,
                low_memory=True,
                compressed=False,
                parallel_batch_queries=True,
            )
            graph.prepare()
        return graph


@contextlib.contextmanager
def _numba_threads(n_jobs: int | None) -> Iterator[None]:
    """At most so many threads of numba, which refuses more than it started with: those that this process may use."""
    import numba

    most = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    before = numba.get_num_threads()
    numba.set_num_threads(min(n_jobs or most, most))
    try:
        yield
    finally:
        numba.set_num_threads(before)


def _others(indices: Codes, distances: Floats, rows: Codes) -> tuple[Codes, Floats]:
    """Without the cells themselves, one column less."""
    # The cell itself comes first, unless it has duplicates: then it may be anywhere, or missing.
    itself = indices == rows[:, None]
    itself[~itself.any(axis=1), -1] = True
    shape = (len(rows), indices.shape[1] - 1)
    return indices[~itself].reshape(shape), distances[~itself].reshape(shape)
