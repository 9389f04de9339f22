"""Nearest neighbours: compare all pairs, or pynndescent where there are too many."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from sklearn.neighbors import NearestNeighbors

if TYPE_CHECKING:
    from scbatchnorm._typing import Codes, Floats

# Both take about as long here (50 dimensions, 90 neighbours); below, the exact search is faster.
MOST_EXACT = 100_000


def nearest(
    points: Floats,
    k: int,
    *,
    exact: bool | None = None,
    n_jobs: int | None = None,
    rng: int | np.random.Generator | None = 0,
) -> tuple[Codes, Floats]:
    """Rows of the `k` nearest other cells (all, where there are fewer) and distances, both (cells, k), nearest first.

    `exact` is by default decided by the number of cells.
    """
    n_cells = len(points)
    k = min(k, n_cells - 1)
    if k == 0:
        return np.empty((n_cells, 0), dtype=np.intp), np.empty((n_cells, 0))
    # The search subtracts squared norms: far from the origin it would lose its digits.
    points = points - points.mean(axis=0, dtype=np.float64).astype(points.dtype)
    if n_cells <= MOST_EXACT if exact is None else exact:
        # Asked without points, scikit-learn leaves out the cell itself, and not one of its duplicates.
        distances, indices = NearestNeighbors(n_neighbors=k).fit(points).kneighbors()
        return indices, distances
    return _approximate(points, k, n_jobs=n_jobs, seed=int(np.random.default_rng(rng).integers(2**31)))


def _approximate(points: Floats, k: int, *, n_jobs: int | None, seed: int) -> tuple[Codes, Floats]:
    # Seconds of compilation that small data do not need.
    import numba
    from pynndescent import NNDescent

    # numba refuses more threads than it started with, which are those that this process may use.
    most = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        # Cells that the search did not reach, which are seen to below.
        warnings.filterwarnings("ignore", "Failed to correctly find n_neighbors", UserWarning)
        index = NNDescent(
            points,
            n_neighbors=min(k + 1, len(points)),
            random_state=seed,
            n_jobs=min(n_jobs or most, most),
            low_memory=True,
            compressed=False,
        )
    indices, distances = index.neighbor_graph
    if (indices < 0).any():
        return nearest(points, k, exact=True)
    # The cell itself comes first, unless it has duplicates: then it may be anywhere, or missing.
    itself = indices == np.arange(len(points))[:, None]
    itself[~itself.any(axis=1), -1] = True
    shape = (len(points), indices.shape[1] - 1)
    return indices[~itself].reshape(shape).astype(np.intp), distances[~itself].reshape(shape)
