"""A fit that was killed goes on from its checkpoint, and ends as if it had not been."""

from __future__ import annotations

import logging
import shutil

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from scbatchnorm import BatchNormAutoencoder, ModelFileError, TrainingDivergedError
from scbatchnorm._method.training.trainer import Trainer
from scbatchnorm._persistence.container import read_container, write_container
from tests.conftest import expression
from tests.helpers.states import typed
from tests.helpers.training import not_finite, on_step, on_update

REFRESHES = 4


class Killed(BaseException):
    """What nobody catches."""


def kill_after(monkeypatch, number):
    """End everything at once when the checkpoint was written for the `number`-th time."""
    write, count = write_container, 0

    def killing(*args):
        nonlocal count
        write(*args)
        count += 1
        if count == number:
            raise Killed

    monkeypatch.setattr("scbatchnorm._persistence.checkpoint.write_container", killing)


def same(one, other, X, batch):
    np.testing.assert_array_equal(one.transform(X, batch), other.transform(X, batch))
    assert one.fingerprint() == other.fingerprint()
    assert one.reference_.fingerprint() == other.reference_.fingerprint()
    assert one.stopped_ == other.stopped_
    np.testing.assert_equal(vars(one.strength_) | {"states": None}, vars(other.strength_) | {"states": None})
    pd.testing.assert_frame_equal(one.history_, other.history_, check_exact=True)
    pd.testing.assert_frame_equal(one.shift_history_, other.shift_history_, check_exact=True)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoint"


@pytest.fixture
def make(brief, path):
    """Makes estimators of four refreshes that note how far they are."""
    return lambda **params: brief(**({"checkpoint": path, "min_steps": 12, "n_refreshes": REFRESHES} | params))


PARAMS = [
    {},
    {"dropout": 0.2, "adversary_norm": "spectral"},
    {"record_shift": True, "norm": "switchable"},
    {"statistics": "per_batch", "minibatch_size": 48},
    {"stem": "identity", "strength": 0.5},
    {"rng": "a generator"},
]


def fresh(make, params):
    """An estimator; a generator, which fits use up, anew each time."""
    generator = {"rng": np.random.Generator(np.random.MT19937(3))} if "rng" in params else {}
    return make(**params | generator)


@pytest.mark.parametrize("number", range(1, REFRESHES + 2))
def test_killed_once(number, make, monkeypatch, X, batch, path):
    with monkeypatch.context() as patched, pytest.raises(Killed):
        kill_after(patched, number)
        make().fit(X, batch)
    assert read_container(path, "checkpoint")[0]["training"]["refresh"] == number - 1
    same(make().fit(X, batch), make(checkpoint=None).fit(X, batch), X, batch)


@pytest.mark.parametrize("params", PARAMS, ids=str)
def test_killed_fits_end_as_others(params, make, monkeypatch, X, batch):
    """Killed in the middle, and again two refreshes later."""
    expected = fresh(make, params).set_params(checkpoint=None).fit(X, batch)
    for _ in range(2):
        with monkeypatch.context() as patched, pytest.raises(Killed):
            kill_after(patched, 2)
            fresh(make, params).fit(X, batch)
    same(fresh(make, params).fit(X, batch), expected, X, batch)


def test_what_was_done_is_not_done_again(make, monkeypatch, X, batch, caplog):
    with monkeypatch.context() as patched, pytest.raises(Killed):
        kill_after(patched, 4)
        make().fit(X, batch)
    done, step = [], Trainer.step

    def counted(*args):
        done.append(args)
        return step(*args)

    monkeypatch.setattr("scbatchnorm._method.fit.fit_linear", None)
    monkeypatch.setattr(Trainer, "step", counted)
    with caplog.at_level(logging.INFO, logger="scbatchnorm"):
        make().fit(X, batch)
    assert len(done) == 3, "of 12 steps 9 were done"
    assert "going on at step 9" in caplog.messages


def test_strength_by_state(monkeypatch, path):
    """It comes back from the checkpoint with its landmarks."""
    points, types = typed(1200)
    batch = np.random.default_rng(100).integers(2, size=1200)
    points[:, 3] += 1.5 * ((types == 1) & (batch == 1))
    model = BatchNormAutoencoder(stem="identity", min_steps=12, n_refreshes=2, n_epochs=1, progress=False)
    expected = clone(model).fit(points, batch)
    assert expected.strength_.states is not None
    model.set_params(checkpoint=path)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        kill_after(patched, 2)
        clone(model).fit(points, batch)
    same(clone(model).fit(points, batch), expected, points, batch)


def test_fit_without_a_seed_goes_on(make, monkeypatch, X, batch):
    with monkeypatch.context() as patched, pytest.raises(Killed):
        kill_after(patched, 3)
        make(rng=None).fit(X, batch)
    half = make(rng=None).fit(X, batch)
    assert half.stopped_ == "completed"
    same(make(rng=None).fit(X, batch), half, X, batch)


def test_generators_of_the_caller_go_on_with_it(make, monkeypatch, X, batch):
    """What is drawn after the fit does not depend on whether it was killed."""
    uninterrupted, first, second = (np.random.default_rng(5) for _ in range(3))
    make(rng=uninterrupted, checkpoint=None).fit(X, batch)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        kill_after(patched, 3)
        make(rng=first).fit(X, batch)
    make(rng=second).fit(X, batch)
    assert second.random() == uninterrupted.random()


def test_ended_fits_are_not_repeated(make, monkeypatch, X, batch, path):
    expected = make().fit(X, batch)
    # As if it had been killed when all was written, but not all cleared away.
    leftover = path.parent / f".{path.name}-0123456789ab.part"
    leftover.mkdir()
    leftover.with_name(f"{leftover.name}.lock").touch()
    monkeypatch.setattr(Trainer, "step", None)
    same(make().fit(X, batch), expected, X, batch)
    assert list(path.parent.iterdir()) == [path]


