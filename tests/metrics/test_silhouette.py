"""Silhouettes agree with the formula written out and with scib-metrics, and are defined where it is hard."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scbatchnorm.metrics import silhouette_batch, silhouette_label


def data(seed=0, n=120):
    rng = np.random.default_rng(seed)
    label, batch = rng.integers(3, size=n), rng.integers(3, size=n)
    label[:3] = batch[:3] = np.arange(3)
    X = rng.normal(size=(n, 4)) + 2 * label[:, None] + np.outer(batch, [0.5, 0, 0, 0])
    return X, label, batch


def widths(X, groups):
    """Silhouette widths from their definition: (b - a) / max(a, b), 0 for a cell alone in its group."""
    distances = np.linalg.norm(X[:, None] - X[None], axis=2)
    result = []
    for i, own in enumerate(groups):
        mates = [j for j in range(len(X)) if groups[j] == own and j != i]
        if not mates:
            result.append(0.0)
            continue
        a = distances[i, mates].mean()
        b = min(distances[i, groups == other].mean() for other in set(groups) - {own})
        result.append((b - a) / max(a, b))
    return np.array(result)


def test_label_is_the_formula():
    X, label, _ = data()
    assert silhouette_label(X, label) == pytest.approx((widths(X, label).mean() + 1) / 2, abs=1e-9)


def test_batch_is_the_formula():
    X, label, batch = data()
    by_label = [np.mean(1 - np.abs(widths(X[label == t], batch[label == t]))) for t in range(3)]
    assert silhouette_batch(X, label, batch) == pytest.approx(np.mean(by_label), abs=1e-9)


def test_equal_to_scib_metrics():
    scib_metrics = pytest.importorskip("scib_metrics", reason="the reference is an extra: scbatchnorm[bench]")
    X, label, batch = data(1, n=300)
    batch[label == 2] = 0  # one type in a single batch
    X, names = X.astype(np.float32), np.array(["T", "B", "NK"])[label]
    assert silhouette_label(X, names) == pytest.approx(float(scib_metrics.silhouette_label(X, names)), abs=1e-4)
    expected = float(scib_metrics.silhouette_batch(X, names, batch))
    assert silhouette_batch(X, names, batch) == pytest.approx(expected, abs=1e-4)


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), n=st.integers(5, 80))
def test_names_and_order_of_cells_make_no_difference(seed, n):
    X, label, batch = data(seed, n)
    order = np.random.default_rng(seed).permutation(n)
    types, days = np.array(["zebra", "ape", "mole"])[label], pd.Categorical(np.array(["c", "b", "a"])[batch])
    value = silhouette_label(X, label)
    assert silhouette_label(X, types) == pytest.approx(value, abs=1e-9)
    assert silhouette_label(X[order], label[order]) == pytest.approx(value, abs=1e-7)
    value = silhouette_batch(X, label, batch)
    assert silhouette_batch(X, types, days) == pytest.approx(value, abs=1e-9, nan_ok=True)
    assert silhouette_batch(X[order], label[order], batch[order]) == pytest.approx(value, abs=1e-7, nan_ok=True)


def test_labels_that_cannot_be_judged_are_left_out():
    X, label, batch = data()
    private = np.where(label == 2, 0, batch)
    judged = label < 2
    assert silhouette_batch(X, label, private) == pytest.approx(
        silhouette_batch(X[judged], label[judged], batch[judged])
    )


@pytest.mark.parametrize(
    ("label", "batch"),
    [(np.zeros(10), np.zeros(10)), (np.arange(10) % 2, np.arange(10) % 2), (np.zeros(10), np.arange(10))],
    ids=["one batch", "batch is label", "one cell a batch"],
)
def test_batch_is_undefined(label, batch):
    assert math.isnan(silhouette_batch(np.random.default_rng(0).normal(size=(10, 2)), label, batch))


@pytest.mark.parametrize("label", [np.zeros(10), np.arange(10)], ids=["one label", "one cell a label"])
def test_label_is_undefined(label):
    assert math.isnan(silhouette_label(np.random.default_rng(0).normal(size=(10, 2)), label))


def test_coinciding_cells_have_no_structure():
    assert silhouette_label(np.zeros((10, 2)), np.arange(10) % 2) == 0.5


def test_values_of_different_types_stay_apart():
    X, _, _ = data(n=20)
    mixed = np.array([1, "1"] * 10, dtype=object)
    assert silhouette_label(X, mixed) == silhouette_label(X, np.tile(["a", "b"], 10))


def test_wrong_inputs():
    X, label, batch = data()
    with pytest.raises(ValueError, match=r"label must have one value for each of the 120 cells; got shape \(1,\)"):
        silhouette_batch(X, label[:1], batch)
    with pytest.raises(ValueError, match=r"batch must have one value for each of the 120 cells; got shape \(120, 1\)"):
        silhouette_batch(X, label, batch[:, None])
    with pytest.raises(ValueError, match="label must give every cell a value; 1 of 120 are missing"):
        silhouette_label(X, np.where(np.arange(120) == 5, np.nan, label))
    with pytest.raises(ValueError, match="X must be finite; 1 of 120 cells"):
        silhouette_label(np.where(np.arange(120)[:, None] == 5, np.nan, X), label)
