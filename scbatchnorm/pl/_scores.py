"""The table of scores as a picture."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb

from scbatchnorm._data.checks import join_names
from scbatchnorm.metrics._catalogue import AGGREGATES, BATCH, BIO, CATALOGUE, TOTAL
from scbatchnorm.pl._axes import fit_figure, new_or_given_axes, root_figure, wrap_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GROUPS = {"bio": BIO, "batch": BATCH}
_AGGREGATE = "Aggregate"
_CONTROLS = ("unintegrated", "shuffled")
# In tables of scib-metrics: a column that goes by another name here, and a row that holds no scores.
_ALIASES = {"KBET": "kBET"}
_NO_SCORES = "Metric Type"

# Its lightness falls evenly: it reads the same in grey and with any colour vision.
_COLORS = mpl.colormaps["YlGnBu"]
_BAR_COLOR, _CONTROL_BAR_COLOR, _TRACK_COLOR = "#74a9cf", "0.7", "0.94"
_TEXT_COLOR, _CONTROL_COLOR, _LINE_COLOR, _FAINT_COLOR = "black", "0.4", "0.3", "0.9"
# Lengths in points, those of text included, in a figure of its own.
_CIRCLE, _BAR, _BAR_HEIGHT = 24.0, 54.0, 9.0
_NAME, _VALUE, _INTERVAL, _HEADING, _NOTE = 9.0, 8.0, 6.5, 7.0, 7.0
_GROUP_GAP, _LINE, _GROUP_LINE = 14.0, 9.0, 16.0
_NARROWEST = 200.0  # so that a line of the notes holds some words
# Width of a character, bold ones included, in sizes of its font; and characters in a line of a heading.
_CHARACTER, _HEADING_CHARACTERS = 0.64, 9


@dataclass(frozen=True)
class _Column:
    """A metric or an aggregate: its title in the table, its heading in lines, the group of columns, and its place.

    `x` is the middle of the column and `width` its width, in points.
    """

    title: str
    heading: str
    group: str
    x: float
    width: float


@dataclass(frozen=True)
class _Block:
    """Rows of the table between two lines."""

    title: str
    rows: pd.DataFrame
    is_control: bool


def scores(table: pd.DataFrame, *, sort_by: str | None = None, ax: Axes | None = None) -> Axes:
    """Table of scores as a picture: a circle for each metric, a bar for each aggregate, the best row on top.

    Colours and bars have a fixed scale from 0, worst, to 1, best, so that pictures can be compared. Below a value is
    the distance to the farther end of its 95 % confidence interval, if `table` has one. Controls are below a line, in grey
    italics, and are not ranked: the unintegrated data, and what perfect mixing would score.

    Parameters
    ----------
    table
        Result of :func:`scbatchnorm.metrics.evaluate`, also after a round trip through CSV, or a table of your own:
        a row for each representation and metrics by their titles, such as that of scib-metrics. Without a column
        `kind` no row is a control. Columns that are not metrics are not drawn. With `per_label=True` there is a block
        of labels for each representation. Rename rows with `table.rename(index=...)`.
    sort_by
        Metric or aggregate that orders the rows, best on top; `None`: `"Total"`, or the order of `table` where there
        is none. Its heading is bold.
    ax
        Axes to draw on, which the picture fills, with text of the size that fits at the time of the call; `None` makes a
        new figure of the size of the table, which notebooks show; in scripts it is `.figure` of the returned axes.

    Returns
    -------
    The axes.

    Raises
    ------
    KeyError
        `sort_by` is not a metric of `table`.
    ValueError
        `table` is no table, has no rows or no metrics, or a metric holds something else than numbers.

    Examples
    --------
    >>> import pandas as pd
    >>> import scbatchnorm as sbn
    >>> table = pd.DataFrame({"iLISI": [0.1, 0.8], "cLISI": [1.0, 0.9]}, index=["X_pca", "X_scbatchnorm"])
    >>> ax = sbn.pl.scores(table, sort_by="iLISI")
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['X_scbatchnorm', 'X_pca']
    """
    table = _check_table(table)
    titles = _drawn_titles(table)
    if sort_by is None:
        sort_by = TOTAL if TOTAL in titles else None
    elif sort_by not in titles:
        msg = f"sort_by={sort_by!r} is not a metric of table; metrics: {', '.join(titles)}."
        raise KeyError(msg)
    columns = _columns(titles)
    return _draw(columns, _blocks(table, sort_by), _notes(table, columns), sort_by, ax)


def _check_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return a copy with titles of this package, labels in the index, and numbers in all columns that are drawn."""
    if not isinstance(table, pd.DataFrame):
        msg = f"table must be a DataFrame, a row for each representation; got {type(table).__name__}."
        raise ValueError(msg)
    table = table.rename(columns=_ALIASES).drop(index=_NO_SCORES, errors="ignore")
    if "label" in table:
        table = table.set_index("label", append=True)
    titles = _drawn_titles(table)
    if not titles or not len(table):
        known = ", ".join([*(metric.title for metric in CATALOGUE), *AGGREGATES])
        present = join_names(table.columns, most=20) or "none"
        msg = f"table must have rows and at least one of the columns {known}; it has {len(table)} rows and the columns: {present}."
        raise ValueError(msg)
    for column in [f"{title}{end}" for title in titles for end in ("", " low", " high")]:
        if column in table:
            table[column] = _as_numbers(table, column)
    return table


