"""A model goes through a file bit for bit, or is refused."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from scbatchnorm import BatchNormAutoencoder, ModelFileError
from scbatchnorm._persistence.container import read_container, write_container
from scbatchnorm._persistence.file import load_model
from tests.conftest import expression, labels

if TYPE_CHECKING:
    from pathlib import Path


def same(one, other, X, batch):
    """Whether two models are alike in all that they do and say."""
    np.testing.assert_array_equal(one.transform(X, batch), other.transform(X, batch))
    Z = one.transform(X, batch)
    for seen_in in (None, batch):
        np.testing.assert_array_equal(one.inverse_transform(Z, seen_in), other.inverse_transform(Z, seen_in))
    assert one.fingerprint() == other.fingerprint()
    # A generator has no name, and a device is a word in a file.
    plain = {"rng": None, "checkpoint": None, "device": str(other.device)}
    assert one.get_params() | plain == other.get_params() | plain
    assert (one.stopped_, one.calibration_, one.n_features_in_) == (
        other.stopped_,
        other.calibration_,
        other.n_features_in_,
    )
    assert one.features_.tolist() == other.features_.tolist()
    assert [*map(type, one.batches_.tolist())] == [*map(type, other.batches_.tolist())]
    assert one.batches_.tolist() == other.batches_.tolist()
    np.testing.assert_equal(vars(one.strength_) | {"states": None}, vars(other.strength_) | {"states": None})
    assert one.reference_.fingerprint() == other.reference_.fingerprint()
    pd.testing.assert_frame_equal(one.history_, other.history_)
    pd.testing.assert_frame_equal(one.shift_history_, other.shift_history_)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"strength": 0},
        {"strength": 0.5, "n_latent": 5},
        {"strength": "auto", "min_steps": 5},
        {"norm": "layer", "n_layers": 1},
        {"norm": "none", "offsets": False},
        {"norm": "switchable", "record_shift": True},
        {"norm": "whitened", "dropout": 0.1, "adversary_norm": "spectral"},
        {"norm": "batch_layer"},
        {"norm": "group"},
        {"norm": "instance"},
        {"statistics": "per_batch", "minibatch_size": 48},
        {"rng": None, "progress": None},
        {"rng": "a generator", "device": torch.device("cpu")},
        {"n_hidden": np.int64(12), "learning_rate": np.float32(1e-3), "rng": np.int64(3)},
        {"stem": "identity"},
    ],
    ids=str,
)
def test_file_holds_the_model(params, X, batch, brief, tmp_path):
    if params.get("rng") == "a generator":
        params = params | {"rng": np.random.default_rng(0)}
    model = brief(**params).fit(X, batch)
    model.save(tmp_path / "model")
    again = BatchNormAutoencoder.load(str(tmp_path / "model"))
    same(again, model, X, batch)
    again.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "model").read_bytes()
    again.set_params(rng=0).fit(X, batch)


@pytest.mark.parametrize(
    "values",
    [
        ["a", "b", "c"],
        [0, 1, 2],
        [0.5, 1.5, -1e300],
        [True, False, True],
        [1, "1", 1.5],
        ["", " ", "ü/\n\0"],
        np.array([1, 2, 3], np.uint8),
        pd.to_datetime(["2020-01-01", "2020-01-02", "2020-01-03"]),
        pd.Categorical(["a", "b", "a"], categories=["z", "b", "a"]),
    ],
    ids=str,
)
def test_batches_of_any_kind(values, X, brief, tmp_path):
    """What was given to the fit is taken back; 1 and "1" stay apart."""
    batch = np.empty(90, dtype=object)
    batch[:] = np.repeat(np.asarray(values, dtype=object), 30)
    batch = batch if isinstance(values, list) and len({*map(type, values)}) > 1 else np.asarray(batch.tolist())
    model = brief().fit(X, batch)
    model.save(tmp_path / "model")
    again = BatchNormAutoencoder.load(tmp_path / "model")
    np.testing.assert_array_equal(again.transform(X, batch), model.transform(X, batch))
    with pytest.raises(ValueError, match="batch must name batches of the fit; other was not among them"):
        again.transform(X, ["other"] * 90)


def test_names_of_features_are_asked_for_again(X, batch, brief, tmp_path):
    """As scikit-learn does: a model that was fitted on a DataFrame wants the same columns."""
    frame = pd.DataFrame(X, columns=[f"gene {i}" for i in range(40)])
    brief().fit(frame, batch).save(tmp_path / "model")
    again = BatchNormAutoencoder.load(tmp_path / "model")
    again.transform(frame, batch)
    with pytest.raises(ValueError, match="feature names"):
        again.transform(frame[frame.columns[::-1]], batch)
    brief().fit(X, batch).save(tmp_path / "nameless")
    assert not hasattr(BatchNormAutoencoder.load(tmp_path / "nameless"), "feature_names_in_")


def test_model_of_anndata_can_be_saved(adata, brief, tmp_path):
    from scbatchnorm.pp import integrate

    integrate(adata, "batch", model=brief())
    model = BatchNormAutoencoder.from_anndata(adata)
    model.save(tmp_path / "model")
    same(BatchNormAutoencoder.load(tmp_path / "model"), model, adata.X, adata.obs["batch"])


def test_files_are_replaced_only_when_asked(fitted, tmp_path):
    path = tmp_path / "model"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match=r"path exists already: .*model\. Give overwrite=True to replace it"):
        fitted.save(path)
    assert path.read_text() == "precious"
    fitted.save(path, overwrite=True)
    assert BatchNormAutoencoder.load(path).fingerprint() == fitted.fingerprint()
    with pytest.raises(IsADirectoryError, match="path must be a file"):
        fitted.save(tmp_path, overwrite=True)
    with pytest.raises(FileNotFoundError, match="the folder of path does not exist"):
        fitted.save(tmp_path / "no" / "model")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("path", [None, 1, b"bytes", "", ["path"]], ids=str)
def test_what_is_no_path(path, fitted):
    for call in (fitted.save, BatchNormAutoencoder.load):
        with pytest.raises(TypeError, match=r"path must be the path of a file, a str or pathlib\.Path; got"):
            call(path)


@pytest.mark.parametrize("path", ["https://example.org/model", "s3://bucket/model", "file:///model", "~/model"])
def test_paths_are_of_this_machine(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="path does not exist"):
        BatchNormAutoencoder.load(path)


def test_only_fitted_models_are_saved(brief, tmp_path):
    with pytest.raises(NotFittedError):
        brief().save(tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_reading_leaves_the_generators_alone(fitted, tmp_path):
    fitted.save(tmp_path / "model")
    before = torch.get_rng_state()
    BatchNormAutoencoder.load(tmp_path / "model")
    assert torch.equal(torch.get_rng_state(), before)


def test_pickles_and_clones_still_work(fitted, X, batch, tmp_path):
    fitted.save(tmp_path / "model")
    again = BatchNormAutoencoder.load(tmp_path / "model")
    same(pickle.loads(pickle.dumps(again)), fitted, X, batch)
    assert clone(again).get_params() == fitted.get_params()


# ---- well-formed files that are not models: the checksum is right, somebody has computed it anew


@pytest.fixture(scope="module")
def parts(brief, tmp_path_factory):
    path = tmp_path_factory.mktemp("parts") / "model"
    brief(record_shift=True).fit(expression(), labels()).save(path)
    return read_container(path, "model")


def forged(parts, path: Path, content=(), arrays=()) -> Path:
    """A file with other entries; dots go into dicts, `None` of an array removes it."""
    changed, tensors = _io_copy(parts[0]), dict(parts[1])
    for name, value in dict(content).items():
        *into, last = name.split(".")
        place = changed
        for key in into:
            place = place[key]
        place[last] = value
    for name, value in dict(arrays).items():
        tensors.pop(name) if value is None else tensors.update({name: value})
    write_container(path, "model", changed, tensors)
    return path


def _io_copy(content):
    return {key: _io_copy(value) if isinstance(value, dict) else value for key, value in content.items()}


ENCODER = "weights.network.encoder.0.weight"
FORGERIES = {
    "wide": ({"params.n_hidden": 10**12}, {}),
    "deep": ({"params.n_layers": 10**12}, {}),
    "not so deep": ({"params.n_layers": 3}, {}),
    "wrong parameter": ({"params.dropout": 7}, {}),
    "unknown parameter": ({"params.unknown": 7}, {}),
    "method as parameter": ({"params.__class__": "str"}, {}),
    "parameters are a list": ({"params": [1]}, {}),
    "parameter is a dict": ({"params.n_hidden": {}}, {}),
    "norm of others": ({"params.norm": "os.system"}, {}),
    "strength": ({"strength.value": 7}, {}),
    "strength is not a number": ({"strength.value": "nan"}, {}),
    "no network although corrected": ({"strength.value": 0.5}, {ENCODER: None}),
    "repeated batches": ({"batch_levels": ["a", "a", "b"]}, {}),
    "fewer batches": ({"batch_levels": ["a", "b"]}, {}),
    "nested batches": ({"batch_levels": [["a"], ["b"], ["c"]]}, {}),
    "batches are a word": ({"batch_levels": "abc"}, {}),
    "features": ({"features": ["x"]}, {}),
    "features are a number": ({"features": 40}, {}),
    "why it stopped": ({"stopped": "never"}, {}),
    "columns of the history": ({"history": {"epoch": [1]}}, {}),
    "history is a list": ({"history": [1]}, {}),
    "calibration": ({"calibration": {}}, {}),
    "no fingerprint": ({"fingerprint": ""}, {}),
    "reference": ({"reference": {}}, {}),
    "NaN": ({}, {ENCODER: np.full((16, 11), np.nan, np.float32)}),
    "infinite": ({}, {"weights.stem.mean": np.full(40, np.inf, np.float32)}),
    "double": ({}, {"weights.stem.mean": np.zeros(40)}),
    "shape": ({}, {"weights.stem.components": np.zeros((8, 40), np.float32)}),
    "scalar": ({}, {"weights.stem.components": np.float32(1)}),
    "scale": ({}, {"weights.stem.scale": np.array([0.0])}),
    "negative variances": ({}, {"weights.network.encoder.1.running_var": np.full(16, -1, np.float32)}),
    "array of nobody": ({}, {"weights.other": np.zeros(1, np.float32)}),
    "layer of nobody": ({}, {"weights.network.other": np.zeros(1, np.float32)}),
    "half of the states": ({}, {"weights.strength.points": np.zeros((3, 8), np.float32)}),
    "codes of no batch": ({}, {"reference.codes": np.full(90, 3)}),
    "fewer codes": ({}, {"reference.codes": np.zeros(9, np.int64)}),
    "reference is not finite": ({}, {"reference.unexplained": np.array([np.nan], np.float32)}),
    "other weights": ({}, {ENCODER: np.zeros((16, 11), np.float32)}),
    "no weights": ({}, {ENCODER: None}),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_forged_files_are_refused(forgery, parts, tmp_path):
    path = forged(parts, tmp_path / "model", *FORGERIES[forgery])
    with pytest.raises(
        ModelFileError, match=r"model does not hold a model that BatchNormAutoencoder\.save wrote|model is no model"
    ):
        BatchNormAutoencoder.load(path)


@pytest.mark.parametrize(
    "name, value, allowed",
    [
        ("statistics", "anchored", "'mixed', 'per_batch'"),
        ("minibatches", "consecutive", "'mixed', 'shuffled', 'single'"),
    ],
)
def test_values_that_a_parameter_cannot_have_are_named(name, value, allowed, parts, tmp_path):
    path = forged(parts, tmp_path / "model", {f"params.{name}": value})
    with pytest.raises(
        ModelFileError, match=rf"'{name}' parameter .* must be one of {allowed}\. Got '{value}' instead"
    ):
        BatchNormAutoencoder.load(path)


def test_what_is_not_forged_is_read(parts, tmp_path):
    """So that the refusals above are for what was changed."""
    BatchNormAutoencoder.load(forged(parts, tmp_path / "model"))


def test_newer_formats_say_who_wrote_them(parts, tmp_path):
    path = forged(parts, tmp_path / "model", {"format": 99, "versions": {"scbatchnorm": "7.1.0"}})
    with pytest.raises(
        ModelFileError, match=r"was written in format 99 by scbatchnorm 7\.1\.0; this version reads format 3: upgrade\."
    ):
        BatchNormAutoencoder.load(path)


def test_checkpoints_are_no_models(X, batch, brief, tmp_path):
    brief(checkpoint=tmp_path / "checkpoint").fit(X, batch)
    with pytest.raises(ModelFileError, match=r"is no model that scbatchnorm wrote, or damaged: it is a checkpoint\."):
        BatchNormAutoencoder.load(tmp_path / "checkpoint")


def test_errors_do_not_show_the_code(tmp_path):
    """One line that says which file, and what is the matter."""
    (tmp_path / "model").write_text("text")
    with pytest.raises(ModelFileError) as caught:
        load_model(tmp_path / "model", BatchNormAutoencoder().get_params())
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "model") in str(caught.value)
