"""Of many cells a sample stands for all: it holds every group, says so, and its values are those of all within its interval."""

from __future__ import annotations

from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from scbatchnorm import metrics, tl
from scbatchnorm.metrics import _lisi, _search
from scbatchnorm.metrics._catalogue import CATALOGUE
from scbatchnorm.metrics._comparison import read_comparison
from scbatchnorm.metrics._inputs import cross_tabulate
from scbatchnorm.metrics._lisi import BlockwiseNeighbors
from scbatchnorm.metrics._representation import Representation
from scbatchnorm.metrics._score import MetricScore
from scbatchnorm.metrics._search import NeighborIndex
from scbatchnorm.metrics._table import Row, build_table
from tests.metrics.cells import annotated

KEYS: dict[str, Any] = {"batch_key": "batch", "label_key": "cell_type", "progress": False}
AROUND = [metric for metric in CATALOGUE if metric.scope == "around sample"]
ALL = [metric.title for metric in CATALOGUE if metric.scope == "all"]
BY_NAME = {metric.name: metric for metric in CATALOGUE}


def comparison(adata, max_cells):
    found = read_comparison(adata, "X_new", batch_key="batch", label_key="cell_type", unintegrated="X_pca")
    return found.with_sample(max_cells, np.random.default_rng(0))


@pytest.fixture(scope="module")
def many():
    """More cells than the sample, one of which is the only one of its type, and one the only one of its batch."""
    adata = annotated(n=2400, batches_apart=1.0)
    adata.obs = adata.obs.astype(str)
    adata.obs.iloc[7, 1], adata.obs.iloc[8, 0] = "rare", "small"
    return adata


@pytest.fixture(scope="module")
def tables(many):
    """Of all cells, and with a sample."""
    options = KEYS | {"n_bootstrap": 6, "controls": False}
    return [metrics.evaluate(many, "X_new", max_cells=max_cells, **options) for max_cells in (None, 1200)]


@pytest.mark.parametrize("max_cells", [1000, 100_000])
def test_up_to_max_cells_everything_is_computed_on_all(max_cells):
    adata = annotated(n=1000)
    options = KEYS | {"n_bootstrap": 2, "metrics": ["ilisi", "silhouette_label", "kmeans_nmi"]}
    expected = metrics.evaluate(adata, "X_new", max_cells=None, **options)
    pd.testing.assert_frame_equal(metrics.evaluate(adata, "X_new", max_cells=max_cells, **options), expected)
    assert (expected["notes"] == "").all()


def test_sample_has_every_batch_and_label(many):
    whole, found = comparison(many, None), comparison(many, 1200)
    assert whole.sample is whole.only_sample is None
    assert found.only_sample.sample is None
    assert abs(len(found.sample) - 1200) < 15
    assert {7, 8} <= set(found.sample)
    assert (np.diff(found.sample) > 0).all()
    shares = (
        cross_tabulate(found.labels, found.batches),
        cross_tabulate(found.only_sample.labels, found.only_sample.batches),
    )
    assert ((shares[0] > 0) == (shares[1] > 0)).all()
    assert (np.abs(shares[1] - shares[0] / 2) < 1).all()


@pytest.mark.parametrize("metric", AROUND, ids=lambda metric: metric.name)
@pytest.mark.parametrize("flavor", ["default", "scib"])
def test_cells_of_the_sample_have_their_values_among_all(many, metric, flavor):
    found, rows = comparison(many, None), np.arange(3, 2400, 7)

    def score(chosen):
        before = Representation(found.points["X_pca"], found.batches, found.labels, None, flavor, rows=chosen)
        after = Representation(found.points["X_new"], found.batches, found.labels, before, flavor, rows=chosen)
        return metric.score(after, found.batches)

    of_all, of_some = score(None).cells, score(rows)
    np.testing.assert_allclose(of_some.cells[rows], of_all[rows], atol=1e-6)
    assert np.isnan(np.delete(of_some.cells, rows)).all()
    assert of_some.value == of_some.aggregate(of_some.cells[~np.isnan(of_some.cells)])


def test_values_of_a_sample_are_those_of_all_within_their_interval(tables):
    whole, part = (table.loc["X_new"] for table in tables)
    for metric in CATALOGUE:
        if metric.title in ALL and metric.default:
            assert part[metric.title] == whole[metric.title]
        elif metric.default and metric.name not in {
            "kbet",
            "graph_connectivity",
        }:  # these depend on the number of cells
            # The isolated label has one cell, which is in every sample.
            assert (part[metric.title] == whole[metric.title]) == (metric.name == "isolated_labels")
            assert part[f"{metric.title} low"] <= whole[metric.title] <= part[f"{metric.title} high"]