def _as_numbers(table: pd.DataFrame, column: str) -> pd.Series:
    try:
        return pd.to_numeric(table[column]).astype(float)
    except (ValueError, TypeError) as error:
        msg = f"table[{column!r}] must hold numbers, one column of this name; {error}."
        raise ValueError(msg) from error


def _drawn_titles(table: pd.DataFrame) -> list[str]:
    """Columns of the table that are drawn, from left to right."""
    return [title for title in (*(metric.title for metric in CATALOGUE), *AGGREGATES) if title in table]


def _columns(titles: list[str]) -> list[_Column]:
    """Columns side by side; a star marks metrics that do not enter the aggregates, if there are aggregates."""
    metrics = {metric.title: metric for metric in CATALOGUE}
    with_aggregates = any(title in AGGREGATES for title in titles)
    columns: list[_Column] = []
    right = 0.0
    for title in titles:
        metric = metrics.get(title)
        group = _AGGREGATE if metric is None else _GROUPS[metric.about]
        star = "*" if with_aggregates and metric is not None and not metric.in_total else ""
        lines = textwrap.wrap(title + star, _HEADING_CHARACTERS, break_long_words=False)
        heading_width = _CHARACTER * _HEADING * max(map(len, lines))
        width = max(_CIRCLE if metric else _BAR, heading_width) + 6
        if columns and columns[-1].group != group:
            right += _GROUP_GAP
        columns.append(_Column(title, "\n".join(lines), group, right + width / 2, width))
        right += width
    return columns


def _blocks(table: pd.DataFrame, sort_by: str | None) -> list[_Block]:
    """Methods, then controls; of a table per label a block for each representation, those of controls last, too."""
    kind = _kinds(table)
    if table.index.nlevels > 1:
        parts = [(name, rows.droplevel(0)) for name, rows in table.groupby(level=0, sort=False)]
        blocks = [_label_block(str(name), rows, sort_by) for name, rows in parts]
        return sorted(blocks, key=lambda block: block.is_control)
    controls = pd.concat([table[kind == control] for control in _CONTROLS])
    controls.index = pd.Index(
        [_control_name(str(name), control) for name, control in zip(controls.index, _kinds(controls), strict=True)]
    )
    methods = _Block("", _rank(table[~kind.isin(_CONTROLS)], sort_by), is_control=False)
    blocks = [methods, _Block("Controls, not ranked", controls, is_control=True)]
    return [block for block in blocks if len(block.rows)]


def _label_block(name: str, rows: pd.DataFrame, sort_by: str | None) -> _Block:
    kind = _kinds(rows).iloc[0]
    is_control = kind in _CONTROLS
    title = f"Control: {_control_name(name, kind)}" if is_control else name
    return _Block(title, _rank(rows, sort_by), is_control=is_control)


def _kinds(table: pd.DataFrame) -> pd.Series:
    return table["kind"] if "kind" in table else pd.Series("representation", index=table.index)


def _control_name(name: str, kind: str) -> str:
    """Name that says what the control is."""
    return name if kind in name.lower() else f"{name}, {kind}"


def _rank(rows: pd.DataFrame, sort_by: str | None) -> pd.DataFrame:
    return rows if sort_by is None else rows.sort_values(sort_by, ascending=False, kind="stable")


def _notes(table: pd.DataFrame, columns: list[_Column]) -> list[str]:
    """How to read the picture, and why values are missing: a reason that several rows share stands once."""
    titles = [column.title for column in columns]
    notes = ["0: worst, 1: best."]
    if any(f"{title} low" in table for title in titles):
        notes[0] += " ±: distance to the farther end of the 95 % confidence interval" + (
            ", which the whiskers show." if any(column.group == _AGGREGATE for column in columns) else "."
        )
    if any(column.heading.endswith("*") for column in columns):
        notes.append("* does not enter the aggregates.")
    if (_kinds(table) == "shuffled").any():
        notes.append(
            "shuffled: the same cells with batches permuted within labels (among all, without labels): what perfect mixing would score."
        )
    if table[titles].isna().any(axis=None):
        notes.append("– not defined.")
    return [*notes, *_reasons(table)]


