"""Weights of the graph are those of UMAP."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq

from scbatchnorm.metrics import Neighbors, _graph


def points(n=80, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 3))


def test_directed_points_to_neighbors():
    neighbors = Neighbors.from_embedding(points(), k=4)
    graph = _graph.directed(neighbors)
    assert (graph.sum(axis=1) == 4).all()
    for row in range(80):
        assert set(graph[row].indices) == set(neighbors.indices[row])


def test_connectivities_are_the_formula():
    neighbors = Neighbors.from_embedding(points(), k=9)
    one_way = np.zeros((80, 80))
    for row, (near, distances) in enumerate(zip(neighbors.indices, neighbors.distances, strict=True)):
        beyond = distances - distances[0]
        width = brentq(lambda s, beyond=beyond: np.exp(-beyond / s).sum() - np.log2(10), 1e-6, 1e3)
        one_way[row, near] = np.exp(-beyond / width)
    expected = one_way + one_way.T - one_way * one_way.T
    np.testing.assert_allclose(_graph.connectivities(neighbors).toarray(), expected, atol=1e-4)


def test_connectivities_are_symmetric_and_at_most_1():
    graph = _graph.connectivities(Neighbors.from_embedding(points(), k=5))
    assert abs(graph - graph.T).max() < 1e-6
    assert 0 < graph.data.min() <= graph.data.max() <= 1 + 1e-6
    assert graph.diagonal().sum() == 0


@pytest.mark.parametrize("kind", ["usual", "pairs", "few places", "one place", "grid"])
def test_equal_to_umap(kind):
    umap = pytest.importorskip("umap.umap_")
    X = {
        "usual": points(),
        "pairs": np.repeat(points(40), 2, axis=0),
        "few places": np.repeat(points(4), 20, axis=0),
        "one place": np.zeros((80, 3)),
        "grid": np.round(points() * 2),
    }[kind]
    neighbors = Neighbors.from_embedding(X, k=9)
    itself = np.arange(80)[:, None]
    expected, *_ = umap.fuzzy_simplicial_set(
        X,
        n_neighbors=10,
        random_state=None,
        metric=None,
        knn_indices=np.hstack([itself, neighbors.indices]),
        knn_dists=np.hstack([np.zeros((80, 1)), neighbors.distances]).astype(np.float32),
    )
    found = _graph.connectivities(neighbors)
    np.testing.assert_allclose(found.toarray(), expected.toarray(), atol=1e-5)
    assert found.nnz == expected.nnz


def test_no_neighbors_are_no_edges():
    assert _graph.connectivities(Neighbors.from_embedding([[1.0, 2.0]])).nnz == 0
