"""The picture of scores says what the table says, in the right place, and so that it can be read."""

from __future__ import annotations

import io

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle

from scbatchnorm import pl
from scbatchnorm.metrics._catalogue import AGGREGATES, CATALOGUE

METRICS = [metric.title for metric in CATALOGUE]
SHUFFLED = "X_b, batches shuffled"


def full(*, names=("X_a", "X_b", "X_c"), intervals=True) -> pd.DataFrame:
    """As `evaluate` returns it: methods, and controls that score more."""
    generator = np.random.default_rng(0)
    index = pd.Index([*names, "X_pca", SHUFFLED], name="representation")
    columns = [*METRICS, *AGGREGATES]
    values = pd.DataFrame(generator.uniform(0.1, 0.9, (len(index), len(columns))), index, columns)
    values["Total"] = [*np.roll(np.linspace(0.2, 0.6, len(names)), 1), 0.7, 0.8]
    kind = pd.Series(["representation"] * len(names) + ["unintegrated", "shuffled"], index, name="kind")
    parts = [kind.to_frame(), values]
    if intervals:
        parts += [(values - 0.02).add_suffix(" low"), (values + 0.03).add_suffix(" high")]
    return pd.concat(parts, axis=1).assign(notes="")


@pytest.fixture
def table() -> pd.DataFrame:
    return full()


def written(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


def find(ax, content):
    """The one text with this content."""
    (text,) = [text for text in ax.texts if text.get_text() == content]
    return text


def rows(ax, names) -> list[str]:
    """Which of `names` are written, from top to bottom."""
    found = [text for text in ax.texts if text.get_text() in names]
    return [text.get_text() for text in sorted(found, key=lambda text: text.get_position()[1])]


def column(ax, title) -> float:
    """Horizontal position of a column, by its heading of maybe several lines, which stands on a line."""
    headings = [text for text in ax.texts if text.get_verticalalignment() == "bottom"]
    (text,) = [text for text in headings if text.get_text().replace("\n", " ").rstrip("*") == title]
    return text.get_position()[0]


def cell(ax, name, title):
    """Texts and circles at the crossing of a row and a column of circles."""
    place = (column(ax, title), find(ax, name).get_position()[1])
    texts = [text for text in ax.texts if np.allclose(text.get_position(), place)]
    circles = [patch for patch in ax.patches if isinstance(patch, Circle) and np.allclose(patch.center, place)]
    return texts, circles


def luminance(color) -> float:
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(color)]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def test_the_best_row_is_on_top(table):
    names = ["X_a", "X_b", "X_c"]
    assert rows(pl.scores(table), names) == ["X_a", "X_c", "X_b"]
    assert rows(pl.scores(table, sort_by="Total"), names) == ["X_a", "X_c", "X_b"]
    table["iLISI"] = [0.1, 0.3, np.nan, 0.9, 0.9]
    ax = pl.scores(table, sort_by="iLISI")
    assert rows(ax, names) == ["X_b", "X_a", "X_c"]
    assert [text.get_text() for text in ax.texts if text.get_fontweight() == "bold"][-1] == "iLISI"


def test_without_a_total_rows_stay_in_order(table):
    assert rows(pl.scores(table.drop(columns="Total").iloc[::-1]), ["X_a", "X_b", "X_c"]) == ["X_c", "X_b", "X_a"]


def test_controls_are_below_and_told_apart(table):
    names = [*table.index[:3], "Controls, not ranked", "X_pca, unintegrated", SHUFFLED]
    ax = pl.scores(table.iloc[::-1])
    assert rows(ax, names)[3:] == names[3:]
    assert {find(ax, name).get_style() for name in names[3:]} == {"italic"}
    assert {find(ax, name).get_style() for name in names[:3]} == {"normal"}
    assert len({find(ax, name).get_color() for name in (names[0], names[-1])}) == 2
    heights = [find(ax, name).get_position()[1] for name in names[2:]]
    assert np.diff(heights).min() > 15
    assert any(text.startswith("shuffled: ") for text in written(ax))
    alone = pl.scores(table[table["kind"] == "representation"])
    assert not [text for text in written(alone) if "Controls" in text or "shuffled" in text]


def test_columns_stand_below_their_group(table):
    ax = pl.scores(table[table.columns[::-1]])
    groups = {
        "Bio conservation": [metric.title for metric in CATALOGUE if metric.about == "bio"],
        "Batch correction": [metric.title for metric in CATALOGUE if metric.about == "batch"],
        "Aggregate": list(AGGREGATES),
    }
    places = [np.array([column(ax, title) for title in titles]) for titles in groups.values()]
    middles = [find(ax, group).get_position()[0] for group in groups]
    for place, middle in zip(places, middles, strict=True):
        assert place.min() <= middle <= place.max()
    for left, right in zip(places, places[1:], strict=False):
        assert left.max() < right.min()


