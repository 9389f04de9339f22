"""Graph connectivity: whether a cell type hangs together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse.csgraph import connected_components

from scbatchnorm.metrics import _graph, _inputs, _score
from scbatchnorm.metrics._neighbors import Neighbors, as_neighbors

if TYPE_CHECKING:
    import numpy.typing as npt

    from scbatchnorm.metrics._inputs import Flavor, Groups

K = 15


def graph_connectivity(X: npt.ArrayLike | Neighbors, label: npt.ArrayLike, *, flavor: Flavor = "default") -> float:
    """Graph connectivity: the share of each cell type that is in one piece of the graph of neighbours.

    For each label the largest strongly connected part of its cells among themselves, in the graph where every cell
    points to its 15 nearest neighbours, over the number of its cells; then the mean over labels (Luecken et al.,
    Nature Methods 2022).

    Parameters
    ----------
    X
        Coordinates, shape (cells, dimensions), or neighbours with at least 15 per cell.
    label
        Cell type of each cell, shape (cells,).
    flavor
        `"scib"`: 14 neighbours, as scib-metrics, where the cell itself is one of 15.

    Returns
    -------
    Above 0 (in pieces) to 1 (each type in one piece).

    Notes
    -----
    scIB counts it as batch correction, because batches split types. It knows no batches, though, and a type in one
    piece can hold its batches at opposite ends. Rare types weigh as much as frequent ones.

    Raises
    ------
    ValueError
        The inputs have wrong shapes, non-finite or missing values, or too few neighbours.

    Examples
    --------
    >>> import numpy as np
    >>> import scbatchnorm as sbn
    >>> rng = np.random.default_rng(0)
    >>> X, label, batch = rng.normal(size=(400, 2)), np.tile(["T", "B"], 200), np.repeat(["a", "b"], 200)
    >>> round(sbn.metrics.graph_connectivity(X + 100 * (label == "T")[:, None], label), 1)
    1.0
    >>> round(sbn.metrics.graph_connectivity(X + 100 * (batch == "a")[:, None], label), 1)
    0.5
    """
    _inputs.check_flavor(flavor)
    neighbors = as_neighbors(X, K - (flavor == "scib"))
    labels = _inputs.groups(label, name="label", n_cells=neighbors.n_cells)
    return score(neighbors, labels, flavor=flavor).value


def score(neighbors: Neighbors, labels: Groups, *, flavor: Flavor) -> _score.Score:
    """Share of cells in the largest piece of their label."""
    graph = _graph.directed(neighbors.nearest(K - (flavor == "scib")))
    values = np.zeros(neighbors.n_cells)
    for code in range(labels.n):
        cells = labels.members(code)
        _, piece = connected_components(graph[cells][:, cells], connection="strong")
        values[cells] = piece == np.bincount(piece).argmax()
    return _score.label_mean(values, labels)
