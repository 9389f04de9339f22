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
from tqdm.auto import tqdm

from scbatchnorm import BatchNormAutoencoder, _anchors, _device, _history, _losses, _minibatch, _training
from scbatchnorm.nn.network import NORMALIZATIONS

CPU = torch.device("cpu")


def brief(**changes):
    """Settings of a training of 24 steps in 4 refreshes."""
    model = BatchNormAutoencoder(
        n_hidden=16, min_steps=24, max_steps=24, minibatch_size=32, n_refreshes=4, **{"n_layers": 1, **changes}
    )
    return _training.Settings.of(model)


def kinds(n):
    """Type of each of the cells below."""
    return np.random.default_rng(1).integers(3, size=n)


def cells(n=200, n_batches=2):
    """Three types in five components; batches differ by a shift that depends on the type."""
    rng = np.random.default_rng(0)
    kind, codes = kinds(n), rng.permutation(np.arange(n) % n_batches)
    centre = 2 * np.eye(3, 5)
    points = centre[kind] + rng.normal(0, 0.4, (n, 5)) + 0.6 * codes[:, None] * np.roll(centre, 1, axis=0)[kind]
    return points.astype(np.float32), codes.astype(np.int64)


def train(settings=None, *, points=None, codes=None, seed=0, progress=False):
    if points is None:
        points, codes = cells()
    rng = np.random.default_rng(seed)
    return _training.train(points, codes, settings or brief(), rng, device=CPU, progress=progress)


def weights(trained):
    return {name: value.clone() for name, value in trained.network.state_dict().items()}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def assert_finite(trained):
    assert all(torch.isfinite(value).all() for value in trained.network.state_dict().values())


def steps_seen(trained):
    """Minibatches that the BatchNorm layers have counted."""
    return {int(value) for name, value in trained.network.state_dict().items() if name.endswith("num_batches_tracked")}


def on_update(monkeypatch, number, error):
    """Raise `error` when the bar is moved for the `number`-th time, which is after that step."""

    class Bar(tqdm):
        moved = 0

        def update(self, n=1):
            Bar.moved += 1
            if Bar.moved == number:
                raise error
            return super().update(n)

    monkeypatch.setattr(_training, "tqdm", Bar)


def on_step(monkeypatch, number, change):
    """Let `change` replace the displacement of the `number`-th step."""
    displacement, count = _losses.displacement, 0

    def replaced(left, right, group):
        nonlocal count
        count += 1
        value = displacement(left, right, group)
        return change(left, value) if count == number else value

    monkeypatch.setattr(_losses, "displacement", replaced)


def not_finite(left, value):
    return value * float("nan")


def not_finite_gradient(left, value):
    """The loss is as it was, but the root at 0 has a gradient of inf * 0."""
    return value + (0 * left.sum()).sqrt()


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
    # Cross-entropy of a coin for each cell, times its support, which is at most 1.
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


def test_matrices_decay_and_biases_and_scales_do_not():
    """Decay would pull them to where they do not belong, whatever their shape."""
    trainer = _training._Trainer(5, 2, 24, brief(weight_decay=0.1), 0, CPU)
    groups = trainer.optimizer.param_groups
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
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
        _training.train(points, codes, brief(), np.random.default_rng(0), device=device, progress=False)
        assert torch.equal(torch.cuda.get_rng_state(), before)


def test_input_is_not_changed():
    points, codes = cells()
    train(points=points, codes=codes)
    assert np.array_equal(points, cells()[0])
    assert np.array_equal(codes, cells()[1])


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("composition", _minibatch.COMPOSITIONS)
def test_every_layer_and_composition_trains(normalization, composition):
    """To finite weights that differ from the start, left in evaluation mode."""
    points, codes = cells(n_batches=3)
    trained = train(brief(normalization=normalization, minibatches=composition), points=points, codes=codes)
    assert trained.stopped == "completed"
    assert not trained.network.training
    assert trained.network.encoder[-1].weight.abs().max() > 0
    assert_finite(trained)