def test_nothing_to_train_writes_nothing(make, X, batch, path):
    make(strength=0).fit(X, batch)
    assert not path.exists()


def test_interrupted_fits_go_on(make, monkeypatch, X, batch):
    with monkeypatch.context() as patched, pytest.warns(UserWarning, match="interrupted at step 7"):
        on_update(patched, 7, KeyboardInterrupt())
        half = make().fit(X, batch)
    assert half.stopped_ == "interrupted"
    same(make().fit(X, batch), make(checkpoint=None).fit(X, batch), X, batch)


def test_diverged_fits_do_not_go_on(make, monkeypatch, X, batch, path):
    """They would come to the same end; another learning rate may be tried at once."""
    with monkeypatch.context() as patched, pytest.raises(TrainingDivergedError):
        on_step(patched, 8, not_finite)
        make().fit(X, batch)
    assert not path.exists()
    make(learning_rate=1e-4).fit(X, batch)


# ---- files of others


@pytest.fixture
def killed(make, monkeypatch, X, batch, path):
    """A checkpoint of a fit that was killed after its first refresh."""
    with monkeypatch.context() as patched, pytest.raises(Killed):
        kill_after(patched, 2)
        make().fit(X, batch)
    return path


@pytest.mark.parametrize("params", [{"learning_rate": 1e-3}, {"rng": 1}, {"dropout": 0.1, "n_hidden": 8}], ids=str)
def test_other_fits_are_not_overwritten(params, killed, make, X, batch):
    before = killed.read_bytes()
    named = ", ".join(params)
    with pytest.raises(
        ValueError, match=rf"checkpoint='.*' belongs to another fit, .* differs in {named}\. Remove the file"
    ):
        make(**params).fit(X, batch)
    assert killed.read_bytes() == before


def test_other_data_are_another_fit(killed, make, X, batch):
    for other in (expression(seed=1), X * np.float32(1.000001), X[:, ::-1], X.astype(">f8") * 2):
        with pytest.raises(ValueError, match=r"it differs in X\."):
            make().fit(other, batch)
    with pytest.raises(ValueError, match=r"it differs in batch\."):
        make().fit(X, np.roll(batch, 45))


def test_renamed_batches_are_the_same_fit(killed, make, X, batch):
    renamed = np.array([f"batch {name}" for name in batch])
    assert make().fit(X, renamed).batches_.tolist() == ["batch a", "batch b", "batch c"]


def test_ended_fits_make_way(make, X, batch, caplog):
    make().fit(X, batch)
    with caplog.at_level(logging.INFO, logger="scbatchnorm"):
        other = make(learning_rate=1e-3).fit(X, batch)
    assert any("of another fit, which has ended: it is replaced" in message for message in caplog.messages)
    same(other, make(learning_rate=1e-3, checkpoint=None).fit(X, batch), X, batch)


def test_files_that_are_no_checkpoints_stay(make, fitted, X, batch, path):
    fitted.save(path)
    before = path.read_bytes()
    for content in (before, b"text", before[:100]):
        path.write_bytes(content)
        with pytest.raises(
            ModelFileError,
            match=r"checkpoint='.*' is a file that cannot be used: .*Name another one; remove this one only if",
        ):
            make().fit(X, batch)
        assert path.read_bytes() == content


def test_forged_checkpoints_are_refused(killed, make, X, batch):
    content, arrays = read_container(killed, "checkpoint")
    for name in (
        "linear.offsets",
        "training.trainer.network.shift_in",
        "training.trainer.random.cpu",
        "training.trainer.place",
    ):
        write_container(killed, "checkpoint", content, {**arrays, name: np.zeros(5, np.float32)})
        with pytest.raises(ModelFileError, match=r"checkpoint='.*' cannot be used \(.*Remove it to begin anew"):
            make().fit(X, batch)


# ---- where nothing can be written


@pytest.mark.parametrize("name", ["no/checkpoint", "."])
def test_places_where_no_file_can_be(name, make, X, batch, tmp_path):
    with pytest.raises(OSError, match=r"the folder of checkpoint does not exist|checkpoint must be a file"):
        make(checkpoint=tmp_path / name).fit(X, batch)


def test_full_disk_does_not_end_the_training(make, monkeypatch, X, batch, path):
    write, count = write_container, 0

    def full(*args):
        nonlocal count
        count += 1
        if count > 2:
            raise OSError(28, "No space left on device")
        write(*args)

    with monkeypatch.context() as patched:
        patched.setattr("scbatchnorm._persistence.checkpoint.write_container", full)
        with pytest.warns(
            UserWarning, match=r"checkpoint='.*' cannot be written \(.*No space left.*training goes on"
        ) as caught:
            model = make().fit(X, batch)
    assert len(caught) == 1
    expected = make(checkpoint=None).fit(X, batch)
    same(model, expected, X, batch)
    assert read_container(path, "checkpoint")[0]["training"]["refresh"] == 1
    same(make().fit(X, batch), expected, X, batch)


def test_folder_that_disappears_does_not_end_the_training(make, monkeypatch, X, batch, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    write = write_container

    def removed(*args):
        write(*args)
        shutil.rmtree(folder)

    monkeypatch.setattr("scbatchnorm._persistence.checkpoint.write_container", removed)
    with pytest.warns(UserWarning, match="cannot be written"):
        model = make(checkpoint=folder / "checkpoint").fit(X, batch)
    assert model.stopped_ == "completed"
