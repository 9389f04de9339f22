"""iLISI and CiLISI: the formulas, their extremes, and which cells are left out."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from scbatchnorm.metrics import Neighbors, _inputs, _lisi, _mixing, cilisi, ilisi
from tests.metrics.cells import cells, mixed, separate


def index(X, group):
    """Inverse Simpson index of each cell."""
    return _lisi.neighborhoods(Neighbors.from_embedding(X)).simpson(_inputs.groups(group, name="g", n_cells=len(X)))


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


def test_extremes():
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


def test_undefined():
    X = cells().X
    assert math.isnan(ilisi(X, np.zeros(300)))
    assert math.isnan(ilisi([[0.0, 1.0]], ["a"]))
    label = np.arange(300) % 3
    assert math.isnan(cilisi(X, batch=np.zeros(300), label=label))
    assert math.isnan(cilisi(X, batch=label, label=label))
    assert math.isnan(cilisi(X, batch=np.arange(300) % 2, label=np.arange(300)))


def test_reasons():
    data = cells(n=30, n_labels=3)
    label, batch = (_inputs.groups(group, name="g", n_cells=30) for group in (data.label, np.zeros(30)))
    near = _lisi.neighborhoods(Neighbors.from_embedding(data.X))
    assert _mixing.ilisi_score(near, batch).reason == "there is one batch only"
    found = dict(_mixing.within_labels(data.X, label))
    assert _mixing.cilisi_score(found, label, batch).reason == "no label with 10 cells is in two batches"


@pytest.mark.parametrize("n", [2, 3, 4, 30, 91])
def test_few_cells_use_all_others(n):
    data = cells(n=n, n_batches=2)
    value = ilisi(data.X, data.batch)
    assert 0 <= value <= 1
    assert ilisi(Neighbors.from_embedding(data.X, k=n), data.batch) == value


def test_cells_carry_their_values():
    data = cells(n=200)
    label = _inputs.groups(np.where(np.arange(200) < 5, 9, data.label), name="label", n_cells=200)
    batch = _inputs.groups(data.batch, name="batch", n_cells=200)
    score = _mixing.cilisi_score(dict(_mixing.within_labels(data.X, label)), label, batch)
    assert score.cells is not None
    assert np.isnan(score.cells[:5]).all()
    assert not np.isnan(score.cells[5:]).any()
    assert score.value == pytest.approx(score.cells[5:].mean())


def test_wrong_inputs():
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
