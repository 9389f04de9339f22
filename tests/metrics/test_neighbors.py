"""Neighbourhoods are exact, leave out the cell itself, and say what is wrong with what they are given."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from scbatchnorm.metrics import Neighbors


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


def test_float32_far_from_the_origin_keeps_its_neighbors():
    X = points().astype(np.float32)
    far = (X + 1000).astype(np.float32)
    near = Neighbors.from_embedding(far.astype(np.float64) - 1000, k=5)
    np.testing.assert_array_equal(Neighbors.from_embedding(far, k=5).indices, near.indices)


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
        (sparse.csr_matrix(np.eye(3)), r"dense array .* got csr_matrix: use X\.toarray\(\)"),
    ],
    ids=["flat", "no cells", "no dimensions", "strings", "nan", "sparse"],
)
def test_wrong_embedding(X, message):
    with pytest.raises(ValueError, match=message):
        Neighbors.from_embedding(X)
