"""Neighbours are exact, leave out the cell itself, and wrong input has a message; weights of the graph are those of UMAP."""

from __future__ import annotations

import dataclasses

import anndata as ad
import numba
import numpy as np
import pytest
import scanpy as sc
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from scipy.optimize import brentq

from scbatchnorm.metrics import Neighbors, _search
from scbatchnorm.metrics._neighbors import directed_graph, umap_connectivities


def points(seed=0, n=60, d=3):
    return np.random.default_rng(seed).normal(size=(n, d))


@given(seed=st.integers(0, 10_000), n=st.integers(2, 40), k=st.integers(1, 50))
def test_equal_to_brute_force(seed, n, k):
    X = points(seed, n)
    distances = np.linalg.norm(X[:, None] - X[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    order = np.argsort(distances, axis=1)[:, : min(k, n - 1)]
    neighbors = Neighbors.from_embedding(X, k=k)
    np.testing.assert_array_equal(neighbors.indices, order)
    np.testing.assert_allclose(neighbors.distances, np.take_along_axis(distances, order, axis=1), atol=1e-7)
    assert (neighbors.n_cells, neighbors.k) == (n, min(k, n - 1))


@pytest.mark.parametrize(("dtype", "offset"), [(np.float32, 1e3), (np.float64, 1e8)], ids=["float32", "float64"])
@pytest.mark.parametrize("d", [3, 20])
def test_far_from_the_origin_cells_keep_their_neighbors(d, dtype, offset):
    far = (points(d=d).astype(dtype) + dtype(offset)).astype(dtype)
    near = Neighbors.from_embedding(far.astype(np.float64) - offset, k=5)
    found = Neighbors.from_embedding(far, k=5)
    np.testing.assert_array_equal(found.indices, near.indices)
    np.testing.assert_allclose(found.distances, near.distances, rtol=1e-5)


def test_duplicates_do_not_make_a_cell_its_own_neighbor():
    X = np.zeros((30, 2))
    neighbors = Neighbors.from_embedding(X, k=10)
    assert not (neighbors.indices == np.arange(30)[:, None]).any()
    assert (neighbors.distances == 0).all()


def test_a_single_cell_has_no_neighbors():
    assert Neighbors.from_embedding([[1.0, 2.0]]).indices.shape == (1, 0)


def test_nearest_is_the_shorter_search():
    neighbors = Neighbors.from_embedding(points(), k=20)
    shorter = neighbors.nearest(7)
    np.testing.assert_array_equal(shorter.indices, Neighbors.from_embedding(points(), k=7).indices)
    assert neighbors.nearest(20) is neighbors


def test_nearest_refuses_more_than_is_known():
    with pytest.raises(ValueError, match=r"at least 30 neighbours per cell; got 20\. Use Neighbors\.from_embedding"):
        Neighbors.from_embedding(points(), k=20).nearest(30)


def test_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Neighbors.from_embedding(points()).indices = np.zeros((1, 1), dtype=int)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("indices", "distances", "message"),
    [
        ([[1], [0]], [[1.0, 2.0], [1.0, 2.0]], r"same shape|must both have shape"),
        ([1, 0], [1.0, 1.0], "must both have shape"),
        ([[1.0], [0.0]], [[1.0], [1.0]], "indices must be integers"),
        ([[2], [0]], [[1.0], [1.0]], "rows of the 2 cells; got 0 to 2"),
        ([[0], [0]], [[1.0], [1.0]], "leave out the cell itself"),
        ([[1, 2], [0, 2], [0, 1]], [[1.0, 2.0], [2.0, 1.0], [1.0, 1.0]], "ascend along each row"),
        ([[1], [0]], [[-1.0], [1.0]], "not be negative"),
        ([[1], [0]], [[np.nan], [1.0]], "not be negative"),
    ],
    ids=["widths", "flat", "float", "range", "self", "order", "negative", "nan"],
)
def test_wrong_arrays(indices, distances, message):
    with pytest.raises(ValueError, match=message):
        Neighbors(np.asarray(indices), np.asarray(distances))


@pytest.mark.parametrize("k", [0, -1, 2.5, True, "3"])
def test_wrong_k(k):
    with pytest.raises(ValueError, match="k must be an integer of at least 1; got"):
        Neighbors.from_embedding(points(), k=k)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros(5), r"shape \(cells, dimensions\).*got shape \(5,\)"),
        (np.zeros((0, 5)), r"got shape \(0, 5\)"),
        (np.zeros((5, 0)), r"got shape \(5, 0\)"),
        (np.array([["a", "b"]]), "real numbers"),
        (np.array([[1.0], [np.nan], [np.inf]]), "2 of 3 cells have NaN or infinite coordinates, the first is cell 1"),
        (sparse.csr_matrix(np.eye(3)), r"X must be a dense array .* got csr_matrix: use its toarray\(\)"),
    ],
    ids=["flat", "no cells", "no dimensions", "strings", "nan", "sparse"],
)
def test_wrong_embedding(X, message):
    with pytest.raises(ValueError, match=message):
        Neighbors.from_embedding(X)


