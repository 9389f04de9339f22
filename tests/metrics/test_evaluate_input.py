"""What is odd or wrong in the data is either handled and said, or refused in words."""

from __future__ import annotations

import warnings
from typing import Any

import anndata as ad
import igraph
import numpy as np
import pandas as pd
import pytest
import threadpoolctl
import torch
from scipy import sparse

from scbatchnorm import metrics
from scbatchnorm.metrics._catalogue import CATALOGUE
from tests.helpers.compare import digest
from tests.metrics.cells import annotated

KEYS: dict[str, Any] = {"batch_key": "batch", "label_key": "cell_type", "progress": False}
ABOUT_BATCH = [metric.title for metric in CATALOGUE if metric.about == "batch" and metric.default]
ABOUT_BIO = [metric.title for metric in CATALOGUE if metric.about == "bio" and metric.default and metric.needs_label]


def evaluate(adata, use_rep="X_new", **options):
    return metrics.evaluate(adata, use_rep, **(KEYS | {"n_bootstrap": 0} | options))


def noted(table, titles, reason):
    """The titles are nan in all rows, and the notes say why."""
    assert table[titles].isna().all(axis=None)
    assert all(f"{', '.join(titles)}: {reason}" in notes for notes in table["notes"])


def test_one_batch():
    adata = annotated()
    adata.obs["batch"] = "only"
    table = evaluate(adata)
    noted(table, ABOUT_BATCH, "there is one batch only")
    assert table[["Batch correction", "Total"]].isna().all(axis=None)
    assert table[["Bio conservation", *ABOUT_BIO]].notna().all(axis=None)


def test_one_label():
    adata = annotated()
    adata.obs["cell_type"] = "T"
    table = evaluate(adata)
    noted(table, ABOUT_BIO, "there is one label only")
    assert table[["Bio conservation", "Total"]].isna().all(axis=None)
    assert table[["Batch correction", *ABOUT_BATCH]].notna().all(axis=None)


def test_labels_that_are_batches():
    adata = annotated()
    adata.obs["batch"] = adata.obs["cell_type"].map({"zebra": "one", "ape": "two", "mole": "one"})
    table = evaluate(adata, n_bootstrap=3)
    noted(table, ABOUT_BATCH, "every label is in one batch only, so mixing of batches cannot be told from mixing of")
    assert table[["Batch correction", "Total", "Total low", "iLISI high"]].isna().all(axis=None)


def test_every_cell_its_own_label():
    adata = annotated(n=60)
    adata.obs["cell_type"] = adata.obs_names
    adata.obs["batch"] = "only"
    table = evaluate(adata)
    assert np.isnan(table.loc["X_new", "Silhouette label"])
    assert "every cell has a label of its own" in table.loc["X_new", "notes"]


def test_a_label_of_one_cell():
    adata = annotated()
    adata.obs["cell_type"] = adata.obs["cell_type"].cat.add_categories("rare")
    adata.obs.iloc[7, 1] = "rare"
    table = evaluate(adata, n_bootstrap=3)
    assert table.notna().all(axis=None)
    per_label = evaluate(adata, per_label=True).loc[("X_new", "rare")]
    assert per_label[["cells", "batches"]].tolist() == [1, 1]
    assert per_label[["BRAS", "kBET", "CiLISI"]].isna().all()


def test_cells_without_label_are_left_out_and_counted():
    adata = annotated()
    adata.obs.iloc[:5, 1] = np.nan
    with pytest.warns(UserWarning, match="label_key='cell_type' has no value for 5 of 300 cells: they are left out"):
        table = evaluate(adata)
    expected = evaluate(adata[5:].copy())
    pd.testing.assert_frame_equal(table.drop(columns="notes"), expected.drop(columns="notes"))
    assert (table["notes"] == "5 cells without a label are left out").all()


@pytest.mark.parametrize("n", [4, 9, 40])
def test_fewer_cells_than_neighbours(n):
    table = evaluate(annotated(n=n, n_labels=2, n_batches=2), n_bootstrap=3)
    assert table.loc["X_new", ["iLISI", "cLISI", "Graph connectivity"]].notna().all()


def test_constant_embedding():
    adata = annotated(n=120)
    adata.obsm["X_new"] = np.ones((120, 3))
    table = evaluate(adata, metrics="all")
    assert table.loc["X_new", "PCR comparison"] == 1
    assert table.loc["X_new", "Silhouette label"] == 0.5
    assert table.loc["X_new", "KMeans NMI"] == 0


@pytest.mark.parametrize("kind", ["int", "bool", "unused categories", "DataFrame", "view", "float32"])
def test_forms_of_the_same_data(kind):
    adata = annotated(n_labels=2)
    expected = evaluate(adata)
    if kind == "int":
        adata.obs["cell_type"] = adata.obs["cell_type"].map({"zebra": 3, "ape": 1}).astype(int)
    elif kind == "bool":
        adata.obs["cell_type"] = (adata.obs["cell_type"] == "zebra").to_numpy()
    elif kind == "unused categories":
        adata.obs["cell_type"] = adata.obs["cell_type"].cat.add_categories(["none of them"])
    elif kind == "DataFrame":
        adata.obsm["X_new"] = pd.DataFrame(adata.obsm["X_new"], index=adata.obs_names).add_prefix("d")
    elif kind == "float32":
        adata.obsm["X_new"] = adata.obsm["X_new"].astype(np.float32)
    elif kind == "view":
        adata = ad.concat([adata, annotated(seed=1, n=30, n_labels=2)], index_unique="-")[:300]
        assert adata.is_view
    pd.testing.assert_frame_equal(evaluate(adata), expected, rtol=1e-4)


