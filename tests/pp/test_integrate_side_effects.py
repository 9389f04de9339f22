"""`pp.integrate`: what it logs, and that it leaves global states alone."""

from __future__ import annotations

import logging

import numpy as np
import torch

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


def test_global_states_are_left_alone(adata, brief):
    numpy_before = np.random.get_state(legacy=False)  # noqa: NPY002 (the legacy state is what is watched)
    torch_before, threads = torch.get_rng_state(), torch.get_num_threads()
    deterministic, gradients = torch.are_deterministic_algorithms_enabled(), torch.is_grad_enabled()
    integrate(adata, "batch", model=brief())
    numpy_after = np.random.get_state(legacy=False)  # noqa: NPY002
    np.testing.assert_array_equal(numpy_after["state"]["key"], numpy_before["state"]["key"])
    assert numpy_after["state"]["pos"] == numpy_before["state"]["pos"]
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert torch.get_num_threads() == threads
    assert (torch.are_deterministic_algorithms_enabled(), torch.is_grad_enabled()) == (deterministic, gradients)
