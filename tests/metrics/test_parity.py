"""Equal to scib-metrics 0.5.10 where the definition is the same, on random and on real data."""

from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
from sklearn.neighbors import NearestNeighbors

from scbatchnorm import metrics
from scbatchnorm.metrics import Neighbors
from tests.metrics.cells import cells

scib = pytest.importorskip("scib_metrics", reason="the reference implementation is an extra: scbatchnorm[bench]")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # jax and chex warn of themselves
TOLERANCE = 1e-4


def theirs(neighbors: Neighbors, k: int):
    """The same neighbours as scib-metrics lists them: the cell itself, and k - 1 others."""
    from scib_metrics.nearest_neighbors import NeighborsResults

    near, itself = neighbors.nearest(k - 1), np.arange(neighbors.n_cells)[:, None]
    distances = np.hstack([np.zeros(itself.shape), near.distances]).astype(np.float32)
    return NeighborsResults(indices=np.hstack([itself, near.indices]), distances=distances)


@pytest.fixture(autouse=True)
def exact_search(monkeypatch):
    """kBET of scib-metrics seeks neighbours in diffusion components approximately, and misses a few."""
    from scib_metrics import nearest_neighbors

    def search(X, n_neighbors, **options):
        distances, indices = NearestNeighbors(n_neighbors=n_neighbors).fit(X).kneighbors(X)
        return nearest_neighbors.NeighborsResults(indices=indices, distances=distances)

    monkeypatch.setattr(nearest_neighbors, "pynndescent", search)


def scores_of_scib(X, X_pre, batch, label):
    near = Neighbors.from_embedding(X)
    return {
        "isolated_labels": scib.isolated_labels(X, label, batch),
        "silhouette_label": scib.silhouette_label(X, label),
        "clisi": scib.clisi_knn(theirs(near, 90), label),
        "bras": scib.bras(X, label, batch),
        "silhouette_batch": scib.silhouette_batch(X, label, batch),
        "ilisi": scib.ilisi_knn(theirs(near, 90), batch),
        "kbet": scib.kbet_per_label(theirs(near, 50), batch, label),
        "graph_connectivity": scib.graph_connectivity(theirs(near, 15), label),
        "pcr_comparison": scib.pcr_comparison(X_pre, X, batch, categorical=True),
    }


def scores_of_ours(X, X_pre, batch, label):
    return {
        "isolated_labels": metrics.isolated_labels(X, batch=batch, label=label),
        "silhouette_label": metrics.silhouette_label(X, label),
        "clisi": metrics.clisi(X, label, flavor="scib"),
        "bras": metrics.bras(X, batch=batch, label=label),
        "silhouette_batch": metrics.silhouette_batch(X, batch=batch, label=label),
        "ilisi": metrics.ilisi(X, batch, flavor="scib"),
        "kbet": metrics.kbet(X, batch=batch, label=label, flavor="scib"),
        "graph_connectivity": metrics.graph_connectivity(X, label, flavor="scib"),
        "pcr_comparison": metrics.pcr_comparison(X, X_pre=X_pre, batch=batch, flavor="scib"),
    }


def check(X, X_pre, batch, label):
    X, X_pre = X.astype(np.float32), X_pre.astype(np.float32)
    expected = {name: float(value) for name, value in scores_of_scib(X, X_pre, batch, label).items()}
    assert scores_of_ours(X, X_pre, batch, label) == pytest.approx(expected, abs=TOLERANCE)
    return expected


@pytest.mark.parametrize("apart", [0.4, 3.0])
def test_random_data(apart):
    data = cells(n=400, batches_apart=apart).renamed()
    expected = check(data.X, data.X_pre, data.batch, data.label)
    assert all(0 < expected[name] < 1 for name in expected if name != "kbet" or apart < 1)


def test_labels_of_few_cells_lower_the_components_of_the_next_in_the_alphabet():
    data = cells(n=400, batches_apart=0.4)  # as many as above: the reference is compiled for each shape
    few = np.arange(400) < 12
    X = data.X + 30 * few[:, None]
    label = np.where(few, "a few", np.array(["m", "x", "z"])[data.label])
    check(X, data.X_pre, data.batch, label)
    # Another name, another score: not ours.
    renamed = np.where(label == "a few", "zz few", label)
    first, second = (metrics.kbet(X, batch=data.batch, label=names, flavor="scib") for names in (label, renamed))
    assert first != second
    first, second = (metrics.kbet(X, batch=data.batch, label=names) for names in (label, renamed))
    assert first == pytest.approx(second, abs=1e-12)


def test_kmeans_is_at_least_as_good_and_scored_alike():
    from scib_metrics.utils import KMeans
    from sklearn.metrics import pairwise_distances_argmin_min

    from scbatchnorm.metrics._clusters import cluster_kmeans, measure_agreement

    data = cells(n=400, labels_apart=1.5)
    reference = KMeans(3)
    reference.fit(data.X)
    expected = scib.nmi_ari_cluster_labels_kmeans(data.X, data.label)
    found = measure_agreement(data.label, np.asarray(reference.labels_))
    assert found == pytest.approx((expected["nmi"], expected["ari"]), abs=TOLERANCE)

    def inertia(clusters):
        centres = np.stack([data.X[clusters == cluster].mean(axis=0) for cluster in np.unique(clusters)])
        return float((pairwise_distances_argmin_min(data.X, centres)[1] ** 2).sum())

    assert inertia(cluster_kmeans(data.X, 3, rng=0)) <= inertia(np.asarray(reference.labels_)) * (1 + 1e-5)


def test_leiden():
    data = cells(n=400)
    near = Neighbors.from_embedding(data.X)
    expected = scib.nmi_ari_cluster_labels_leiden(theirs(near, 15), data.label)
    # The optimum of a random search, found with another seed and one more neighbour.
    found = metrics.nmi_ari(data.X, data.label, clustering="leiden")
    assert found == pytest.approx((expected["nmi"], expected["ari"]), abs=0.05)


@pytest.mark.parametrize("name", ["pbmc_10x_3protocols"])
def test_real_data(name, shared_data):
    """The components, with the means of batches taken away; `benchmarks.judging` compares more, in more time."""
    adata = ad.read_h5ad(shared_data / f"{name}.h5ad")
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sc.pp.pca(adata, n_comps=30)
    batch, label = (adata.obs[key].to_numpy().astype(str) for key in ("batch", "cell_type"))
    X_pre = adata.obsm["X_pca"]
    X = X_pre.copy()
    for one in np.unique(batch):
        X[batch == one] -= X[batch == one].mean(axis=0)
    check(X, X_pre, batch, label)
