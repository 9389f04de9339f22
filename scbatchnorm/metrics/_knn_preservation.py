"""What neighbourhoods keep: the cell type around a cell, and the cells around it before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scbatchnorm.metrics import _inputs, _lisi, _score, _search
from scbatchnorm.metrics._neighbors import Neighbors, as_neighbors

if TYPE_CHECKING:
    import numpy.typing as npt

    from scbatchnorm._data.types import Codes, Floats
    from scbatchnorm.metrics._inputs import Flavor, Groups

# Neighbours compared; in a batch of few cells not more than half of the others, for among all nothing can be lost.
N_NEIGHBORS = 30


def clisi(X: npt.ArrayLike | Neighbors, label: npt.ArrayLike, *, flavor: Flavor = "default") -> float:
    """Cell type LISI: whether a cell's neighbours are of one type.

    The median over cells of the inverse Simpson index of labels, m, as (L - m) / (L - 1) for L labels; neighbourhoods,
    sources and `flavor` as for :func:`ilisi`.

    Parameters
    ----------
    X
        Coordinates, shape (cells, dimensions), or neighbours with at least 90 per cell. In data of fewer than 91
        cells all other cells are neighbours, and the perplexity is a third of their number.
    label
        Cell type of each cell, shape (cells,).
    flavor
        `"scib"`: 89 neighbours, as scib-metrics 0.5.

    Returns
    -------
    From 0 (all types with equal weight around a cell) to 1 (one type only); nan with a single label.

    Notes
    -----
    Nearly always above 0.95, so differences in the third digit matter. As a median it does not see what happens to
    fewer than half of the cells, and a type of fewer than 30 cells has strangers as neighbours by necessity.

    Raises
    ------
    ValueError
        The inputs have wrong shapes, non-finite or missing values, or too few neighbours.

    Examples
    --------
    >>> import numpy as np
    >>> import scbatchnorm as sbn
    >>> rng = np.random.default_rng(0)
    >>> X, label = rng.normal(size=(400, 5)), np.repeat(["T", "B"], 200)
    >>> round(sbn.metrics.clisi(X, label), 1)
    0.1
    >>> sbn.metrics.clisi(X + 100 * (label == "T")[:, None], label)
    1.0
    """
    _inputs.check_flavor(flavor)
    neighbors = as_neighbors(X, _lisi.K - (flavor == "scib"))
    labels = _inputs.groups(label, name="label", n_cells=neighbors.n_cells)
    return clisi_score(_lisi.neighborhoods(neighbors, flavor=flavor), labels).value


def knn_preservation(X: npt.ArrayLike, *, X_pre: npt.ArrayLike, batch: npt.ArrayLike) -> float:
    """Share of each cell's nearest neighbours that are still its nearest neighbours (kNN preservation).

    Neighbours are sought within the cell's own batch, before and after integration: what integration does between
    batches is not held against it, and no labels are needed. The mean over cells of the share of the 30 nearest
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
    Neighbourhoods in noise are lost without harm: where a type has no structure inside, a good integration scores low
    too, so compare methods, and look at changes. An arrangement at random keeps 30 / (n - 1) in a batch of n cells.
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
    points = _inputs.embedding(X)
    before = _inputs.embedding(X_pre, name="X_pre", n_cells=len(points))
    batches = _inputs.groups(batch, name="batch", n_cells=len(points))
    return preservation_score(within_batches(points, batches), within_batches(before, batches), len(points)).value


def clisi_score(near: _lisi.Neighborhoods | _lisi.Sought, labels: Groups) -> _score.Score:
    """Median of the scaled index."""
    if labels.n == 1:
        return _score.undefined("there is one label only")
    return _score.median(np.clip((labels.n - near.simpson(labels)) / (labels.n - 1), 0, 1))


def within_batches(points: Floats, batches: Groups, rows: Codes | None = None) -> list[tuple[Codes, Codes]]:
    """For each batch of at least three cells: rows of its cells, and of the neighbours of each within the batch.

    Of all cells, or of those with these `rows`.
    """
    found: list[tuple[Codes, Codes]] = []
    for code in np.flatnonzero(batches.sizes >= 3):
        cells = batches.members(code)
        k = min(N_NEIGHBORS, (len(cells) - 1) // 2)
        if rows is None:
            found.append((cells, _search.nearest(points[cells], k)[0].astype(np.int32)))
        else:
            chosen = np.flatnonzero(np.isin(cells, rows))
            near, _ = _search.Index(points[cells], exact=True).nearest(chosen, k)
            found.append((cells[chosen], near.astype(np.int32)))
    return found


def preservation_score(
    after: list[tuple[Codes, Codes]], before: list[tuple[Codes, Codes]], n_cells: int
) -> _score.Score:
    """Mean share of neighbours kept, of the results of :func:`within_batches` on both sides."""
    if not after:
        return _score.undefined("no batch has three cells")
    values = np.full(n_cells, np.nan)
    for (cells, now), (_, then) in zip(after, before, strict=True):
        values[cells] = _overlap(now, then)
    return _score.mean(values)


def _overlap(now: Codes, then: Codes) -> Floats:
    """Share of each row of `then` that is in the same row of `now`."""
    both = np.sort(np.hstack([now, then]), axis=1)
    return (both[:, 1:] == both[:, :-1]).sum(axis=1) / then.shape[1]
