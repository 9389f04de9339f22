"""The table has the metrics of the functions, controls that mean something, and intervals that do."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pandas as pd
import pytest

from scbatchnorm import metrics
from scbatchnorm.metrics._catalogue import AGGREGATES, CATALOGUE
from tests.helpers.compare import digest
from tests.metrics.cells import annotated, separate

KEYS: dict[str, Any] = {"batch_key": "batch", "label_key": "cell_type", "progress": False}
TITLES = {metric.name: metric.title for metric in CATALOGUE}


def single(adata, key="X_new", before="X_pca"):
    """Every metric by its own function."""
    X, X_pre = adata.obsm[key], adata.obsm[before]
    batch, label = adata.obs["batch"], adata.obs["cell_type"]
    seed = np.random.default_rng(0).integers(2**31, size=3).tolist()[0]
    kmeans, leiden = (metrics.nmi_ari(X, label, clustering=name, rng=seed) for name in ("kmeans", "leiden"))
    return {
        "isolated_labels": metrics.isolated_labels(X, batch=batch, label=label),
        "kmeans_nmi": kmeans.nmi,
        "kmeans_ari": kmeans.ari,
        "silhouette_label": metrics.silhouette_label(X, label),
        "clisi": metrics.clisi(X, label),
        "knn_preservation": metrics.knn_preservation(X, X_pre=X_pre, batch=batch),
        "leiden_nmi": leiden.nmi,
        "leiden_ari": leiden.ari,
        "isolated_labels_f1": metrics.isolated_labels(X, batch=batch, label=label, score="f1", rng=seed),
        "bras": metrics.bras(X, batch=batch, label=label),
        "ilisi": metrics.ilisi(X, batch),
        "kbet": metrics.kbet(X, batch=batch, label=label),
        "graph_connectivity": metrics.graph_connectivity(X, label),
        "pcr_comparison": metrics.pcr_comparison(X, X_pre=X_pre, batch=batch),
        "cilisi": metrics.cilisi(X, batch=batch, label=label),
        "silhouette_batch": metrics.silhouette_batch(X, batch=batch, label=label),
    }


def test_values_are_those_of_the_functions():
    adata = annotated()
    table = metrics.evaluate(adata, "X_new", metrics="all", n_bootstrap=0, **KEYS)
    expected = {TITLES[name]: value for name, value in single(adata).items()}
    assert set(expected) == {metric.title for metric in CATALOGUE}
    assert table.loc["X_new", list(expected)].to_dict() == pytest.approx(expected, abs=1e-12)
    assert table.loc["X_pca", "kNN preservation"] == 1
    assert table.loc["X_pca", "PCR comparison"] == 0


def test_flavor_reaches_every_metric_that_has_one():
    adata = annotated(n=400)
    X, X_pre, batch, label = (
        adata.obsm["X_pca"], adata.obsm["X_new"], adata.obs["batch"], adata.obs["cell_type"]
    )  # fmt: skip
    table = metrics.evaluate(
        adata, "X_pca", unintegrated="X_new", flavor="scib", controls=False, n_bootstrap=0, **KEYS
    ).loc["X_pca"]
    assert table["iLISI"] == metrics.ilisi(X, batch, flavor="scib") != metrics.ilisi(X, batch)
    assert table["cLISI"] == metrics.clisi(X, label, flavor="scib") != metrics.clisi(X, label)
    assert table["kBET"] == metrics.kbet(X, batch=batch, label=label, flavor="scib")
    assert table["Graph connectivity"] == metrics.graph_connectivity(X, label, flavor="scib")
    assert metrics.pcr_comparison(X, X_pre=X_pre, batch=batch) < 0
    assert table["PCR comparison"] == 0


def test_aggregates_are_those_of_scib():
    table = metrics.evaluate(annotated(), "X_new", n_bootstrap=0, **KEYS)
    bio = ["Isolated labels", "KMeans NMI", "KMeans ARI", "Silhouette label", "cLISI"]
    batch = ["BRAS", "iLISI", "kBET", "Graph connectivity", "PCR comparison"]
    np.testing.assert_allclose(table["Bio conservation"], table[bio].mean(axis=1))
    np.testing.assert_allclose(table["Batch correction"], table[batch].mean(axis=1))
    np.testing.assert_allclose(table["Total"], 0.4 * table["Batch correction"] + 0.6 * table["Bio conservation"])
    assert {"CiLISI", "kNN preservation"} <= set(table)


def test_rows_and_columns():
    adata = annotated()
    adata.obsm["X_other"] = adata.obsm["X_new"][:, ::-1] * 2
    table = metrics.evaluate(adata, ["X_other", "X_pca", "X_new", "X_other"], n_bootstrap=3, **KEYS)
    assert table["kind"].to_dict() == {
        "X_other": "representation",
        "X_new": "representation",
        "X_pca": "unintegrated",
        "X_other, batches shuffled": "shuffled",
        "X_new, batches shuffled": "shuffled",
    }
    titles = [metric.title for metric in CATALOGUE if metric.default] + list(AGGREGATES)
    ends = [f"{title} {end}" for title in titles for end in ("low", "high")]
    assert list(table) == ["kind", *titles, *ends, "notes"]
    assert table.index.name == "representation"
    assert set(table.dtypes[titles + ends]) == {np.dtype(float)}
    assert (table["notes"] == "").all()


def test_without_controls():
    adata = annotated()
    table = metrics.evaluate(adata, "X_new", controls=False, n_bootstrap=0, **KEYS)
    assert list(table.index) == ["X_new"]
    both = metrics.evaluate(adata, ["X_pca", "X_new"], controls=False, n_bootstrap=0, **KEYS)
    assert both["kind"].to_dict() == {"X_new": "representation", "X_pca": "unintegrated"}


def test_without_labels_only_what_needs_none():
    table = metrics.evaluate(annotated(), "X_new", batch_key="batch", n_bootstrap=3, progress=False)
    values = [c for c in table if c not in {"kind", "notes"} and not str(c).endswith((" low", " high"))]
    assert values == ["kNN preservation", "iLISI", "PCR comparison"]


def test_without_unintegrated():
    table = metrics.evaluate(annotated(), "X_new", unintegrated=None, n_bootstrap=0, **KEYS)
    assert list(table.index) == ["X_new", "X_new, batches shuffled"]
    assert not {"PCR comparison", "kNN preservation"} & set(table)


def test_chosen_metrics_only():
    table = metrics.evaluate(annotated(), "X_new", metrics=["ilisi", "clisi"], n_bootstrap=0, **KEYS)
    assert list(table) == ["kind", "cLISI", "iLISI", *AGGREGATES, "notes"]
    assert table["Total"].iloc[0] == pytest.approx(0.4 * table["iLISI"].iloc[0] + 0.6 * table["cLISI"].iloc[0])


def test_shuffled_batches_are_what_perfect_mixing_scores():
    found = separate().renamed()
    adata = annotated(n=len(found.X))
    adata.obs["batch"], adata.obs["cell_type"] = pd.Categorical(found.batch), pd.Categorical(found.label)
    adata.obsm = {"X_pca": found.X_pre, "X_new": found.X}
    table = metrics.evaluate(adata, "X_new", n_bootstrap=0, **KEYS)
    true, shuffled = table.loc["X_new"], table.loc["X_new, batches shuffled"]
    for title in ("BRAS", "iLISI", "kBET", "CiLISI"):
        assert true[title] < 0.05
        assert shuffled[title] > 0.8
    bio = [metric.title for metric in CATALOGUE if metric.about == "bio" and metric.default]
    assert true[bio].to_dict() == shuffled[bio].to_dict()


def test_one_table_for_one_seed_and_any_number_of_threads():
    adata = annotated(n=150)
    first = metrics.evaluate(adata, "X_new", n_bootstrap=4, rng=3, **KEYS)
    pd.testing.assert_frame_equal(first, metrics.evaluate(adata, "X_new", n_bootstrap=4, rng=3, **KEYS))
    generator = np.random.default_rng(3)
    pd.testing.assert_frame_equal(first, metrics.evaluate(adata, "X_new", n_bootstrap=4, rng=generator, **KEYS))
    single_thread = metrics.evaluate(adata, "X_new", n_bootstrap=4, rng=3, n_jobs=1, **KEYS)
    pd.testing.assert_frame_equal(first, single_thread, atol=1e-9)
    other = metrics.evaluate(adata, "X_new", n_bootstrap=4, rng=4, **KEYS)
    assert not np.allclose(first["Total high"], other["Total high"])


@pytest.mark.slow
def test_intervals_hold_the_value_and_shrink_with_more_cells():
    widths = {}
    for n in (200, 1800):
        adata = annotated(n=n)
        table = metrics.evaluate(adata, "X_new", controls=False, n_bootstrap=12, **KEYS).iloc[0]
        titles = [title for title in (*TITLES.values(), *AGGREGATES) if title in table]
        for title in titles:
            assert table[f"{title} low"] <= table[title] <= table[f"{title} high"] <= 1
        widths[n] = np.array([table[f"{title} high"] - table[f"{title} low"] for title in titles], dtype=float)
    # Nine times as many cells: a third as wide.
    assert 0.2 < np.median(widths[1800] / widths[200]) < 0.5


@pytest.mark.slow
def test_intervals_are_as_wide_as_scores_differ_between_samples():
    everything = annotated(n=6000, batches_apart=0.5)
    rows = []
    for number in range(12):
        part = everything[number * 500 : (number + 1) * 500].copy()
        table = metrics.evaluate(part, "X_new", metrics=["ilisi", "clisi", "cilisi", "bras"], controls=False, **KEYS)
        rows.append(table.iloc[0])
    scores = pd.DataFrame(rows)
    for title in ("iLISI", "cLISI", "CiLISI", "BRAS"):
        spread = scores[title].astype(float).std()
        said = ((scores[f"{title} high"] - scores[f"{title} low"]) / 2 / 1.96).astype(float).mean()
        assert 0.5 < said / spread < 2


def test_survives_csv():
    table = metrics.evaluate(annotated(n=120), "X_new", n_bootstrap=3, **KEYS)
    again = pd.read_csv(io.StringIO(table.to_csv()), index_col=0, dtype={"notes": str}).fillna({"notes": ""})
    pd.testing.assert_frame_equal(again, table)


def test_per_label():
    adata = annotated()
    table = metrics.evaluate(adata, "X_new", per_label=True, **KEYS)
    labels = sorted(adata.obs["cell_type"].unique())
    assert table.index.names == ["representation", "label"]
    assert list(table.loc["X_new"].index) == labels
    assert table.index.unique(level=0).tolist() == ["X_new", "X_pca", "X_new, batches shuffled"]
    for label in labels:
        own = adata.obs["cell_type"] == label
        assert table.loc[("X_new", label), "cells"] == own.sum()
        assert table.loc[("X_new", label), "batches"] == adata.obs["batch"][own].nunique()
    overall = metrics.evaluate(adata, "X_new", n_bootstrap=0, **KEYS).loc["X_new"]
    ours = table.loc["X_new"]
    for title in ("BRAS", "kBET", "Graph connectivity"):
        assert ours[title].mean() == pytest.approx(overall[title])
    for title in ("Silhouette label", "kNN preservation", "CiLISI"):
        assert np.average(ours[title], weights=ours["cells"]) == pytest.approx(overall[title])
    assert not {"KMeans NMI", "PCR comparison", "Total"} & set(table)


def test_adata_is_not_changed():
    adata = annotated(n=120)
    before = digest(adata)
    metrics.evaluate(adata, "X_new", metrics="all", n_bootstrap=2, **KEYS)
    assert digest(adata) == before


def test_progress_bar(capsys):
    metrics.evaluate(annotated(n=60), "X_new", batch_key="batch", n_bootstrap=2, progress=True)
    assert "metrics: 100%" in capsys.readouterr().err
