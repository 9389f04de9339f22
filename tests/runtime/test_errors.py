"""Errors that callers catch by name, and what they find then."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import scbatchnorm
from scbatchnorm import BatchNormAutoencoder, ModelFileError, TrainingDivergedError
from scbatchnorm.pp import integrate
from tests.helpers.compare import digest
from tests.helpers.training import not_finite, on_step


def test_they_are_of_usual_kinds():
    assert issubclass(ModelFileError, ValueError)
    assert issubclass(TrainingDivergedError, ArithmeticError)
    assert {"ModelFileError", "TrainingDivergedError"} <= set(scbatchnorm.__all__)


def test_diverged_fit_names_step_and_loss_and_keeps_a_model(brief, monkeypatch, X, batch, tmp_path):
    good = brief().fit(X, batch)
    model = brief(min_steps=12, n_refreshes=2)
    on_step(monkeypatch, 8, not_finite)
    with pytest.raises(
        TrainingDivergedError, match=r"diverged at step 7 of 12 \(losses \[.*nan.*smaller learning_rate than 0\.004"
    ) as caught:
        model.fit(X, batch)
    assert caught.value.model is model
    assert model.stopped_ == "diverged"
    assert np.isfinite(model.transform(X, batch)).all()
    assert model.transform(X, batch).shape == good.transform(X, batch).shape
    assert np.isfinite(model.history_.to_numpy()).all()
    model.save(tmp_path / "model")
    assert BatchNormAutoencoder.load(tmp_path / "model").stopped_ == "diverged"


def test_diverged_integration_leaves_the_data(adata, brief, monkeypatch):
    before = digest(adata)
    on_step(monkeypatch, 2, not_finite)
    with pytest.raises(TrainingDivergedError, match="diverged at step 1 of 6") as caught:
        integrate(adata, "batch", model=brief())
    assert digest(adata) == before
    assert caught.value.model.transform(adata.X, adata.obs["batch"]).shape == (90, 8)


def test_errors_survive_other_processes(fitted):
    """Workers send their errors as pickles."""
    error = pickle.loads(pickle.dumps(TrainingDivergedError("what", fitted)))
    assert str(error) == "what"
    assert error.model.fingerprint() == fitted.fingerprint()
    assert str(pickle.loads(pickle.dumps(ModelFileError("what")))) == "what"
