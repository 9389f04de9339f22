"""Promises held on real data: batches mix, cell types stay, and nothing is changed where there is nothing to change."""

from __future__ import annotations

import functools

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
from sklearn.neighbors import NearestNeighbors

from scbatchnorm.pp import integrate

pytestmark = pytest.mark.slow
SETS = ["pancreas_cepo_3b", "kang_ifnb_valid"]


@functools.cache
def prepared(path) -> ad.AnnData:
    """Log-normalised, with variable genes; tests must not change it."""
    adata = ad.read_h5ad(path)
    sc.pp.filter_genes(adata, min_cells=5)
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    n_genes = min(2000, adata.n_vars)
    sc.pp.highly_variable_genes(adata, n_top_genes=n_genes, batch_key="batch")
    return adata


def neighbors(points: np.ndarray) -> np.ndarray:
    """The 30 nearest neighbours of each cell, without itself."""
    return NearestNeighbors(n_neighbors=31).fit(points).kneighbors(points, return_distance=False)[:, 1:]


def mixing(nearest: np.ndarray, batch: np.ndarray) -> float:
    """Share of neighbours from other batches, over what it were if neighbours were drawn from all cells."""
    shares = np.unique(batch, return_counts=True)[1] / len(batch)
    return float((batch[nearest] != batch[:, None]).mean() / (1 - (shares**2).sum()))


def purity(nearest: np.ndarray, label: np.ndarray) -> float:
    """Share of neighbours with the cell's own label."""
    return float((label[nearest] == label[:, None]).mean())


@pytest.mark.parametrize("name", SETS)
def test_batches_mix_and_types_stay(name, shared_data):
    adata = prepared(shared_data / f"{name}.h5ad").copy()
    batch, label = adata.obs["batch"].to_numpy().astype(str), adata.obs["cell_type"].to_numpy().astype(str)
    integrate(adata, "batch", strength=0, key_added="plain")
    integrate(adata, "batch")
    assert adata.uns["scbatchnorm"]["strength"]["value"] == 1
    before, after = neighbors(adata.obsm["plain"]), neighbors(adata.obsm["X_scbatchnorm"])
    assert mixing(before, batch) < 0.4
    assert mixing(after, batch) > 0.7
    assert purity(after, label) > purity(before, label) - 0.02


def test_random_halves_of_one_experiment_are_left_alone(shared_data):
    adata = prepared(shared_data / "kang_ifnb_valid.h5ad")
    control = adata[adata.obs["batch"] == "control"].copy()
    control.obs["half"] = np.random.default_rng(0).permutation(np.arange(control.n_obs) % 2).astype(str)
    integrate(control, "half")
    integrate(control, "half", strength=0, key_added="plain")
    chosen = control.uns["scbatchnorm"]["strength"]
    assert chosen["value"] == 0, chosen["reason"]
    np.testing.assert_array_equal(neighbors(control.obsm["X_scbatchnorm"]), neighbors(control.obsm["plain"]))
    sc.pp.pca(control, n_comps=50)
    scores = control.obsm["X_pca"]
    sign = np.sign((scores * control.obsm["plain"]).sum(axis=0))
    np.testing.assert_allclose(control.obsm["plain"][:, :20] * sign[:20], scores[:, :20], atol=0.05)


@pytest.mark.parametrize("name", ["pancreas_cepo_3b", "pbmc_10x_3protocols"])
def test_types_private_to_each_half_are_left_alone(name, shared_data):
    """Each is the nearest that the other half has: no reason to move it there."""
    adata = prepared(shared_data / f"{name}.h5ad")
    one = adata[adata.obs["batch"] == adata.obs["batch"].value_counts().index[0]].copy()
    half = np.random.default_rng(0).permutation(np.arange(one.n_obs) % 2).astype(str)
    first, second = one.obs["cell_type"].value_counts().index[:2]
    one.obs["half"] = half
    gone = ((half == "0") & (one.obs["cell_type"] == first)) | ((half == "1") & (one.obs["cell_type"] == second))
    one = one[~gone].copy()
    integrate(one, "half")
    assert one.uns["scbatchnorm"]["strength"]["value"] == 0


def test_an_effect_in_one_type_is_corrected_there_alone(shared_data):
    """Monocytes of one half differ by a planted technical effect; all other cells stay where they are."""
    adata = prepared(shared_data / "pbmc_10x_3protocols.h5ad")
    one = adata[adata.obs["batch"] == adata.obs["batch"].value_counts().index[0]].copy()
    half = np.random.default_rng(1).permutation(np.arange(one.n_obs) % 2)
    affected = (one.obs["cell_type"] == "Mono_CD14").to_numpy()
    X = one.X.toarray()
    shift = np.random.default_rng(1).normal(0, 0.4, one.n_vars).astype(np.float32)
    moved = affected & (half == 1)
    X[moved] = np.where(X[moved] > 0, np.maximum(X[moved] + shift, 0), 0)
    one.X = X
    one.obs["half"] = half.astype(str)
    integrate(one, "half", strength=0, key_added="plain")
    integrate(one, "half")
    assert 0 < one.uns["scbatchnorm"]["strength"]["value"] < 0.6
    plain, embedding = one.obsm["plain"][:, :30], one.obsm["X_scbatchnorm"]
    displacement = np.linalg.norm(embedding - plain, axis=1)
    assert np.median(displacement[~affected]) < 0.2 * np.median(displacement[affected])

    def mixed(points):
        return mixing(neighbors(points[affected]), half[affected])

    assert mixed(embedding) > mixed(plain) + 0.2
