"""Small data and estimators that train in a moment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Before torch is loaded: threads that wait in a loop slow each other down where tests share a machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
from hypothesis import HealthCheck, settings
from scipy import sparse

from scbatchnorm import BatchNormAutoencoder

if TYPE_CHECKING:
    from collections.abc import Callable

# The same examples in every run, however slow the machine is. Others are drawn by tests/stress.
settings.register_profile("tests", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

SHARED = Path(__file__).parents[2] / "shared" / "data"


def expression(n_cells: int = 90, n_genes: int = 40, *, seed: int = 0) -> np.ndarray:
    """Log-normalised expression of two cell types; the last third of the cells, the last batch, is shifted.

    The types are shifted differently, so that something is left for the network when batches are moved as a whole.
    """
    rng = np.random.default_rng(seed)
    rate = np.where(np.arange(n_cells)[:, None] % 2 == np.arange(n_genes) % 2, 2.0, 0.5)
    rate[2 * n_cells // 3 :: 2, : n_genes // 3] += 4
    rate[2 * n_cells // 3 + 1 :: 2, 2 * n_genes // 3 :] += 4
    return np.log1p(rng.poisson(rate) * rng.uniform(0.8, 1.2, (n_cells, 1))).astype(np.float32)


def labels(n_cells: int = 90) -> np.ndarray:
    return np.repeat(["a", "b", "c"], -(-n_cells // 3))[:n_cells]


@pytest.fixture
def X() -> np.ndarray:
    return expression()


@pytest.fixture
def batch() -> np.ndarray:
    return labels()


@pytest.fixture(scope="session")
def annotated() -> Callable[..., ad.AnnData]:
    """Makes AnnData of the expression, sparse, with the batches in `obs["batch"]`."""

    def make(n_cells: int = 90, n_genes: int = 40, *, seed: int = 0) -> ad.AnnData:
        adata = ad.AnnData(sparse.csr_matrix(expression(n_cells, n_genes, seed=seed)))
        adata.obs_names = [f"cell{i}" for i in range(n_cells)]
        adata.var_names = [f"gene{i}" for i in range(n_genes)]
        adata.obs["batch"] = labels(n_cells)
        adata.strings_to_categoricals()
        return adata

    return make


@pytest.fixture
def adata(annotated: Callable[..., ad.AnnData]) -> ad.AnnData:
    return annotated()


@pytest.fixture(scope="session")
def brief() -> Callable[..., BatchNormAutoencoder]:
    """Makes estimators that train for a moment, the network always in use."""
    defaults: dict[str, Any] = {
        "n_components": 8,
        "strength": 1.0,
        "n_hidden": 16,
        "n_epochs": 1,
        "min_steps": 6,
        "n_refreshes": 2,
        "progress": False,
    }
    return lambda **params: BatchNormAutoencoder(**(defaults | params))


@pytest.fixture(scope="session")
def fitted(brief: Callable[..., BatchNormAutoencoder]) -> BatchNormAutoencoder:
    """A fitted estimator; tests must not change it."""
    return brief().fit(expression(), labels())


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real data sets."""
    if not SHARED.is_dir():
        pytest.skip("the real data sets lie beside the checkout, and are not there")
    return SHARED


@pytest.fixture
def prepared(adata):
    """With a layer, highly variable genes and principal components, as users have them."""
    adata.layers["log"] = adata.X.copy()
    adata.var["highly_variable"] = np.arange(40) % 4 > 0
    sc.pp.pca(adata, n_comps=10)
    return adata