def _reasons(table: pd.DataFrame) -> list[str]:
    """Why values are missing, and in which rows."""
    if "notes" not in table:
        return []
    rows: dict[str, list[str]] = {}
    for row, note in table["notes"].dropna().items():
        name = " ".join(map(str, row)) if isinstance(row, tuple) else str(row)
        for reason in filter(None, note.split("; ")):
            rows.setdefault(reason, []).append(name)
    return [
        f"{reason} ({'all rows' if len(names) == len(table) else join_names(names)})" for reason, names in rows.items()
    ]


def _draw(
    columns: list[_Column], blocks: list[_Block], notes: list[str], sort_by: str | None, given_ax: Axes | None
) -> Axes:
    """Draw the blocks below the headings, and the notes below the blocks; units of the axes are points."""
    width = columns[-1].x + columns[-1].width / 2
    if width < _NARROWEST:
        columns = [replace(column, x=column.x + (_NARROWEST - width) / 2) for column in columns]
        width = _NARROWEST
    has_intervals = any(f"{column.title} low" in block.rows for block in blocks for column in columns)
    names = [wrap_name(name) for block in blocks for name in (block.title, *map(str, block.rows.index))]
    row_height = max(_CIRCLE + (13 if has_intervals else 6), 12 * max(name.count("\n") + 1 for name in names))
    characters = int(width / (_CHARACTER * _NOTE))
    note = "\n".join(line for text in notes for line in textwrap.wrap(text, characters))
    top = _GROUP_LINE + 4 + _LINE * max(column.heading.count("\n") + 1 for column in columns)
    bottom = top + sum(3 + _GROUP_LINE * bool(block.title) + row_height * len(block.rows) for block in blocks)
    height = bottom + 6 + _LINE * (note.count("\n") + 1)
    ax = new_or_given_axes(given_ax, width=width / 72, height=height / 72)
    ax.set(xlim=(0, width), ylim=(height, 0), xticks=[])
    ax.spines[:].set_visible(False)
    scale = 1.0 if given_ax is None else _scale(ax, names, width, height)
    _draw_headings(ax, columns, top, sort_by, scale)
    y, labels = top, []
    for block in blocks:
        y, block_labels = _draw_block(ax, columns, block, y, row_height, scale)
        labels += block_labels
    ax.axhline(bottom, color=_LINE_COLOR, linewidth=0.6 * scale)
    ax.text(0, bottom + 6, note, va="top", color=_LINE_COLOR, fontsize=_NOTE * scale, parse_math=False)
    ax.set_yticks([place for place, _, _ in labels], [text for _, text, _ in labels])
    ax.tick_params(length=0, labelsize=_NAME * scale)
    for tick_label, (_, _, style) in zip(ax.get_yticklabels(), labels, strict=True):
        tick_label.set(**style)
    if given_ax is None:
        fit_figure(np.array([[ax]]), width=width / 72, height=height / 72)
    return ax


def _scale(ax: Axes, names: list[str], width: float, height: float) -> float:
    """Points of the given axes for each point of a figure of its own, so that the names beside the axes fit, too."""
    longest = max(len(line) for name in names for line in name.split("\n"))
    engine = ax.figure.get_layout_engine()
    if engine is not None:
        engine.execute(root_figure(ax))
    box = ax.get_window_extent()
    per_point = ax.figure.dpi / 72
    return float(min(box.width / (width + _CHARACTER * _NAME * longest), box.height / height)) / per_point


def _draw_headings(ax: Axes, columns: list[_Column], bottom: float, sort_by: str | None, scale: float) -> None:
    """Headings of the columns, ending at `bottom`, and above them those of their groups."""
    for group in dict.fromkeys(column.group for column in columns):
        members = [column for column in columns if column.group == group]
        left, right = members[0].x - members[0].width / 2, members[-1].x + members[-1].width / 2
        middle, size = (left + right) / 2, _NAME * scale
        ax.text(middle, _GROUP_LINE - 2, group, ha="center", va="bottom", fontsize=size, fontweight="bold")
        ax.hlines(_GROUP_LINE - 1, left + 2, right - 2, color=_LINE_COLOR, linewidth=0.6 * scale)
    for column in columns:
        weight = "bold" if column.title == sort_by else "normal"
        ax.text(
            column.x, bottom - 3, column.heading, ha="center", va="bottom", fontsize=_HEADING * scale, fontweight=weight
        )


