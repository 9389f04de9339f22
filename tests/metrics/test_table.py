"""Records of scores become a table: intervals, notes, labels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scbatchnorm.metrics import _comparison as _design
from scbatchnorm.metrics import _score, _table
from scbatchnorm.metrics._catalogue import CATALOGUE
from tests.metrics.cells import annotated

BY_NAME = {metric.name: metric for metric in CATALOGUE}


@pytest.fixture(scope="module")
def design():
    return _design.read(annotated(n=100), "X_new", batch_key="batch", label_key="cell_type", unintegrated=None)


def row(name="X_new", **values):
    scores = {
        BY_NAME[key]: value if isinstance(value, _score.Score) else _score.Score(value) for key, value in values.items()
    }
    return _table.Row(name, "representation", scores)


def draws(design, share, name, values):
    """Parts that hold a share of the cells, and what they scored."""
    return [(int(share * len(design.cells)), [row(**{name: value})]) for value in values]


@pytest.mark.parametrize(("share", "factor"), [(0.5, 1), (0.2, 0.5), (0.1, 1 / 3)])
def test_intervals_are_scaled_to_the_number_of_cells(design, share, factor):
    """Variance of a part is (1 - share) / share times that of all cells, if they are drawn without replacement."""
    values = [0.48, 0.5, 0.51, 0.53]
    table = _table.overall([row(ilisi=0.5)], design, draws(design, share, "ilisi", values))
    spread = 1.96 * np.std(values, ddof=1) * factor
    assert table.loc["X_new", "iLISI low"] == pytest.approx(0.5 - spread)
    assert table.loc["X_new", "iLISI high"] == pytest.approx(0.5 + spread)


def test_scaling_gives_the_standard_error_of_a_mean(design):
    """Of which it is known: the standard deviation of cells over the root of their number."""
    rng = np.random.default_rng(0)
    cells = rng.normal(size=100) * 0.01 + 0.5
    parts = [cells[rng.permutation(100)[:50]].mean() for _ in range(4000)]
    table = _table.overall([row(ilisi=cells.mean())], design, draws(design, 0.5, "ilisi", parts))
    low, high = table[["iLISI low", "iLISI high"]].to_numpy(dtype=float)[0]
    assert high - low == pytest.approx(2 * 1.96 * cells.std(ddof=1) / 10, rel=0.05)


@pytest.mark.parametrize(
    ("name", "value", "low", "high"),
    [("ilisi", 0.1, 0, 1), ("kmeans_ari", 0.0, -0.5, 1), ("pcr_comparison", -3.0, -np.inf, 1), ("clisi", 0.95, 0, 1)],
)
def test_intervals_stay_in_the_range(design, name, value, low, high):
    parts = [value - 2, value + 2]
    found = _table.overall([row(**{name: value})], design, draws(design, 0.5, name, parts)).loc["X_new"]
    title = BY_NAME[name].title
    spread = 1.96 * np.std(parts, ddof=1)
    assert found[f"{title} low"] == pytest.approx(max(low, value - spread))
    assert found[f"{title} high"] == pytest.approx(min(high, value + spread))


def test_aggregates_have_intervals_of_their_own(design):
    """Of the totals of the parts, in which deviations cancel."""
    parts = [(50, [row(ilisi=0.5 + d, kbet=0.5 - d, clisi=0.5)]) for d in (-0.1, 0.0, 0.1)]
    found = _table.overall([row(ilisi=0.5, kbet=0.5, clisi=0.5)], design, parts).loc["X_new"]
    assert found["iLISI high"] > 0.6
    assert found["Batch correction high"] == pytest.approx(0.5)
    assert found["Total low"] == pytest.approx(0.5)


def test_undefined_values_have_no_interval(design):
    missing = _score.undefined("there is one batch only")
    parts = [(50, [row(ilisi=missing, clisi=0.5)])] * 3
    found = _table.overall([row(ilisi=missing, clisi=0.5)], design, parts).loc["X_new"]
    assert np.isnan([found["iLISI"], found["iLISI low"], found["iLISI high"], found["Total high"]]).all()
    assert found["notes"] == "iLISI: there is one batch only"


def test_parts_without_a_value_are_left_out(design):
    values = [0.4, 0.6]
    expected = _table.overall([row(ilisi=0.5)], design, draws(design, 0.5, "ilisi", values))
    found = _table.overall([row(ilisi=0.5)], design, draws(design, 0.5, "ilisi", [*values, _score.undefined("x")]))
    pd.testing.assert_frame_equal(found, expected)


def test_reasons_are_said_once(design):
    one, two = _score.undefined("there is one batch only"), _score.undefined("no batch has three cells")
    table = _table.overall([row(ilisi=one, kbet=one, knn_preservation=two, clisi=0.3)], design, [])
    assert table.loc["X_new", "notes"] == (
        "iLISI, kBET: there is one batch only; kNN preservation: no batch has three cells"
    )


def test_without_draws_there_are_no_intervals(design):
    assert list(_table.overall([row(clisi=0.3)], design, [])) == ["kind", "cLISI", "Bio conservation", "notes"]


def test_labels_have_what_their_cells_add(design):
    cells = np.linspace(0, 1, 100)
    rows = [
        row("a", ilisi=_score.median(cells), clisi=_score.undefined("there is one label only"), kmeans_nmi=0.5),
        row("b", ilisi=_score.mean(np.where(design.labels.codes == 0, np.nan, cells)), clisi=_score.mean(cells)),
    ]
    table = _table.by_label(rows, design)
    assert list(table) == ["kind", "cells", "batches", "iLISI", "cLISI"]
    for code in range(3):
        own, name = design.labels.codes == code, design.labels.names[code]
        assert table.loc[("a", name), "cells"] == own.sum()
        assert table.loc[("a", name), "batches"] == 3
        assert table.loc[("a", name), "iLISI"] == pytest.approx(np.median(cells[own]))
        assert np.isnan(table.loc[("a", name), "cLISI"])
        assert table.loc[("b", name), "iLISI"] == pytest.approx(np.nan if code == 0 else cells[own].mean(), nan_ok=True)
    assert list(table.loc["a"].index) == sorted(design.labels.names)
