"""A sheet of scores: rows in blocks, a circle for a metric, a bar for an aggregate, notes below.

Lengths are points in a new figure; on other axes the sheet, text included, is as much smaller or larger as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.patches import Circle, Rectangle

from scbatchnorm.pl import _scaled
from scbatchnorm.pl._axes import new_or_given_axes

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes

# Its lightness falls evenly: it reads the same in grey and with any colour vision.
_COLORS = mpl.colormaps["YlGnBu"]
_BLUE, _PALE, _TRACK = "#74a9cf", "0.7", "0.94"
_INK, _GREY, _RULE, _FAINT = "black", "0.4", "0.3", "0.9"
_RADIUS, _BAR, _THICK = 12.0, 50.0, 9.0
_NAME, _VALUE, _SMALL, _HEADING, _NOTE = 9.0, 8.0, 6.5, 7.0, 7.0  # sizes of text
_GAP, _LINE, _TITLE = 14.0, 9.0, 16.0
_NARROWEST = 280.0  # so that a line of the notes holds some words
_EDGE = 2 * 0.04167  # inches that the layout of a new figure keeps free


@dataclass(frozen=True)
class Column:
    """A column of the table: `heading` is what stands above it, and `group` above that."""

    key: str
    heading: str
    group: str
    bar: bool
    bold: bool


@dataclass(frozen=True)
class Block:
    """Rows between two lines. Controls are in grey italics."""

    title: str
    rows: pd.DataFrame
    control: bool


@dataclass(frozen=True)
class _Layout:
    """Middles of the columns, left and right ends of the groups, and the width of all."""

    middle: dict[str, float]
    groups: dict[str, tuple[float, float]]
    right: float


def heading(text: str) -> str:
    """Text in lines not much wider than a circle."""
    return "\n".join(_scaled.wrapped(text, 2 * _RADIUS + 16, _HEADING))


def draw(columns: Sequence[Column], blocks: Sequence[Block], notes: Sequence[str], ax: Axes | None) -> Axes:
    """Draw `blocks`, whose rows have `columns` and maybe their "low" and "high", and `notes` below."""
    layout = _arrange(columns, blocks)
    spread = any(f"{column.key} low" in block.rows for block in blocks for column in columns)
    high = 2 * _RADIUS + (13 if spread else 6)
    lines = [line for note in notes for line in _scaled.wrapped(note, layout.right, _NOTE)]
    top = _TITLE + 4 + _LINE * max(column.heading.count("\n") + 1 for column in columns)
    end = top + sum(3 + _TITLE * bool(block.title) + high * len(block.rows) for block in blocks)
    bottom = end + 6 + _LINE * len(lines)
    ax = new_or_given_axes(ax, width=layout.right / 72 + _EDGE, height=bottom / 72 + _EDGE)
    ax.set_axis_off()
    ax.set_aspect("equal")
    ax.add_artist(Rectangle((0, 0), layout.right, bottom, facecolor="white", linewidth=0, zorder=0))
    _header(ax, layout, columns, top)
    y = top
    for block in blocks:
        y = _block(ax, layout, columns, block, y, high)
    _rule(ax, 0, layout.right, end, _RULE)
    for number, line in enumerate(lines):
        _write(ax, 0, end + 6 + _LINE * (number + 0.5), line, _NOTE, ha="left", color=_RULE)
    ax.set(xlim=(0, layout.right), ylim=(bottom, 0))
    return ax


def _arrange(columns: Sequence[Column], blocks: Sequence[Block]) -> _Layout:
    """Columns as wide as what is written in them; names take what is left of the least width."""
    groups: dict[str, list[Column]] = {}
    for column in columns:
        groups.setdefault(column.group, []).append(column)
    widths: dict[str, float] = {}
    for group, members in groups.items():
        least = [_width(column) for column in members]
        more = max(0.0, _scaled.width(group, _NAME, bold=True) - sum(least)) / len(members)
        widths |= {column.key: width + more for column, width in zip(members, least, strict=True)}
    names = [_scaled.width(str(name), _NAME, italic=block.control) for block in blocks for name in block.rows.index]
    titles = [_scaled.width(block.title, _VALUE, bold=True) for block in blocks]
    x = max(*names, *titles, _NARROWEST - sum(widths.values()) - _GAP * len(groups))
    middle, ends = {}, {}
    for group, members in groups.items():
        start = x = x + _GAP
        for column in members:
            middle[column.key] = x + widths[column.key] / 2
            x += widths[column.key]
        ends[group] = (start, x)
    return _Layout(middle, ends, x)


def _width(column: Column) -> float:
    words = _scaled.width(column.heading, _HEADING, bold=column.bold)
    return max(_BAR + 8 if column.bar else 2 * _RADIUS + 6, words + 6)


def _header(ax: Axes, layout: _Layout, columns: Sequence[Column], bottom: float) -> None:
    """Headings of the groups, and below them those of the columns."""
    for group, (left, right) in layout.groups.items():
        _write(ax, (left + right) / 2, _TITLE / 2 - 1, group, _NAME, weight="bold")
        _rule(ax, left + 2, right - 2, _TITLE - 1, _RULE)
    for column in columns:
        weight = "bold" if column.bold else "normal"
        _write(ax, layout.middle[column.key], bottom - 3, column.heading, _HEADING, va="bottom", weight=weight)


def _block(ax: Axes, layout: _Layout, columns: Sequence[Column], block: Block, y: float, high: float) -> float:
    """Rows from `y` downwards, each `high`; returns where they end."""
    _rule(ax, 0, layout.right, y, _RULE)
    y += 3
    color, style = (_GREY, "italic") if block.control else (_INK, "normal")
    if block.title:
        weight = "normal" if block.control else "bold"
        _write(ax, 0, y + _TITLE / 2, block.title, _VALUE, ha="left", color=color, style=style, weight=weight)
        y += _TITLE
    for number, (name, row) in enumerate(block.rows.iterrows()):
        if number:
            _rule(ax, 0, layout.right, y, _FAINT)
        middle = y + _RADIUS + 3
        _write(ax, 0, middle, str(name), _NAME, ha="left", color=color, style=style)
        for column in columns:
            x, value = layout.middle[column.key], float(row[column.key])
            ends = np.array([row.get(f"{column.key} {end}", np.nan) for end in ("low", "high")], dtype=float)
            if np.isnan(value):
                _write(ax, x, middle, "–", _NAME, color=_GREY)
            elif column.bar:
                _bar(ax, x - _BAR / 2, middle, value, ends, control=block.control)
            else:
                _circle(ax, x, middle, value, ends)
        y += high
    return y


def _circle(ax: Axes, x: float, y: float, value: float, ends: np.ndarray) -> None:
    """Value in a circle of its colour, its interval below."""
    color = _color(value)
    ax.add_artist(Circle((x, y), _RADIUS, facecolor=color, edgecolor="0.5", linewidth=0.5))
    text = _number(value)
    _write(ax, x, y, text, _VALUE if len(text) < 5 else _SMALL, color=_legible(color))
    if np.isfinite(ends).all():
        _write(ax, x, y + _RADIUS + 5, _plus_minus(value, ends), _SMALL, color=_RULE)


def _bar(ax: Axes, x: float, y: float, value: float, ends: np.ndarray, *, control: bool) -> None:
    """Bar on a track from 0 to 1 with the interval as whiskers, and both in numbers below."""
    y -= 3
    for length, color in ((1.0, _TRACK), (float(np.clip(value, 0, 1)), _PALE if control else _BLUE)):
        ax.add_artist(Rectangle((x, y - _THICK / 2), _BAR * length, _THICK, facecolor=color, linewidth=0))
    _write(ax, x, y + 12, _number(value), _VALUE, ha="left", color=_GREY if control else _INK)
    if np.isfinite(ends).all():
        _write(ax, x + _BAR, y + 12, _plus_minus(value, ends), _SMALL, ha="right", color=_RULE)
        low, high = x + _BAR * np.clip(ends, 0, 1)
        x_whiskers, y_whiskers = [low, low, low, high, high, high], [y - 2, y + 2, y, y, y - 2, y + 2]
        ax.add_artist(_scaled.ScaledLine(x_whiskers, y_whiskers, units=0.8, color=_INK))


def _color(value: float) -> tuple[float, float, float]:
    return to_rgb(_COLORS(float(np.clip(value, 0, 1))))


def _legible(background: tuple[float, float, float]) -> str:
    """Black or white, whichever has more contrast with `background` (WCAG 2.2)."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in background]
    luminance = float(np.dot([0.2126, 0.7152, 0.0722], linear))
    return "black" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "white"


def _number(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")  # + 0.0: no "-0.00"


def _plus_minus(value: float, ends: np.ndarray) -> str:
    """Distance to the farther end of the interval."""
    return f"±{np.abs(ends - value).max():.3f}".replace("±0.", "±.")


def _rule(ax: Axes, left: float, right: float, y: float, color: str) -> None:
    ax.add_artist(_scaled.ScaledLine([left, right], [y, y], units=0.6, color=color))


def _write(
    ax: Axes, x: float, y: float, text: str, size: float, *,
    ha: str = "center", va: str = "center_baseline", color: str = _INK, weight: str = "normal", style: str = "normal",
) -> None:  # fmt: skip
    words = _scaled.ScaledText(x, y, text, units=size)
    words.set(ha=ha, va=va, color=color, weight=weight, style=style)
    ax.add_artist(words)
