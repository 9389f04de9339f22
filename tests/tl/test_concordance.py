"""Log fold changes within batches: alike where nothing was lost, and found where something was."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.stats import spearmanr

from scbatchnorm import tl
from scbatchnorm.tl._concordance import compare_contrasts, group_means
from tests.helpers.compare import digest


@pytest.fixture
def adata():
    """Three types in two batches; type t2 has 4 cells in batch 2."""
    rng = np.random.default_rng(0)
    batch, label = np.repeat([1, 2], 60), np.tile(["t0", "t1", "t2"], 40)
    label[(batch == 2) & (label == "t2")] = np.where(np.arange(20) < 4, "t2", "t0")
    types = {name: rng.uniform(0, 3, 50) for name in ("t0", "t1", "t2")}
    X = np.log1p(rng.poisson([types[name] for name in label])).astype(np.float32)
    cells = pd.DataFrame({"batch": batch, "type": pd.Categorical(label)}, index=[f"cell{i}" for i in range(120)])
    adata = ad.AnnData(sparse.csr_matrix(X), obs=cells)
    adata.layers["scbatchnorm"] = X + 0.5 * (batch == 2)[:, None]
    return adata


def test_shift_of_a_batch_changes_nothing(adata):
    before = digest(adata)
    table = tl.concordance(adata, "batch", "type")
    assert digest(adata) == before
    assert list(table) == ["batch", "group_1", "group_2", "n_cells_1", "n_cells_2", "n_genes", "spearman"]
    np.testing.assert_allclose(table["spearman"], 1, atol=1e-3)
    pairs = set(table[["batch", "group_1", "group_2"]].itertuples(index=False, name=None))
    assert pairs == {("1", "t0", "t1"), ("1", "t0", "t2"), ("1", "t1", "t2"), ("2", "t0", "t1")}
    assert table.set_index(["batch", "group_1", "group_2"]).loc[("2", "t0", "t1"), "n_cells_1"] == 36


def test_types_that_were_merged_come_first(adata):
    """In batch 1 the cells of t1 and t2 are dealt out anew between the two."""
    rng, merged = np.random.default_rng(1), (adata.obs["batch"] == 1) & (adata.obs["type"] != "t0")
    values = adata.layers["scbatchnorm"]
    values[merged] = rng.permutation(values[merged], axis=0)
    adata.layers["other"] = sparse.csr_matrix(values)
    table = tl.concordance(adata, "batch", "type", corrected="other")
    assert table[["batch", "group_1", "group_2"]].to_numpy()[0].tolist() == ["1", "t1", "t2"]
    assert table["spearman"].iloc[0] < 0.6
    assert table["spearman"].is_monotonic_increasing
    assert table["spearman"].iloc[-1] > 0.99


def test_options(adata):
    adata.layers["log"], adata.X = adata.X.copy(), None
    adata.obs["type"] = adata.obs["type"].where(adata.obs["type"] != "t1")
    table = tl.concordance(adata, "batch", "type", layer="log", min_cells=4)
    assert len(table) == 2
    assert set(table["group_2"]) == {"t2"}


@pytest.mark.parametrize(
    ("keys", "options", "error", "message"),
    [
        (("batch", "typ"), {}, KeyError, "label_key='typ' is not a column of adata.obs; columns: batch, type"),
        (("b", "type"), {}, KeyError, "batch_key='b' is not a column"),
        (("batch", "type"), {"corrected": "new"}, KeyError, "corrected='new' is not a layer of adata; layers: scbatch"),
        (("batch", "type"), {"corrected": None}, ValueError, "corrected must be a layer"),
        (("batch", "type"), {"layer": "log"}, KeyError, "layer='log' is not a layer of adata"),
        (("batch", "type"), {"min_cells": 0}, ValueError, "min_cells must be an integer of at least 1; got 0"),
        (("batch", "type"), {"min_cells": 50}, ValueError, "no batch has two values .* with min_cells=50 cells"),
    ],
)
def test_wrong_parameters(adata, keys, options, error, message):
    with pytest.raises(error, match=message):
        tl.concordance(adata, *keys, **options)


def test_without_a_correction_the_call_is_named(adata):
    del adata.layers["scbatchnorm"]
    with pytest.raises(KeyError, match=r"layers: none\. Run sbn\.tl\.correct\(adata\) first\."):
        tl.concordance(adata, "batch", "type")


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
def test_means_of_groups(form):
    X = np.random.default_rng(0).poisson(1, (20, 4)).astype(np.float32)
    codes = np.arange(20) % 4 - 1
    means = group_means(form(X), codes, 4)
    np.testing.assert_allclose(means[:3], [X[codes == code].mean(axis=0) for code in range(3)], rtol=1e-6)
    assert (means[3] == 0).all()


def test_contrasts_are_those_of_the_batch():
    rng = np.random.default_rng(0)
    before = rng.uniform(0.1, 1, (2, 3, 40))
    after = before + rng.normal(0, 0.1, before.shape)
    before[0, :2, :5] = 0  # not expressed in either
    sizes = np.array([[10, 12, 9], [10, 10, 10]])
    contrasts = list(compare_contrasts(before, after, sizes, min_cells=10))
    assert [(c.batch, c.groups, c.n_genes) for c in contrasts] == [
        (0, (0, 1), 35),
        (1, (0, 1), 40),
        (1, (0, 2), 40),
        (1, (1, 2), 40),
    ]
    assert contrasts[0].n_cells == (10, 12)
    expected = spearmanr((before[0, 0] - before[0, 1])[5:], (after[0, 0] - after[0, 1])[5:]).statistic
    assert contrasts[0].spearman == pytest.approx(expected)


def test_nothing_that_differs_is_nan():
    before = np.random.default_rng(0).uniform(size=(1, 2, 10))
    (contrast,) = compare_contrasts(before, np.ones((1, 2, 10)), np.array([[5, 5]]), min_cells=1)
    assert np.isnan(contrast.spearman)
    before[:, :, 2:] = 0
    (contrast,) = compare_contrasts(before, before, np.array([[5, 5]]), min_cells=1)
    assert contrast.n_genes == 2
    assert np.isnan(contrast.spearman)
