"""An assessment as HTML, for notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scbatchnorm._runtime import html_repr as _html
from scbatchnorm.pp._assessment import text as _text

if TYPE_CHECKING:
    from scbatchnorm.pp._assessment.result import Assessment


def of(assessment: Assessment) -> str:
    """Verdict, reasons and tables: what the text has, and the rows that it leaves out."""
    parts = [
        _html.heading(f"Verdict: {assessment.verdict} - {_text.headline(assessment)}"),
        _html.bullets(assessment.reasons),
    ]
    if len(assessment.effects):
        caption = (
            "Batch effect in each group of cells" if assessment.label_key is None else "Batch effect in each label"
        )
        parts.append(_drawn(_text.effects(assessment), caption))
    parts.append(_drawn(_text.batches(assessment), "Batches"))
    if len(assessment.effects):
        parts.append(_html.note(_text.LEGEND))
    if len(assessment.association):
        parts.append(_drawn(_text.association(assessment), "Covariates and the batch"))
    return _html.block(*parts)


def _drawn(table: _text.Table, caption: str) -> str:
    return _html.table(table.headings, table.rows, caption=caption)
