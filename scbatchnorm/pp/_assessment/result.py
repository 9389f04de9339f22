"""The result of an assessment: as tables, in `uns`, as text and as HTML."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from scbatchnorm._runtime.html_repr import HtmlTable, render_html
from scbatchnorm.pp._assessment.association import ASSOCIATION_COLUMNS
from scbatchnorm.pp._assessment.effect import make_effects_table
from scbatchnorm.pp._assessment.verdict import MIN_EFFECT, format_percent, is_affected

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scbatchnorm.pp._assessment.verdict import Verdict

# Where it is kept in `uns`.
KEY = "scbatchnorm_assess"

# Of the text: columns of a line, of a name in a table, and rows of a table.
_LINE_WIDTH = 88
_NAME_WIDTH = 34
_N_ROWS = 10

_HEADLINES = {
    "none": "no correction is needed.",
    "correct": "batches differ, and can be corrected.",
    "confounded": "a correction would remove more than the batch effect.",
}
_NOTHING_SHARED = "what differs between batches cannot be told from what they hold."
_LEGEND = (
    "effect: share of the variance within a group of cells that lies between batches, chance subtracted; of a "
    "batch: against the mean of the others. p: corrected for their number. *: beyond chance and at "
    f"least {format_percent(MIN_EFFECT)}."
)


@dataclass(frozen=True, eq=False, repr=False)
class Assessment:
    """Result of :func:`scbatchnorm.pp.assess`; printed, it is a report, and in notebooks one of HTML.

    Effects are shares of the variance within a group of cells that lies between batches, at most 1. Batches are weighted
    equally, and the value expected by chance is subtracted: 0 is no effect, slightly negative values are chance.

    Attributes
    ----------
    verdict
        `"none"`, `"correct"` or `"confounded"`.
    reasons
        Sentences, the deciding one first.
    effects
        A row for each cluster or label with enough cells of two batches: `cells`, `batches` (with enough cells),
        `effect`, `chance` (95 % quantile of the permutations), `p_value`, `p_adjusted`
        (for the number of groups, by Westfall and Young: against the largest standardised effect of each permutation).
    batches
        A row for each batch: `cells`, `shared` (share of its cells with counterparts in another batch), `effect`
        (against the mean of the other batches), `p_value`, `p_adjusted`; nan where there are too few cells.
    shared
        Share of the cells of each batch (rows) with counterparts in each other batch (columns); nan on the diagonal.
    association
        A row for each covariate, the label included: `levels`, `measure`, `value`, `status`, `confounded`, `components`,
        `strays`, `missing`.
    design
        Cells of each covariate's levels (rows: covariate, level) in each batch (columns).
    label_key
        Column that named the groups; `None` where they are clusters.
    batch_key
        Columns that named the batches, joined with `" | "`.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    effects: pd.DataFrame
    batches: pd.DataFrame
    shared: pd.DataFrame
    association: pd.DataFrame
    design: pd.DataFrame
    label_key: str | None
    batch_key: str

    def __repr__(self) -> str:
        return _format_text(self)

    def _repr_html_(self) -> str:
        return _format_html(self)

    def to_uns(self) -> dict[str, Any]:
        """The result as arrays, str and DataFrames, which can be written to h5ad and zarr."""
        record: dict[str, Any] = {
            "verdict": self.verdict,
            "reasons": np.array(self.reasons, dtype=str),
            "batch_key": self.batch_key,
            "label_key": self.label_key or "",
            "batches": self.batches.copy(),
            "shared": self.shared.to_numpy(),
        }
        if len(self.effects):
            record["effects"] = self.effects.copy()
        if len(self.association):
            record["association"] = self.association.copy()
            record["design"] = {
                "covariate": self.design.index.get_level_values(0).to_numpy().astype(str),
                "level": self.design.index.get_level_values(1).to_numpy().astype(str),
                "cells": self.design.to_numpy(),
            }
        return record


def from_uns(record: Mapping[str, Any]) -> Assessment:
    """The assessment that `Assessment.to_uns` has written."""
    batches = _restore_text(record["batches"])
    names = batches.index
    no_design = {"covariate": [], "level": [], "cells": np.zeros((0, len(names)), dtype=int)}
    design = record.get("design", no_design)
    levels = [[str(value) for value in design[part]] for part in ("covariate", "level")]
    no_association = pd.DataFrame(columns=ASSOCIATION_COLUMNS, index=pd.Index([], dtype=object))
    return Assessment(
        verdict=str(record["verdict"]),  # type: ignore[arg-type]
        reasons=tuple(str(reason) for reason in record["reasons"]),
        effects=_restore_text(record["effects"]) if "effects" in record else make_effects_table([]),
        batches=batches,
        shared=pd.DataFrame(np.asarray(record["shared"]), index=names, columns=names),
        association=_restore_text(record["association"]) if "association" in record else no_association,
        design=pd.DataFrame(
            np.asarray(design["cells"]),
            index=pd.MultiIndex.from_arrays(levels, names=["covariate", "level"]),
            columns=names,
        ),
        label_key=str(record["label_key"]) or None,
        batch_key=str(record["batch_key"]),
    )


