"""A diagnosis as HTML, for notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scbatchnorm._runtime import html_repr as _html

if TYPE_CHECKING:
    import pandas as pd

    from scbatchnorm.tl._diagnosis.result import Diagnosis


def of(diagnosis: Diagnosis) -> str:
    """Verdict, reasons, and the states, those with a finding first; control genes that were asked for."""
    parts = [_html.heading(f"Verdict: {diagnosis.verdict}"), _html.bullets(diagnosis.reasons)]
    parts.append(_states(diagnosis.states))
    if len(diagnosis.control_genes):
        parts.append(_genes(diagnosis.control_genes))
    return _html.block(*parts, _html.note(_LEGEND))


_LEGEND = (
    "kept: share of the nearest neighbours in the batch that are kept after integration; again: that a second "
    "measurement of the same cells would keep."
)


def _states(table: pd.DataFrame) -> str:
    findings = [_finding(row) for _, row in table.iterrows()]
    order = np.argsort([not finding for finding in findings], kind="stable")
    rows = []
    for place in order:
        row = table.iloc[place]
        numbers = [f"{row['n_cells']:,}", _share(row["kept"]), _share(row["kept_again"])]
        rows.append([str(row["batch"]), str(row["state"]), findings[place] or "none", *numbers])
    headings = ["batch", "state", "finding", "cells", "kept", "again"]
    found = sum(map(bool, findings))
    return _html.table(headings, rows, caption=f"States: {found} of {len(table)} with a finding", n_names=3)


def _finding(row: pd.Series) -> str:
    """What happened to a state, in words; empty if nothing did."""
    found = [f"merged with {row['merged_with']}"] if row["merged_with"] else []
    found += [f"pulled onto {row['pulled_onto']}"] if row["pulled_onto"] else []
    found += ["split"] if row["split"] else []
    found += ["lost its neighbourhoods"] if row["lost"] else []
    return ", ".join(found)


def _genes(table: pd.DataFrame) -> str:
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
    return _html.table(headings, rows, caption="Control genes", n_names=2)


def _share(value: float) -> str:
    return "-" if np.isnan(value) else f"{100 * value:.0f} %"


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.2f}"
