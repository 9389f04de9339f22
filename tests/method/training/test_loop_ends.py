"""How training ends: usable weights however it does, a word about it, and a bar on the way."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
import torch

from scbatchnorm._method.training import history as _history
from scbatchnorm._runtime.device import resolve_device
from tests.helpers.training import (
    CPU,
    assert_finite,
    assert_identity,
    brief,
    equal,
    not_finite,
    not_finite_gradient,
    on_step,
    on_update,
    steps_seen,
    train,
    weights,
)


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

    monkeypatch.setattr("scbatchnorm._method.support.find_anchors", interrupt)
    with pytest.warns(UserWarning, match="interrupted at step 0 of 24"):
        trained = train()
    assert trained.stopped == "interrupted"
    assert len(trained.history) == 0
    assert_identity(trained)


def test_training_goes_on_as_if_never_interrupted(monkeypatch):
    """Up to the interruption it is the same training."""
    with monkeypatch.context() as patched:
        on_update(patched, 12, KeyboardInterrupt())
        with pytest.warns(UserWarning, match="interrupted"):
            interrupted = train()
    assert interrupted.history.iloc[0].equals(train().history.iloc[0])


def test_divergence_in_the_first_refresh_returns_the_start(monkeypatch):
    on_step(monkeypatch, 1, not_finite)
    trained = train()
    assert trained.stopped == "diverged"
    assert re.match(r"training diverged at step 0 of 24.*learning_rate", trained.failure)
    assert len(trained.history) == 0
    assert_finite(trained)
    assert_identity(trained)


def test_divergence_returns_the_last_good_weights(monkeypatch):
    """A loss that is not finite in step 13, the first of a refresh: the weights are those after step 12."""
    with monkeypatch.context() as patched:
        on_update(patched, 12, KeyboardInterrupt())
        with pytest.warns(UserWarning, match="interrupted at step 12"):
            good = weights(train())
    on_step(monkeypatch, 13, not_finite)
    trained = train()
    assert trained.stopped == "diverged"
    assert "diverged at step 12 of 24" in trained.failure
    assert trained.history["step"].iloc[-1] == 12
    assert np.isfinite(trained.history.to_numpy()).all()
    assert equal(weights(trained), good)


@pytest.mark.parametrize("number", [1, 5, 12, 24], ids=["first", "within", "end of a refresh", "last"])
def test_gradient_that_is_not_finite_is_divergence(monkeypatch, number):
    """The loss is still a number when the weights are lost: also at the end of a refresh, and of training."""
    on_step(monkeypatch, number, not_finite_gradient)
    trained = train()
    assert trained.stopped == "diverged"
    assert "diverged at step" in trained.failure
    assert_finite(trained)


def test_learning_rate_out_of_all_bounds_diverges():
    trained = train(brief(learning_rate=1e30))
    assert trained.stopped == "diverged"
    assert re.match(r"training diverged at step \d+ of 24.*smaller learning_rate than 1e\+30", trained.failure)
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
        assert not history.is_flat()
        for wiggle in (-0.5, 0.5):
            history.steps = [[(level + wiggle) / 2, (level + wiggle) / 2, 1000.0 * wiggle]]
            history.close_epoch(0, refresh, 1e-3)
    assert history.is_flat() == flat


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
    assert resolve_device("cpu") == CPU
    assert resolve_device(CPU) == CPU
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "", None, 1.5, "meta"])
def test_device_that_is_not_there(device):
    """The message repeats what was given, and names what there is."""
    with pytest.raises(ValueError, match=r"device must be 'auto' or a torch device of this machine \(auto, cpu.*; got"):
        resolve_device(device)
