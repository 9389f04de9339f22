"""Integration LISI, over all cells and within cell types."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from scbatchnorm.metrics import _inputs, _lisi, _score, _search
from scbatchnorm.metrics._neighbors import Neighbors, as_neighbors

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from scbatchnorm._data.types import Codes, Floats
    from scbatchnorm.metrics._inputs import Flavor, Groups

# Types with fewer cells have no neighbourhood to speak of (Andreatta et al. 2024).
LEAST_CELLS = 10


def ilisi(X: npt.ArrayLike | Neighbors, batch: npt.ArrayLike, *, flavor: Flavor = "default") -> float:
    """Integration LISI: how many batches a cell effectively has among its neighbours, scaled.

    The median over cells of the inverse Simpson index of batches, m, as (m - 1) / (B - 1) for B batches; defined by
    Korsunsky et al., Nature Methods 2019, and scaled as in scIB (Luecken et al., Nature Methods 2022).
    A neighbourhood is the 90 nearest other cells, weighted to an effective number (perplexity) of 30.

    Parameters
    ----------
    X
        Coordinates, shape (cells, dimensions), or neighbours with at least 90 per cell. In data of fewer than 91
        cells all other cells are neighbours, and the perplexity is a third of their number.
    batch
        Batch of each cell, shape (cells,).
    flavor
        `"scib"` is scib-metrics 0.5, which counts the cell itself, with weight 0, as one of the 90, so that 89 others
        remain: different in the third digit. scib-metrics 0.6 is the default here.

    Returns
    -------
    From 0 (only neighbours of one batch) to 1 (all batches with equal weight); nan with a single batch.

    Notes
    -----
    1 is out of reach where batches differ in size or in their cell types: the scale knows neither. See :func:`cilisi`
    for types. Rewards over-correction: mixing everything with everything scores highest.

    Raises
    ------
    ValueError
        The inputs have wrong shapes, non-finite or missing values, or too few neighbours.

    Examples
    --------
    >>> import numpy as np
    >>> import scbatchnorm as sbn
    >>> rng = np.random.default_rng(0)
    >>> X, batch = rng.normal(size=(400, 5)), np.repeat(["a", "b"], 200)
    >>> round(sbn.metrics.ilisi(X, batch), 1)
    0.9
    >>> sbn.metrics.ilisi(X + 100 * (batch == "a")[:, None], batch)
    0.0
    """
    _inputs.check_flavor(flavor)
    neighbors = as_neighbors(X, _lisi.K - (flavor == "scib"))
    batches = _inputs.groups(batch, name="batch", n_cells=neighbors.n_cells)
    return ilisi_score(_lisi.neighborhoods(neighbors, flavor=flavor), batches).value


def cilisi(X: npt.ArrayLike, *, batch: npt.ArrayLike, label: npt.ArrayLike) -> float:
    """Cell type iLISI (CiLISI): how well batches mix inside each cell type.

    The mean over cells of (l - 1) / (B - 1), where l is the inverse Simpson index of batches among the cells of the
    same type (the 90 nearest, perplexity 30), and B is the number of batches that have the type. Types with fewer
    than 10 cells, or found in one batch, are left out. Defined by Andreatta et al., Nature Communications 2024
    (doi 10.1038/s41467-024-45240-z).

    Parameters
    ----------
    X
        Coordinates, shape (cells, dimensions). Neighbours will not do: they are sought within each type.
    batch
        Batch of each cell, shape (cells,).
    label
        Cell type of each cell, shape (cells,).

    Returns
    -------
    From 0 (within every type batches are apart) to 1 (all batches of a type with equal weight); nan where no type can
    be judged, as with one batch, or a batch per type.

    Notes
    -----
    Unlike :func:`ilisi` it does not gain by mixing types, and types of one batch do not cap it. Batches of unequal size
    still do. Only as good as the labels.

    Raises
    ------
    ValueError
        The inputs have wrong shapes, or non-finite or missing values.

    Examples
    --------
    >>> import numpy as np
    >>> import scbatchnorm as sbn
    >>> rng = np.random.default_rng(0)
    >>> X, label, batch = rng.normal(size=(400, 5)), np.tile(["T", "B"], 200), np.repeat(["a", "b"], 200)
    >>> round(sbn.metrics.cilisi(X, batch=batch, label=label), 1)
    0.9
    >>> round(sbn.metrics.cilisi(X + 100 * (batch == "a")[:, None], batch=batch, label=label), 1)
    0.0
    """
    points = _inputs.embedding(X)
    labels = _inputs.groups(label, name="label", n_cells=len(points))
    batches = _inputs.groups(batch, name="batch", n_cells=len(points))
    found = dict(within_labels(points, labels))
    return cilisi_score(found, labels, batches).value


def ilisi_score(near: _lisi.Neighborhoods | _lisi.Sought, batches: Groups) -> _score.Score:
    """Median of the scaled index."""
    if batches.n == 1:
        return _score.undefined("there is one batch only")
    return _score.median(np.clip((near.simpson(batches) - 1) / (batches.n - 1), 0, 1))


def within_labels(
    points: Floats, labels: Groups, rows: Codes | None = None
) -> Iterator[tuple[int, _lisi.Neighborhoods | _lisi.Sought]]:
    """Neighbourhoods of the cells of each label among themselves, for labels of enough cells: (code, neighbourhoods).

    Of all cells, or of those with these `rows`.
    """
    for code in np.flatnonzero(labels.sizes >= LEAST_CELLS):
        cells = labels.members(code)
        if rows is not None:
            index = _search.Index(points[cells], exact=True)
            yield int(code), _lisi.around(index, np.flatnonzero(np.isin(cells, rows)))
        elif len(points) > _search.MOST_EXACT:
            yield int(code), _lisi.Sought(partial(_of_some, points, cells))
        else:
            yield int(code), _lisi.neighborhoods(Neighbors(*_search.nearest(points[cells], _lisi.K)))


def _of_some(points: Floats, cells: Codes) -> _search.Index:
    return _search.Index(points[cells])


def cilisi_score(near: dict[int, _lisi.Neighborhoods | _lisi.Sought], labels: Groups, batches: Groups) -> _score.Score:
    """Mean of the scaled index within labels; `near` has the neighbourhoods by code of the label."""
    values = np.full(len(labels.codes), np.nan)
    for code, neighborhoods in near.items():
        cells = labels.members(code)
        within = batches.of(cells)
        if within.n > 1:
            values[cells] = np.clip((neighborhoods.simpson(within) - 1) / (within.n - 1), 0, 1)
    if np.isnan(values).all():
        return _score.undefined(f"no label with {LEAST_CELLS} cells is in two batches")
    return _score.mean(values)
