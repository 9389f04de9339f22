"""`pp.integrate`: what it logs, and that it prints nothing; global states are looked at in `tests/test_hygiene.py`."""

from __future__ import annotations

import logging

import numpy as np

from scbatchnorm import BatchNormAutoencoder
from scbatchnorm.pp import integrate


def test_log_names_what_was_written(prepared, brief, caplog):
    with caplog.at_level(logging.INFO, logger="scbatchnorm"):
        integrate(prepared, "batch", model=brief())
    assert "integrating 90 cells x 30 features of 3 batches" in caplog.messages
    assert caplog.messages[-1].startswith("added obsm['X_scbatchnorm'], varm['scbatchnorm'], uns['scbatchnorm'] in ")
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="scbatchnorm"):
        integrate(prepared, "batch", model=brief(), use_rep="X_pca", key_added="mine")
    assert caplog.messages[-1].startswith("added obsm['mine'], uns['mine'] in ")


def test_nothing_is_printed(adata, capfd):
    integrate(adata, "batch", model=BatchNormAutoencoder(min_steps=5, n_epochs=1, n_refreshes=1, strength=1))
    assert capfd.readouterr() == ("", "")


def test_rows_stay_with_their_cells(prepared, brief):
    """Batches need not be in blocks. Another order draws other minibatches, and gives nearly the same coordinates."""
    order = np.random.default_rng(0).permutation(prepared.n_obs)
    mixed = prepared[order].copy()
    for strength, least in ((0.0, 0.9999), (1.0, 0.9)):
        for adata in (prepared, mixed):
            integrate(adata, "batch", model=brief(strength=strength))
        first, second = prepared.obsm["X_scbatchnorm"][order], mixed.obsm["X_scbatchnorm"]
        assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > least
        assert np.corrcoef(first.ravel(), second[::-1].ravel())[0, 1] < 0.5
