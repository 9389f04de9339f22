"""A diagnosis as HTML, for notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scbatchnorm._runtime.html_repr import HtmlTable, render_html

if TYPE_CHECKING:
    import pandas as pd

    from scbatchnorm.tl._diagnosis.result import Diagnosis


def of(diagnosis: Diagnosis) -> str:
    """Verdict, reasons, and the states, those with a finding first; control genes that were asked for."""
    tables = [_states_table(diagnosis.states)]
    if len(diagnosis.control_genes):
        tables.append(_control_genes_table(diagnosis.control_genes))
    return render_html(tables, title=f"Verdict: {diagnosis.verdict}", sentences=diagnosis.reasons)


_LEGEND = (
    "kept: share of the nearest neighbours in the batch that are kept after integration; again: that a second "
    "measurement of the same cells would keep."
)


def _states_table(table: pd.DataFrame) -> HtmlTable:
    findings = [_finding(row) for _, row in table.iterrows()]
    order = np.argsort([not finding for finding in findings], kind="stable")
    rows = []
    for place in order:
        row = table.iloc[place]
        numbers = [f"{row['n_cells']:,}", _share(row["kept"]), _share(row["kept_again"])]
        rows.append([str(row["batch"]), str(row["state"]), findings[place] or "none", *numbers])
    headings = ["batch", "state", "finding", "cells", "kept", "again"]
    found = sum(map(bool, findings))
    caption = f"States: {found} of {len(table)} with a finding"
    return HtmlTable(caption, headings, rows, n_names=3, notes=[_LEGEND])


def _finding(row: pd.Series) -> str:
    """What happened to a state, in words; empty if nothing did."""
    found = [f"merged with {row['merged_with']}"] if row["merged_with"] else []
    found += [f"pulled onto {row['pulled_onto']}"] if row["pulled_onto"] else []
    found += ["split"] if row["split"] else []
    found += ["lost its neighbourhoods"] if row["lost"] else []
    return ", ".join(found)


def _control_genes_table(table: pd.DataFrame) -> HtmlTable:
    """Control genes, those that lost their signal first."""
    table = table.sort_values("flagged", ascending=False, kind="stable")
    rows = [
        [
            str(name),
            "signal lost" if row["flagged"] else "none",
            *(_number(row[column]) for column in ("signal_before", "signal_again", "signal_after")),
        ]
        for name, row in table.iterrows()
    ]
    headings = ["gene", "finding", "signal before", "again", "after"]
    return HtmlTable("Control genes", headings, rows, n_names=2)


def _share(value: float) -> str:
    return "-" if np.isnan(value) else f"{100 * value:.0f} %"


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.2f}"
