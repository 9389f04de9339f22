"""NMI and ARI: k-means, Leiden, and what they leave behind."""

from __future__ import annotations

import math
import random
import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from scbatchnorm.metrics import Neighbors, nmi_ari
from scbatchnorm.metrics._clusters import (
    RESOLUTIONS,
    agreement_score,
    choose_best_clusters,
    cluster_kmeans,
    cluster_leiden,
)
from scbatchnorm.metrics._inputs import encode_groups
from tests.metrics.cells import cells, mixed


def groups(values):
    return encode_groups(values, name="label", n_cells=len(values))


def entropy(counts):
    shares = counts[counts > 0] / counts.sum()
    return -(shares * np.log(shares)).sum()


def pairs(counts):
    return (counts * (counts - 1) / 2).sum()


def by_hand(label, clusters):
    """NMI with the arithmetic mean of entropies, and Hubert and Arabie's ARI, from the table of counts."""
    table = np.array([[((label == a) & (clusters == b)).sum() for b in set(clusters)] for a in set(label)])
    rows, columns, n = table.sum(axis=1), table.sum(axis=0), table.sum()
    mutual = entropy(rows) + entropy(columns) - entropy(table.ravel())
    expected = pairs(rows) * pairs(columns) / (n * (n - 1) / 2)
    most = (pairs(rows) + pairs(columns)) / 2
    return 2 * mutual / (entropy(rows) + entropy(columns)), (pairs(table.ravel()) - expected) / (most - expected)


def inertia(X, clusters):
    return sum(np.square(X[clusters == one] - X[clusters == one].mean(axis=0)).sum() for one in set(clusters))


@pytest.mark.parametrize("clustering", ["kmeans", "leiden"])
def test_agreement_is_the_formula(clustering):
    data = cells(n=200, labels_apart=1)
    label, found = groups(data.label), nmi_ari(data.X, data.label, clustering=clustering)
    if clustering == "kmeans":
        clusters = cluster_kmeans(data.X, 3, rng=0)
    else:
        clusters, _ = choose_best_clusters(cluster_leiden(Neighbors.from_embedding(data.X), rng=0), label)
    assert (found.nmi, found.ari) == pytest.approx(by_hand(data.label, clusters))
    assert found.nmi == pytest.approx(normalized_mutual_info_score(data.label, clusters))
    assert found.ari == pytest.approx(adjusted_rand_score(data.label, clusters))
    assert 0.05 < found.nmi < 0.95


@pytest.mark.parametrize("clustering", ["kmeans", "leiden"])
def test_extremes(clustering):
    data = mixed()
    assert nmi_ari(data.X, data.label, clustering=clustering) == (1, 1)
    unrelated = nmi_ari(data.X, data.batch, clustering=clustering)
    assert unrelated == pytest.approx((0, 0), abs=0.02)


def test_kmeans_has_as_many_clusters_as_labels_and_the_best_of_ten_starts():
    X = np.random.default_rng(0).normal(size=(300, 2))
    clusters = cluster_kmeans(X, 12, rng=0)
    assert len(set(clusters)) == 12
    one_start = [inertia(X, KMeans(12, n_init=1, random_state=seed).fit_predict(X)) for seed in range(30)]
    assert inertia(X, clusters) < np.quantile(one_start, 0.2)


def test_kmeans_of_fewer_places_than_labels():
    X = np.repeat(np.eye(2), 10, axis=0)
    label = np.arange(20) % 5
    assert nmi_ari(X, label).nmi < 0.3
    assert nmi_ari(np.zeros((20, 2)), label) == pytest.approx((0, 0))


@pytest.mark.parametrize("clustering", ["kmeans", "leiden"])
def test_same_seed_same_clusters(clustering):
    data = cells(n=200, labels_apart=0.5)
    first, again = (nmi_ari(data.X, data.label, clustering=clustering, rng=3) for _ in range(2))
    assert first == again == nmi_ari(data.X, data.label, clustering=clustering, rng=np.random.default_rng(3))


# ---- Leiden