@pytest.mark.parametrize("composition", _minibatch.COMPOSITIONS)
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
    monkeypatch.setattr(_anchors, "per_batch", lambda n_batches: 40)
    points, codes = cells(400)
    settings = dataclasses.replace(brief(), n_epochs=2, min_steps=1, max_steps=1000)
    trained = train(settings, points=points, codes=codes)
    assert trained.history["step"].iloc[-1] == 2 * (400 // 32)
    assert_finite(trained)


@pytest.mark.parametrize("number", [1, 5, 6, 7, 24])
def test_interruption_keeps_the_weights_of_that_step(monkeypatch, number):
    on_update(monkeypatch, number, KeyboardInterrupt())
    with pytest.warns(UserWarning, match=rf"interrupted at step {number} of 24"):
        trained = train()
    assert trained.stopped == "interrupted"
    assert_finite(trained)
    assert not trained.network.training
    assert steps_seen(trained) == {number}
    assert trained.history["step"].iloc[-1] == number
    # A refresh is 6 steps: the last row belongs to the one of that step.
    assert trained.history["refresh"].iloc[-1] == (number - 1) // 6


def test_interruption_before_the_first_step(monkeypatch):
    def interrupt(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(_anchors, "find", interrupt)
    with pytest.warns(UserWarning, match="interrupted at step 0 of 24"):
        trained = train()
    assert trained.stopped == "interrupted"
    assert len(trained.history) == 0
    x = torch.ones(3, 5)
    torch.testing.assert_close(trained.network.encode(x, torch.zeros(3, dtype=torch.long)), x)


def test_training_goes_on_as_if_never_interrupted(monkeypatch):
    """Up to the interruption it is the same training."""
    with monkeypatch.context() as patched:
        on_update(patched, 12, KeyboardInterrupt())
        with pytest.warns(UserWarning, match="interrupted"):
            interrupted = train()
    assert interrupted.history.iloc[0].equals(train().history.iloc[0])


def test_divergence_in_the_first_refresh_returns_the_start(monkeypatch):
    on_step(monkeypatch, 1, not_finite)
    with pytest.warns(UserWarning, match=r"diverged at step 0 of 24.*learning_rate"):
        trained = train()
    assert trained.stopped == "diverged"
    assert len(trained.history) == 0
    assert_finite(trained)
    x = torch.ones(3, 5)
    torch.testing.assert_close(trained.network.encode(x, torch.zeros(3, dtype=torch.long)), x)


def test_divergence_returns_the_last_good_weights(monkeypatch):
    """A loss that is not finite in step 13, the first of a refresh: the weights are those after step 12."""
    with monkeypatch.context() as patched:
        on_update(patched, 12, KeyboardInterrupt())
        with pytest.warns(UserWarning, match="interrupted at step 12"):
            good = weights(train())
    on_step(monkeypatch, 13, not_finite)
    with pytest.warns(UserWarning, match="diverged at step 12 of 24"):
        trained = train()
    assert trained.stopped == "diverged"
    assert trained.history["step"].iloc[-1] == 12
    assert np.isfinite(trained.history.to_numpy()).all()
    assert equal(weights(trained), good)


@pytest.mark.parametrize("number", [1, 5, 12, 24], ids=["first", "within", "end of a refresh", "last"])
def test_gradient_that_is_not_finite_is_divergence(monkeypatch, number):
    """The loss is still a number when the weights are lost: also at the end of a refresh, and of training."""
    on_step(monkeypatch, number, not_finite_gradient)
    with pytest.warns(UserWarning, match="diverged at step"):
        trained = train()
    assert trained.stopped == "diverged"
    assert_finite(trained)


def test_learning_rate_out_of_all_bounds_diverges():
    with pytest.warns(UserWarning, match=r"diverged at step \d+ of 24.*smaller learning_rate than 1e\+30"):
        trained = train(brief(learning_rate=1e30))
    assert trained.stopped == "diverged"
    assert_finite(trained)


def test_training_without_progress_stops_early():
    """Losses that stay the same for some refreshes, here at zero, end it."""
    settings = dataclasses.replace(
        brief(anchor_weight=0.0, adversary_weight=0.0), n_refreshes=10, min_steps=60, max_steps=60
    )
    trained = train(settings)
    assert trained.stopped == "converged"
    assert trained.history["refresh"].max() == _history._FLAT_REFRESHES
    assert trained.history["step"].iloc[-1] == 6 * (_history._FLAT_REFRESHES + 1)


@pytest.mark.parametrize(
    "last, flat", [(1.0, True), (1.0 + _history._FLAT_SHARE / 2, True), (1.2, False), (0.8, False)]
)
def test_flat_compares_whole_refreshes(last, flat):
    """Epochs may differ as they like if the mean of their refreshes does not; refreshes before the last few do not count."""
    history = _history.History()
    for refresh in range(_history._FLAT_REFRESHES + 3):
        level = 50.0 if refresh < 2 else 1.0
        level = last if refresh == _history._FLAT_REFRESHES + 2 else level
        assert not history.flat()
        for wiggle in (-0.5, 0.5):
            history.steps = [[(level + wiggle) / 2, (level + wiggle) / 2, 1000.0 * wiggle]]
            history.close_epoch(0, refresh, 1e-3)
    assert history.flat() == flat


@pytest.mark.parametrize("progress, shown", [(True, True), (False, False), (None, False)])
def test_progress_bar(capsys, progress, shown):
    """Shown if asked for; by default not where the output is no terminal."""
    train(progress=progress)
    out, err = capsys.readouterr()
    assert out == ""
    assert ("24/24" in err) == shown


def test_end_of_training_is_logged(caplog):
    with caplog.at_level("INFO", logger="scbatchnorm"):
        train()
    assert "training completed after 24 steps" in caplog.text


def test_resolve_device():
    assert _device.resolve_device("cpu") == CPU
    assert _device.resolve_device(CPU) == CPU
    assert _device.resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "", None, 1.5, "meta"])
def test_device_that_is_not_there(device):
    """The message repeats what was given, and names what there is."""
    with pytest.raises(ValueError, match=r"device must be 'auto' or a torch device of this machine \(auto, cpu.*; got"):
        _device.resolve_device(device)