def test_metrics_that_do_not_count_are_marked(table):
    outside = {metric.title for metric in CATALOGUE if not metric.in_total}
    marked = {text.replace("\n", " ")[:-1] for text in written(pl.scores(table)) if text.endswith("*")}
    assert marked == outside
    assert "* does not enter the aggregates." in written(pl.scores(table))
    assert not [text for text in written(pl.scores(table.drop(columns=list(AGGREGATES)))) if "*" in text]


def test_values_are_written_in_circles(table):
    table.loc["X_b", "PCR comparison"] = -0.1234
    ax = pl.scores(table)
    for name in ("X_a", "X_b", SHUFFLED):
        for title in METRICS:
            (text,), (_,) = cell(ax, name, title)
            assert float(text.get_text().replace("−", "-")) == pytest.approx(table.loc[name, title], abs=0.0051)
    assert cell(ax, "X_b", "PCR comparison")[0][0].get_text() == "−0.12"
    assert "0.00" in written(pl.scores(pd.DataFrame({"iLISI": [-0.001]}))), "no negative zero"


def test_colours_get_darker_with_the_value():
    values = np.linspace(0, 1, 51)
    table = pd.DataFrame({"iLISI": values, "cLISI": values - 5}, index=[f"row {i}" for i in range(51)])
    ax = pl.scores(table)
    cells = [cell(ax, name, "iLISI") for name in table.index]
    lightness = [luminance(circle.get_facecolor()[:3]) for _, (circle,) in cells]
    assert (np.diff(lightness) < 0).all()
    for (text,), (circle,) in cells:
        light, dark = sorted([luminance(text.get_color()), luminance(circle.get_facecolor()[:3])], reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5
    # The scale is fixed, and holds values outside of it.
    lowest = cells[0][1][0].get_facecolor()
    assert {cell(ax, name, "cLISI")[1][0].get_facecolor() for name in table.index} == {lowest}


def test_bars_are_as_long_as_their_value(table):
    table["Total"] = [0.25, 0.5, 1.0, -0.3, 1.7]
    ax = pl.scores(table)
    left, lengths = {}, {}
    for name in ("X_a", "X_b", "X_c", "X_pca, unintegrated", SHUFFLED):
        height = find(ax, name).get_position()[1]
        bars = [patch for patch in ax.patches if isinstance(patch, Rectangle) and patch.get_height() < 20]
        bars = [bar for bar in bars if abs(bar.get_y() - height) < 12 and bar.get_x() + 50 > column(ax, "Total")]
        track, bar = bars
        left[name], lengths[name] = {track.get_x(), bar.get_x()}, bar.get_width() / track.get_width()
    assert list(lengths.values()) == pytest.approx([0.25, 0.5, 1, 0, 1])
    assert len(set.union(*left.values())) == 1
    assert {"0.25", "−0.30", "1.70"} <= set(written(ax))


def test_intervals(table):
    table["iLISI low"], table["iLISI high"] = table["iLISI"] - 0.012, table["iLISI"] + 0.004
    ax = pl.scores(table)
    below = [text for text in ax.texts if text.get_text() == "±.012"]
    assert len(below) == len(table)
    assert {text.get_position()[0] for text in below} == {column(ax, "iLISI")}
    assert any("95 % confidence interval" in text for text in written(ax))
    whiskers = [line for line in ax.lines if np.size(line.get_xdata()) > 2]
    ends = np.array([np.ptp(np.asarray(line.get_xdata())) for line in whiskers])
    assert len(whiskers) == len(AGGREGATES) * len(table)
    track = max(patch.get_width() for patch in ax.patches if isinstance(patch, Rectangle) and patch.get_height() < 20)
    np.testing.assert_allclose(ends / track, 0.05, atol=1e-9)


def test_without_intervals():
    ax = pl.scores(full(intervals=False))
    assert not [text for text in written(ax) if "±" in text or "confidence" in text]
    assert not [line for line in ax.lines if np.size(line.get_xdata()) > 2]


def test_missing_values_and_their_reasons(table):
    table.loc["X_b", ["kBET", "Total"]] = np.nan
    table["BRAS"] = np.nan
    table["notes"] = "BRAS: there is one label only"
    table.loc["X_b", "notes"] = "kBET: no label is in two batches; BRAS: there is one label only"
    ax = pl.scores(table)
    for name, title in (("X_b", "kBET"), ("X_a", "BRAS"), (SHUFFLED, "BRAS"), ("X_b", "Total")):
        (text,), circles = cell(ax, name, title)
        assert (text.get_text(), circles) == ("–", [])
    assert written(ax).count("–") == 7
    assert rows(ax, ["X_a", "X_b", "X_c"])[-1] == "X_b"
    notes = ["– not defined.", "BRAS: there is one label only (all rows)", "kBET: no label is in two batches (X_b)"]
    assert [text for text in written(ax) if text in notes] == notes


def test_csv(table):
    table.loc["X_b", "kBET"] = np.nan
    again = pd.read_csv(io.StringIO(table.to_csv()), index_col=0)
    assert written(pl.scores(again)) == written(pl.scores(table))


def test_a_table_of_scib_metrics():
    table = pd.DataFrame({"KBET": [0.2, 0.4], "Total": [0.3, 0.5]}, index=["one", "two"], dtype=object)
    table.loc["Metric Type"] = ["Batch correction", "Aggregate score"]
    ax = pl.scores(table)
    assert rows(ax, ["one", "two", "Metric Type"]) == ["two", "one"]
    assert {"kBET", "0.20", "0.40", "0.30", "0.50"} <= set(written(ax))
    assert "KBET" in table, "the table is left as it is"


def per_label() -> pd.DataFrame:
    index = pd.MultiIndex.from_product([["X_pca", "X_b"], ["T", "B"]], names=["representation", "label"])
    table = pd.DataFrame({"kind": "representation", "cells": 9, "iLISI": [0.5, 0.25, 0.75, 1]}, index=index)
    return table.assign(kind=["unintegrated"] * 2 + ["representation"] * 2)


@pytest.mark.parametrize("table", [per_label(), pd.read_csv(io.StringIO(per_label().to_csv()), index_col=0)])
def test_a_block_of_labels_for_each_representation(table):
    order = ["X_b", "T", "B", "Control: X_pca, unintegrated", "T", "B"]
    assert rows(pl.scores(table), {*order}) == order
    values = ["1.00", "0.75", "0.50", "0.25"]
    assert rows(pl.scores(table, sort_by="iLISI"), values) == values


LONG = [f"X_{'a_long_name_of_forty_characters_in_all'[: 16 + 2 * i]}" for i in range(12)]
SHAPES = {
    "all": full(),
    "long names": full(names=LONG),
    "no intervals": full(intervals=False),
    "one row": full().iloc[[0]],
    "one metric": full()[["iLISI", "notes"]],
    "one aggregate": full()[["Total", "Total low", "Total high"]],
    "negative": full().assign(**{"PCR comparison": -0.987, "Total": -0.5}),
    "reasons": full().assign(iLISI=np.nan, notes=[f"iLISI: {'many words ' * 9 * (n + 1)}" for n in range(5)]),
    "per label": per_label(),
}


@pytest.mark.parametrize("shape", [*SHAPES, "given axes"])
def test_nothing_overlaps_or_is_cut_off(shape):
    given = Figure((6, 4), dpi=200, layout="constrained").subplots() if shape == "given axes" else None
    ax = pl.scores(SHAPES.get(shape, full()), ax=given)
    canvas = FigureCanvasAgg(ax.figure)  # type: ignore[arg-type]
    canvas.draw()
    contents = np.array(written(ax))
    extents = np.array([text.get_window_extent(canvas.get_renderer()).extents for text in ax.texts])
    low, high = extents[:, :2], extents[:, 2:]
    assert not contents[((low < 0) | (high > canvas.get_width_height())).any(axis=1)].size
    room = 0.1 * (high - low)[:, 1:]  # fonts leave some above and below the letters
    low, high = low + room, high - room
    overlap = ((low[:, None] < high) & (low < high[:, None])).all(axis=2)
    assert not contents[np.argwhere(np.triu(overlap, 1))].size
    # Circles are round, and what is written in them fits.
    inside = {text.get_position(): text for text in ax.texts}
    for circle in (patch for patch in ax.patches if isinstance(patch, Circle)):
        box = circle.get_window_extent()
        assert box.width == pytest.approx(box.height)
        assert inside[circle.center].get_window_extent().width < 0.95 * box.width


def test_text_grows_with_its_axes(table):
    def size(scale):
        figure = Figure((10 * scale, 6 * scale))
        ax = pl.scores(table, ax=figure.subplots())
        FigureCanvasAgg(figure).draw()
        return find(ax, "X_a").get_fontsize()

    assert size(2) == pytest.approx(2 * size(1))


def test_given_axes_and_no_pyplot(table):
    given = Figure().subplots()
    assert pl.scores(table, ax=given) is given
    pl.scores(table)
    assert plt.get_fignums() == []


def test_errors(table):
    with pytest.raises(KeyError, match=r"sort_by='total' is not a metric of table; metrics: .*iLISI.*, Total\."):
        pl.scores(table, sort_by="total")
    with pytest.raises(ValueError, match=r"at least one of the columns Isolated labels, .*, Total; .* columns: a, b\."):
        pl.scores(pd.DataFrame({"a": [1], "b": [2]}))
    with pytest.raises(ValueError, match="table must have rows .* it has 0 rows"):
        pl.scores(table.iloc[:0])
    with pytest.raises(ValueError, match="table must be a DataFrame, a row for each representation; got dict"):
        pl.scores({"iLISI": 1})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"table\['iLISI'\] must hold numbers, .*good"):
        pl.scores(pd.DataFrame({"iLISI": ["good"]}))
    with pytest.raises(TypeError, match="ax must be a matplotlib Axes or None; got list"):
        pl.scores(table, ax=[])  # type: ignore[arg-type]
