"""A fitted model: its fingerprint, new statistics, and inference by the folded network."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError

from scbatchnorm import BatchNormAutoencoder
from scbatchnorm._data.batches import Batches
from scbatchnorm._data.blocks import InMemory
from scbatchnorm.nn import MixedBatchNorm
from scbatchnorm.nn._statistics import BatchStatistics
from scbatchnorm.nn.network import NETWORK_STATISTICS, NORMS
from tests.conftest import expression, labels
from tests.helpers.records import record_of, restored


@pytest.fixture
def model(fitted):
    return copy.deepcopy(fitted)


def test_fingerprint_is_a_hash(fitted):
    assert len(fitted.fingerprint()) == 64
    assert int(fitted.fingerprint(), 16)
    assert copy.deepcopy(fitted).fingerprint() == fitted.fingerprint()
    with pytest.raises(NotFittedError):
        BatchNormAutoencoder().fingerprint()


def test_same_fit_same_fingerprint(brief, X, batch, fitted):
    assert brief().fit(X, batch).fingerprint() == fitted.fingerprint()
    assert brief(rng=1).fit(X, batch).fingerprint() != fitted.fingerprint()
    assert brief(strength=0).fit(X, batch).fingerprint() != fitted.fingerprint()


def test_fingerprint_sees_every_number_that_counts(model):
    """Each weight and each frozen statistic; not the count of minibatches, which nothing depends on."""
    before = model.fingerprint()
    for name, tensor in model.network_.state_dict().items():
        with torch.no_grad():
            first = tensor.flatten()[0].clone()
            tensor.flatten()[0] += 1
            changed = model.fingerprint() != before
            tensor.flatten()[0] = first
        assert changed != name.endswith("num_batches_tracked"), name
        assert model.fingerprint() == before
    for array in (model.offsets_, model.stem_.components, model.stem_.mean, model.stem_.origin):
        array.flat[0] += 1
        assert model.fingerprint() != before
        array.flat[0] -= 1


def test_recalibration_changes_statistics_and_fingerprint_only(model, fitted, X, batch):
    weights = {name: p.clone() for name, p in model.network_.named_parameters()}
    assert model.recalibrate(X[::2], batch[::2]) is model
    assert model.fingerprint() != fitted.fingerprint()
    assert model.calibration_ == {
        "by": "recalibrate",
        "n_cells": 45,
        "fingerprint_of_fit": fitted.fingerprint(),
    }
    assert fitted.calibration_ == {"by": "fit", "n_cells": 90, "fingerprint_of_fit": fitted.fingerprint()}
    assert all(torch.equal(p, weights[name]) for name, p in model.network_.named_parameters())
    assert not model.network_.training
    assert not np.allclose(model.transform(X, batch), fitted.transform(X, batch))


def test_recalibration_on_the_cells_of_the_fit_is_the_calibration_of_the_fit(model, fitted, X, batch):
    model.recalibrate(X, batch)
    np.testing.assert_array_equal(model.transform(X, batch), fitted.transform(X, batch))
    assert model.fingerprint() == fitted.fingerprint()


def test_record_says_which_cells_the_statistics_are_of(model, X, batch):
    model.recalibrate(X[::2], batch[::2])
    record = record_of(model)
    assert record["fingerprint"] == model.fingerprint() != record["calibration"]["fingerprint_of_fit"]
    again = restored(record)
    assert again.fingerprint() == model.fingerprint()
    assert again.calibration_ == model.calibration_


@pytest.mark.parametrize("changed", [{"norm": "layer"}, {"norm": "none"}, {"strength": 0.0}])
def test_nothing_to_recalibrate(brief, X, batch, changed):
    model = brief(**changed).fit(X, batch)
    before = model.fingerprint()
    with pytest.raises(ValueError, match="recalibrate needs"):
        model.recalibrate(X, batch)
    assert model.fingerprint() == before


@pytest.mark.parametrize("rows", [slice(0, 0), slice(0, 1)])
def test_too_few_cells_to_recalibrate(model, fitted, X, batch, rows):
    with pytest.raises(ValueError, match="X must have at least 2 cells|minimum of 1 is required"):
        model.recalibrate(X[rows], batch[rows])
    assert model.fingerprint() == fitted.fingerprint()


def test_recalibration_that_fails_changes_nothing(model, fitted, X, batch, monkeypatch):
    def fail(network, *others):
        for parameter in network.buffers():
            parameter.zero_()
        raise MemoryError

    monkeypatch.setattr("scbatchnorm._method.fitted.calibrate_statistics", fail)
    with pytest.raises(MemoryError):
        model.recalibrate(X, batch)
    with pytest.raises(ValueError, match="z was not among them"):
        model.recalibrate(X, np.where(batch == "a", "z", batch))
    assert model.fingerprint() == fitted.fingerprint()
    assert model.calibration_ == fitted.calibration_


@pytest.mark.parametrize("statistics", NETWORK_STATISTICS)
@pytest.mark.parametrize("norm", NORMS)
def test_every_norm_works_end_to_end(brief, norm, statistics):
    """Fit, transform, invert, write, read; a cell is embedded alone as among others."""
    if statistics != "mixed" and norm != "batch":
        with pytest.raises(ValueError, match=rf"statistics={statistics!r} needs norm='batch'; got norm={norm!r}"):
            brief(norm=norm, statistics=statistics).fit(expression(), labels())
        return
    X, batch = expression(), labels()
    model = brief(norm=norm, statistics=statistics, minibatch_size=64, min_steps=12).fit(X, batch)
    embedding = model.transform(X, batch)
    assert np.isfinite(embedding).all()
    assert np.isfinite(model.inverse_transform(embedding, batch)).all()
    alone = np.concatenate([model.transform(X[i : i + 1], batch[i : i + 1]) for i in range(0, 90, 10)])
    np.testing.assert_allclose(alone, embedding[::10], atol=2e-4)
    again = restored(record_of(model))
    np.testing.assert_array_equal(again.transform(X, batch), embedding)
    layers = [m for m in model.network_.modules() if isinstance(m, MixedBatchNorm)]
    assert all(layer.statistics == statistics for layer in layers)
    assert len(layers) == (4 if norm == "batch" else 0)


@pytest.mark.parametrize("norm", NORMS)
def test_frozen_statistics_are_those_of_all_cells(brief, norm):
    """What each layer with statistics holds is what it sees of the cells of the fit."""
    X, batch = expression(), labels()
    model = brief(norm=norm).fit(X, batch)
    codes = Batches.from_values(batch, len(X)).codes
    points = model.fitted_.read_points(InMemory(X)) - model.offsets_[codes]
    seen: dict[str, torch.Tensor] = {}
    for name, layer in model.network_.named_modules():
        if isinstance(layer, BatchStatistics):
            layer.register_forward_pre_hook(
                lambda _, args, name=name: seen.__setitem__(name, args[0].detach().double())
            )
    with torch.no_grad():
        model.network_(torch.from_numpy(points), torch.from_numpy(codes))
    for name, values in seen.items():
        layer = model.network_.get_submodule(name)
        torch.testing.assert_close(layer.running_mean.double(), values.mean(0), rtol=1e-4, atol=1e-5)
    assert len(seen) == (4 if norm in {"batch", "switchable", "batch_layer", "whitened"} else 0)


def test_transform_uses_the_folded_network(fitted, X, batch, monkeypatch):
    """The same embedding, without a normalisation on the way."""
    passed = []

    def forward(self, x, *others):
        passed.append(len(x))
        return x

    monkeypatch.setattr(MixedBatchNorm, "forward", forward)
    fitted.inverse_transform(fitted.transform(X, batch), batch)
    assert passed == []
    fitted.network_.encode(torch.zeros(2, 8), torch.zeros(2, dtype=torch.long))
    assert passed