# ---- approximate search, for which pynndescent compiles for half a minute


def share_found(found: Neighbors, exact: Neighbors) -> float:
    """Share of the exact neighbours that were found."""
    return float(np.mean([np.isin(a, b).mean() for a, b in zip(exact.indices, found.indices, strict=True)]))


@pytest.mark.slow
def test_approximate_search_finds_nearly_all():
    X = points(n=1500, d=8)
    found, exact = Neighbors.from_embedding(X, k=15, method="approximate"), Neighbors.from_embedding(X, k=15)
    assert share_found(found, exact) > 0.98
    assert found.k == 15
    expected = np.linalg.norm(X[:, None] - X[found.indices], axis=2)
    np.testing.assert_allclose(found.distances, expected, rtol=1e-4)


@pytest.mark.slow
def test_approximate_search_repeats_itself():
    X = points(n=400)
    first, second, other = (Neighbors.from_embedding(X, k=5, method="approximate", rng=rng) for rng in (0, 0, 1))
    np.testing.assert_array_equal(first.indices, second.indices)
    assert share_found(other, first) > 0.98


@pytest.mark.slow
@pytest.mark.parametrize("copies", [3, 40], ids=["fewer than k", "more than k"])
def test_approximate_search_survives_duplicates(copies):
    X = np.repeat(points(n=20), copies, axis=0)
    found = Neighbors.from_embedding(X, k=10, method="approximate")
    assert found.indices.shape == (20 * copies, 10)
    assert not (found.indices == np.arange(20 * copies)[:, None]).any()
    assert all(len(set(row)) == 10 for row in found.indices.tolist())
    np.testing.assert_allclose(found.distances, Neighbors.from_embedding(X, k=10).distances, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 5])
def test_approximate_search_of_few_cells_is_exact(n):
    X = points(n=n)
    found, exact = Neighbors.from_embedding(X, method="approximate"), Neighbors.from_embedding(X)
    np.testing.assert_array_equal(found.indices, exact.indices)


@pytest.mark.slow
@pytest.mark.parametrize("n_jobs", [None, 1, 1000])
def test_threads_are_left_as_they_were(n_jobs):
    before = numba.get_num_threads()
    Neighbors.from_embedding(points(), k=5, method="approximate", n_jobs=n_jobs)
    assert numba.get_num_threads() == before


@pytest.mark.slow
def test_large_data_are_searched_approximately(monkeypatch):
    monkeypatch.setattr(_search, "MAX_EXACT", 100)
    X = points(n=101)
    approximate = Neighbors.from_embedding(X, k=5, method="approximate")
    assert Neighbors.from_embedding(X, k=5).distances.dtype == approximate.distances.dtype == np.float32
    assert Neighbors.from_embedding(X[:100], k=5).distances.dtype == np.float64
    assert Neighbors.from_embedding(X, k=5, method="exact").distances.dtype == np.float64


def test_wrong_method():
    with pytest.raises(ValueError, match="method must be one of 'auto', 'exact', 'approximate'; got 'annoy'"):
        Neighbors.from_embedding(points(), method="annoy")  # type: ignore[arg-type]


# ---- graphs


def graph(entries, n):
    """Distances out of (row, column): distance."""
    rows, columns = zip(*entries, strict=True)
    return sparse.csr_matrix((list(entries.values()), (rows, columns)), shape=(n, n), dtype=float)


@pytest.mark.parametrize("n_neighbors", [5, 16])
def test_from_the_graph_of_scanpy(n_neighbors):
    adata = ad.AnnData(obsm={"X": points(n=80)})
    sc.pp.neighbors(adata, use_rep="X", n_neighbors=n_neighbors)
    found = Neighbors.from_distances(adata.obsp["distances"])
    exact = Neighbors.from_embedding(adata.obsm["X"], k=n_neighbors - 1)
    np.testing.assert_array_equal(found.indices, exact.indices)
    np.testing.assert_allclose(found.distances, exact.distances, atol=1e-5)


