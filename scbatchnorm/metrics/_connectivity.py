"""Graph connectivity: whether the cells of a type are connected in the graph of neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse.csgraph import connected_components

from scbatchnorm.metrics._inputs import check_flavor, encode_groups
from scbatchnorm.metrics._neighbors import Neighbors, as_neighbors, directed_graph
from scbatchnorm.metrics._score import MetricScore, label_mean_score

if TYPE_CHECKING:
    import numpy.typing as npt

    from scbatchnorm.metrics._inputs import Flavor, Groups

_N_NEIGHBORS = 15


def graph_connectivity(X: npt.ArrayLike | Neighbors, label: npt.ArrayLike, *, flavor: Flavor = "default") -> float:
    """Graph connectivity: the share of each cell type in one connected component of the graph of neighbours.

    For each label the size of the largest strongly connected component of its cells among themselves, in the graph where every cell
    points to its 15 nearest neighbours, divided by the number of its cells; then the mean over labels (Luecken et al.,
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
    Above 0 (many components) to 1 (each type in one component).

    Notes
    -----
    scIB counts it as batch correction, because batches split types. It does not use batches, though, and a type in one
    component can have its batches at opposite ends. Rare types weigh as much as frequent ones.

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
    check_flavor(flavor)
    neighbors = as_neighbors(X, _N_NEIGHBORS - (flavor == "scib"))
    labels = encode_groups(label, name="label", n_cells=neighbors.n_cells)
    return connectivity_score(neighbors, labels, flavor=flavor).value


def connectivity_score(neighbors: Neighbors, labels: Groups, *, flavor: Flavor) -> MetricScore:
    """Mean over labels of the share of cells in the largest connected component of their label."""
    graph = directed_graph(neighbors.nearest(_N_NEIGHBORS - (flavor == "scib")))
    values = np.zeros(neighbors.n_cells)
    for code in range(labels.n):
        cells = labels.members(code)
        _, components = connected_components(graph[cells][:, cells], connection="strong")
        values[cells] = components == np.bincount(components).argmax()
    return label_mean_score(values, labels)
