"""Agreement of clusters with labels: NMI and ARI."""

from __future__ import annotations

import random
import threading
import warnings
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from scbatchnorm.metrics._inputs import check_choice, check_embedding, encode_groups
from scbatchnorm.metrics._neighbors import Neighbors, as_neighbors, umap_connectivities
from scbatchnorm.metrics._score import MetricScore, undefined_score

if TYPE_CHECKING:
    import numpy.typing as npt

    from scbatchnorm._data.types import Codes, Floats
    from scbatchnorm.metrics._inputs import Groups

Method = Literal["kmeans", "leiden"]
# Neighbours in the graph for Leiden, and the resolutions tried, as in scib-metrics.
LEIDEN_NEIGHBORS = 15
RESOLUTIONS = tuple(round(0.2 * step, 1) for step in range(1, 11))
_STARTS = 10
# igraph has one random generator for all threads.
_IGRAPH_LOCK = threading.Lock()


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
    resolution of Leiden is chosen by the labels, which raises the scores of all methods.

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
    check_choice(clustering, name="clustering", allowed=get_args(Method))
    if clustering == "leiden":
        neighbors = as_neighbors(X, LEIDEN_NEIGHBORS)
        labels = encode_groups(label, name="label", n_cells=neighbors.n_cells)
        if labels.n == 1:
            return Agreement(float("nan"), float("nan"))
        return choose_best_clusters(cluster_leiden(neighbors, rng=rng), labels)[1]
    if isinstance(X, Neighbors):
        msg = "X must be coordinates for clustering='kmeans'; got Neighbors."
        raise TypeError(msg)
    points = check_embedding(X)
    labels = encode_groups(label, name="label", n_cells=len(points))
    if labels.n == 1:
        return Agreement(float("nan"), float("nan"))
    with warnings.catch_warnings():
        # Fewer distinct cells than clusters: some clusters stay empty, which lowers the score.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return measure_agreement(labels.codes, cluster_kmeans(points, labels.n, rng=rng))


def measure_agreement(labels: Codes, clusters: Codes) -> Agreement:
    """NMI and ARI of two groupings of the cells."""
    return Agreement(
        float(normalized_mutual_info_score(labels, clusters)), float(adjusted_rand_score(labels, clusters))
    )


def cluster_kmeans(points: Floats, n_clusters: int, *, rng: int | np.random.Generator | None) -> Codes:
    """Cluster of each cell by k-means, shape (cells,): the best of ten starts."""
    seed = int(np.random.default_rng(rng).integers(2**31))
    return KMeans(n_clusters, n_init=_STARTS, random_state=seed).fit_predict(points)


def cluster_leiden(neighbors: Neighbors, *, rng: int | np.random.Generator | None) -> list[Codes]:
    """Cluster of each cell by Leiden, shape (cells,), for each of the resolutions."""
    try:
        import igraph
    except ImportError as error:
        error.add_note("Leiden clusters need igraph: pip install 'scbatchnorm[leiden]'")
        raise
    weights = umap_connectivities(neighbors.nearest(LEIDEN_NEIGHBORS)).tocoo()
    upper = weights.row < weights.col
    edges = np.column_stack([weights.row[upper], weights.col[upper]])
    graph = igraph.Graph(neighbors.n_cells, edges.tolist())
    seed = int(np.random.default_rng(rng).integers(2**31))
    clusterings = []
    with _IGRAPH_LOCK:
        try:
            for resolution in RESOLUTIONS:
                igraph.set_random_number_generator(random.Random(seed))
                partition = graph.community_leiden("modularity", weights=weights.data[upper], resolution=resolution)
                clusterings.append(np.asarray(partition.membership))
        finally:
            igraph.set_random_number_generator(random)  # igraph's own default
    return clusterings


def choose_best_clusters(clusterings: list[Codes], labels: Groups) -> tuple[Codes, Agreement]:
    """The clusters with the highest NMI, and their agreement with the labels."""
    scored = [(clusters, measure_agreement(labels.codes, clusters)) for clusters in clusterings]
    return max(scored, key=lambda pair: pair[1].nmi)


def agreement_score(clusters: Codes, labels: Groups, which: Literal["nmi", "ari"]) -> MetricScore:
    """NMI or ARI of clusters and labels."""
    if labels.n == 1:
        return undefined_score("there is one label only")
    return MetricScore(getattr(measure_agreement(labels.codes, clusters), which))