def test_graph_of_removed_cells_keeps_as_many_as_all_have():
    adata = ad.AnnData(obsm={"X": points(n=80)})
    sc.pp.neighbors(adata, use_rep="X", n_neighbors=16)
    part = adata[:60]
    distances = part.obsp["distances"]
    counts = np.diff(distances.indptr)
    found = Neighbors.from_distances(distances)
    assert counts.min() < counts.max()
    assert found.k == counts.min()
    for row in (0, int(counts.argmin()), 59):
        own = distances[row].tocoo()
        order = np.argsort(own.data)[: found.k]
        np.testing.assert_array_equal(found.indices[row], own.coords[-1][order])


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_matrix, sparse.coo_matrix, sparse.csr_array])
def test_from_a_graph_made_by_hand(kind):
    made = graph({(0, 1): 3, (0, 2): 1, (1, 0): 0, (1, 1): 5, (1, 2): 2, (2, 0): 1, (2, 1): 4}, 3)
    found = Neighbors.from_distances(kind(made))
    assert found.indices.tolist() == [[2, 1], [0, 2], [0, 1]]
    assert found.distances.tolist() == [[1, 3], [0, 2], [1, 4]]


def test_graph_is_not_changed():
    made = graph({(0, 1): 3, (1, 0): 2, (1, 1): 7}, 2)
    before = made.copy()
    Neighbors.from_distances(made)
    assert (made != before).nnz == 0
    assert made.nnz == 3


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (np.eye(3), r"graph must be a sparse matrix of shape \(cells, cells\); got ndarray of shape \(3, 3\)"),
        (sparse.csr_matrix((2, 3)), r"got csr_matrix of shape \(2, 3\)"),
        (graph({(0, 1): 1, (1, 0): 1, (2, 2): 1}, 3), "every cell a neighbour; 1 of 3 cells have none"),
        (graph({(0, 1): -1, (1, 0): 1}, 2), "finite and not negative"),
        (graph({(0, 1): np.nan, (1, 0): 1}, 2), "finite and not negative"),
        (graph({(0, 1): np.inf, (1, 0): 1}, 2), "finite and not negative"),
        (sparse.csr_matrix((0, 0)), "0 of 0 cells have none"),
    ],
    ids=["dense", "not square", "alone", "negative", "nan", "infinite", "no cells"],
)
def test_wrong_graph(made, message):
    with pytest.raises(ValueError, match=message):
        Neighbors.from_distances(made)


# ---- Weighted graph


def test_directed_points_to_neighbors():
    neighbors = Neighbors.from_embedding(points(n=80), k=4)
    graph = directed_graph(neighbors)
    assert (graph.sum(axis=1) == 4).all()
    for row in range(80):
        assert set(graph[row].indices) == set(neighbors.indices[row])


def test_connectivities_are_the_formula():
    neighbors = Neighbors.from_embedding(points(n=80), k=9)
    one_way = np.zeros((80, 80))
    for row, (near, distances) in enumerate(zip(neighbors.indices, neighbors.distances, strict=True)):
        beyond = distances - distances[0]
        width = brentq(lambda s, beyond=beyond: np.exp(-beyond / s).sum() - np.log2(10), 1e-6, 1e3)
        one_way[row, near] = np.exp(-beyond / width)
    expected = one_way + one_way.T - one_way * one_way.T
    np.testing.assert_allclose(umap_connectivities(neighbors).toarray(), expected, atol=1e-4)


def test_connectivities_are_symmetric_and_at_most_1():
    graph = umap_connectivities(Neighbors.from_embedding(points(n=80), k=5))
    assert abs(graph - graph.T).max() < 1e-6
    assert 0 < graph.data.min() <= graph.data.max() <= 1 + 1e-6
    assert graph.diagonal().sum() == 0


@pytest.mark.parametrize("kind", ["usual", "pairs", "few places", "one place", "grid"])
def test_equal_to_umap(kind):
    umap = pytest.importorskip("umap.umap_")
    X = {
        "usual": points(n=80),
        "pairs": np.repeat(points(n=40), 2, axis=0),
        "few places": np.repeat(points(n=4), 20, axis=0),
        "one place": np.zeros((80, 3)),
        "grid": np.round(points(n=80) * 2),
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
    found = umap_connectivities(neighbors)
    np.testing.assert_allclose(found.toarray(), expected.toarray(), atol=1e-5)
    assert found.nnz == expected.nnz


def test_no_neighbors_are_no_edges():
    assert umap_connectivities(Neighbors.from_embedding([[1.0, 2.0]])).nnz == 0
