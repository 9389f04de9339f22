"""A file as commands read it, and how they are called."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scbatchnorm import cli, datasets, pp


def run(*arguments) -> int:
    return cli.main([str(argument) for argument in arguments])


@pytest.fixture(scope="session")
def counts():
    adata = datasets.simulate_batches(240, n_genes=150, n_types=3)
    adata.obs["day"] = pd.Categorical(np.tile(["monday", "friday"], 120))
    return adata


@pytest.fixture(scope="session")
def source(counts, tmp_path_factory):
    """A file with log-normalised expression, and a PCA-like representation."""
    import scanpy as sc

    adata = counts.copy()
    adata.layers["counts"] = adata.X.copy()
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    adata.obsm["X_pca"] = np.random.default_rng(0).normal(size=(240, 8)).astype(np.float32)
    path = tmp_path_factory.mktemp("cli") / "in.h5ad"
    adata.write_h5ad(path)
    return path


@pytest.fixture
def quick(monkeypatch):
    """Training with few steps: here only what surrounds it is tested."""
    integrate = pp.integrate

    def few_steps(adata, batch_key, *, model=None, layer=None, use_rep=None, key_added=None, **params):
        from scbatchnorm import BatchNormAutoencoder

        model = (model or BatchNormAutoencoder(**params)).set_params(max_steps=30)
        integrate(adata, batch_key, model=model, layer=layer, use_rep=use_rep, key_added=key_added)

    monkeypatch.setattr(pp, "integrate", few_steps)
