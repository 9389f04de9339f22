"""Silhouettes agree with the formula written out and with scikit-learn, and are defined where it is hard."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import silhouette_samples

from scbatchnorm.metrics import _silhouette, bras, silhouette_batch, silhouette_label
from scbatchnorm.metrics._inputs import encode_groups
from scbatchnorm.metrics._silhouette import cosine_silhouette_widths, silhouette_widths
from tests.metrics.cells import cells, mixed, separate


def groups(values):
    return encode_groups(values, name="label", n_cells=len(values))


def widths(distances, group, *, mean_other=False):
    """Silhouette widths from their definition: (b - a) / max(a, b), 0 for a cell alone in its group."""
    result = []
    for i, own in enumerate(group):
        mates = [j for j in range(len(group)) if group[j] == own and j != i]
        others = [distances[i, group == other] for other in set(group) - {own}]
        if not mates:
            result.append(0.0)
            continue
        a = distances[i, mates].mean()
        b = np.concatenate(others).mean() if mean_other else min(other.mean() for other in others)
        result.append((b - a) / max(a, b))
    return np.array(result)


def euclidean(X):
    return np.linalg.norm(X[:, None] - X[None], axis=2)


def cosine(X):
    directions = X / np.linalg.norm(X, axis=1, keepdims=True)
    return 1 - directions @ directions.T


def test_label_is_the_formula():
    data = cells(n=120)
    expected = (widths(euclidean(data.X), data.label).mean() + 1) / 2
    assert silhouette_label(data.X, data.label) == pytest.approx(expected, abs=1e-9)


def test_batch_is_the_formula():
    data = cells(n=120)
    by_label = [
        np.mean(1 - np.abs(widths(euclidean(data.X[own]), data.batch[own])))
        for own in (data.label == t for t in range(3))
    ]
    found = silhouette_batch(data.X, batch=data.batch, label=data.label)
    assert found == pytest.approx(np.mean(by_label), abs=1e-9)


def test_bras_is_the_formula():
    data = cells(n=120, n_batches=4)
    by_label = [
        np.mean(1 - np.abs(widths(cosine(data.X[own]), data.batch[own], mean_other=True)))
        for own in (data.label == t for t in range(3))
    ]
    assert bras(data.X, batch=data.batch, label=data.label) == pytest.approx(np.mean(by_label), abs=1e-9)


def test_a_cell_alone_in_its_group_has_no_width():
    data = cells(n=40, n_labels=1)
    group = np.where(np.arange(40) == 3, 7, data.batch)
    plain, cosines = silhouette_widths(data.X, groups(group)), cosine_silhouette_widths(data.X, groups(group))
    assert plain[3] == cosines[3] == 0
    np.testing.assert_allclose(plain, widths(euclidean(data.X), group), atol=1e-9)
    np.testing.assert_allclose(cosines, widths(cosine(data.X), group, mean_other=True), atol=1e-9)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("offset", [0, 1000])
def test_equal_to_scikit_learn(dtype, offset):
    data = cells(n=500, d=6, n_labels=4)
    X = (data.X + offset).astype(dtype)
    expected = silhouette_samples(X.astype(np.float64), data.label)
    np.testing.assert_allclose(silhouette_widths(X, groups(data.label)), expected, atol=1e-7)


def test_chunks_and_single_precision_make_no_difference(monkeypatch):
    data = cells(n=500)
    whole = silhouette_widths(data.X, groups(data.label))
    monkeypatch.setattr(_silhouette, "_CHUNK", 500 * 7)
    np.testing.assert_allclose(silhouette_widths(data.X, groups(data.label)), whole, atol=1e-9)
    monkeypatch.setattr(_silhouette, "_MAX_DOUBLE", 499)
    single = silhouette_widths(data.X, groups(data.label))
    assert not np.array_equal(single, whole)
    np.testing.assert_allclose(single, whole, atol=1e-4)


def test_bras_sees_a_batch_apart_that_hides_behind_two_that_mixed():
    """Rautenstrauch and Ohler's case: a nearest other batch is always there, the mean of all others is far."""
    rng = np.random.default_rng(0)
    batch, label = np.repeat([0, 1, 2, 3], 60), np.zeros(240)
    X = rng.normal(size=(240, 4)) + 20 * np.where(batch < 2, 1, -1)[:, None] * [1, 0, 0, 0]
    assert silhouette_batch(X, batch=batch, label=label) > 0.9
    assert bras(X, batch=batch, label=label) < 0.2


def test_bras_sees_directions_only():
    data = cells(n=120)
    lengths = np.random.default_rng(1).uniform(0.1, 10, (120, 1))
    value = bras(data.X, batch=data.batch, label=data.label)
    assert bras(data.X * lengths, batch=data.batch, label=data.label) == pytest.approx(value)
    assert bras(data.X + 3, batch=data.batch, label=data.label) != pytest.approx(value)