def test_intervals_are_those_of_as_many_cells_as_the_sample(tables):
    whole, part = (table.loc["X_new"] for table in tables)

    def width(table, title):
        return table[f"{title} high"] - table[f"{title} low"]

    assert width(part, "BRAS") == width(whole, "BRAS")
    for title in ("iLISI", "Silhouette label", "CiLISI"):
        assert width(part, title) / width(whole, title) == pytest.approx(np.sqrt(2), rel=0.01)
    assert width(whole, "Total") < width(part, "Total") < 1.5 * width(whole, "Total")


def test_notes_say_what_a_sample_stands_for(many, tables):
    whole, part = (table.loc["X_new", "notes"] for table in tables)
    size = len(comparison(many, 1200).sample)
    assert whole == ""
    said = [
        f"Isolated labels, Silhouette label, kBET, Graph connectivity: computed on a sample of {size} of 2400 cells"
    ]
    said += [f"cLISI, kNN preservation, iLISI, CiLISI: averaged over a sample of {size} of 2400 cells"]
    # Another sample, of nearly as many.
    assert [line.split(" sample of ")[0] for line in part.split("; ")] == [
        line.split(" sample of ")[0] for line in said
    ]
    assert all(line.endswith(" of 2400 cells") for line in part.split("; "))


def test_aggregates_add_the_variance_of_the_sample(many):
    """Of the mean of two metrics, one from all N cells and one from m: var(all) / N + var(sampled) / m + 2 cov / N."""
    found = comparison(many, 1200)
    deviations = np.random.default_rng(0).normal(scale=0.01, size=(2, 40))
    deviations[1] += deviations[0]
    rows = [
        Row("X_new", "representation", {BY_NAME["bras"]: MetricScore(0.5 + a), BY_NAME["ilisi"]: MetricScore(0.5 + b)})
        for a, b in deviations.T
    ]
    centre = Row("X_new", "representation", {BY_NAME["bras"]: MetricScore(0.5), BY_NAME["ilisi"]: MetricScore(0.5)})
    table = build_table([centre], found, [(1200, [row]) for row in rows]).loc["X_new"]
    (a, ab), (_, b) = np.cov(deviations)
    ratio = 2400 / len(found.sample)
    assert table["BRAS high"] - 0.5 == pytest.approx(1.96 * np.sqrt(a))
    assert table["iLISI high"] - 0.5 == pytest.approx(1.96 * np.sqrt(b * ratio))
    assert table["Batch correction high"] - 0.5 == pytest.approx(1.96 * np.sqrt((a + b * ratio + 2 * ab) / 4))


def test_per_label(many):
    titles, options = ["Silhouette label", "CiLISI", "BRAS"], KEYS | {"per_label": True, "controls": False}
    names = ["silhouette_label", "cilisi", "bras"]
    whole, part = (
        metrics.evaluate(many, "X_new", metrics=names, max_cells=size, **options) for size in (None, 1200)
    )  # fmt: skip
    pd.testing.assert_frame_equal(part[["cells", "batches", "BRAS"]], whole[["cells", "batches", "BRAS"]])
    assert part.notna().equals(whole.notna())
    assert np.nanmax(np.abs(part[titles].to_numpy(float) - whole[titles].to_numpy(float))) < 0.05
    assert ("X_new", "rare") in part.index


def test_controls_are_shuffled_within_the_sample(many):
    names = ["ilisi", "silhouette_batch", "silhouette_label"]
    whole, part = (
        metrics.evaluate(many, "X_new", metrics=names, max_cells=size, n_bootstrap=0, **KEYS) for size in (None, 1200)
    )
    rows = ["X_new", "X_new, batches shuffled"]
    assert (part.loc[rows, "Silhouette batch"].diff().iloc[1]) > 0.01
    np.testing.assert_allclose(part.loc[rows, "Silhouette batch"], whole.loc[rows, "Silhouette batch"], atol=0.04)
    np.testing.assert_allclose(part.loc[rows, "iLISI"], whole.loc[rows, "iLISI"], atol=0.02)
    first, second = part.loc[rows, "Silhouette label"]
    assert first == second


