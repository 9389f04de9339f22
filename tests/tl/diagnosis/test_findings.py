"""States that are merged, split or lost are found, and nothing else."""

from __future__ import annotations

import numpy as np

from scbatchnorm.tl._diagnosis.findings import compare_embeddings
from tests.helpers.diagnosed import cells, compare, onto, types_of


def test_a_good_integration_has_no_findings():
    adata = cells()
    findings = compare(adata, adata.obsm["X_good"])
    assert len(findings.pairs) == 12
    assert not len(findings.merged)
    assert not len(findings.pulled)
    assert not findings.split.any()
    assert not findings.lost.any()
    assert len(findings.private) == 4, "each type is together with itself"
    assert (findings.private["support"] > 0.5).all()


def test_merged():
    adata = cells()
    findings = compare(adata, onto(adata, "B cell", "T cell", "x"))
    assert types_of(adata, findings, findings.merged) == [{"B cell", "T cell"}]
    row = findings.merged.iloc[0]
    assert row["before"] < 0.05
    assert row["excess"] > 0.7
    assert set(findings.states.batch[row[["first", "second"]].astype(int)]) == {0}


def test_how_much_counts_as_merged():
    adata = cells()
    codes, after = (adata.obs["batch"] == "y").to_numpy().astype(int), onto(adata, "B cell", "T cell", "x")
    findings = compare_embeddings(adata.obsm["X_pca"], after, codes, np.random.default_rng(0), min_excess=1.0)
    assert not len(findings.merged)


def test_split():
    adata = cells(n=100)
    after = adata.obsm["X_good"].copy()
    half = np.flatnonzero((adata.obs["cell_type"] == "monocyte") & (adata.obs["batch"] == "x"))[::2]
    after[half, 7] += 12
    findings = compare(adata, after)
    (state,) = np.flatnonzero(findings.split)
    assert set(adata.obs["cell_type"][findings.states.codes == state]) == {"monocyte"}
    assert findings.states.batch[state] == 0


def test_lost():
    adata = cells()
    after = adata.obsm["X_good"].copy()
    inside = np.flatnonzero((adata.obs["cell_type"] == "NK cell") & (adata.obs["batch"] == "y"))
    after[inside] = after[np.random.default_rng(1).permutation(inside)]
    findings = compare(adata, after)
    (state,) = np.flatnonzero(findings.lost)
    np.testing.assert_array_equal(np.flatnonzero(findings.states.codes == state), inside)


def test_one_batch_has_no_others():
    adata = cells()
    codes = np.zeros(adata.n_obs, dtype=int)
    findings = compare_embeddings(adata.obsm["X_good"], adata.obsm["X_good"], codes, np.random.default_rng(0))
    assert list(findings.private) == list(compare(adata, adata.obsm["X_good"]).private)
    assert not len(findings.private)
    assert len(findings.pairs) == 6
