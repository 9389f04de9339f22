"""The table of scores as text."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scbatchnorm.metrics._catalogue import AGGREGATES, BATCH, BIO, CATALOGUE, TOTAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

_WIDTH = 120  # without a terminal
_GAP = "  "


@dataclass(frozen=True)
class _Column:
    """Lines of a heading, and the values below it."""

    heading: list[str]
    values: list[str]


def format_scores(table: pd.DataFrame) -> str:
    """Format a result of metrics.evaluate with explanations, at most as wide as the terminal."""
    lines = _format_labels(table) if table.index.nlevels > 1 else _format_overall(table)
    return "\n".join([*lines, "", *_explanations(table), *_reasons(table)])


def _format_overall(table: pd.DataFrame) -> list[str]:
    """A column for each representation, a row for each score, below the aggregate that it enters."""
    labels: list[str] = []
    titles: list[str] = []
    for aggregate, about in ((BIO, "bio"), (BATCH, "batch")):
        members = [metric for metric in CATALOGUE if metric.about == about and metric.title in table]
        if members:
            stars = ["" if metric.in_total or aggregate not in table else "*" for metric in members]
            labels += [aggregate, *(f"  {metric.title}{star}" for metric, star in zip(members, stars, strict=True))]
            titles += [aggregate, *(metric.title for metric in members)]
    if TOTAL in table:
        labels.append(TOTAL)
        titles.append(TOTAL)
    columns = [
        _Column(_heading_lines(str(name), str(row["kind"])), [_format_value(row, title) for title in titles])
        for name, row in table.iterrows()
    ]
    return _format_grid(labels, columns)


def _heading_lines(name: str, kind: str) -> list[str]:
    """Representation, and which control it is."""
    if kind == "shuffled":
        return name.rsplit(", ", 1)
    return [name, "" if kind == "representation" else kind]


def _format_labels(table: pd.DataFrame) -> list[str]:
    """For each representation a row for each label, a column for each score."""
    lines: list[str] = []
    for name in table.index.unique(level=0):
        rows = table.loc[name]
        titles = [metric.title for metric in CATALOGUE if metric.title in rows]
        columns = [_Column([count], [str(value) for value in rows[count]]) for count in ("cells", "batches")]
        columns += [
            _Column(title.split(), [_format_value(row, title) for _, row in rows.iterrows()]) for title in titles
        ]
        kind = rows["kind"].iloc[0]
        heading = f"{name} ({kind})" if kind == "unintegrated" else str(name)
        lines += [*([""] if lines else []), heading, *_format_grid([f"  {label}" for label in rows.index], columns)]
    return lines


def _format_value(row: pd.Series, title: str) -> str:
    """Format a score with three digits, and how far its interval reaches."""
    if title not in row:
        return ""
    value = row[title]
    if np.isnan(value):
        return "–"
    ends = [row.get(f"{title} {end}", np.nan) for end in ("low", "high")]
    reach = "" if np.isnan(ends).any() else f" ± {max(abs(end - value) for end in ends):.3f}"
    return f"{round(value, 3) + 0.0:.3f}{reach}"  # no -0.000


def _format_grid(labels: Sequence[str], columns: Sequence[_Column]) -> list[str]:
    """Format labels and columns, in several blocks if they are too wide for one."""
    terminal_width = shutil.get_terminal_size((_WIDTH, 24)).columns
    label_width = max(map(len, labels))
    widths = [max(map(len, [*column.heading, *column.values])) for column in columns]
    lines: list[str] = []
    block: list[int] = []
    for number, width in enumerate(widths):
        if block and label_width + sum(widths[i] + len(_GAP) for i in block) + len(_GAP) + width > terminal_width:
            lines += [*_format_block(labels, [columns[i] for i in block], [widths[i] for i in block], label_width), ""]
            block = []
        block.append(number)
    return [*lines, *_format_block(labels, [columns[i] for i in block], [widths[i] for i in block], label_width)]


def _format_block(
    labels: Sequence[str], columns: Sequence[_Column], widths: Sequence[int], label_width: int
) -> list[str]:
    height = max(len(column.heading) for column in columns)
    headings = [[""] * (height - len(column.heading)) + column.heading for column in columns]
    rows = [["", *line] for line in zip(*headings, strict=True) if any(line)]
    rows += [list(row) for row in zip(labels, *(column.values for column in columns), strict=True)]
    return [
        _GAP.join(
            [label.ljust(label_width), *(text.rjust(width) for text, width in zip(cells, widths, strict=True))]
        ).rstrip()
        for label, *cells in rows
    ]


def _explanations(table: pd.DataFrame) -> list[str]:
    """Explain symbols and controls that the table has."""
    titles = [name for name in (*(metric.title for metric in CATALOGUE), *AGGREGATES) if name in table]
    lines = ["0: worst, 1: best."]
    if any(f"{title} low" in table for title in titles):
        lines[0] += " ±: distance to the farther end of the 95 % confidence interval."
    if any(name in table for name in AGGREGATES) and any(
        metric.title in table and not metric.in_total for metric in CATALOGUE
    ):
        lines.append("*: does not enter the aggregates.")
    kinds = set(table["kind"])
    if "unintegrated" in kinds:
        lines.append("unintegrated: a control, the data before integration.")
    if "shuffled" in kinds:
        lines.append("batches shuffled: a control, what perfect mixing would score on these cells.")
    if table[titles].isna().any(axis=None):
        lines.append("–: not defined.")
    return lines


def _reasons(table: pd.DataFrame) -> list[str]:
    """Reasons for missing values; a reason that several rows share stands once."""
    if "notes" not in table:
        return []
    notes = table["notes"]
    names = {note: [str(name) for name in table.index[notes == note]] for note in notes.unique() if note}
    return [f"{'all' if len(rows) == len(table) else ', '.join(rows)}: {note}" for note, rows in names.items()]
