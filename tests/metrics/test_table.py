"""Scores become a table: aggregates of scIB, intervals, notes, labels, and how notebooks show it."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.formatters import DisplayFormatter

from scbatchnorm import metrics
from scbatchnorm.metrics._catalogue import CATALOGUE
from scbatchnorm.metrics._comparison import read_comparison
from scbatchnorm.metrics._score import MetricScore, mean_score, median_score, undefined_score
from scbatchnorm.metrics._table import Row, aggregate_scores, build_label_table, build_table, with_html
from tests.helpers.markup import Page
from tests.metrics.cells import annotated

BY_NAME = {metric.name: metric for metric in CATALOGUE}


@pytest.fixture(scope="module")
def comparison():
    return read_comparison(annotated(n=100), "X_new", batch_key="batch", label_key="cell_type", unintegrated=None)


def row(name="X_new", **values):
    scores = {
        BY_NAME[key]: value if isinstance(value, MetricScore) else MetricScore(value) for key, value in values.items()
    }
    return Row(name, "representation", scores)


def draws(comparison, share, name, values):
    """Parts that hold a share of the cells, and what they scored."""
    return [(int(share * len(comparison.cells)), [row(**{name: value})]) for value in values]


@pytest.mark.parametrize(("share", "factor"), [(0.5, 1), (0.2, 0.5), (0.1, 1 / 3)])
def test_intervals_are_scaled_to_the_number_of_cells(comparison, share, factor):
    """Variance of a part is (1 - share) / share times that of all cells, if they are drawn without replacement."""
    values = [0.48, 0.5, 0.51, 0.53]
    table = build_table([row(ilisi=0.5)], comparison, draws(comparison, share, "ilisi", values))
    spread = 1.96 * np.std(values, ddof=1) * factor
    assert table.loc["X_new", "iLISI low"] == pytest.approx(0.5 - spread)
    assert table.loc["X_new", "iLISI high"] == pytest.approx(0.5 + spread)


def test_scaling_gives_the_standard_error_of_a_mean(comparison):
    """Of which it is known: the standard deviation of cells over the root of their number."""
    rng = np.random.default_rng(0)
    cells = rng.normal(size=100) * 0.01 + 0.5
    parts = [cells[rng.permutation(100)[:50]].mean() for _ in range(4000)]
    table = build_table([row(ilisi=cells.mean())], comparison, draws(comparison, 0.5, "ilisi", parts))
    low, high = table[["iLISI low", "iLISI high"]].to_numpy(dtype=float)[0]
    assert high - low == pytest.approx(2 * 1.96 * cells.std(ddof=1) / 10, rel=0.05)


@pytest.mark.parametrize(
    ("name", "value", "low", "high"),
    [("ilisi", 0.1, 0, 1), ("kmeans_ari", 0.0, -0.5, 1), ("pcr_comparison", -3.0, -np.inf, 1), ("clisi", 0.95, 0, 1)],
)
def test_intervals_stay_in_the_range(comparison, name, value, low, high):
    parts = [value - 2, value + 2]
    found = build_table([row(**{name: value})], comparison, draws(comparison, 0.5, name, parts)).loc["X_new"]
    title = BY_NAME[name].title
    spread = 1.96 * np.std(parts, ddof=1)
    assert found[f"{title} low"] == pytest.approx(max(low, value - spread))
    assert found[f"{title} high"] == pytest.approx(min(high, value + spread))


def test_aggregates_have_intervals_of_their_own(comparison):
    """Of the totals of the parts, in which deviations cancel."""
    parts = [(50, [row(ilisi=0.5 + d, kbet=0.5 - d, clisi=0.5)]) for d in (-0.1, 0.0, 0.1)]
    found = build_table([row(ilisi=0.5, kbet=0.5, clisi=0.5)], comparison, parts).loc["X_new"]
    assert found["iLISI high"] > 0.6
    assert found["Batch correction high"] == pytest.approx(0.5)
    assert found["Total low"] == pytest.approx(0.5)


def test_undefined_values_have_no_interval(comparison):
    missing = undefined_score("there is one batch only")
    parts = [(50, [row(ilisi=missing, clisi=0.5)])] * 3
    found = build_table([row(ilisi=missing, clisi=0.5)], comparison, parts).loc["X_new"]
    assert np.isnan([found["iLISI"], found["iLISI low"], found["iLISI high"], found["Total high"]]).all()
    assert found["notes"] == "iLISI: there is one batch only"


def test_parts_without_a_value_are_left_out(comparison):
    values = [0.4, 0.6]
    expected = build_table([row(ilisi=0.5)], comparison, draws(comparison, 0.5, "ilisi", values))
    found = build_table([row(ilisi=0.5)], comparison, draws(comparison, 0.5, "ilisi", [*values, undefined_score("x")]))
    pd.testing.assert_frame_equal(found, expected)


def test_reasons_are_said_once(comparison):
    one, two = undefined_score("there is one batch only"), undefined_score("no batch has three cells")
    table = build_table([row(ilisi=one, kbet=one, knn_preservation=two, clisi=0.3)], comparison, [])
    assert table.loc["X_new", "notes"] == (
        "iLISI, kBET: there is one batch only; kNN preservation: no batch has three cells"
    )


def test_without_draws_there_are_no_intervals(comparison):
    assert list(build_table([row(clisi=0.3)], comparison, [])) == ["kind", "cLISI", "Bio conservation", "notes"]


def test_labels_have_what_their_cells_add(comparison):
    cells = np.linspace(0, 1, 100)
    rows = [
        row("a", ilisi=median_score(cells), clisi=undefined_score("there is one label only"), kmeans_nmi=0.5),
        row("b", ilisi=mean_score(np.where(comparison.labels.codes == 0, np.nan, cells)), clisi=mean_score(cells)),
    ]
    table = build_label_table(rows, comparison)
    assert list(table) == ["kind", "cells", "batches", "iLISI", "cLISI"]
    for code in range(3):
        own, name = comparison.labels.codes == code, comparison.labels.names[code]
        assert table.loc[("a", name), "cells"] == own.sum()
        assert table.loc[("a", name), "batches"] == 3
        assert table.loc[("a", name), "iLISI"] == pytest.approx(np.median(cells[own]))
        assert np.isnan(table.loc[("a", name), "cLISI"])
        assert table.loc[("b", name), "iLISI"] == pytest.approx(np.nan if code == 0 else cells[own].mean(), nan_ok=True)
    assert list(table.loc["a"].index) == sorted(comparison.labels.names)


# ---- Aggregates of scIB


BIO_NAMES = ["isolated_labels", "kmeans_nmi", "kmeans_ari", "silhouette_label", "clisi"]
BATCH_NAMES = ["bras", "ilisi", "kbet", "graph_connectivity", "pcr_comparison"]


def aggregates(**values):
    return aggregate_scores({BY_NAME[name]: value for name, value in values.items()})


@given(values=st.lists(st.floats(-1, 1), min_size=len(CATALOGUE), max_size=len(CATALOGUE)))
def test_means_of_five_and_their_weights(values):
    scores = dict(zip(BY_NAME, values, strict=True))
    found = aggregates(**scores)
    batch, bio = (sum(scores[name] for name in names) / 5 for names in (BATCH_NAMES, BIO_NAMES))
    assert list(found) == ["Batch correction", "Bio conservation", "Total"]
    assert found["Batch correction"] == pytest.approx(batch)
    assert found["Bio conservation"] == pytest.approx(bio)
    assert found["Total"] == pytest.approx(0.4 * batch + 0.6 * bio)


def test_what_is_not_defined_is_left_out():
    assert aggregates(ilisi=0.4, kbet=math.nan, bras=0.8, clisi=1.0) == pytest.approx(
        {"Batch correction": 0.6, "Bio conservation": 1.0, "Total": 0.84}
    )


def test_nothing_defined_is_not_defined():
    found = aggregates(ilisi=math.nan, kbet=math.nan, clisi=0.5)
    assert found["Bio conservation"] == 0.5
    assert math.isnan(found["Batch correction"])
    assert math.isnan(found["Total"])


def test_no_total_of_one_side():
    assert aggregates(ilisi=0.4, cilisi=0.9, knn_preservation=0.1) == {"Batch correction": 0.4}
    assert aggregates(clisi=0.4) == {"Bio conservation": 0.4}
    assert aggregates(cilisi=0.4, knn_preservation=0.7, leiden_nmi=0.1) == {}


# ---- HTML in notebooks


KEYS: dict[str, Any] = {"batch_key": "batch", "label_key": "cell_type", "progress": False}


@pytest.fixture(scope="module")
def cells():
    adata = annotated(n=100)
    adata.obsm["<b>X</b>"] = adata.obsm["X_new"]
    return adata


@pytest.fixture
def table(cells):
    names = ["isolated_labels", "silhouette_label", "ilisi", "pcr_comparison", "kmeans_nmi"]
    return metrics.evaluate(cells, ["X_new", "<b>X</b>"], metrics=names, n_bootstrap=2, **KEYS)


def shown(table) -> str:
    """What IPython sends to a notebook."""
    return DisplayFormatter().format(table)[0].get("text/html", "")


def test_cells_have_score_and_interval(table):
    page = Page(shown(table))
    assert len(page.tables) == 1
    drawn = page.tables[0]
    titles = drawn.headings[2:]
    assert drawn.headings[:2] == ["representation", "kind"]
    assert titles[:3] == ["Batch correction", "Bio conservation", "Total"]
    bounds = {f"{title} {end}" for title in titles for end in ("low", "high")}
    assert set(titles) == set(table.columns) - {"kind", "notes"} - bounds
    assert {row[0] for row in drawn.rows} == set(table.index)
    for name, kind, *scores in drawn.rows:
        assert kind == table.loc[name, "kind"]
        for title, score in zip(titles, scores, strict=True):
            value, low, high = (table.loc[name, f"{title}{end}"] for end in ("", " low", " high"))
            if np.isnan(value):
                assert score == "-"
                continue
            assert score.startswith(f"{value:.3f}")
            if not np.isnan(low):
                assert float(score.split("\u00b1")[1]) == pytest.approx(max(value - low, high - value), abs=6e-4)
    assert drawn.bold == {score for row in drawn.rows for score in row[2:5]}


def test_controls_are_below_in_italics(table):
    drawn = Page(shown(table.reindex(table.index[::-1]).pipe(with_html))).tables[0]
    assert [row[1] == "representation" for row in drawn.rows] == [True, True, False, False, False]
    assert drawn.italic == [False, False, True, True, True]


def test_notes_are_told_once(table):
    table["notes"] = ["iLISI: too few cells", "iLISI: too few cells", "", "", ""]
    assert Page(shown(table)).notes == ["X_new, <b>X</b>: iLISI: too few cells."]
    table["notes"] = "on a sample"
    assert Page(shown(table)).notes == ["all rows: on a sample."]


def test_tables_without_intervals_or_with_columns_of_the_user(cells):
    table = metrics.evaluate(cells, "X_new", metrics=["ilisi"], controls=False, n_bootstrap=0, **KEYS)
    table["tool"], table["minutes"] = "<i>ours</i>", 3
    drawn = Page(shown(table)).tables[0]
    assert "\u00b1" not in drawn.caption
    row = dict(zip(drawn.headings, drawn.rows[0], strict=True))
    assert (row["iLISI"], row["tool"], row["minutes"]) == (f"{table['iLISI'].iloc[0]:.3f}", "<i>ours</i>", "3")


def test_what_is_no_such_table_any_more_is_shown_as_pandas_does(table):
    table.columns = range(table.shape[1])
    assert shown(table) == shown(pd.DataFrame(table))
    with pd.option_context("display.notebook_repr_html", False):
        assert not shown(table)


@pytest.mark.parametrize(
    "made",
    [
        copy.copy,
        copy.deepcopy,
        lambda table: pickle.loads(pickle.dumps(table)),
        lambda table: table.iloc[:2],
        lambda table: table[["kind"]],
        lambda table: pd.concat([table, table]),
        lambda table: table.round(2),
    ],
    ids=["copy", "deepcopy", "pickle", "rows", "columns", "concat", "round"],
)
def test_copies_and_parts_are_ordinary(table, made):
    other = made(table)
    assert type(other) is pd.DataFrame and "_repr_html_" not in vars(other)
    assert 'class="dataframe"' in shown(other) and "\u00b1" not in shown(other)


def test_the_table_is_written_like_any_other(table, tmp_path):
    assert type(table) is pd.DataFrame
    table.index = table.index.str.replace("/", "")
    adata = ad.AnnData(np.ones((2, 2)), uns={"scores": table})
    adata.write_h5ad(tmp_path / "a.h5ad")
    read = ad.read_h5ad(tmp_path / "a.h5ad").uns["scores"]
    pd.testing.assert_frame_equal(read, pd.DataFrame(table), check_dtype=False)
    pd.testing.assert_frame_equal(adata.copy().uns["scores"], table)
    table.to_csv(tmp_path / "a.csv")
    again = pd.read_csv(tmp_path / "a.csv", index_col=0)
    np.testing.assert_allclose(again["iLISI"], table["iLISI"])


def test_plain_text_is_that_of_pandas(table):
    assert repr(table) == repr(pd.DataFrame(table))
