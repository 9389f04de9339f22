"""An assessment as text, 88 columns wide."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from scbatchnorm._assessment import _verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from scbatchnorm._assessment._result import Assessment

WIDTH = 88
_NAME = 34
_ROWS = 10
HEADLINES = {
    "none": "no correction is needed.",
    "correct": "batches differ, and can be corrected.",
    "confounded": "a correction would remove more than the batch effect.",
}
_NOTHING_SHARED = "what differs between batches cannot be told from what they hold."


def headline(assessment: Assessment) -> str:
    """The verdict in a sentence."""
    if assessment.verdict == "confounded" and assessment.effects.empty:
        return _NOTHING_SHARED
    return HEADLINES[assessment.verdict]


def text(assessment: Assessment) -> str:
    """The whole report."""
    lines = [*_wrapped(f"Verdict: {assessment.verdict} - {headline(assessment)}"), ""]
    for reason in assessment.reasons:
        lines += _wrapped(reason, "- ")
    if len(assessment.effects):
        word = assessment.label_key or "cluster"
        lines += ["", *_effects(assessment.effects, word), "", *_batches(assessment.batches, assessment.batch_key)]
        lines += [
            "",
            *_wrapped(
                "effect: share of the variance within a group of cells that lies between batches, chance subtracted; of a "
                "batch: against the mean of the others. p: corrected for their number. *: beyond chance and at "
                f"least {_verdict.percent(_verdict.SMALLEST)}."
            ),
        ]
    else:
        lines += ["", *_batches(assessment.batches, assessment.batch_key)]
    if len(assessment.association):
        lines += ["", *_association(assessment.association)]
    return "\n".join(lines)


def _wrapped(sentence: str, mark: str = "") -> list[str]:
    """Lines of a sentence, in which a number stays beside its sign."""
    glued = sentence.replace(" %", "\u00a0%")
    lines = textwrap.wrap(glued, WIDTH, initial_indent=mark, subsequent_indent=" " * len(mark))
    return [line.replace("\u00a0", " ") for line in lines]


def _effects(table: pd.DataFrame, word: str) -> list[str]:
    shown = table.sort_values("effect", ascending=False, kind="stable").head(_ROWS)
    marks = _verdict.affected(shown)
    rows = [
        [
            str(name),
            f"{row['cells']:.0f}",
            f"{row['batches']:.0f}",
            _effect(row["effect"], marked=bool(mark)),
            _p_value(row["p_adjusted"]),
        ]
        for (name, row), mark in zip(shown.iterrows(), marks, strict=True)
    ]
    return _table([word, "cells", "batches", "effect", "p"], rows, _rest(table, "by effect"))


def _batches(table: pd.DataFrame, word: str) -> list[str]:
    shown = table.sort_values(["effect", "cells"], ascending=False, kind="stable").head(_ROWS)
    marks = _verdict.affected(shown)
    rows = [
        [
            str(name),
            f"{row['cells']:.0f}",
            _share(row["shared"]),
            _effect(row["effect"], marked=bool(mark)),
            _p_value(row["p_adjusted"]),
        ]
        for (name, row), mark in zip(shown.iterrows(), marks, strict=True)
    ]
    return _table([word, "cells", "shared", "effect", "p"], rows, _rest(table, "by effect"))


def _association(table: pd.DataFrame) -> list[str]:
    rows = [
        [
            str(name),
            f"{row['levels']:.0f}",
            f"{row['measure']} {row['value']:.2f}" if np.isfinite(row["value"]) else "-",
            row["status"],
        ]
        for name, row in table.head(_ROWS).iterrows()
    ]
    return _table(["covariate", "levels", "with the batch", "status"], rows, _rest(table, "in order"))


def _rest(table: pd.DataFrame, how: str) -> str:
    return f"... the first {_ROWS} of {len(table)}, {how}" if len(table) > _ROWS else ""


def _table(heading: Sequence[str], rows: list[list[str]], rest: str) -> list[str]:
    """Names on the left, the other columns to the right."""
    cells = [list(heading), *([_short(row[0]), *row[1:]] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(heading))]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in cells
    ]
    return [*(line.rstrip() for line in lines), *([rest] if rest else [])]


def _short(name: str) -> str:
    return name if len(name) <= _NAME else name[: _NAME - 3] + "..."


def _effect(value: float, *, marked: bool) -> str:
    return "-" if np.isnan(value) else f"{_verdict.percent(value)} {'*' if marked else ' '}"


def _share(value: float) -> str:
    return "-" if np.isnan(value) else _verdict.percent(value)


def _p_value(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.2g}"