@pytest.mark.parametrize("metric", [silhouette_batch, bras])
def test_extremes_of_batch(metric):
    same, apart = mixed(), separate()
    twins = np.repeat(same.X[::2], 2, axis=0)  # each place has a cell of both batches
    assert metric(twins, batch=same.batch, label=same.label) > 0.98
    assert metric(apart.X, batch=apart.batch, label=apart.label) < 0.05


def test_extremes_of_label():
    data = mixed()
    assert silhouette_label(data.X, data.label) > 0.98
    assert silhouette_label(data.X, data.batch) == pytest.approx(0.5, abs=0.01)
    # Each cell is by itself among those of the other label.
    X = np.repeat([[0.0], [100.0]], 100, axis=0)
    X[[0, 100]] = X[[100, 0]]
    label = np.repeat(["a", "b"], 100)
    cells_of = silhouette_widths(X, groups(label))
    assert cells_of[[0, 100]] == pytest.approx([-0.99, -0.99], abs=0.01)


@pytest.mark.parametrize("metric", [silhouette_batch, bras])
def test_labels_that_cannot_be_judged_are_left_out(metric):
    data = cells(n=120)
    private = np.where(data.label == 2, 0, data.batch)
    judged = data.label < 2
    value = metric(data.X[judged], batch=data.batch[judged], label=data.label[judged])
    assert metric(data.X, batch=private, label=data.label) == pytest.approx(value)
    singles = np.where(data.label == 2, 10 + np.arange(120), data.batch)  # a type with one cell per batch
    assert metric(data.X, batch=singles, label=data.label) == pytest.approx(value)


@pytest.mark.parametrize("metric", [silhouette_batch, bras])
def test_labels_count_the_same(metric):
    data = cells(n=400, n_labels=2)
    label = np.where(np.arange(400) < 60, 1, 0)
    each = [metric(data.X[own], batch=data.batch[own], label=label[own]) for own in (label == 0, label == 1)]
    assert metric(data.X, batch=data.batch, label=label) == pytest.approx(np.mean(each))


@pytest.mark.parametrize("metric", [silhouette_batch, bras])
@pytest.mark.parametrize(
    ("label", "batch"),
    [(np.zeros(10), np.zeros(10)), (np.arange(10) % 2, np.arange(10) % 2), (np.zeros(10), np.arange(10))],
    ids=["one batch", "batch is label", "one cell a batch"],
)
def test_batch_is_undefined(metric, label, batch):
    assert math.isnan(metric(np.random.default_rng(0).normal(size=(10, 2)), batch=batch, label=label))


@pytest.mark.parametrize("label", [np.zeros(10), np.arange(10)], ids=["one label", "one cell a label"])
def test_label_is_undefined(label):
    assert math.isnan(silhouette_label(np.random.default_rng(0).normal(size=(10, 2)), label))
    assert math.isnan(silhouette_label([[1.0]], ["a"]))


def test_coinciding_cells_have_no_structure():
    two = np.arange(10) % 2
    assert silhouette_label(np.zeros((10, 2)), two) == 0.5
    for metric in (silhouette_batch, bras):
        assert metric(np.ones((10, 2)), batch=two, label=np.zeros(10)) == 1
    assert bras(np.zeros((10, 2)), batch=two, label=np.zeros(10)) == 1  # without a direction


def test_groups_may_be_of_any_type():
    X = cells(n=20).X
    mixed_types = np.array([1, "1"] * 10, dtype=object)
    expected = silhouette_label(X, np.tile(["a", "b"], 10))
    unused = pd.Categorical(["a", "b"] * 10, categories=["z", "b", "a", "y"])
    for label in (mixed_types, np.tile([True, False], 10), [7, 3] * 10, unused, pd.Series(unused, index=range(5, 25))):
        assert silhouette_label(X, label) == pytest.approx(expected)


def test_wrong_inputs():
    data = cells(n=120)
    with pytest.raises(ValueError, match=r"label must have one value for each of the 120 cells; got shape \(1,\)"):
        silhouette_batch(data.X, batch=data.batch, label=data.label[:1])
    with pytest.raises(ValueError, match=r"batch must have one value for each of the 120 cells; got shape \(120, 1\)"):
        bras(data.X, batch=data.batch[:, None], label=data.label)
    with pytest.raises(ValueError, match="label must give every cell a value; 1 of 120 are missing"):
        silhouette_label(data.X, np.where(np.arange(120) == 5, np.nan, data.label))
    with pytest.raises(ValueError, match="X must be finite; 1 of 120 cells"):
        silhouette_label(np.where(np.arange(120)[:, None] == 5, np.nan, data.X), data.label)
