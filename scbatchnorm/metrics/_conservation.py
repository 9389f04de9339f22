"""How well cell types stay apart: these need labels, and are as good as the labels are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import silhouette_samples

from scbatchnorm.metrics import _inputs, _lisi
from scbatchnorm.metrics._neighbors import Neighbors, as_neighbors

if TYPE_CHECKING:
    import numpy.typing as npt


def clisi(X: npt.ArrayLike | Neighbors, label: npt.ArrayLike) -> float:
    """Cell type LISI: whether a cell's neighbours are of one type.

    The median over cells of the inverse Simpson index of labels, m, as (L - m) / (L - 1) for L labels; neighbourhoods
    and sources as for :func:`ilisi`.

    Parameters
    ----------
    X
        Coordinates, shape (cells, dimensions), or neighbours with at least 90 per cell. In data of fewer than 91
        cells all other cells are neighbours, and the perplexity is a third of their number.
    label
        Cell type of each cell, shape (cells,).

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
    neighbors = as_neighbors(X, _lisi.K)
    labels = _inputs.groups(label, name="label", n_cells=neighbors.n_cells)
    if labels.n == 1:
        return float("nan")
    median = np.median(_lisi.per_cell(neighbors, labels))
    return float(np.clip((labels.n - median) / (labels.n - 1), 0, 1))


def silhouette_label(X: npt.ArrayLike, label: npt.ArrayLike) -> float:
    """Label silhouette (cell type ASW): how compact and separate cell types are.

    (s + 1) / 2, where s is the mean over cells of the Euclidean silhouette width of their labels; defined by Rousseeuw
    1987, scaled as in scIB (Luecken et al., Nature Methods 2022).

    Parameters
    ----------
    X
        Coordinates, shape (cells, dimensions).
    label
        Cell type of each cell, shape (cells,).

    Returns
    -------
    From 0 (cells lie in other types) to 1 (far apart); 0.5 is no structure. nan with a single label, or where every
    cell has a label of its own.

    Notes
    -----
    Assumes that types are round and equally dense: elongated types (a differentiation) score low although nothing is
    wrong, and shrinking each type to a point, which destroys all biology within, scores highest. Takes time
    quadratic in the number of cells.

    Raises
    ------
    ValueError
        The inputs have wrong shapes, or non-finite or missing values.

    Examples
    --------
    >>> import numpy as np
    >>> import scbatchnorm as sbn
    >>> rng = np.random.default_rng(0)
    >>> X, label = rng.normal(size=(400, 5)), np.repeat(["T", "B"], 200)
    >>> round(sbn.metrics.silhouette_label(X, label), 2)
    0.5
    >>> round(sbn.metrics.silhouette_label(X + 100 * (label == "T")[:, None], label), 2)
    0.99
    """
    points = _inputs.embedding(X)
    labels = _inputs.groups(label, name="label", n_cells=len(points))
    if not 1 < labels.n < len(points):
        return float("nan")
    return float((silhouette_samples(points, labels.codes).mean() + 1) / 2)
