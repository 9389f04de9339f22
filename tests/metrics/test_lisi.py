"""iLISI and cLISI agree with a cell-by-cell implementation and with scib-metrics, and are defined where it is hard."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from scbatchnorm.metrics import Neighbors, _inputs, _lisi, clisi, ilisi


def data(seed=0, n=300, d=4, n_groups=3):
    rng = np.random.default_rng(seed)
    group = rng.integers(n_groups, size=n)
    group[:n_groups] = np.arange(n_groups)
    return rng.normal(size=(n, d)) + 0.7 * group[:, None], group


def effective_groups(distances, groups, perplexity):
    """Inverse Simpson index of one neighbourhood, with the root of the entropy found by another method."""

    def probabilities(beta):
        p = np.exp(-beta * (distances - distances.min()))
        return p / p.sum()

    def excess(log_beta):
        p = probabilities(np.exp(log_beta))
        return -(p[p > 0] * np.log(p[p > 0])).sum() - np.log(perplexity)

    p = probabilities(np.exp(brentq(excess, -20, 20)))
    return 1 / sum(p[groups == g].sum() ** 2 for g in set(groups))


def test_per_cell_is_the_formula():
    X, group = data()
    distances = np.linalg.norm(X[:, None] - X[None], axis=2)
    expected = []
    for i in range(len(X)):
        near = [j for j in np.argsort(distances[i]) if j != i][:90]
        expected.append(effective_groups(distances[i, near], group[near], 30))
    found = _lisi.per_cell(Neighbors.from_embedding(X), _inputs.groups(group, name="batch", n_cells=len(X)))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert ilisi(X, group) == pytest.approx((np.median(expected) - 1) / 2, abs=1e-4)
    assert clisi(X, group) == pytest.approx((3 - np.median(expected)) / 2, abs=1e-4)


@pytest.mark.parametrize("scale", [1.0, 300.0], ids=["usual", "far apart"])
def test_equal_to_scib_metrics(scale):
    pytest.importorskip("scib_metrics", reason="the reference implementation is an extra: scbatchnorm[bench]")
    from scib_metrics import clisi_knn, ilisi_knn
    from scib_metrics.nearest_neighbors import NeighborsResults

    X, batch = data(1, n=400)
    label = np.random.default_rng(2).permutation(batch)
    own = Neighbors.from_embedding(X * scale)
    # scib-metrics 0.5 lists the cell itself, and gives it no weight: 91 entries are our 90 neighbours.
    itself = np.arange(len(X))[:, None]
    reference = NeighborsResults(
        indices=np.hstack([itself, own.indices]),
        distances=np.hstack([np.zeros((len(X), 1)), own.distances]).astype(np.float32),
    )
    assert ilisi(own, batch) == pytest.approx(float(ilisi_knn(reference, batch, perplexity=30)), abs=1e-4)
    assert clisi(own, label) == pytest.approx(float(clisi_knn(reference, label, perplexity=30)), abs=1e-4)
    # Its default leaves 89 others: a little different.
    assert ilisi(own, batch) == pytest.approx(float(ilisi_knn(reference.subset_neighbors(90), batch)), abs=5e-3)


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), n=st.integers(4, 150))
def test_names_and_order_of_cells_make_no_difference(seed, n):
    X, group = data(seed, n)
    rng = np.random.default_rng(seed)
    names = np.array(["zebra", "ape", "mole"])[group]
    order = rng.permutation(n)
    for metric in (ilisi, clisi):
        value = metric(X, group)
        assert metric(X, names) == pytest.approx(value, abs=1e-12)
        assert metric(X[order], group[order]) == pytest.approx(value, abs=1e-7)
        assert 0 <= value <= 1


def test_perfectly_mixed_is_1_and_separate_is_0():
    X = np.repeat(np.random.default_rng(0).normal(size=(150, 3)), 2, axis=0)
    pairs, halves = np.tile(["a", "b"], 150), np.repeat(["a", "b"], 150)
    assert ilisi(np.zeros((300, 2)), pairs) == pytest.approx(1, abs=1e-3)
    assert ilisi(X + 1000 * (halves == "a")[:, None], halves) == 0
    assert clisi(X + 1000 * (halves == "a")[:, None], halves) == 1


def test_neighbors_and_embedding_give_the_same():
    X, group = data()
    assert ilisi(Neighbors.from_embedding(X, k=120), group) == ilisi(X, group) == ilisi(X.tolist(), list(group))


def test_neighbors_must_be_enough():
    X, group = data()
    with pytest.raises(ValueError, match="at least 90 neighbours per cell; got 15"):
        ilisi(Neighbors.from_embedding(X, k=15), group)


@pytest.mark.parametrize("n", [2, 3, 4, 30, 91])
def test_few_cells_use_all_others(n):
    X, group = data(n=n, n_groups=2)
    for metric in (ilisi, clisi):
        assert 0 <= metric(X, group) <= 1
        assert metric(Neighbors.from_embedding(X, k=n), group) == metric(X, group)


@pytest.mark.parametrize("metric", [ilisi, clisi])
def test_one_group_is_undefined(metric):
    X, _ = data()
    assert math.isnan(metric(X, np.zeros(len(X))))
    assert math.isnan(metric([[0.0, 1.0]], ["a"]))


def test_coinciding_cells_are_defined():
    batch = np.tile([0, 1, 2], 40)
    assert ilisi(np.zeros((120, 2)), batch) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(("metric", "name"), [(ilisi, "batch"), (clisi, "label")])
def test_wrong_groups(metric, name):
    X, group = data()
    with pytest.raises(ValueError, match=rf"{name} must have one value for each of the 300 cells; got shape \(299,\)"):
        metric(X, group[1:])
    with pytest.raises(ValueError, match=f"{name} must give every cell a value; 2 of 300 are missing"):
        metric(X, [None, None, *["a"] * 298])