def _draw_block(
    ax: Axes, columns: list[_Column], block: _Block, y: float, row_height: float, scale: float
) -> tuple[float, list[tuple[float, str, dict[str, str]]]]:
    """Draw rows from `y` downwards.

    Returns where they end, and the place, text and style of each label beside them.
    """
    style = {"color": _CONTROL_COLOR, "style": "italic"} if block.is_control else {"color": _TEXT_COLOR}
    ax.axhline(y, color=_LINE_COLOR, linewidth=0.6 * scale)
    y += 3
    labels = []
    if block.title:
        weight = "normal" if block.is_control else "bold"
        labels.append((y + _GROUP_LINE / 2, wrap_name(block.title), {**style, "weight": weight}))
        y += _GROUP_LINE
    middles = y + _CIRCLE / 2 + 3 + row_height * np.arange(len(block.rows))
    labels += [(middle, wrap_name(name), style) for middle, name in zip(middles, block.rows.index, strict=True)]
    for column in columns:
        values = block.rows[column.title].to_numpy(dtype=float)
        ends = [f"{column.title} {end}" for end in ("low", "high")]
        intervals = block.rows.reindex(columns=ends).to_numpy(dtype=float)
        for middle in middles[np.isnan(values)]:
            ax.text(column.x, middle, "–", ha="center", va="center", color=_CONTROL_COLOR, fontsize=_NAME * scale)
        defined = ~np.isnan(values)
        shown = middles[defined], values[defined], intervals[defined]
        if column.group == _AGGREGATE:
            _draw_bars(ax, column.x, *shown, scale, is_control=block.is_control)
        else:
            _draw_circles(ax, column.x, *shown, scale)
    for line in y + row_height * np.arange(1, len(block.rows)):
        ax.axhline(line, color=_FAINT_COLOR, linewidth=0.6 * scale)
    return y + row_height * len(block.rows), labels


def _draw_circles(ax: Axes, x: float, y: np.ndarray, values: np.ndarray, intervals: np.ndarray, scale: float) -> None:
    """Circles in the colours of the values, shape (rows,), around the numbers; below them their intervals, shape (rows, 2)."""
    colors = [to_rgb(color) for color in _COLORS(np.clip(values, 0, 1))]
    size = (_CIRCLE * scale) ** 2
    ax.scatter(np.full(len(y), x), y, s=size, c=colors, edgecolors="0.5", linewidths=0.5 * scale)
    for place, value, color, interval in zip(y, values, colors, intervals, strict=True):
        text = _format_score(value)
        size = (_VALUE if len(text) < 5 else _INTERVAL) * scale
        ax.text(x, place, text, ha="center", va="center_baseline", fontsize=size, color=_legible_on(color))
        if np.isfinite(interval).all():
            below, size = place + _CIRCLE / 2 + 5, _INTERVAL * scale
            text = _format_interval(value, interval)
            ax.text(x, below, text, ha="center", va="center_baseline", fontsize=size, color=_LINE_COLOR)


def _draw_bars(
    ax: Axes, x: float, y: np.ndarray, values: np.ndarray, intervals: np.ndarray, scale: float, *, is_control: bool
) -> None:
    """Bars from 0 to 1 of the values, shape (rows,), with whiskers of the intervals, shape (rows, 2); the numbers below."""
    left = x - _BAR / 2
    color, text_color = (_CONTROL_BAR_COLOR, _CONTROL_COLOR) if is_control else (_BAR_COLOR, _TEXT_COLOR)
    ax.barh(y - 3, np.full(len(y), _BAR), left=left, height=_BAR_HEIGHT, color=_TRACK_COLOR)
    ax.barh(y - 3, _BAR * np.clip(values, 0, 1), left=left, height=_BAR_HEIGHT, color=color)
    for place, value, interval in zip(y, values, intervals, strict=True):
        below, size = place + 12, _VALUE * scale
        ax.text(left, below, _format_score(value), va="center_baseline", fontsize=size, color=text_color)
        if np.isfinite(interval).all():
            text, size = _format_interval(value, interval), _INTERVAL * scale
            ax.text(left + _BAR, below, text, ha="right", va="center_baseline", fontsize=size, color=_LINE_COLOR)
            ends = left + _BAR * np.clip(interval, 0, 1)
            ax.plot(
                ends, [place - 3] * 2, color=_TEXT_COLOR, linewidth=0.8 * scale, marker="|", markersize=4 * scale, markeredgewidth=0.8 * scale
            )  # fmt: skip


def _legible_on(background: tuple[float, float, float]) -> str:
    """Black or white, whichever has more contrast with the colour `background` (WCAG 2.2)."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in background]
    luminance = float(np.dot([0.2126, 0.7152, 0.0722], linear))
    return "black" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "white"


def _format_score(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")  # + 0.0: no "-0.00"


def _format_interval(value: float, interval: np.ndarray) -> str:
    """Distance to the farther end of the interval."""
    return f"±{np.abs(interval - value).max():.3f}".replace("±0.", "±.")
