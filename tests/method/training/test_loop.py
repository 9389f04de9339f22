"""The training loop: as many steps as documented, reproducible, without traces, and with usable weights however it ends."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from scbatchnorm import BatchNormAutoencoder
from scbatchnorm._method.training import history as _history
from scbatchnorm._method.training import trainer as _trainer
from scbatchnorm._method.training.loop import train_network
from scbatchnorm._method.training.minibatches import COMPOSITIONS
from scbatchnorm.nn.network import NORMS
from tests.helpers.training import (
    CPU,
    assert_finite,
    brief,
    cells,
    equal,
    kinds,
    on_step,
    on_update,
    steps_seen,
    train,
    weights,
)


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@given(st.integers(1, 10**6), st.integers(4, 512), st.integers(1, 50), st.integers(1, 2000), st.integers(1, 4000))
def test_number_of_steps(n_cells, size, n_epochs, min_steps, max_steps):
    """n_epochs passes over the cells, at least min_steps, and never more than max_steps."""
    settings = dataclasses.replace(
        brief(), minibatch_size=size, n_epochs=n_epochs, min_steps=min_steps, max_steps=max_steps
    )
    n = settings.n_steps(n_cells)
    passes = n_epochs * (n_cells // size)
    assert n == (max_steps if max(passes, min_steps) > max_steps else max(passes, min_steps))


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({}, 24),
        ({"min_steps": 1, "max_steps": 1}, 1),
        ({"min_steps": 3, "max_steps": 5, "n_epochs": 10}, 5),
        ({"min_steps": 7, "max_steps": 50, "n_epochs": 1}, 7),
        ({"min_steps": 7, "max_steps": 50, "n_epochs": 3}, 18),
        ({"min_steps": 3, "max_steps": 3, "n_refreshes": 10}, 3),
        # Ten are one step of warm-up, where the schedule has no slope.
        ({"min_steps": 10, "max_steps": 10}, 10),
    ],
    ids=["as set", "one", "at most", "at least", "by epochs", "fewer than refreshes", "ten"],
)
def test_training_takes_the_steps_set(changes, expected):
    trained = train(dataclasses.replace(brief(), **changes))
    assert trained.stopped == "completed"
    assert trained.history["step"].iloc[-1] == expected
    assert steps_seen(trained) == {expected}


def test_history_has_one_row_per_epoch():
    history = train().history
    assert history.dtypes.to_dict() == {
        "epoch": np.int64,
        "step": np.int64,
        "refresh": np.int64,
        "reconstruction": np.float64,
        "anchors": np.float64,
        "adversary": np.float64,
        "learning_rate": np.float64,
    }
    assert history["epoch"].tolist() == list(range(len(history)))
    # An epoch is 200 / 32 = 6 minibatches, and so is a refresh.
    assert history["step"].tolist() == [6, 12, 18, 24]
    assert history["refresh"].tolist() == [0, 1, 2, 3]
    assert np.isfinite(history.to_numpy()).all()
    assert history["learning_rate"].between(0, BatchNormAutoencoder().learning_rate).all()


def test_history_of_no_training_has_the_same_columns():
    assert len(_history.empty_history()) == 0
    assert _history.empty_history().dtypes.equals(train().history.dtypes)


def test_first_step_has_the_losses_of_the_linear_solution():
    """The network is the identity: nothing to reconstruct, and the discriminator has no idea."""
    points, codes = cells()
    once = dataclasses.replace(brief(), min_steps=1, max_steps=1, minibatch_size=200)
    (first,) = train(once, points=points, codes=codes).history.itertuples()
    assert first.reconstruction == pytest.approx(0, abs=1e-9)
    assert first.anchors > 0.1
    # Cross-entropy of a coin for each cell, times its squared support, which is at most 1.
    assert 0 < first.adversary < 2 * np.log(2)


def test_weights_of_zero_leave_losses_out():
    history = train(brief(anchor_weight=0.0)).history
    assert (history["anchors"] == 0).all()
    assert (history["adversary"] > 0).all()
    history = train(brief(adversary_weight=0.0)).history
    assert (history["anchors"] > 0).all()
    assert (history["adversary"] == 0).all()


def test_training_brings_batches_together():
    """What no offset can: the shift that depends on the type. What was measured is not forgotten."""
    points, codes = cells(400)
    trained = train(
        dataclasses.replace(brief(), min_steps=250, max_steps=250, learning_rate=3e-3, minibatch_size=64),
        points=points,
        codes=codes,
    )
    with torch.no_grad():
        z, decoded = (t.numpy() for t in trained.network(torch.from_numpy(points), torch.from_numpy(codes)))
    kind = kinds(400)

    def apart(x):
        return np.mean(
            [
                np.linalg.norm(x[(kind == k) & (codes == 0)].mean(0) - x[(kind == k) & (codes == 1)].mean(0))
                for k in range(3)
            ]
        )

    assert apart(z) < 0.5 * apart(points)
    assert ((decoded - points) ** 2).sum(1).mean() < 0.5 * ((z - points) ** 2).sum(1).mean()


@pytest.mark.parametrize(
    "lacks, pull, push",
    [
        ([0.5], 1, 1),
        ([0.05], 0.5, 1),
        ([-0.1], 0, 0.15),
        ([0.5, 0.02], 1, 0.4),
        ([0.5, 0.0], 1, 0.15),
        ([0.0, 0.5], 0, 1),
    ],
)
def test_losses_between_batches_ease_with_what_mixing_lacks(lacks, pull, push):
    """All of them by what is lacking at first; the adversary also by what is lacking later, never to nothing."""
    trainer = _trainer.Trainer(5, 2, 24, brief(), CPU)
    for number, lack in enumerate(lacks):
        trainer.update_loss_weights(lack, first=number == 0)
    assert trainer.alignment_weight == pytest.approx(pull)
    assert trainer.adversary_weight_scale == pytest.approx(push)


def test_batches_that_are_mixed_are_pulled_less():
    """A random split of one experiment changes less than an experiment that is apart."""

    def moved(points, codes):
        settings = dataclasses.replace(brief(), min_steps=200, max_steps=200)
        trained = train(settings, points=points, codes=codes)
        with torch.no_grad():
            z = trained.network.encode(torch.from_numpy(points), torch.from_numpy(codes)).numpy()
        return np.linalg.norm(z - points) / np.linalg.norm(points)

    apart, codes = cells(600)
    mixed = np.random.default_rng(0).normal(size=(600, 5)).astype(np.float32)
    assert moved(mixed, codes) < 0.5 * moved(apart, codes)


def test_matrices_decay_and_biases_and_scales_do_not():
    """Decay would pull them to where they do not belong, whatever their shape."""
    trainer = _trainer.Trainer(5, 2, 24, brief(weight_decay=0.1), CPU)
    decay = {}
    for group in trainer.optimizer.param_groups:
        (whole,) = group["params"]
        memory = whole.untyped_storage().data_ptr()
        for part in (trainer.network, trainer.critic):
            inside = [p for p in part.parameters() if p.untyped_storage().data_ptr() == memory]
            decay.update(dict.fromkeys(map(id, inside), group["weight_decay"]))
    assert decay.keys() == {id(p) for part in (trainer.network, trainer.critic) for p in part.parameters()}
    linear = [m for m in trainer.network.modules() if isinstance(m, nn.Linear)]
    assert all(decay[id(m.weight)] == 0.1 for m in linear)
    still = {n for n, p in trainer.network.named_parameters() if decay[id(p)] == 0}
    named = {n for n, p in trainer.network.named_parameters() if p.ndim == 1 or "shift" in n or "scale" in n}
    assert named - still == set()


def test_same_seed_same_training():
    """Bit for bit."""
    one, again, other = train(seed=3), train(seed=3), train(seed=4)
    assert equal(weights(one), weights(again))
    assert one.history.equals(again.history)
    assert not equal(weights(one), weights(other))


def test_result_does_not_depend_on_global_state():
    one = train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1234)
        assert equal(weights(train()), weights(one))


@pytest.mark.parametrize(
    "error", [None, RuntimeError("stop"), KeyboardInterrupt()], ids=["runs", "fails", "interrupted"]
)
def test_no_traces_are_left(monkeypatch, two_threads, error):
    """Global generators and the number of threads are as before, also when training does not come to its end."""
    if error is not None:
        on_update(monkeypatch, 5, error)
    before = torch.get_rng_state(), repr(np.random.get_state()), random.getstate()  # noqa: NPY002
    if isinstance(error, RuntimeError):
        with pytest.raises(RuntimeError, match="stop"):
            train()
    elif error is not None:
        with pytest.warns(UserWarning, match="interrupted"):
            train()
    else:
        train()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert repr(np.random.get_state()) == before[1]  # noqa: NPY002
    assert random.getstate() == before[2]
    assert torch.get_num_threads() == 2
    assert torch.is_grad_enabled()


def test_steps_take_one_thread(monkeypatch, two_threads):
    seen = []

    def look(left, value):
        seen.append(torch.get_num_threads())
        return value

    on_step(monkeypatch, 3, look)
    train()
    assert seen == [1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_no_traces_are_left_on_cuda():
    """The generator of the device is as before, wherever training runs."""
    before = torch.cuda.get_rng_state()
    points, codes = cells()
    for device in (CPU, torch.device("cuda")):
        train_network(points, codes, brief(), np.random.default_rng(0), device=device, progress=False)
        assert torch.equal(torch.cuda.get_rng_state(), before)


def test_input_is_not_changed():
    points, codes = cells()
    train(points=points, codes=codes)
    assert np.array_equal(points, cells()[0])
    assert np.array_equal(codes, cells()[1])


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("composition", COMPOSITIONS)
def test_every_layer_and_composition_trains(norm, composition):
    """To finite weights that differ from the start, left in evaluation mode."""
    points, codes = cells(n_batches=3)
    trained = train(brief(norm=norm, minibatches=composition), points=points, codes=codes)
    assert trained.stopped == "completed"
    assert not trained.network.training
    assert trained.network.encoder[-1].weight.abs().max() > 0
    assert_finite(trained)


@pytest.mark.parametrize("composition", COMPOSITIONS)
@pytest.mark.parametrize(
    "sizes", [[60], [60, 1], [1, 1], [1, 1, 1, 60], [2] * 20], ids=["one batch", "one cell", "two cells", "few", "many"]
)
def test_awkward_batches_train(composition, sizes):
    codes = np.repeat(np.arange(len(sizes)), sizes)
    points = np.random.default_rng(0).normal(size=(len(codes), 5)).astype(np.float32)
    trained = train(brief(minibatches=composition), points=points, codes=codes)
    # Where nothing is left to be mixed there is little to learn, which may be noticed.
    assert trained.stopped in {"completed", "converged"}
    assert_finite(trained)


def test_more_cells_than_a_sketch(monkeypatch):
    """A refresh looks at a sketch; the number of steps is that of all cells."""
    monkeypatch.setattr("scbatchnorm._method.training.loop.cells_per_batch", lambda n_batches: 40)
    points, codes = cells(400)
    settings = dataclasses.replace(brief(), n_epochs=2, min_steps=1, max_steps=1000)
    trained = train(settings, points=points, codes=codes)
    assert trained.history["step"].iloc[-1] == 2 * (400 // 32)
    assert_finite(trained)
