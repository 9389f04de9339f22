"""The estimator over arrays."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import _num_samples

from scbatchnorm import BatchNormAutoencoder
from scbatchnorm._runtime import device as _device


class Adaptor(BatchNormAutoencoder):
    """The estimator as scikit-learn calls it: alternating batches in `fit`, all cells in the first in `transform`."""

    def __init__(
        self, n_components=3, *, strength=1.0, n_hidden=8, min_steps=4, max_steps=4, n_refreshes=1, progress=False
    ):
        super().__init__(
            n_components,
            strength=strength,
            n_hidden=n_hidden,
            min_steps=min_steps,
            max_steps=max_steps,
            n_refreshes=n_refreshes,
            progress=progress,
        )

    def fit(self, X, y=None, *, batch=None):
        return super().fit(X, np.arange(_num_samples(X)) % 2)

    def transform(self, X, batch=None):
        return super().transform(X, np.zeros(_num_samples(X), dtype=int))

    def fit_transform(self, X, y=None, *, batch=None):
        return self.fit(X).transform(X)


@parametrize_with_checks([Adaptor()])
def test_scikit_learn_s_own_checks(estimator, check):
    check(estimator)


# One wrong value at least for every parameter; the message has to name it.
WRONG: list[tuple[str, Any]] = [
    *[
        (name, value)
        for name in (
            "n_components",
            "n_latent",
            "n_hidden",
            "n_layers",
            "n_epochs",
            "min_steps",
            "max_steps",
            "n_neighbors",
            "n_refreshes",
        )
        for value in (0, -1, 2.0, True, "5", None)
    ],
    ("n_layers", 101),
    *[("max_cells_fit", value) for value in (0, 999, 2000.0, True, "all")],
    *[("minibatch_size", value) for value in (3, 64.0, None)],
    *[("learning_rate", value) for value in (0, -1e-3, np.nan, np.inf, "1e-3", True)],
    *[(name, v) for name in ("weight_decay", "anchor_weight", "adversary_weight") for v in (-1, np.nan, np.inf, None)],
    *[(name, v) for name in ("stem", "norm", "statistics", "minibatches") for v in ("other", None, 1, ["pca"])],
    *[("strength", value) for value in (-0.1, 1.1, np.nan, "Auto", None, True)],
    *[("adversary_norm", value) for value in ("other", "batch", "none", None, ["layer"])],
    *[("dropout", value) for value in (-0.1, 1, 1.5, None, "0.1", np.nan, True)],
    *[(name, value) for name in ("offsets", "record_shift") for value in (1, None, "yes")],
    *[("rng", value) for value in (-1, 0.5, "0", True, np.random.SeedSequence(0))],
    *[("device", value) for value in ("gpu", "cuda:99", None, 0.5)],
    *[("progress", value) for value in (1, "no")],
    *[("checkpoint", value) for value in (1, "", True, b"bytes")],
]


@pytest.mark.parametrize(("name", "value"), WRONG, ids=str)
def test_parameters_are_checked(name, value, X, batch):
    with pytest.raises(ValueError, match=rf"\b{name}\b"):
        BatchNormAutoencoder(**{name: value}).fit(X, batch)


def test_every_parameter_is_checked():
    assert {name for name, _ in WRONG} == set(BatchNormAutoencoder().get_params())


def test_parameters_are_those_given(brief):
    model = brief(n_components=7, rng=3, anchor_weight=0)
    assert model.get_params() | {"n_components": 7, "rng": 3, "anchor_weight": 0} == model.get_params()
    assert clone(model).get_params() == model.get_params()
    assert repr(BatchNormAutoencoder(n_components=7)) == "BatchNormAutoencoder(n_components=7)"
    with pytest.raises(TypeError, match="positional"):
        BatchNormAutoencoder(50, 30)  # type: ignore[call-arg]


def test_clone_is_not_fitted(fitted, X, batch):
    with pytest.raises(NotFittedError):
        clone(fitted).transform(X, batch)
    with pytest.raises(NotFittedError):
        clone(fitted).inverse_transform(X[:, :8], batch)


def test_attributes_of_the_fit(fitted):
    assert fitted.batches_.tolist() == ["a", "b", "c"]
    assert fitted.features_.tolist() == [f"x{i}" for i in range(40)]
    assert fitted.n_features_in_ == 40
    assert (fitted.strength_.value, fitted.strength_.reason) == (1.0, "set by the caller")
    assert fitted.stopped_ in {"completed", "converged"}
    assert fitted.history_["step"].iloc[-1] == 6
    assert np.isfinite(fitted.history_.to_numpy()).all()
    assert fitted.get_feature_names_out().tolist() == [f"scbatchnorm{i}" for i in range(8)]


def test_features_of_a_data_frame(X, batch, brief):
    names = [f"gene{i}" for i in range(40)]
    frame = pd.DataFrame(X, columns=names)
    model = brief(strength=0).fit(frame, batch)
    assert model.features_.tolist() == names
    assert model.transform(frame, batch).shape == (90, 8)
    with pytest.raises(ValueError, match="order"):
        model.transform(frame[names[::-1]], batch)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.integers(0, 89), min_size=1, max_size=120), chunk=st.integers(1, 40))
def test_embedding_depends_on_nothing_but_the_cell(rows, chunk, fitted, X, batch, monkeypatch):
    """Whatever the cells beside it, their order, their number and the size of the chunks."""
    expected = fitted.transform(X, batch)[rows]
    monkeypatch.setattr(_device, "_CHUNK", chunk)
    np.testing.assert_allclose(fitted.transform(X[rows], batch[rows]), expected, atol=1e-5)


def test_embedding_depends_on_the_batch(fitted, X):
    assert np.abs(fitted.transform(X, np.repeat("a", 90)) - fitted.transform(X, np.repeat("c", 90))).max() > 0.1


def test_cell_alone(fitted, X, batch):
    expected = fitted.transform(X, batch)
    alone = np.concatenate([fitted.transform(X[[i]], batch[[i]]) for i in range(90)])
    np.testing.assert_allclose(alone, expected, atol=1e-5)


def test_transform_changes_neither_model_nor_input(fitted, X, batch):
    state = {name: tensor.clone() for name, tensor in fitted.network_.state_dict().items()}
    before = X.copy()
    first = fitted.transform(X, batch)
    np.testing.assert_array_equal(fitted.transform(X, batch), first)
    np.testing.assert_array_equal(X, before)
    assert all((tensor == state[name]).all() for name, tensor in fitted.network_.state_dict().items())


def test_fit_transform_is_fit_and_transform(fitted, X, batch, brief):
    np.testing.assert_array_equal(brief().fit_transform(X, batch), fitted.transform(X, batch))


def test_fit_replaces_what_was_fitted(fitted, X, batch, brief):
    model = brief().fit(X[:60, :20], batch[:60])
    np.testing.assert_array_equal(model.fit(X, batch).transform(X, batch), fitted.transform(X, batch))
    model.set_params(strength=0).fit(X, batch)
    assert model.network_ is None
    assert model.stopped_ == "not trained"
    assert model.history_.empty


def test_without_batches_nothing_is_corrected(X, brief):
    model = brief().fit(X)
    assert model.strength_.value == 0
    assert "one batch" in model.strength_.reason
    np.testing.assert_array_equal(model.transform(X), brief(strength=0).fit(X, ["x"] * 90).transform(X, ["x"] * 90))


@pytest.mark.parametrize("strength", [0, 0.5, 1])
def test_inverse_transform(strength, X, batch, brief):
    model = brief(strength=strength).fit(X, batch)
    Z = model.transform(X, batch)
    seen = {level: model.inverse_transform(Z, [level] * 90) for level in "abc"}
    average = model.inverse_transform(Z)
    assert average.shape == X.shape
    assert average.dtype == np.float32
    np.testing.assert_allclose(average, np.mean(list(seen.values()), axis=0), atol=1e-4)
    for level in "abc":
        own = model.inverse_transform(Z, batch)[batch == level]
        np.testing.assert_allclose(own, seen[level][batch == level], atol=1e-5)
    assert (np.abs(seen["a"] - seen["c"]).max() > 1e-2) == (strength > 0)


def test_inverse_of_all_components_is_the_data(X, batch, brief):
    """Without correction and with as many components as there are features, nothing is lost but what rank there is."""
    model = brief(strength=0, n_components=40).fit(X, batch)
    kept = model.stem_.components.shape[1]
    expected = PCA(kept).fit(X)
    np.testing.assert_allclose(
        model.inverse_transform(model.transform(X, batch), batch),
        expected.inverse_transform(expected.transform(X)),
        atol=1e-3,
    )


def test_inverse_transform_checks_shape_and_batch(fitted, X, batch):
    Z = fitted.transform(X, batch)
    with pytest.raises(ValueError, match="Z must have the 8 components of the embedding; got 7"):
        fitted.inverse_transform(Z[:, 1:])
    with pytest.raises(ValueError, match="batch must have one value for each of the 90 cells"):
        fitted.inverse_transform(Z, batch[1:])
    with pytest.raises(ValueError, match="was not among them"):
        fitted.inverse_transform(Z, ["d"] * 90)


def test_strength_0_is_pca(X, batch, brief):
    model = brief(strength=0)
    Z = model.fit_transform(X, batch)
    expected = PCA(8).fit_transform(X)
    sign = np.sign((Z * expected).sum(axis=0))
    np.testing.assert_allclose(Z * sign, expected, atol=1e-3)
    assert model.network_ is None


def test_only_a_corrected_embedding_is_cut(X, batch, brief):
    """Nothing to correct, nothing lost: 8 components as they are, or the leading 5 corrected."""
    assert brief(strength=0, n_latent=5).fit_transform(X, batch).shape == (90, 8)
    corrected = brief(strength=1, n_latent=5).fit(X, batch)
    Z = corrected.transform(X, batch)
    assert Z.shape == (90, 5) == (90, len(corrected.get_feature_names_out()))
    assert corrected.inverse_transform(Z, batch).shape == X.shape


def test_strength_blends_linearly(X, batch, brief):
    none, full = (brief(strength=strength).fit_transform(X, batch) for strength in (0, 1))

    @settings(max_examples=8)
    @given(strength=st.floats(0, 1))
    def check(strength):
        expected = (1 - strength) * none + strength * full
        np.testing.assert_allclose(brief(strength=strength).fit_transform(X, batch), expected, atol=1e-4)

    check()


def test_identity_stem_without_correction_gives_back_its_input(X, batch, brief):
    model = brief(stem="identity", strength=0)
    np.testing.assert_allclose(model.fit_transform(X, batch), X, atol=1e-5)
    np.testing.assert_allclose(model.inverse_transform(X), X, atol=1e-5)


@pytest.mark.parametrize("make", [lambda: 5, lambda: np.random.default_rng(5)], ids=["seed", "generator"])
def test_same_rng_same_result(make, fitted, X, batch, brief):
    first = brief(rng=make()).fit_transform(X, batch)
    np.testing.assert_array_equal(brief(rng=make()).fit_transform(X, batch), first)
    assert np.abs(first - fitted.transform(X, batch)).max() > 1e-4


def test_generator_is_drawn_from(X, batch, brief):
    rng = np.random.default_rng(0)
    assert np.abs(brief(rng=rng).fit_transform(X, batch) - brief(rng=rng).fit_transform(X, batch)).max() > 1e-4
    assert np.isfinite(brief(rng=None).fit_transform(X, batch)).all()


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
@pytest.mark.parametrize("minibatches", ["mixed", "shuffled", "single"])
def test_variants_train(norm, minibatches, X, batch, brief):
    model = brief(norm=norm, minibatches=minibatches, n_layers=1, minibatch_size=16)
    assert np.isfinite(model.fit_transform(X, batch)).all()
    assert model.stopped_ in {"completed", "converged"}


@pytest.mark.parametrize("left_out", [{"offsets": False}, {"anchor_weight": 0}, {"adversary_weight": 0}])
def test_parts_can_be_left_out(left_out, fitted, X, batch, brief):
    Z = brief(**left_out).fit_transform(X, batch)
    assert np.isfinite(Z).all()
    assert np.abs(Z - fitted.transform(X, batch)).max() > 1e-4


def test_strength_is_logged(X, batch, brief, caplog):
    with caplog.at_level(logging.INFO, logger="scbatchnorm"):
        brief(strength=0).fit(X, batch)
    assert "strength 0.00: set by the caller" in caplog.messages
