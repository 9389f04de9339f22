"""Isolated labels: which they are, and their silhouette and F1 score."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from sklearn.metrics import f1_score, silhouette_samples

from scbatchnorm.metrics import Neighbors, isolated_labels
from scbatchnorm.metrics._clusters import cluster_leiden
from scbatchnorm.metrics._inputs import encode_groups
from scbatchnorm.metrics._isolated import find_isolated_labels, isolated_f1_score, isolated_silhouette_score
from tests.metrics.cells import cells, mixed


def groups(values):
    return encode_groups(values, name="g", n_cells=len(values))


def private(n=200, seed=0):
    """Types 0 and 1 in one batch each, type 2 in two, type 3 in all three."""
    data = cells(seed, n, n_labels=4)
    batch = np.select([data.label == 0, data.label == 1, data.label == 2], [0, 2, data.batch % 2], data.batch)
    return data.X, batch, data.label


def test_isolated_are_the_labels_of_fewest_batches():
    _, batch, label = private()
    labels, batches = groups(label), groups(batch)

    def names(most=None):
        return sorted(labels.names[find_isolated_labels(labels, batches, most)])

    assert names() == names(1) == [0, 1]
    assert names(2) == [0, 1, 2]
    assert names(3) == [0, 1, 2, 3]
    assert sorted(labels.names[find_isolated_labels(labels, groups(np.zeros(200)))]) == [0, 1, 2, 3]


@pytest.mark.parametrize(("most_batches", "isolated"), [(None, 2), (1, 2), (2, 3), (3, 4), (7, 4)])
def test_silhouette_is_the_formula(most_batches, isolated):
    X, batch, label = private()
    widths = (silhouette_samples(X, label) + 1) / 2
    expected = np.mean([widths[label == one].mean() for one in range(isolated)])
    found = isolated_labels(X, batch=batch, label=label, most_batches=most_batches)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(("most_batches", "isolated"), [(None, 2), (2, 3)])
def test_f1_is_the_formula(most_batches, isolated):
    pytest.importorskip("igraph")
    X, batch, label = private()
    candidates = cluster_leiden(Neighbors.from_embedding(X, k=15), rng=0)
    best = [
        max(f1_score(label == one, clusters == cluster) for clusters in candidates for cluster in set(clusters))
        for one in range(isolated)
    ]
    found = isolated_labels(X, batch=batch, label=label, score="f1", most_batches=most_batches)
    assert found == pytest.approx(np.mean(best))
    assert 0.2 < found < 0.99


@pytest.mark.parametrize("score", ["silhouette", "f1"])
def test_extremes(score):
    data = mixed()
    batch = np.where(data.label == 0, 0, data.batch)
    assert isolated_labels(data.X, batch=batch, label=data.label, score=score) > 0.95
    hidden = np.random.default_rng(0).permutation(data.label)
    batch = np.where(hidden == 0, 0, data.batch)
    assert isolated_labels(data.X, batch=batch, label=hidden, score=score) < 0.75


def test_f1_of_a_label_is_that_of_its_best_cluster():
    label = groups(list("aaabbbbb"))
    candidates = [np.array([0, 0, 1, 1, 1, 1, 1, 1]), np.array([0, 0, 0, 0, 1, 1, 1, 1])]
    isolated = np.array([0])
    assert isolated_f1_score(candidates[:1], label, isolated).value == pytest.approx(0.8)
    assert isolated_f1_score(candidates, label, isolated).value == pytest.approx(6 / 7)
    assert isolated_f1_score(candidates, label, np.array([0, 1])).value == pytest.approx((6 / 7 + 10 / 11) / 2)


def test_single_labels_have_a_silhouette_only():
    X, batch, label = private()
    labels = groups(label)
    isolated = find_isolated_labels(labels, groups(batch))
    score = isolated_silhouette_score(np.linspace(-1, 1, 200), labels, isolated)
    assert score.cells is not None
    assert np.isnan(score.cells[label > 1]).all()
    assert score.of_subset(label == 1) == pytest.approx(((np.linspace(-1, 1, 200)[label == 1]) + 1).mean() / 2)
    assert math.isnan(score.of_subset(label == 3))


@pytest.mark.parametrize("score", ["silhouette", "f1"])
def test_undefined(score):
    data = cells(n=60)
    assert math.isnan(isolated_labels(data.X, batch=data.batch, label=np.zeros(60), score=score))
    assert math.isnan(isolated_labels(data.X, batch=data.batch, label=np.arange(60), score=score))
    assert math.isnan(isolated_labels(data.X, batch=data.batch, label=data.label, score=score, most_batches=1))
    assert math.isnan(isolated_labels([[1.0]], batch=["a"], label=["x"], score=score))


def test_label_of_one_cell_counts_half():
    data = cells(n=60, n_labels=2)
    label, batch = data.label.copy(), data.batch.copy()
    label[0] = 5
    assert isolated_labels(data.X, batch=batch, label=label) == 0.5  # a cell alone has the width 0


def test_without_igraph_f1_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "igraph", None)
    X, batch, label = private()
    with pytest.raises(ImportError) as caught:
        isolated_labels(X, batch=batch, label=label, score="f1")
    assert "pip install 'scbatchnorm[leiden]'" in caught.value.__notes__[0]


def test_wrong_inputs():
    X, batch, label = private()
    with pytest.raises(ValueError, match="score must be one of 'silhouette', 'f1'; got 'F1'"):
        isolated_labels(X, batch=batch, label=label, score="F1")  # type: ignore[arg-type]
    for most_batches in (0, 1.5, True):
        with pytest.raises(ValueError, match="most_batches must be an integer of at least 1; got"):
            isolated_labels(X, batch=batch, label=label, most_batches=most_batches)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="batch must give every cell a value; 1 of 200 are missing"):
        isolated_labels(X, batch=[None, *batch[1:]], label=label)
