"""Clusters against labels: NMI and ARI."""

from __future__ import annotations

import random
import threading
import warnings
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from scbatchnorm.metrics import _graph, _inputs, _score
from scbatchnorm.metrics._neighbors import Neighbors, as_neighbors

if TYPE_CHECKING:
    import numpy.typing as npt

    from scbatchnorm._data.types import Codes, Floats
    from scbatchnorm.metrics._inputs import Groups

Method = Literal["kmeans", "leiden"]
# Neighbours of the graph that Leiden divides, and the resolutions tried, as in scib-metrics.
K = 15
RESOLUTIONS = tuple(round(0.2 * step, 1) for step in range(1, 11))
_STARTS = 10
# igraph has one random generator for all threads.
_IGRAPH = threading.Lock()


class Agreement(NamedTuple):
    """How well clusters agree with labels."""

    nmi: float
    ari: float


def nmi_ari(
    X: npt.ArrayLike | Neighbors,
    label: npt.ArrayLike,
    *,
    clustering: Method = "kmeans",
    rng: int | np.random.Generator | None = 0,
) -> Agreement:
    """NMI and ARI: whether clusters of the embedding are the cell types.

    Normalised mutual information (arithmetic mean of the entropies) and adjusted Rand index between labels and
    clusters (Luecken et al., Nature Methods 2022). The clusters are those of k-means with as many clusters as labels,
    the best of 10 starts, or of Leiden on the graph of 15 neighbours at that of ten resolutions, 0.2, 0.4, ..., 2.0,
    whose NMI is highest.

    Parameters
    ----------
    X
        Coordinates, shape (cells, dimensions); for Leiden also neighbours with at least 15 per cell.
    label
        Cell type of each cell, shape (cells,).
    clustering
        `"kmeans"` or `"leiden"`; the second needs igraph: `pip install 'scbatchnorm[leiden]'`.
    rng
        Seed or generator of the clustering.

    Returns
    -------
    Named tuple of `nmi`, from 0 (independent) to 1 (equal), and `ari`, about 0 for random clusters, 1 for equal ones;
    both nan with a single label.

    Notes
    -----
    k-means finds round clusters of similar size, which cell types are not. Its result, and with it the score, can
    jump between solutions that are equally good: by .05 on real data. scib-metrics takes one start only. The
    resolution of Leiden is chosen with the labels in hand, which flatters every method alike.

    Raises
    ------
    ImportError
        Leiden without igraph.
    TypeError
        Neighbours are given to k-means, which needs coordinates.
    ValueError
        The inputs have wrong shapes, non-finite or missing values, or too few neighbours.

    Examples
    --------
    >>> import numpy as np
    >>> import scbatchnorm as sbn
    >>> rng = np.random.default_rng(0)
    >>> X, label = rng.normal(size=(400, 5)), np.repeat(["T", "B"], 200)
    >>> sbn.metrics.nmi_ari(X + 100 * (label == "T")[:, None], label)
    Agreement(nmi=1.0, ari=1.0)
    """
    _inputs.one_of(clustering, name="clustering", allowed=get_args(Method))
    if clustering == "leiden":
        neighbors = as_neighbors(X, K)
        labels = _inputs.groups(label, name="label", n_cells=neighbors.n_cells)
        if labels.n == 1:
            return Agreement(float("nan"), float("nan"))
        return best(leiden(neighbors, rng=rng), labels)[1]
    if isinstance(X, Neighbors):
        msg = "X must be coordinates for clustering='kmeans'; got Neighbors."
        raise TypeError(msg)
    points = _inputs.embedding(X)
    labels = _inputs.groups(label, name="label", n_cells=len(points))
    if labels.n == 1:
        return Agreement(float("nan"), float("nan"))
    with warnings.catch_warnings():
        # Fewer distinct cells than clusters: then some stay empty, and the score says it.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return agreement(labels.codes, kmeans(points, labels.n, rng=rng))


def agreement(labels: Codes, clusters: Codes) -> Agreement:
    """NMI and ARI of two groupings of the cells."""
    return Agreement(
        float(normalized_mutual_info_score(labels, clusters)), float(adjusted_rand_score(labels, clusters))
    )


def kmeans(points: Floats, n_clusters: int, *, rng: int | np.random.Generator | None) -> Codes:
    """Cluster of each cell, shape (cells,): the best of ten starts."""
    seed = int(np.random.default_rng(rng).integers(2**31))
    return KMeans(n_clusters, n_init=_STARTS, random_state=seed).fit_predict(points)


def leiden(neighbors: Neighbors, *, rng: int | np.random.Generator | None) -> list[Codes]:
    """Cluster of each cell, shape (cells,), at each of the resolutions."""
    try:
        import igraph
    except ImportError as error:
        error.add_note("Leiden clusters need igraph: pip install 'scbatchnorm[leiden]'")
        raise
    weights = _graph.connectivities(neighbors.nearest(K)).tocoo()
    once = weights.row < weights.col
    edges = np.column_stack([weights.row[once], weights.col[once]])
    graph = igraph.Graph(neighbors.n_cells, edges.tolist())
    seed = int(np.random.default_rng(rng).integers(2**31))
    found = []
    with _IGRAPH:
        try:
            for resolution in RESOLUTIONS:
                igraph.set_random_number_generator(random.Random(seed))
                clusters = graph.community_leiden("modularity", weights=weights.data[once], resolution=resolution)
                found.append(np.asarray(clusters.membership))
        finally:
            igraph.set_random_number_generator(random)  # igraph's own default
    return found


def best(candidates: list[Codes], labels: Groups) -> tuple[Codes, Agreement]:
    """The clusters that agree best, by NMI."""
    scored = [(clusters, agreement(labels.codes, clusters)) for clusters in candidates]
    return max(scored, key=lambda pair: pair[1].nmi)


def score(clusters: Codes, labels: Groups, which: Literal["nmi", "ari"]) -> _score.Score:
    """NMI or ARI."""
    if labels.n == 1:
        return _score.undefined("there is one label only")
    return _score.Score(getattr(agreement(labels.codes, clusters), which))