@pytest.mark.parametrize("flavor", ["default", "scib"])
def test_neighbourhoods_sought_block_by_block_are_the_same(monkeypatch, flavor):
    adata = annotated(n=500)
    found = comparison(adata, None)
    representation = Representation(found.points["X_new"], found.batches, found.labels, None, flavor)
    expected = representation.weighted_neighbors.simpson(found.batches)
    monkeypatch.setattr(_search, "_BLOCK", 60)
    monkeypatch.setattr(_lisi, "_BLOCK", 50)
    sought = BlockwiseNeighbors(lambda: NeighborIndex(found.points["X_new"]), flavor)
    np.testing.assert_allclose(sought.simpson(found.batches), expected, rtol=1e-6)
    again = Representation(found.points["X_new"], found.batches, found.labels, None, flavor)
    np.testing.assert_array_equal(again.weighted_neighbors.simpson(found.batches), expected)


@pytest.mark.slow
def test_many_cells_are_searched_approximately(monkeypatch):
    adata = annotated(n=900)
    tl.mixing(adata, "batch", use_rep="X_new", label_key="cell_type")
    expected = adata.obs.filter(like="mixing_").copy()
    monkeypatch.setattr(_search, "MAX_EXACT", 200)
    tl.mixing(adata, "batch", use_rep="X_new", label_key="cell_type")
    np.testing.assert_allclose(adata.obs[expected.columns].mean(), expected.mean(), atol=0.01)
    assert (adata.obs[expected.columns] - expected).abs().mean(axis=None) < 0.01
    table = metrics.evaluate(adata, "X_new", max_cells=None, n_bootstrap=0, **KEYS).loc["X_new"]
    assert table["iLISI"] == pytest.approx(expected["mixing_ilisi"].median(), abs=0.01)
    assert table["kBET"] > 0


def lazily(adata, path):
    """As read without loading it."""
    pytest.importorskip("dask")
    pytest.importorskip("xarray")
    adata.write_h5ad(path)
    return ad.experimental.read_lazy(path)


def test_lazy_annotation_and_representations_give_the_same(tmp_path):
    found = annotated(n=300)
    adata = ad.AnnData(np.full((300, 2), np.nan), found.obs, obsm=dict(found.obsm))
    adata.obs.iloc[:4, 1] = np.nan
    lazy = lazily(adata, tmp_path / "a.h5ad")
    assert not isinstance(lazy.obs, pd.DataFrame)
    assert not isinstance(lazy.obsm["X_new"], np.ndarray)
    options = KEYS | {"n_bootstrap": 2, "metrics": ["ilisi", "silhouette_label", "knn_preservation", "pcr_comparison"]}
    with pytest.warns(UserWarning, match="4 of 300 cells: they are left out"):
        expected = metrics.evaluate(adata, "X_new", **options)
    with pytest.warns(UserWarning, match="4 of 300 cells: they are left out"):
        pd.testing.assert_frame_equal(metrics.evaluate(lazy, "X_new", **options), expected)


def test_mixing_of_lazy_data(tmp_path):
    adata = annotated(n=200)
    lazy = lazily(adata, tmp_path / "a.h5ad")
    for data in (adata, lazy):
        tl.mixing(data, "batch", use_rep="X_new", label_key="cell_type")
    for name in ("ilisi", "cilisi", "clisi", "knn_preservation"):
        np.testing.assert_array_equal(np.asarray(lazy.obs[f"mixing_{name}"]), adata.obs[f"mixing_{name}"])


def test_dask_representations_in_memory():
    array = pytest.importorskip("dask.array")
    adata = annotated(n=200)
    expected = metrics.evaluate(adata, "X_new", metrics=["ilisi", "bras"], n_bootstrap=0, **KEYS)
    adata.obsm["X_new"] = array.from_array(adata.obsm["X_new"], chunks=(70, 2))
    found = metrics.evaluate(adata, "X_new", metrics=["ilisi", "bras"], n_bootstrap=0, **KEYS)
    pd.testing.assert_frame_equal(found, expected)
    assert hasattr(adata.obsm["X_new"], "dask")


@pytest.mark.parametrize("value", [0, -5, 2000.5, True, "all"])
def test_wrong_max_cells(value):
    with pytest.raises(ValueError, match="max_cells must be an integer of at least 1000; got "):
        metrics.evaluate(annotated(n=30), "X_new", max_cells=value, **KEYS)
