"""kNN preservation: the formula, its extremes, and small batches."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scbatchnorm.metrics import knn_preservation
from scbatchnorm.metrics._inputs import encode_groups
from scbatchnorm.metrics._knn_preservation import find_neighbors_within_batches, knn_preservation_score
from tests.metrics.cells import cells


def groups(values):
    return encode_groups(values, name="g", n_cells=len(values))


def nearest(X, k):
    distances = np.linalg.norm(X[:, None] - X[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    return [set(row) for row in np.argsort(distances, axis=1)[:, :k]]


def kept(X, X_pre, k):
    """Share of each cell's neighbours that are still there."""
    return [len(now & then) / k for now, then in zip(nearest(X, k), nearest(X_pre, k), strict=True)]


def test_preservation_is_the_formula():
    data = cells(n=400)
    expected = np.concatenate(
        [kept(data.X[own], data.X_pre[own], 30) for own in (data.batch == one for one in range(3))]
    )
    found = knn_preservation(data.X, X_pre=data.X_pre, batch=data.batch)
    assert found == pytest.approx(expected.mean())
    assert 0.3 < found < 0.9


def test_small_batches_compare_the_nearest_half_of_the_others():
    data = cells(n=200, n_batches=2)
    batch = np.where(np.arange(200) < 21, 0, np.where(np.arange(200) < 61, 1, 2))
    sizes = {0: 10, 1: 19, 2: 30}
    expected = [kept(data.X[batch == one], data.X_pre[batch == one], k) for one, k in sizes.items()]
    found = knn_preservation(data.X, X_pre=data.X_pre, batch=batch)
    assert found == pytest.approx(np.concatenate(expected).mean())


def test_batches_of_one_or_two_cells_are_left_out():
    data = cells(n=100)
    batch = np.array([0, 1, 1, *[2] * 97])
    expected = np.mean(kept(data.X[3:], data.X_pre[3:], 30))
    assert knn_preservation(data.X, X_pre=data.X_pre, batch=batch) == pytest.approx(expected)
    after, before = (find_neighbors_within_batches(points, groups(batch)) for points in (data.X, data.X_pre))
    score = knn_preservation_score(after, before, 100)
    assert score.cells is not None
    np.testing.assert_array_equal(np.isnan(score.cells), np.arange(100) < 3)
    three = np.array([0, 0, 0])
    assert knn_preservation([[0.0], [1.0], [3.0]], X_pre=[[0.0], [1.0], [3.0]], batch=three) == 1
    assert knn_preservation([[0.0], [1.0], [3.0]], X_pre=[[0.0], [9.0], [1.0]], batch=three) == 0


def test_what_happens_between_batches_makes_no_difference():
    data = cells(n=300)
    value = knn_preservation(data.X, X_pre=data.X_pre, batch=data.batch)
    moved = data.X * (2.0 ** data.batch[:, None]) + 100 * data.batch[:, None]
    assert knn_preservation(moved, X_pre=data.X_pre, batch=data.batch) == pytest.approx(value)


def test_preservation_has_extremes():
    data = cells(n=600)
    assert knn_preservation(5 * data.X - 2, X_pre=data.X, batch=data.batch) == 1
    # Batches of two strings of beads, of which each bead's neighbours go to the other end.
    line = np.arange(100.0)[:, None]
    far = np.where(np.arange(100) % 2, line[:, 0] + 1000, line[:, 0])[:, None]
    assert knn_preservation(far, X_pre=line, batch=np.zeros(100)) < 0.6
    rng = np.random.default_rng(0)
    found = knn_preservation(rng.normal(size=(600, 4)), X_pre=data.X, batch=data.batch)
    assert found == pytest.approx(30 / 199, abs=0.02)  # what chance keeps, as documented


def test_preservation_is_undefined_without_three_cells():
    data = cells(n=20)
    assert math.isnan(knn_preservation(data.X, X_pre=data.X_pre, batch=np.arange(20) // 2))
    assert math.isnan(knn_preservation([[1.0]], X_pre=[[1.0]], batch=["a"]))
    assert knn_preservation_score([], [], 20).reason == "no batch has three cells"


def test_wrong_inputs():
    data = cells()
    with pytest.raises(ValueError, match=r"X_pre must have a row for each of the 300 cells; got shape \(299, 4\)"):
        knn_preservation(data.X, X_pre=data.X_pre[1:], batch=data.batch)
    with pytest.raises(ValueError, match="X must be finite; 1 of 300"):
        knn_preservation([[np.inf] * 4, *data.X[1:]], X_pre=data.X_pre, batch=data.batch)