def test_backed(tmp_path):
    adata = annotated(n=120)
    adata.write_h5ad(tmp_path / "a.h5ad")
    backed = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
    pd.testing.assert_frame_equal(evaluate(backed), evaluate(adata))
    backed.file.close()


def test_several_columns_make_the_batch():
    adata = annotated()
    adata.obs["day"] = np.tile(["mon", "tue"], 150)
    combined = adata.obs["batch"].astype(str) + adata.obs["day"]
    expected = metrics.ilisi(adata.obsm["X_new"], combined)
    assert evaluate(adata, batch_key=["batch", "day"]).loc["X_new", "iLISI"] == expected


WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "representation": ({"use_rep": "X_nwe"}, KeyError, "use_rep='X_nwe' is not a key of adata.obsm; keys: X_pca, X_new"),
    "not integrated": ({"use_rep": "X_scbatchnorm"}, KeyError, r"Run sbn\.pp\.integrate\(adata, batch_key\) first\."),
    "no representation": ({"use_rep": []}, ValueError, "use_rep must name at least one representation; got"),
    "None": ({"use_rep": None}, ValueError, "use_rep must name at least one representation; got None; keys of adata.obsm: X_pca, X_new"),
    "labels": ({"label_key": ["cell_type"]}, ValueError, "label_key must be a column of adata.obs or None; got"),
    "batch": ({"batch_key": "donr"}, KeyError, "batch_key='donr' is not a column of adata.obs; columns: batch, cell_type"),
    "label": ({"label_key": "typ"}, KeyError, "label_key='typ' is not a column of adata.obs; columns: batch, cell_type"),
    "unintegrated": ({"unintegrated": "X_p"}, KeyError, "unintegrated='X_p' is not a key .* give unintegrated=None"),
    "metric": ({"metrics": ["ilsi"]}, ValueError, r"metrics must be 'default', 'all' or names .* got \['ilsi'\]"),
    "no metric": ({"metrics": []}, ValueError, "metrics must be 'default', 'all' or names"),
    "metric without label": ({"metrics": ["kbet"], "label_key": None}, ValueError, "'kbet', which needs label_key"),
    "metric without before": (
        {"metrics": ["pcr_comparison"], "unintegrated": None}, ValueError, "'pcr_comparison', which needs unintegrated",
    ),
    "per label": ({"per_label": True, "label_key": None}, ValueError, "per_label=True needs label_key"),
    "one sample": ({"n_bootstrap": 1}, ValueError, "n_bootstrap must be 0 or at least 2"),
    "samples": ({"n_bootstrap": 2.5}, ValueError, "n_bootstrap must be an integer of at least 0; got 2.5"),
    "cells": ({"max_cells": 999}, ValueError, "max_cells must be an integer of at least 1000; got 999"),
    "threads": ({"n_jobs": 0}, ValueError, "n_jobs must be an integer of at least 1; got 0"),
    "flavor": ({"flavor": "scIB"}, ValueError, "flavor must be one of 'default', 'scib'; got 'scIB'"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_parameters(case):
    options, error, message = WRONG[case]
    adata = annotated(n=30)
    before = digest(adata)
    with pytest.raises(error, match=message):
        evaluate(adata, **options)
    assert digest(adata) == before


def test_wrong_data():
    adata = annotated(n=30)
    adata.obsm["X_bad"] = np.where(np.arange(120).reshape(30, 4) == 13, np.nan, 1.0)
    with pytest.raises(ValueError, match=r"adata.obsm\['X_bad'\] must be finite; 1 of 30 cells .* the first is cell 3"):
        evaluate(adata, "X_bad")
    adata.obsm["X_bad"] = sparse.csr_matrix(np.eye(30))
    with pytest.raises(ValueError, match=r"adata.obsm\['X_bad'\] must be a dense array"):
        evaluate(adata, "X_bad")
    adata.obs["nothing"] = np.nan
    with pytest.raises(ValueError, match="label_key='nothing' must have a value for at least one cell; all 30"):
        evaluate(adata, label_key="nothing")
    adata.obs.iloc[2, 0] = np.nan
    with pytest.raises(ValueError, match="batch_key='batch' must give every cell a batch; 1 of 30 cells have none"):
        evaluate(adata)


def test_nothing_global_is_left_changed():
    adata, filters = annotated(n=120), list(warnings.filters)
    threads = [(pool["prefix"], pool["num_threads"]) for pool in threadpoolctl.threadpool_info()]
    torch_threads, state = torch.get_num_threads(), np.random.get_state(legacy=False)["state"]["key"].copy()  # noqa: NPY002
    evaluate(adata, metrics="all", n_bootstrap=3)  # loads what is loaded late
    with threadpoolctl.threadpool_limits(1):
        evaluate(adata, metrics="all", n_bootstrap=3, n_jobs=2)
        assert {pool["num_threads"] for pool in threadpoolctl.threadpool_info()} == {1}
    assert (
        threads == [(pool["prefix"], pool["num_threads"]) for pool in threadpoolctl.threadpool_info()][: len(threads)]
    )
    assert torch.get_num_threads() == torch_threads
    np.testing.assert_array_equal(np.random.get_state(legacy=False)["state"]["key"], state)  # noqa: NPY002
    assert list(warnings.filters) == filters
    igraph.Graph.Erdos_Renyi(n=5, p=0.5)  # its generator is Python's again, and works
