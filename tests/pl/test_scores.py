"""The picture of scores says what the table says, in the right place, and so that it can be read."""

from __future__ import annotations

import io

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

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


def texts(ax) -> list:
    """All that is written: names beside the axes, headings, values and notes."""
    return [*ax.get_yticklabels(), *ax.texts]


def written(ax) -> list[str]:
    """Lines of notes by themselves, headings of several lines as one."""
    lines = [text.get_text().split("\n") if text.get_va() == "top" else [text.get_text()] for text in texts(ax)]
    return [line for one in lines for line in one]


def find(ax, content):
    """The one text with this content."""
    (text,) = [text for text in texts(ax) if text.get_text() == content]
    return text


def rows(ax, names) -> list[str]:
    """Which of `names` are written, from top to bottom."""
    present = [text for text in texts(ax) if text.get_text() in names]
    return [text.get_text() for text in sorted(present, key=lambda text: text.get_position()[1])]


def column(ax, title) -> float:
    """Horizontal position of a column, by its heading of maybe several lines, which stands on a line."""
    headings = [text for text in ax.texts if text.get_verticalalignment() == "bottom"]
    bottom = max(text.get_position()[1] for text in headings)
    (text,) = [
        text
        for text in headings
        if text.get_text().replace("\n", " ").rstrip("*") == title and text.get_position()[1] == bottom
    ]
    return text.get_position()[0]


def circles(ax) -> list[tuple]:
    """Position, colour and area of each circle."""
    drawn = [
        points for points in ax.collections if isinstance(points, PathCollection) and np.size(points.get_offsets())
    ]
    return [
        (tuple(place), color, points.get_sizes()[0])
        for points in drawn
        for place, color in zip(np.asarray(points.get_offsets()), points.get_facecolor(), strict=True)
    ]


def cell(ax, name, title):
    """Texts, and colours of circles, at the crossing of a row and a column of circles."""
    place = (column(ax, title), find(ax, name).get_position()[1])
    inside = [text for text in ax.texts if np.allclose(text.get_position(), place)]
    return inside, [color for where, color, _ in circles(ax) if np.allclose(where, place)]


def bars(ax, name) -> list[tuple]:
    """Track and bar of each aggregate of a row, from left to right."""
    height = find(ax, name).get_position()[1]
    near = [patch for patch in ax.patches if abs(patch.get_y() + patch.get_height() / 2 - height) < 12]
    lefts = sorted({bar.get_x() for bar in near})
    return [tuple(bar for bar in near if bar.get_x() == left) for left in lefts]


def whiskers(ax) -> list:
    return [line for line in ax.lines if line.get_marker() == "|"]


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
    lightness = [luminance(color) for _, (color,) in cells]
    assert (np.diff(lightness) < 0).all()
    for (text,), (color,) in cells:
        light, dark = sorted([luminance(text.get_color()), luminance(color)], reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5
    # The scale is fixed, and holds values outside of it.
    lowest = tuple(cells[0][1][0])
    assert {tuple(cell(ax, name, "cLISI")[1][0]) for name in table.index} == {lowest}


def test_bars_are_as_long_as_their_value(table):
    table["Total"] = [0.25, 0.5, 1.0, -0.3, 1.7]
    ax = pl.scores(table)
    left, lengths = {}, {}
    for name in ("X_a", "X_b", "X_c", "X_pca, unintegrated", SHUFFLED):
        track, bar = bars(ax, name)[-1]
        assert track.get_x() < column(ax, "Total") < track.get_x() + track.get_width()
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
    ends = np.array([np.ptp(np.asarray(line.get_xdata())) for line in whiskers(ax)])
    assert len(whiskers(ax)) == len(AGGREGATES) * len(table)
    track = bars(ax, "X_a")[0][0].get_width()
    np.testing.assert_allclose(ends / track, 0.05, atol=1e-9)


def test_without_intervals():
    ax = pl.scores(full(intervals=False))
    assert not [text for text in written(ax) if "±" in text or "confidence" in text]
    assert not whiskers(ax)


def test_missing_values_and_their_reasons(table):
    table.loc["X_b", ["kBET", "Total"]] = np.nan
    table["BRAS"] = np.nan
    table["notes"] = "BRAS: there is one label only"
    table.loc["X_b", "notes"] = "kBET: no label is in two batches; BRAS: there is one label only"
    ax = pl.scores(table)
    for name, title in (("X_b", "kBET"), ("X_a", "BRAS"), (SHUFFLED, "BRAS"), ("X_b", "Total")):
        (text,), colors = cell(ax, name, title)
        assert (text.get_text(), colors) == ("–", [])
    assert written(ax).count("–") == 7
    assert rows(ax, ["X_a", "X_b", "X_c"])[-1] == "X_b"
    notes = ["– not defined.", "BRAS: there is one label only (all rows)", "kBET: no label is in two batches (X_b)"]
    assert [line for line in written(ax) if line in notes] == notes


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
    "very long names": full(names=[f"{'a_very_long_name_' * 9}{i}" for i in range(3)]),
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
    contents = np.array([text.get_text() for text in texts(ax)])
    extents = np.array([text.get_window_extent(canvas.get_renderer()).extents for text in texts(ax)])
    low, high = extents[:, :2], extents[:, 2:]
    assert not contents[((low < 0) | (high > canvas.get_width_height())).any(axis=1)].size
    room = 0.1 * (high - low)[:, 1:]  # fonts leave some above and below the letters
    low, high = low + room, high - room
    overlap = ((low[:, None] < high) & (low < high[:, None])).all(axis=2)
    assert not contents[np.argwhere(np.triu(overlap, 1))].size
    # What is written in circles fits, and they touch neither what is written around them nor each other.
    inside = {text.get_position(): text for text in ax.texts}
    drawn = circles(ax)
    centres = ax.transData.transform([place for place, _, _ in drawn]) if drawn else np.empty((0, 2))
    for centre, (place, _, size) in zip(centres, drawn, strict=True):
        diameter = np.sqrt(size) * ax.figure.dpi / 72
        assert inside[place].get_window_extent().width < 0.95 * diameter
        distance = np.linalg.norm(np.clip(centre, low, high) - centre, axis=1)
        assert (distance < diameter / 2).sum() == 1
        assert (np.linalg.norm(centres - centre, axis=1) < diameter).sum() == 1


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
