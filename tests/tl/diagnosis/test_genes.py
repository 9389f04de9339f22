"""Signals and markers of genes."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from scbatchnorm.tl._diagnosis.genes import find_markers, measure_signal
from scbatchnorm.tl._diagnosis.noise import find_batch_neighbours
from tests.helpers.diagnosed import TYPES, cells, compare


def test_signal_of_genes():
    adata = cells()
    rng = np.random.default_rng(0)
    rows = [np.flatnonzero(adata.obs["batch"] == name) for name in "xy"]
    near = find_batch_neighbours(adata.obsm["X_good"], rows)
    X = np.column_stack([adata.X[:, 0], rng.normal(size=adata.n_obs), (adata.obs["batch"] == "y") * 5.0, np.ones(480)])
    for matrix in (X.astype(np.float32), sparse.csr_matrix(X.astype(np.float32))):
        type_gene, noise, batch_gene, constant = measure_signal(matrix, rows, near)
        assert type_gene > 0.8
        assert abs(noise) < 3.3 / np.sqrt(480)
        assert np.isnan(batch_gene), "differences between batches do not count"
        assert np.isnan(constant)


def test_markers():
    adata = cells()
    findings = compare(adata, adata.obsm["X_good"])
    for matrix in (adata.X, sparse.csr_matrix(adata.X)):
        found = find_markers(matrix, adata.var_names.to_numpy(), findings.states, findings.rows)
        for state, text in enumerate(found):
            (label,) = set(adata.obs["cell_type"][findings.states.codes == state])
            assert {int(gene[4:]) % 4 for gene in text.split(", ")} == {TYPES.index(label)}
