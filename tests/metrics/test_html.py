"""The table of scores in notebooks: one row each, as IPython shows it, and else a DataFrame like any other."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from IPython.core.formatters import DisplayFormatter

from scbatchnorm import metrics
from scbatchnorm.metrics import _html
from tests.helpers.markup import Page
from tests.metrics.cells import annotated

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
    drawn = Page(shown(table.reindex(table.index[::-1]).pipe(_html.shown))).tables[0]
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
