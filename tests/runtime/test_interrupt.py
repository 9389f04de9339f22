"""Signals during a training: it ends at a step, with what it has; otherwise they do what they always do."""

from __future__ import annotations

import os
import signal
import threading

import numpy as np
import pytest

from scbatchnorm._method.training.trainer import Trainer
from scbatchnorm._runtime.interrupt import catch_interrupts
from tests.helpers.processes import run_python
from tests.helpers.training import assert_finite, steps_seen, train

SIGNALS = [signal.SIGINT, signal.SIGTERM]

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are sent as on Unix")


@pytest.fixture(autouse=True)
def usual():
    """Whatever a test does, the handlers of the test run are put back."""
    before = [signal.getsignal(number) for number in SIGNALS]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)


def within(monkeypatch, number, send):
    """Send a signal in the middle of the `number`-th step: after the gradients, before the weights are moved."""
    step, count = Trainer.step, 0

    def sending(self, *args):
        nonlocal count
        count += 1
        if count == number:
            update = self.optimizer.step

            def interrupted():
                os.kill(os.getpid(), send)
                return update()

            with monkeypatch.context() as patched:
                patched.setattr(self.optimizer, "step", interrupted)
                return step(self, *args)
        return step(self, *args)

    monkeypatch.setattr(Trainer, "step", sending)


@pytest.mark.parametrize("number", SIGNALS)
def test_training_ends_at_a_step(monkeypatch, number):
    """Not in the middle of one, where some weights are new and others old."""
    within(monkeypatch, 7, number)
    with pytest.warns(UserWarning, match="interrupted at step 7 of 24; the weights of that step are used"):
        trained = train()
    assert trained.stopped == "interrupted"
    assert trained.history["step"].iloc[-1] == 7
    assert steps_seen(trained) == {7}
    assert_finite(trained)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_second_signal_ends_it_at_once():
    with pytest.raises(KeyboardInterrupt), catch_interrupts():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_signal_that_nobody_obeyed_has_its_effect():
    with pytest.raises(KeyboardInterrupt):
        with catch_interrupts() as request:
            os.kill(os.getpid(), signal.SIGINT)
            noted = request.signal
        # The signal is sent again at the end of the block.
    assert noted == signal.SIGINT


def test_request_is_obeyed_once():
    with catch_interrupts() as request:
        request.raise_if_requested()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            request.raise_if_requested()
        request.raise_if_requested()


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda *_: None], ids=["ignored", "of the application"])
def test_handlers_of_the_application_stay(number, handler):
    """A job under nohup is not ended by a signal that it was told to ignore."""
    signal.signal(number, handler)
    with catch_interrupts() as request:
        assert signal.getsignal(number) is handler
        os.kill(os.getpid(), number)
        assert request.signal is None
    assert signal.getsignal(number) is handler


def test_other_threads_leave_signals_alone():
    seen: list[object] = []

    def look():
        with catch_interrupts():
            seen.extend(signal.getsignal(number) for number in SIGNALS)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join(60)
    assert seen == [signal.default_int_handler, signal.SIG_DFL]


def test_errors_restore_the_handlers():
    with pytest.raises(ZeroDivisionError), catch_interrupts():
        1 / 0  # noqa: B018
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


TERMINATED = """
import os, signal, sys, warnings
import numpy as np
from scbatchnorm import BatchNormAutoencoder
from scbatchnorm._method.training.trainer import Trainer
warnings.simplefilter("ignore")
step, seen = Trainer.step, 0
def stepping(self, *args):
    global seen
    seen += 1
    if seen == 30:
        os.kill(os.getpid(), signal.SIGTERM)
    return step(self, *args)
Trainer.step = stepping
X = np.random.default_rng(0).gamma(1.0, size=(60, 10))
model = BatchNormAutoencoder(strength=1.0, min_steps=60, checkpoint=sys.argv[1]).fit(X, np.arange(60) % 2)
model.save(sys.argv[2])
print(model.stopped_, int(model.history_["step"].iloc[-1]), np.isfinite(model.transform(X, np.arange(60) % 2)).all())
"""


@pytest.mark.slow
def test_terminated_jobs_save_what_they_have(tmp_path):
    """As a queue ends a job: the script goes on, and the next run goes on from the checkpoint."""
    from scbatchnorm import BatchNormAutoencoder

    done = run_python("-c", TERMINATED, tmp_path / "checkpoint", tmp_path / "model")
    assert (done.returncode, done.stdout.split()) == (0, ["interrupted", "30", "True"])
    assert BatchNormAutoencoder.load(tmp_path / "model").stopped_ == "interrupted"
    X, batch = np.random.default_rng(0).gamma(1.0, size=(60, 10)), np.arange(60) % 2
    again = BatchNormAutoencoder(strength=1.0, min_steps=60, checkpoint=tmp_path / "checkpoint").fit(X, batch)
    assert again.fingerprint() == BatchNormAutoencoder(strength=1.0, min_steps=60).fit(X, batch).fingerprint()
