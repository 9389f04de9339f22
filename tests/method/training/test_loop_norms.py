"""What training does with normalisation: warnings of noisy statistics, dropout, records of shift."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from scbatchnorm import BatchNormAutoencoder
from scbatchnorm._method.training import history as _history
from scbatchnorm._method.training import trainer as _trainer
from scbatchnorm.nn.network import MINIBATCH_NORMS, NETWORK_STATISTICS, NORMS
from scbatchnorm.nn.normalization import MixedBatchNorm
from tests.conftest import expression, labels
from tests.helpers.records import record_of, restored
from tests.helpers.training import CPU, assert_finite, brief, cells, equal, train, weights


def few(**changes):
    return dataclasses.replace(brief(), min_steps=2, max_steps=2, n_refreshes=1, **changes)


@pytest.mark.parametrize("norm", NORMS)
def test_small_minibatches_are_warned_of_where_statistics_are_of_them(norm):
    settings = few(norm=norm, minibatch_size=8)
    if norm in MINIBATCH_NORMS and norm != "batch_layer":  # made for them
        with pytest.warns(UserWarning, match=rf"minibatch_size=8 is too small for norm='{norm}'.*norm='layer'"):
            train(settings)
    else:
        train(settings)


@pytest.mark.parametrize("statistics", ["per_batch"])
def test_few_cells_of_each_batch_are_warned_of_where_statistics_are_per_batch(statistics):
    points, codes = cells(n_batches=4)
    message = rf"8 cells of each of 4 batches, too few for statistics='{statistics}'.*statistics='mixed', or minibatch_size=64"
    with pytest.warns(UserWarning, match=message):
        train(few(statistics=statistics), points=points, codes=codes)


@pytest.mark.parametrize(
    "changes", [{"minibatch_size": 16}, {"minibatch_size": 32, "statistics": "per_batch"}, {"norm": "layer"}], ids=str
)
def test_enough_cells_are_not_warned_of(changes):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(few(**changes))


@pytest.mark.parametrize("statistics", NETWORK_STATISTICS)
def test_every_kind_of_statistics_trains(statistics):
    trained = train(brief(statistics=statistics))
    assert trained.stopped == "completed"
    assert_finite(trained)
    layers = [m for m in trained.network.modules() if isinstance(m, MixedBatchNorm)]
    assert {layer.statistics for layer in layers} == {statistics}
    assert all((layer.running_mean != 0).any() for layer in layers)


def test_dropout_is_drawn_from_the_seed():
    """Not from torch's global generator, whose state is left alone."""
    settings = brief(dropout=0.3)
    before = torch.get_rng_state()
    one = train(settings)
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1234)
        assert equal(weights(train(settings)), weights(one))
    assert not equal(weights(train(settings, seed=1)), weights(one))
    assert not equal(weights(train()), weights(one))


def test_spectral_discriminator_trains():
    one, other = train(brief(adversary_norm="spectral")), train()
    assert_finite(one)
    assert not equal(weights(one), weights(other))


@pytest.mark.parametrize("norm, statistics", [("batch", "per_batch"), ("switchable", "mixed")])
def test_parameters_of_norms_do_not_decay(norm, statistics):
    """Nor logits nor scales, whatever their shape and name."""
    trainer = _trainer.Trainer(5, 2, 24, brief(norm=norm, statistics=statistics, weight_decay=0.1), CPU)
    (matrices,) = trainer.optimizer.param_groups[0]["params"]
    memory = matrices.untyped_storage().data_ptr()
    decayed = {n for n, p in trainer.network.named_parameters() if p.untyped_storage().data_ptr() == memory}
    assert decayed == {"encoder.0.weight", "encoder.3.weight", "decoder.0.weight", "decoder.3.weight", "linear_in"}


def test_nothing_is_recorded_unasked():
    history = train().shift_history
    assert history.equals(_history.empty_shift_history())


@pytest.mark.parametrize("statistics", NETWORK_STATISTICS)
def test_shift_is_recorded_at_each_refresh_and_at_the_end(statistics):
    """Without changing what is trained; of all batches, each time of the same cells."""
    plain, recorded = train(brief(statistics=statistics)), train(brief(statistics=statistics, record_shift=True))
    assert equal(weights(plain), weights(recorded))
    table = recorded.shift_history
    assert table.dtypes.equals(_history.empty_shift_history().dtypes)
    assert table["step"].unique().tolist() == [0, 6, 12, 18, 24]
    counts = table.groupby(["step", "layer", "position", "batch"]).size()
    assert (counts == 1).all()
    assert len(counts) == 5 * (2 * 2 + 1) * 2  # looks, places, batches
    assert table.groupby("batch")["n_cells"].nunique().eq(1).all()
    first = table["step"] == 0
    assert table.loc[first, "drift"].isna().all()
    assert (table.loc[~first, "drift"] > 0).any()
    assert np.isfinite(table.loc[~first, ["mean_shift", "variance_shift", "drift"]]).all().all()


def test_looks_are_at_exact_statistics():
    """What leaves a mixed layer without scale and shift learned yet has mean 0 and variance 1 over the cells looked at."""
    points, codes = cells()
    look = _history.ShiftHistory(points, codes)
    network = _trainer.Trainer(5, 2, 24, brief(), CPU).network
    look.record(network, 0)
    assert look.last is not None
    after = [m.pooled() for (layer, _, position), m in look.last.items() if layer != "latent" and position == "after"]
    assert len(after) == 2
    for moments in after:
        np.testing.assert_allclose(moments.mean, 0, atol=1e-5)
        np.testing.assert_allclose(moments.variance(1), 1, atol=1e-3)
    assert network.training


def test_cells_looked_at_are_of_all_batches_and_few(monkeypatch):
    monkeypatch.setattr(_history, "_RECORDED_CELLS", 20)
    codes = np.repeat([0, 1, 2], [200, 30, 1])
    look = _history.ShiftHistory(np.zeros((231, 5), np.float32), codes)
    assert np.bincount(look.codes).tolist() == [6, 6, 1]


def test_record_has_the_names_of_the_batches_and_survives():
    X, batch = expression(), labels()
    model = BatchNormAutoencoder(
        8, strength=1.0, n_hidden=16, min_steps=6, n_epochs=1, n_refreshes=2, record_shift=True
    )
    model.fit(X, batch)
    assert set(model.shift_history_["batch"]) == {"a", "b", "c"}
    again = restored(record_of(model))
    pd.testing.assert_frame_equal(again.shift_history_, model.shift_history_)