def _restore_text(table: pd.DataFrame) -> pd.DataFrame:
    """`table` with row names and texts as plain str, as they were before writing."""
    table = table.copy()
    table.index = pd.Index([str(name) for name in table.index], dtype=object)
    for column in table.columns:
        if not pd.api.types.is_numeric_dtype(table[column]):
            table[column] = np.array([str(value) for value in table[column]], dtype=object)
    return table


def headline(assessment: Assessment) -> str:
    """The verdict in a sentence."""
    if assessment.verdict == "confounded" and assessment.effects.empty:
        return _NOTHING_SHARED
    return _HEADLINES[assessment.verdict]


class _Table(NamedTuple):
    """A table as text: the first column has the names of the rows, which are sorted as `order` says."""

    headings: tuple[str, ...]
    rows: list[list[str]]
    order: str = "by effect"


def _effects_table(assessment: Assessment) -> _Table:
    """Groups of cells, the largest effect first."""
    table = assessment.effects.sort_values("effect", ascending=False, kind="stable")
    rows = [
        [
            str(name),
            f"{row['cells']:.0f}",
            f"{row['batches']:.0f}",
            _format_effect(row["effect"], affected=bool(affected)),
            _format_p_value(row["p_adjusted"]),
        ]
        for (name, row), affected in zip(table.iterrows(), is_affected(table), strict=True)
    ]
    return _Table((assessment.label_key or "cluster", "cells", "batches", "effect", "p"), rows)


def _batches_table(assessment: Assessment) -> _Table:
    """Batches, the largest effect first."""
    table = assessment.batches.sort_values(["effect", "cells"], ascending=False, kind="stable")
    rows = [
        [
            str(name),
            f"{row['cells']:.0f}",
            "-" if np.isnan(row["shared"]) else format_percent(row["shared"]),
            _format_effect(row["effect"], affected=bool(affected)),
            _format_p_value(row["p_adjusted"]),
        ]
        for (name, row), affected in zip(table.iterrows(), is_affected(table), strict=True)
    ]
    return _Table((assessment.batch_key, "cells", "shared", "effect", "p"), rows)


def _association_table(assessment: Assessment) -> _Table:
    """Covariates, in the order in which they were given."""
    rows = [
        [
            str(name),
            f"{row['levels']:.0f}",
            f"{row['measure']} {row['value']:.2f}" if np.isfinite(row["value"]) else "-",
            str(row["status"]),
        ]
        for name, row in assessment.association.iterrows()
    ]
    return _Table(("covariate", "levels", "with the batch", "status"), rows, "in order")


def _format_effect(value: float, *, affected: bool) -> str:
    return "-" if np.isnan(value) else f"{format_percent(value)} {'*' if affected else ' '}"


def _format_p_value(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.2g}"


def _format_text(assessment: Assessment) -> str:
    """Verdict, reasons and the first rows of the tables."""
    lines = [*_wrap(f"Verdict: {assessment.verdict} - {headline(assessment)}"), ""]
    for reason in assessment.reasons:
        lines += _wrap(reason, "- ")
    if len(assessment.effects):
        lines += ["", *_format_table(_effects_table(assessment))]
    lines += ["", *_format_table(_batches_table(assessment))]
    if len(assessment.effects):
        lines += ["", *_wrap(_LEGEND)]
    if len(assessment.association):
        lines += ["", *_format_table(_association_table(assessment))]
    return "\n".join(lines)


def _wrap(sentence: str, mark: str = "") -> list[str]:
    """Lines of a sentence; a number and its percent sign stay on one line."""
    glued = sentence.replace(" %", "\u00a0%")
    lines = textwrap.wrap(glued, _LINE_WIDTH, initial_indent=mark, subsequent_indent=" " * len(mark))
    return [line.replace("\u00a0", " ") for line in lines]


def _format_table(table: _Table) -> list[str]:
    """Lines with the first rows; names are aligned left, values right."""
    cells = [list(table.headings), *([_shorten(row[0]), *row[1:]] for row in table.rows[:_N_ROWS])]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(
            text.rjust(width) if i else text.ljust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
    if len(table.rows) > _N_ROWS:
        lines.append(f"... the first {_N_ROWS} of {len(table.rows)}, {table.order}")
    return [line.rstrip() for line in lines]


def _shorten(name: str) -> str:
    return name if len(name) <= _NAME_WIDTH else f"{name[: _NAME_WIDTH - 3]}..."


def _format_html(assessment: Assessment) -> str:
    """The content of the text, with all rows of the tables."""
    tables = [_html_table("Batches", _batches_table(assessment), notes=[_LEGEND] if len(assessment.effects) else [])]
    if len(assessment.effects):
        groups = "group of cells" if assessment.label_key is None else "label"
        tables.insert(0, _html_table(f"Batch effect in each {groups}", _effects_table(assessment)))
    if len(assessment.association):
        tables.append(_html_table("Covariates and the batch", _association_table(assessment)))
    title = f"Verdict: {assessment.verdict} - {headline(assessment)}"
    return render_html(tables, title=title, sentences=assessment.reasons)


def _html_table(caption: str, table: _Table, notes: Sequence[str] = ()) -> HtmlTable:
    return HtmlTable(caption, table.headings, table.rows, notes=notes)
