"""The inverse Simpson index agrees with a cell-by-cell implementation, and is defined where it is hard."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq

from scbatchnorm.metrics import Neighbors, _inputs, _lisi
from tests.metrics.cells import cells


def probabilities(distances, perplexity):
    """Weights of one neighbourhood, with the root of the entropy found by another method."""

    def weights(beta):
        p = np.exp(-beta * (distances - distances.min()))
        return p / p.sum()

    def excess(log_beta):
        p = weights(np.exp(log_beta))
        return -(p[p > 0] * np.log(p[p > 0])).sum() - np.log(perplexity)

    return weights(np.exp(brentq(excess, -20, 20)))


def effective_groups(distances, groups, perplexity):
    p = probabilities(distances, perplexity)
    return 1 / sum(p[groups == g].sum() ** 2 for g in set(groups))


def nearest(distances, i, k):
    return [j for j in np.argsort(distances[i]) if j != i][:k]


@pytest.mark.parametrize(("flavor", "k"), [("default", 90), ("scib", 89)])
def test_is_the_formula(flavor, k):
    X, group = cells().X, cells().batch
    distances = np.linalg.norm(X[:, None] - X[None], axis=2)
    rows = [nearest(distances, i, k) for i in range(len(X))]
    expected = [effective_groups(distances[i, near], group[near], 30) for i, near in enumerate(rows)]
    found = _lisi.neighborhoods(Neighbors.from_embedding(X), flavor=flavor)
    groups = _inputs.groups(group, name="batch", n_cells=len(X))
    np.testing.assert_allclose(found.simpson(groups), expected, rtol=1e-4)


def test_weights_sum_to_1_and_have_the_perplexity():
    weights = _lisi.neighborhoods(Neighbors.from_embedding(cells().X)).weights
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    entropy = -(weights * np.log(weights)).sum(axis=1)
    np.testing.assert_allclose(np.exp(entropy), 30, rtol=1e-4)
    assert (np.diff(weights, axis=1) <= 0).all()


@pytest.mark.parametrize("n", [2, 3, 4, 7, 30, 91])
def test_in_few_cells_all_others_are_neighbors_and_a_third_of_them_counts(n):
    X, group = cells(n=n, n_batches=2).X, np.arange(n) % 2
    near = _lisi.neighborhoods(Neighbors.from_embedding(X))
    assert near.indices.shape == (n, n - 1)
    found = near.simpson(_inputs.groups(group, name="batch", n_cells=n))
    if n < 9:  # a perplexity below 2 needs a root of its own kind: one neighbour, or two
        assert ((found >= 1) & (found <= 2)).all()
        return
    distances = np.linalg.norm(X[:, None] - X[None], axis=2)
    others = [nearest(distances, i, n - 1) for i in range(n)]
    expected = [effective_groups(distances[i, near], group[near], (n - 1) // 3) for i, near in enumerate(others)]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_one_cell_has_no_index():
    found = _lisi.neighborhoods(Neighbors.from_embedding([[1.0, 2.0]]))
    assert np.isnan(found.simpson(_inputs.groups(["a"], name="batch", n_cells=1))).all()


@pytest.mark.parametrize("scale", [1e-6, 1e6], ids=["tiny", "huge"])
def test_unit_of_length_makes_no_difference(scale):
    found = cells()
    groups = _inputs.groups(found.batch, name="batch", n_cells=300)
    usual = _lisi.neighborhoods(Neighbors.from_embedding(found.X)).simpson(groups)
    scaled = _lisi.neighborhoods(Neighbors.from_embedding(found.X * scale)).simpson(groups)
    np.testing.assert_allclose(scaled, usual, rtol=1e-3)


def test_equally_far_neighbors_weigh_the_same():
    found = _lisi.neighborhoods(Neighbors.from_embedding(np.zeros((120, 2))))
    np.testing.assert_allclose(found.weights, 1 / 90)


def test_neighbors_must_be_enough():
    with pytest.raises(ValueError, match="at least 90 neighbours per cell; got 15"):
        _lisi.neighborhoods(Neighbors.from_embedding(cells().X, k=15))
