"""The toy data are what their documentation says, and their truth is free of batch effects."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
import torch
from scipy import sparse, stats
from sklearn.neighbors import NearestNeighbors

from scbatchnorm.datasets import pbmc_planted, simulate_batches
from scbatchnorm.datasets._simulation import _invert_counts

if TYPE_CHECKING:
    from anndata import AnnData

DATA = Path(__file__).parents[2] / "data"


@pytest.fixture(scope="module")
def simulated() -> AnnData:
    return simulate_batches(900, n_genes=600)


@pytest.fixture(scope="module")
def planted() -> AnnData:
    return pbmc_planted()


def same_matrix(a: sparse.csr_matrix, b: sparse.csr_matrix) -> bool:
    return a.shape == b.shape and (a != b).nnz == 0


def share_same_batch(adata: AnnData, *, layer: str | None = None, counts: bool) -> float:
    """Share of 30 nearest neighbours from the cell's own batch, less the share of that batch in the neighbours' types."""
    work = ad.AnnData(adata.layers[layer].copy() if layer else adata.X.copy())
    if counts:
        sc.pp.normalize_total(work, target_sum=1e4)
        sc.pp.log1p(work)
    sc.pp.pca(work, n_comps=20)
    batch, cell_type = adata.obs["batch"].cat.codes.to_numpy(), adata.obs["cell_type"].cat.codes.to_numpy()
    neighbors = NearestNeighbors(n_neighbors=31).fit(work.obsm["X_pca"]).kneighbors(return_distance=False)[:, :30]
    table = np.zeros((cell_type.max() + 1, batch.max() + 1))
    np.add.at(table, (cell_type, batch), 1)
    share = table / table.sum(axis=1, keepdims=True)
    return float((batch[neighbors] == batch[:, None]).mean() - share[cell_type[neighbors], batch[:, None]].mean())


def test_simulated_fields(simulated):
    assert simulated.shape == (900, 600)
    for matrix in (simulated.X, simulated.layers["truth"]):
        assert isinstance(matrix, sparse.csr_matrix)
        assert matrix.dtype == np.float32
        assert matrix.has_sorted_indices
        assert (matrix.data >= 1).all()
        np.testing.assert_array_equal(matrix.data, np.round(matrix.data))
    assert simulated.obs["batch"].cat.categories.to_list() == ["batch_0", "batch_1", "batch_2"]
    assert simulated.obs["cell_type"].cat.categories.to_list() == [f"type_{t}" for t in range(6)]
    assert simulated.obs_names.is_unique
    assert simulated.var_names.is_unique
    assert simulated.obs["batch"].value_counts().to_list() == [300, 300, 300]
    assert simulated.obs["batch"].iloc[:30].nunique() == 3, "cells are not shuffled"


def test_simulation_is_recorded_and_survives_a_file(simulated, tmp_path):
    recorded = simulated.uns["simulation"]
    assert all(type(value) in {int, float, bool} for value in recorded.values())
    assert recorded["n_types"] == 6
    assert recorded["rng"] == 0
    simulated.write_h5ad(tmp_path / "a.h5ad")
    assert ad.read_h5ad(tmp_path / "a.h5ad").uns["simulation"] == recorded
    assert "rng" not in simulate_batches(60, n_genes=20, rng=np.random.default_rng(0)).uns["simulation"]


def test_simulation_is_reproducible(simulated):
    again = simulate_batches(900, n_genes=600)
    other = simulate_batches(900, n_genes=600, rng=1)
    from_generator = simulate_batches(900, n_genes=600, rng=np.random.default_rng(0))
    assert same_matrix(simulated.X, again.X)
    assert same_matrix(simulated.X, from_generator.X)
    assert simulated.obs.equals(again.obs)
    assert not same_matrix(simulated.X, other.X)
    shared = np.random.default_rng(0)
    assert not same_matrix(simulate_batches(60, rng=shared).X, simulate_batches(60, rng=shared).X)


def test_global_random_states_are_left_alone():
    numpy_before = np.random.get_state(legacy=False)["state"]["key"].copy()  # noqa: NPY002 (the legacy state is what is watched)
    torch_before = torch.get_rng_state()
    simulate_batches(60, n_genes=20)
    pbmc_planted()
    np.testing.assert_array_equal(np.random.get_state(legacy=False)["state"]["key"], numpy_before)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_before)


def test_private_type_is_in_the_last_batch_only(simulated):
    table = simulated.obs.value_counts(["cell_type", "batch"]).unstack(fill_value=0)
    assert table.loc["type_5"].to_list() == [0, 0, 50]
    assert (table.drop(index="type_5").sum(axis=1) > 0).all()
    shared = simulate_batches(900, n_genes=20, private_type=False, concentration=math.inf).obs
    assert (shared.value_counts(["cell_type", "batch"]) == 50).all()


def test_concentration_sets_the_inequality_of_the_composition():
    def inequality(concentration: float) -> float:
        obs = simulate_batches(3000, n_genes=20, private_type=False, concentration=concentration).obs
        return float(obs.groupby("batch", observed=True)["cell_type"].value_counts(normalize=True).std())

    assert inequality(math.inf) < 1e-3 < inequality(20) < inequality(0.5)


def test_truth_has_no_batch_effect_and_x_has(simulated):
    assert abs(share_same_batch(simulated, layer="truth", counts=True)) < 0.02
    assert share_same_batch(simulated, counts=True) > 0.25


def test_batch_strength_grows_from_nothing_and_leaves_the_truth(simulated):
    null = simulate_batches(900, n_genes=600, batch_strength=0)
    weak = simulate_batches(900, n_genes=600, batch_strength=0.3)
    assert same_matrix(null.X, null.layers["truth"])
    for adata in (null, weak):
        assert same_matrix(adata.layers["truth"], simulated.layers["truth"])
    shares = [share_same_batch(adata, counts=True) for adata in (null, weak, simulated)]
    assert shares == sorted(shares)


@pytest.mark.parametrize("density", [0.02, 0.09, 0.5])
def test_density_of_the_truth(density):
    truth = simulate_batches(600, n_genes=1000, density=density).layers["truth"]
    assert truth.nnz / np.prod(truth.shape) == pytest.approx(density, rel=0.15)


def test_counts_follow_the_negative_binomial_law():
    """The closed-form sampler against scipy's distribution, for rare and for abundant genes."""
    rng = np.random.default_rng(0)
    means = np.array([0.05, 1.0, 30.0, 1000.0])
    survival = 1 - rng.random((5000, means.size))
    counts = _invert_counts(np.tile(np.log(means), (5000, 1)), np.full(5000, means.sum()), survival).toarray()
    for gene, mean in enumerate(means):
        law = stats.nbinom(2, 2 / (2 + mean))
        np.testing.assert_array_equal(counts[:, gene], law.isf(survival[:, gene]))


