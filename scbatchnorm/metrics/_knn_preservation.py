"""kNN preservation: the share of a cell's neighbours within its batch that are kept by integration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scbatchnorm.metrics._inputs import check_embedding, encode_groups
from scbatchnorm.metrics._score import MetricScore, mean_score, undefined_score
from scbatchnorm.metrics._search import NeighborIndex, find_nearest

if TYPE_CHECKING:
    import numpy.typing as npt

    from scbatchnorm._data.types import Codes, Floats
    from scbatchnorm.metrics._inputs import Groups

# Neighbours compared; in a small batch at most half of the other cells, for a set of all cells cannot change.
N_NEIGHBORS = 30


def knn_preservation(X: npt.ArrayLike, *, X_pre: npt.ArrayLike, batch: npt.ArrayLike) -> float:
    """Share of each cell's nearest neighbours that are still its nearest neighbours (kNN preservation).

    Neighbours are searched within the cell's own batch, before and after integration: changes between batches do not
    lower the score, and no labels are needed. The mean over cells of the share of the 30 nearest
    neighbours in `X_pre` that are among the 30 nearest in `X`; in a batch of fewer than 61 cells, of the nearest half of
    the others. Defined here.

    Parameters
    ----------
    X
        Coordinates after integration, shape (cells, dimensions).
    X_pre
        Coordinates before, such as principal components, shape (cells, dimensions before).
    batch
        Batch of each cell, shape (cells,).

    Returns
    -------
    From 0 (all replaced) to 1 (all kept); nan where no batch has three cells.

    Notes
    -----
    Within a type without structure neighbours are noise, and a good integration scores low too; so compare methods, and
    look at differences. An arrangement at random keeps 30 / (n - 1) in a batch of n cells.
    Doing nothing scores 1.

    Raises
    ------
    ValueError
        The inputs have wrong shapes, or non-finite or missing values.

    Examples
    --------
    >>> import numpy as np
    >>> import scbatchnorm as sbn
    >>> rng = np.random.default_rng(0)
    >>> X, batch = rng.normal(size=(400, 5)), np.repeat(["a", "b"], 200)
    >>> sbn.metrics.knn_preservation(X + 100 * (batch == "a")[:, None], X_pre=X, batch=batch)
    1.0
    >>> round(sbn.metrics.knn_preservation(rng.normal(size=(400, 5)), X_pre=X, batch=batch), 1)
    0.2
    """
    points = check_embedding(X)
    before = check_embedding(X_pre, name="X_pre", n_cells=len(points))
    batches = encode_groups(batch, name="batch", n_cells=len(points))
    return knn_preservation_score(
        find_neighbors_within_batches(points, batches), find_neighbors_within_batches(before, batches), len(points)
    ).value


def find_neighbors_within_batches(
    points: Floats, batches: Groups, rows: Codes | None = None
) -> list[tuple[Codes, Codes]]:
    """Neighbours within batches, for each batch of at least three cells: its cells, and the rows within it of their neighbours.

    Of all cells, or of those in `rows`.
    """
    neighbors: list[tuple[Codes, Codes]] = []
    for code in np.flatnonzero(batches.sizes >= 3):
        cells = batches.members(code)
        k = min(N_NEIGHBORS, (len(cells) - 1) // 2)
        if rows is None:
            neighbors.append((cells, find_nearest(points[cells], k)[0].astype(np.int32)))
        else:
            chosen = np.flatnonzero(np.isin(cells, rows))
            nearest, _ = NeighborIndex(points[cells], exact=True).query(chosen, k)
            neighbors.append((cells[chosen], nearest.astype(np.int32)))
    return neighbors


def knn_preservation_score(
    after: list[tuple[Codes, Codes]], before: list[tuple[Codes, Codes]], n_cells: int
) -> MetricScore:
    """Mean over cells of the share of neighbours kept, from results of :func:`find_neighbors_within_batches`."""
    if not after:
        return undefined_score("no batch has three cells")
    values = np.full(n_cells, np.nan)
    for (cells, neighbors_after), (_, neighbors_before) in zip(after, before, strict=True):
        values[cells] = _share_kept(neighbors_after, neighbors_before)
    return mean_score(values)


def _share_kept(after: Codes, before: Codes) -> Floats:
    """Share of each row of `before` that is in the same row of `after`, shape (cells,)."""
    both = np.sort(np.hstack([after, before]), axis=1)
    return (both[:, 1:] == both[:, :-1]).sum(axis=1) / before.shape[1]
