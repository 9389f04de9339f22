"""The inverse Simpson index agrees with a cell-by-cell implementation; iLISI, CiLISI and cLISI: formulas, extremes, what is left out."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import brentq

from scbatchnorm.metrics import Neighbors, cilisi, clisi, ilisi
from scbatchnorm.metrics._inputs import encode_groups
from scbatchnorm.metrics._lisi import (
    cilisi_score,
    clisi_score,
    ilisi_score,
    weigh_neighbors,
    weigh_neighbors_within_labels,
)
from tests.metrics.cells import cells, mixed, separate


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
    found = weigh_neighbors(Neighbors.from_embedding(X), flavor=flavor)
    groups = encode_groups(group, name="batch", n_cells=len(X))
    np.testing.assert_allclose(found.simpson(groups), expected, rtol=1e-4)


def test_weights_sum_to_1_and_have_the_perplexity():
    weights = weigh_neighbors(Neighbors.from_embedding(cells().X)).weights
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    entropy = -(weights * np.log(weights)).sum(axis=1)
    np.testing.assert_allclose(np.exp(entropy), 30, rtol=1e-4)
    assert (np.diff(weights, axis=1) <= 0).all()


@pytest.mark.parametrize("n", [2, 3, 4, 7, 30, 91])
def test_in_few_cells_all_others_are_neighbors_and_a_third_of_them_counts(n):
    X, group = cells(n=n, n_batches=2).X, np.arange(n) % 2
    near = weigh_neighbors(Neighbors.from_embedding(X))
    assert near.indices.shape == (n, n - 1)
    found = near.simpson(encode_groups(group, name="batch", n_cells=n))
    if n < 9:  # a perplexity below 2 needs a root of its own kind: one neighbour, or two
        assert ((found >= 1) & (found <= 2)).all()
        return
    distances = np.linalg.norm(X[:, None] - X[None], axis=2)
    others = [nearest(distances, i, n - 1) for i in range(n)]
    expected = [effective_groups(distances[i, near], group[near], (n - 1) // 3) for i, near in enumerate(others)]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_one_cell_has_no_index():
    found = weigh_neighbors(Neighbors.from_embedding([[1.0, 2.0]]))
    assert np.isnan(found.simpson(encode_groups(["a"], name="batch", n_cells=1))).all()


@pytest.mark.parametrize("scale", [1e-6, 1e6], ids=["tiny", "huge"])
def test_unit_of_length_makes_no_difference(scale):
    found = cells()
    groups = encode_groups(found.batch, name="batch", n_cells=300)
    usual = weigh_neighbors(Neighbors.from_embedding(found.X)).simpson(groups)
    scaled = weigh_neighbors(Neighbors.from_embedding(found.X * scale)).simpson(groups)
    np.testing.assert_allclose(scaled, usual, rtol=1e-3)


def test_equally_far_neighbors_weigh_the_same():
    found = weigh_neighbors(Neighbors.from_embedding(np.zeros((120, 2))))
    np.testing.assert_allclose(found.weights, 1 / 90)


def test_neighbors_must_be_enough():
    with pytest.raises(ValueError, match="at least 90 neighbours per cell; got 15"):
        weigh_neighbors(Neighbors.from_embedding(cells().X, k=15))


# ---- iLISI and CiLISI


def index(X, group):
    """Inverse Simpson index of each cell."""
    return weigh_neighbors(Neighbors.from_embedding(X)).simpson(encode_groups(group, name="g", n_cells=len(X)))


@pytest.mark.parametrize("n_batches", [2, 3, 4])
def test_ilisi_is_the_scaled_median(n_batches):
    data = cells(n_batches=n_batches)
    expected = (np.median(index(data.X, data.batch)) - 1) / (n_batches - 1)
    assert ilisi(data.X, data.batch) == pytest.approx(expected)


def test_cilisi_is_the_mean_within_types_over_the_batches_that_have_them():
    data = cells(n=400, n_labels=3, n_batches=4)
    batch = np.where(data.label == 0, data.batch % 2, data.batch)
    expected = np.empty(400)
    for label, n_batches in ((0, 2), (1, 4), (2, 4)):
        own = data.label == label
        expected[own] = (index(data.X[own], batch[own]) - 1) / (n_batches - 1)
    assert cilisi(data.X, batch=batch, label=data.label) == pytest.approx(expected.mean())


def test_cilisi_leaves_out_rare_types_and_types_of_one_batch():
    data = cells(n=300)
    label, batch = data.label.copy(), data.batch.copy()
    kept = slice(100, None)
    label[:9] = 7
    label[9:100], batch[9:100] = 8, 1
    with_others = cilisi(data.X, batch=batch, label=label)
    assert with_others == pytest.approx(cilisi(data.X[kept], batch=batch[kept], label=label[kept]))
    label[9] = 7  # the tenth
    assert cilisi(data.X, batch=batch, label=label) != pytest.approx(with_others)


def test_cilisi_does_not_gain_by_mixing_types():
    """Types on top of each other, one in each batch: iLISI is high, though nothing of a type has mixed."""
    data = cells(n=400, n_labels=2, n_batches=2, labels_apart=0, batches_apart=0)
    few = np.arange(400) < 40  # in both types, so that there is something to judge
    batch = np.where(few, np.arange(400) % 2, data.label)
    X = data.X + 100 * np.outer(np.where(few, batch, 0), [1, 0, 0, 0])
    assert ilisi(X, batch) > 0.8
    assert cilisi(X, batch=batch, label=data.label) < 0.2


def test_ilisi_and_cilisi_have_extremes():
    for data, low, high in ((mixed(), 0.9, 1), (separate(), 0, 1e-6)):
        assert low <= ilisi(data.X, data.batch) <= high
        assert low <= cilisi(data.X, batch=data.batch, label=data.label) <= high
    everywhere = np.zeros((300, 2))
    assert ilisi(everywhere, np.tile([0, 1, 2], 100)) == pytest.approx(1, abs=0.01)


def test_neighbors_and_embedding_give_the_same():
    data = cells()
    of_neighbors = ilisi(Neighbors.from_embedding(data.X, k=120), data.batch)
    assert of_neighbors == ilisi(data.X, data.batch) == ilisi(data.X.tolist(), list(data.batch))


def test_flavor_scib_leaves_89_others():
    data = cells()
    default, scib = ilisi(data.X, data.batch), ilisi(data.X, data.batch, flavor="scib")
    assert default != scib
    assert default == pytest.approx(scib, abs=5e-3)
    assert ilisi(Neighbors.from_embedding(data.X, k=89), data.batch, flavor="scib") == scib


def test_ilisi_and_cilisi_are_undefined_for_one_batch():
    X = cells().X
    assert math.isnan(ilisi(X, np.zeros(300)))
    assert math.isnan(ilisi([[0.0, 1.0]], ["a"]))
    label = np.arange(300) % 3
    assert math.isnan(cilisi(X, batch=np.zeros(300), label=label))
    assert math.isnan(cilisi(X, batch=label, label=label))
    assert math.isnan(cilisi(X, batch=np.arange(300) % 2, label=np.arange(300)))


def test_ilisi_and_cilisi_have_reasons():
    data = cells(n=30, n_labels=3)
    label, batch = (encode_groups(group, name="g", n_cells=30) for group in (data.label, np.zeros(30)))
    near = weigh_neighbors(Neighbors.from_embedding(data.X))
    assert ilisi_score(near, batch).reason == "there is one batch only"
    found = dict(weigh_neighbors_within_labels(data.X, label))
    assert cilisi_score(found, label, batch).reason == "no label with 10 cells is in two batches"


@pytest.mark.parametrize("n", [2, 3, 4, 30, 91])
def test_few_cells_use_all_others(n):
    data = cells(n=n, n_batches=2)
    value = ilisi(data.X, data.batch)
    assert 0 <= value <= 1
    assert ilisi(Neighbors.from_embedding(data.X, k=n), data.batch) == value


def test_cells_carry_their_values():
    data = cells(n=200)
    label = encode_groups(np.where(np.arange(200) < 5, 9, data.label), name="label", n_cells=200)
    batch = encode_groups(data.batch, name="batch", n_cells=200)
    score = cilisi_score(dict(weigh_neighbors_within_labels(data.X, label)), label, batch)
    assert score.cells is not None
    assert np.isnan(score.cells[:5]).all()
    assert not np.isnan(score.cells[5:]).any()
    assert score.value == pytest.approx(score.cells[5:].mean())


def test_ilisi_and_cilisi_wrong_inputs():
    data = cells()
    with pytest.raises(ValueError, match=r"batch must have one value for each of the 300 cells; got shape \(299,\)"):
        ilisi(data.X, data.batch[1:])
    with pytest.raises(ValueError, match="batch must give every cell a value; 2 of 300 are missing"):
        ilisi(data.X, np.array([None, None, *["a"] * 298]))
    with pytest.raises(ValueError, match="label must give every cell a value; 1 of 300 are missing"):
        cilisi(data.X, batch=data.batch, label=[np.nan, *data.label[1:]])
    with pytest.raises(ValueError, match=r"X must have shape \(cells, dimensions\)"):
        cilisi(Neighbors.from_embedding(data.X), batch=data.batch, label=data.label)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 90 neighbours per cell; got 15"):
        ilisi(Neighbors.from_embedding(data.X, k=15), data.batch)
    with pytest.raises(ValueError, match="flavor must be one of 'default', 'scib'; got 'scIB'"):
        ilisi(data.X, data.batch, flavor="scIB")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="X must be finite; 300 of 300 cells"):
        cilisi(replace(data, X=data.X * np.nan).X, batch=data.batch, label=data.label)


# ---- cLISI


def groups(values):
    return encode_groups(values, name="g", n_cells=len(values))


@pytest.mark.parametrize("n_labels", [2, 3, 4])
def test_clisi_is_the_scaled_median(n_labels):
    data = cells(n_labels=n_labels, labels_apart=0.8)
    index = weigh_neighbors(Neighbors.from_embedding(data.X)).simpson(groups(data.label))
    expected = (n_labels - np.median(index)) / (n_labels - 1)
    assert clisi(data.X, data.label) == pytest.approx(expected)
    assert 0.1 < expected < 0.9


def test_clisi_has_extremes():
    data = mixed()
    assert clisi(data.X, data.label) == 1
    assert clisi(np.zeros((300, 2)), np.tile([0, 1, 2], 100)) == pytest.approx(0, abs=0.01)


def test_clisi_takes_neighbors_and_flavors():
    data = cells()
    assert clisi(Neighbors.from_embedding(data.X, k=120), data.label) == clisi(data.X, data.label)
    scib = clisi(data.X, data.label, flavor="scib")
    assert scib != clisi(data.X, data.label)
    assert clisi(Neighbors.from_embedding(data.X, k=89), data.label, flavor="scib") == scib


def test_clisi_is_undefined_for_one_label():
    assert math.isnan(clisi(cells().X, np.zeros(300)))
    assert math.isnan(clisi([[0.0, 1.0]], ["a"]))
    score = clisi_score(weigh_neighbors(Neighbors.from_embedding(cells().X)), groups([1] * 300))
    assert score.reason == "there is one label only"


@pytest.mark.parametrize("n", [2, 3, 4, 30, 91])
def test_clisi_of_few_cells(n):
    assert 0 <= clisi(cells(n=n, n_labels=2, n_batches=2).X, np.arange(n) % 2) <= 1


def test_clisi_wrong_inputs():
    data = cells()
    with pytest.raises(ValueError, match=r"label must have one value for each of the 300 cells; got shape \(299,\)"):
        clisi(data.X, data.label[1:])
    with pytest.raises(ValueError, match="label must give every cell a value; 2 of 300 are missing"):
        clisi(data.X, np.array([None, None, *["a"] * 298]))