def test_resolutions_are_tried_and_the_best_nmi_wins():
    data = cells(n=200, labels_apart=1.5)
    candidates = cluster_leiden(Neighbors.from_embedding(data.X), rng=0)
    assert RESOLUTIONS == (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0)
    numbers = [len(set(clusters)) for clusters in candidates]
    assert len(numbers) == 10
    assert numbers[0] < numbers[-1]
    nmis = [normalized_mutual_info_score(data.label, clusters) for clusters in candidates]
    found = nmi_ari(data.X, data.label, clustering="leiden")
    assert found.nmi == pytest.approx(max(nmis))
    assert found.ari == pytest.approx(adjusted_rand_score(data.label, candidates[int(np.argmax(nmis))]))


def test_leiden_takes_neighbors():
    data = cells(n=200)
    expected = nmi_ari(data.X, data.label, clustering="leiden")
    assert nmi_ari(Neighbors.from_embedding(data.X, k=40), data.label, clustering="leiden") == expected
    with pytest.raises(ValueError, match="at least 15 neighbours per cell; got 5"):
        nmi_ari(Neighbors.from_embedding(data.X, k=5), data.label, clustering="leiden")


def test_leiden_sees_the_graph_only():
    X = cells(n=200).X
    first, far = (cluster_leiden(Neighbors.from_embedding(points), rng=0) for points in (X, X * 100 + 7))
    for clusters, others in zip(first, far, strict=True):
        assert adjusted_rand_score(clusters, others) > 0.99


@pytest.mark.parametrize("failing", [False, True], ids=["done", "failed"])
def test_igraph_gets_its_random_generator_back(failing, monkeypatch):
    igraph = pytest.importorskip("igraph")
    given: list[object] = []
    monkeypatch.setattr(igraph, "set_random_number_generator", given.append)
    neighbors = Neighbors.from_embedding(cells(n=60).X)
    if failing:
        monkeypatch.setattr(igraph.Graph, "community_leiden", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            cluster_leiden(neighbors, rng=0)
    else:
        cluster_leiden(neighbors, rng=0)
    assert all(isinstance(generator, random.Random) for generator in given[:-1])
    assert given[-1] is random


def test_generator_of_python_is_left_alone():
    random.seed(5)
    before = random.getstate()
    nmi_ari(cells(n=60).X, cells(n=60).label, clustering="leiden")
    assert random.getstate() == before


def test_without_igraph_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "igraph", None)
    data = cells(n=60)
    with pytest.raises(ImportError) as caught:
        nmi_ari(data.X, data.label, clustering="leiden")
    (hint,) = caught.value.__notes__
    assert hint == "Leiden clusters need igraph: pip install 'scbatchnorm[leiden]'"
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert any(re.match(r"igraph\b", needed) for needed in project["optional-dependencies"]["leiden"])
    assert not math.isnan(nmi_ari(data.X, data.label).nmi)


# ---- hard cases


@pytest.mark.parametrize("clustering", ["kmeans", "leiden"])
def test_one_label_is_undefined(clustering):
    for X in (cells(n=30).X, [[1.0, 2.0]]):
        found = nmi_ari(X, np.zeros(len(X)), clustering=clustering)
        assert math.isnan(found.nmi)
        assert math.isnan(found.ari)
    assert agreement_score(np.zeros(3, dtype=int), groups([1, 1, 1]), "nmi").reason == "there is one label only"


@pytest.mark.parametrize("n", [2, 3, 5])
def test_every_cell_its_own_label(n):
    X = cells(n=n, n_batches=2, n_labels=2).X
    assert nmi_ari(X, np.arange(n)) == (1, 1)
    assert 0 <= nmi_ari(X, np.arange(n), clustering="leiden").nmi <= 1


def test_wrong_inputs():
    data = cells(n=60)
    with pytest.raises(ValueError, match="clustering must be one of 'kmeans', 'leiden'; got 'louvain'"):
        nmi_ari(data.X, data.label, clustering="louvain")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="X must be coordinates for clustering='kmeans'; got Neighbors"):
        nmi_ari(Neighbors.from_embedding(data.X), data.label)
    with pytest.raises(ValueError, match="label must give every cell a value; 1 of 60 are missing"):
        nmi_ari(data.X, [np.nan, *data.label[1:]])
