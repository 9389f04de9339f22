"""An assessment as text, 88 columns wide."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scbatchnorm.pp._assessment import verdict as _verdict

if TYPE_CHECKING:
    from scbatchnorm.pp._assessment.result import Assessment

WIDTH = 88
_NAME = 34
_ROWS = 10
HEADLINES = {
    "none": "no correction is needed.",
    "correct": "batches differ, and can be corrected.",
    "confounded": "a correction would remove more than the batch effect.",
}
LEGEND = (
    "effect: share of the variance within a group of cells that lies between batches, chance subtracted; of a "
    "batch: against the mean of the others. p: corrected for their number. *: beyond chance and at "
    f"least {_verdict.percent(_verdict.SMALLEST)}."
)
_NOTHING_SHARED = "what differs between batches cannot be told from what they hold."


def headline(assessment: Assessment) -> str:
    """The verdict in a sentence."""
    if assessment.verdict == "confounded" and assessment.effects.empty:
        return _NOTHING_SHARED
    return HEADLINES[assessment.verdict]


@dataclass(frozen=True)
class Table:
    """A table of an assessment as it is shown: its first column are names; `order` says which rows are first."""

    headings: tuple[str, ...]
    rows: list[list[str]]
    order: str


def text(assessment: Assessment) -> str:
    """The whole report."""
    lines = [*_wrapped(f"Verdict: {assessment.verdict} - {headline(assessment)}"), ""]
    for reason in assessment.reasons:
        lines += _wrapped(reason, "- ")
    if len(assessment.effects):
        lines += ["", *_lines(effects(assessment)), "", *_lines(batches(assessment)), "", *_wrapped(LEGEND)]
    else:
        lines += ["", *_lines(batches(assessment))]
    if len(assessment.association):
        lines += ["", *_lines(association(assessment))]
    return "\n".join(lines)


def _wrapped(sentence: str, mark: str = "") -> list[str]:
    """Lines of a sentence, in which a number stays beside its sign."""
    glued = sentence.replace(" %", "\u00a0%")
    lines = textwrap.wrap(glued, WIDTH, initial_indent=mark, subsequent_indent=" " * len(mark))
    return [line.replace("\u00a0", " ") for line in lines]


def effects(assessment: Assessment) -> Table:
    """Groups of cells, the largest effect first."""
    table = assessment.effects.sort_values("effect", ascending=False, kind="stable")
    rows = [
        [
            str(name),
            f"{row['cells']:.0f}",
            f"{row['batches']:.0f}",
            _effect(row["effect"], marked=bool(mark)),
            _p_value(row["p_adjusted"]),
        ]
        for (name, row), mark in zip(table.iterrows(), _verdict.affected(table), strict=True)
    ]
    return Table((assessment.label_key or "cluster", "cells", "batches", "effect", "p"), rows, "by effect")


def batches(assessment: Assessment) -> Table:
    """Batches, the largest effect first."""
    table = assessment.batches.sort_values(["effect", "cells"], ascending=False, kind="stable")
    rows = [
        [
            str(name),
            f"{row['cells']:.0f}",
            _share(row["shared"]),
            _effect(row["effect"], marked=bool(mark)),
            _p_value(row["p_adjusted"]),
        ]
        for (name, row), mark in zip(table.iterrows(), _verdict.affected(table), strict=True)
    ]
    return Table((assessment.batch_key, "cells", "shared", "effect", "p"), rows, "by effect")


def association(assessment: Assessment) -> Table:
    """Covariates, as they were given."""
    rows = [
        [
            str(name),
            f"{row['levels']:.0f}",
            f"{row['measure']} {row['value']:.2f}" if np.isfinite(row["value"]) else "-",
            str(row["status"]),
        ]
        for name, row in assessment.association.iterrows()
    ]
    return Table(("covariate", "levels", "with the batch", "status"), rows, "in order")


def _lines(table: Table) -> list[str]:
    """The first rows, names on the left, the other columns to the right."""
    cells = [list(table.headings), *([_short(row[0]), *row[1:]] for row in table.rows[:_ROWS])]
    widths = [max(len(row[i]) for row in cells) for i in range(len(table.headings))]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in cells
    ]
    rest = f"... the first {_ROWS} of {len(table.rows)}, {table.order}" if len(table.rows) > _ROWS else ""
    return [*(line.rstrip() for line in lines), *([rest] if rest else [])]


def _short(name: str) -> str:
    return name if len(name) <= _NAME else name[: _NAME - 3] + "..."


def _effect(value: float, *, marked: bool) -> str:
    return "-" if np.isnan(value) else f"{_verdict.percent(value)} {'*' if marked else ' '}"


def _share(value: float) -> str:
    return "-" if np.isnan(value) else _verdict.percent(value)


def _p_value(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.2g}"