def test_every_batch_has_cells_in_the_smallest_case():
    adata = simulate_batches(40, n_genes=10, n_batches=10, n_types=4)
    assert (adata.obs["batch"].value_counts() == 4).all()
    assert adata.obs["cell_type"].eq("type_3").sum() == 1
    single = simulate_batches(5, n_genes=2, n_batches=1, n_types=1, private_type=False)
    assert single.shape == (5, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_cells": 0}, r"n_cells must be an integer of at least 1\. Got 0\."),
        ({"n_cells": 10}, r"n_cells must be at least n_batches \* n_types = 18.*Got 10\."),
        ({"n_genes": 1.5}, r"n_genes must be an integer of at least 2\. Got 1\.5\."),
        ({"n_batches": 1}, r"n_batches must be an integer of at least 2\. Got 1\."),
        ({"n_types": True}, r"n_types must be an integer of at least 2\. Got True\."),
        ({"batch_strength": -1}, r"batch_strength must be a number in \[0, 10\]\. Got -1\."),
        ({"batch_strength": math.nan}, r"batch_strength must be a number in \[0, 10\]\. Got nan\."),
        ({"density": 0}, r"density must be a number in \(0, 0\.9\]\. Got 0\."),
        ({"density": "low"}, r"density must be a number in \(0, 0\.9\]\. Got 'low'\."),
        ({"concentration": 0}, r"concentration must be a number in \(0, inf\]\. Got 0\."),
    ],
)
def test_simulation_parameters_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        simulate_batches(**arguments)


def test_planted_fields(planted):
    assert planted.shape == (700, 765)
    for matrix in (planted.X, planted.layers["truth"]):
        assert isinstance(matrix, sparse.csr_matrix)
        assert matrix.dtype == np.float32
        assert matrix.data.min() > 0
    assert planted.obs["batch"].cat.categories.to_list() == ["protocol A", "protocol B", "protocol C"]
    assert planted.obs["cell_type"].nunique() == 10
    assert planted.obs["batch"].value_counts().min() > 200
    composition = planted.obs.value_counts(["cell_type", "batch"]).unstack()
    assert composition.div(composition.sum(axis=1), axis=0).loc["Dendritic"].to_list() == pytest.approx(
        [0.15, 0.3, 0.55]
    )


def test_planted_truth_is_scanpy_s(planted):
    source = sc.datasets.pbmc68k_reduced()
    assert same_matrix(planted.layers["truth"], sparse.csr_matrix(source.raw.X))
    assert planted.obs["cell_type"].astype(str).to_list() == source.obs["bulk_labels"].astype(str).to_list()


def test_planted_effect_separates_the_protocols(planted):
    assert abs(share_same_batch(planted, layer="truth", counts=False)) < 0.02
    assert share_same_batch(planted, counts=False) > 0.3
    null = pbmc_planted(batch_strength=0)
    assert same_matrix(null.X, null.layers["truth"])
    assert null.obs["batch"].equals(planted.obs["batch"])


def test_planted_is_reproducible_and_silent(planted):
    assert same_matrix(planted.X, pbmc_planted().X)  # in tests all warnings are errors
    assert not same_matrix(planted.X, pbmc_planted(rng=1).X)


def test_planted_strength_is_checked():
    with pytest.raises(ValueError, match=r"batch_strength must be a number in \[0, 10\]\. Got inf\."):
        pbmc_planted(batch_strength=math.inf)


def test_committed_file_equals_its_regeneration():
    spec = importlib.util.spec_from_file_location("generate", DATA / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    committed, regenerated = ad.read_h5ad(DATA / "simulated_3batches.h5ad"), generate.simulated_3batches()
    assert same_matrix(committed.X, regenerated.X)
    assert same_matrix(committed.layers["truth"], regenerated.layers["truth"])
    assert committed.obs.equals(regenerated.obs)
    assert committed.var_names.equals(regenerated.var_names)
    assert committed.uns["simulation"] == pytest.approx(regenerated.uns["simulation"])
