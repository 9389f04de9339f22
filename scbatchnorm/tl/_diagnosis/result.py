"""The result of a diagnosis: tables with names, verdict, reasons, text and HTML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scbatchnorm._runtime.html_repr import HtmlTable, render_html

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scbatchnorm._data.types import Floats
    from scbatchnorm.tl._diagnosis.findings import Findings
    from scbatchnorm.tl._diagnosis.states import States

NOTHING = "nothing found"

# Findings of one kind that are written out.
_MAX_SENTENCES = 8
_LEGEND = (
    "kept: share of the nearest neighbours in the batch that are kept after integration; again: that a second "
    "measurement of the same cells would keep."
)


@dataclass(frozen=True, repr=False, eq=False)
class Diagnosis:
    """What integration changed, and whether that went too far; prints as text, in notebooks as HTML.

    Every table is in `adata.uns` as well. Overlap is 0 where a linear classifier misclassifies no cell of two states,
    and 1 where it does no better than chance.

    Attributes
    ----------
    verdict
        `"nothing found"`, or how many findings of which kind.
    reasons
        What was examined and what was found, in sentences.
    states
        One row a state: `batch`, `state`, `label`, `markers`, `n_cells`, `kept` and `kept_again` (share of the
        nearest neighbours in the batch that are kept, and that a second measurement would keep), `displacement` and
        `displacement_own` (mean; units of principal component scores; nan without a model of this package),
        `merged_with`, `pulled_onto`, `split`, `lost`.
    merged
        One row for every two states of a batch: overlap `before`, `again` (after a second measurement) and `after`,
        `excess` (share of the way from the overlap by noise to complete overlap), and whether they count as `merged`.
    private
        One row for every two states of different batches that are together after integration: `together_before`,
        `together` (0 to 1), `support` and `distance` with the values usual for other such pairs of these batches, and
        whether one was `pulled` onto the other.
    changes
        Genes that moved most in each state, beyond its batch: `state`, `gene`, `shift`, `shift_of_batch`, `beyond`;
        log-normalised units.
    control_genes
        One row a gene: `signal_before`, `signal_again`, `signal_after`, `variance_lost`, `largest_shift`, `flagged`.
    calibration
        With `calibrate`, one row for each batch that was split at random: what the same integration does where
        there is nothing to correct.
    """

    verdict: str
    reasons: tuple[str, ...]
    states: pd.DataFrame
    merged: pd.DataFrame
    private: pd.DataFrame
    changes: pd.DataFrame
    control_genes: pd.DataFrame
    calibration: pd.DataFrame

    @property
    def flagged(self) -> bool:
        """Whether anything was found."""
        return self.verdict != NOTHING

    def __repr__(self) -> str:
        return "\n".join([f"verdict: {self.verdict}", *(f"- {reason}" for reason in self.reasons)])

    def _repr_html_(self) -> str:
        return _format_html(self)


def name_states(
    findings: Findings, batches: Sequence[str], labels: Sequence[str], markers: Sequence[str]
) -> pd.DataFrame:
    """Table of the states without findings, with unique names "batch: state"; `labels` and `markers` are of the states."""
    states = findings.states
    table = pd.DataFrame(
        {
            "batch": [str(batches[level]) for level in states.batch],
            "label": [str(label) for label in labels],
            "markers": list(markers),
            "n_cells": states.sizes,
        }
    )
    number = table.groupby("batch", sort=False).cumcount() + 1
    twin = table.groupby(["batch", "label"], sort=False).cumcount() + 1
    alone = table.groupby(["batch", "label"], sort=False)["n_cells"].transform("size") == 1
    table["state"] = [
        (label if one else f"{label} ({same})") if label else f"state {place}" + (f" ({genes})" if genes else "")
        for label, one, same, place, genes in zip(table["label"], alone, twin, number, table["markers"], strict=True)
    ]
    table.index = pd.Index((table["batch"] + ": " + table["state"]).to_numpy(dtype=object), name="name")
    if not table.index.is_unique:  # a label is named like a state
        table.index = pd.Index([f"{name} #{place}" for place, name in enumerate(table.index)], name="name")
    return table[["batch", "state", "label", "markers", "n_cells"]]


def make_tables(findings: Findings, names: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """States, pairs of one batch and pairs of different batches, with names in place of numbers."""
    states, index = names.copy(), names.index.to_numpy()
    states["kept"], states["kept_again"] = (
        mean_by_state(each, findings.states) for each in (findings.kept, findings.kept_again)
    )
    merged, private = findings.pairs.copy(), findings.private.copy()
    for table in (merged, private):
        for column in ("first", "second"):
            table[column] = (
                index[table[column].to_numpy(dtype=int)].astype(str) if len(table) else table[column].astype(str)
            )
        table.index = pd.Index([str(place) for place in range(len(table))], dtype=object)
    states["merged_with"] = _join_partners(states.index, merged[merged["merged"]])
    states["pulled_onto"] = _join_partners(states.index, private[private["pulled"]])
    states["split"], states["lost"] = findings.split, findings.lost
    return states, merged, private


def mean_by_state(values: Floats, states: States) -> list[float]:
    """Mean over the cells of each state; nan where a cell has none."""
    return [float(np.mean(values[states.codes == number])) for number in range(states.n_states)]


def _join_partners(names: pd.Index, pairs: pd.DataFrame) -> list[str]:
    """For each state the names of those that it forms a pair with, joined with "; "."""
    partners: dict[str, list[str]] = {name: [] for name in names}
    for first, second in zip(pairs["first"], pairs["second"], strict=True):
        partners[first].append(second)
        partners[second].append(first)
    return ["; ".join(others) for others in partners.values()]


def decide_verdict(states: pd.DataFrame, merged: pd.DataFrame, private: pd.DataFrame, controls: pd.DataFrame) -> str:
    """Number of findings of each kind."""
    counts = (
        (int(merged["merged"].sum()), "pair of states merged", "pairs of states merged"),
        (int(private["pulled"].sum()), "private state pulled onto another", "private states pulled onto others"),
        (int(states["split"].sum()), "state split", "states split"),
        (int(states["lost"].sum()), "state lost its neighbourhoods", "states lost their neighbourhoods"),
        (int(controls["flagged"].sum()), "control gene lost its signal", "control genes lost their signal"),
    )
    return ", ".join(f"{n} {one if n == 1 else many}" for n, one, many in counts if n) or NOTHING


def explain_findings(states: pd.DataFrame, merged: pd.DataFrame, private: pd.DataFrame) -> list[str]:
    """What was examined and what was found, in sentences."""
    together = [_explain_merged(row, states) for _, row in merged[merged["merged"]].iterrows()]
    pieces = [f"{name} fell into pieces that were mingled before." for name in states.index[states["split"]]]
    pulled = [_explain_pulled(row) for _, row in private[private["pulled"]].iterrows()]
    lost = [_explain_lost(row) for _, row in states[states["lost"]].iterrows()]
    return [
        *(_limit(together, "merged pairs", "merged") or [_explain_no_merged(states, merged)]),
        *_limit(pulled, "pulled states", "private"),
        *_limit(pieces, "split states", "states"),
        *_limit(lost, "states that lost their neighbourhoods", "states"),
        *_explain_absent(states, private),
        _explain_kept(states),
    ]


def _limit(sentences: list[str], what: str, table: str) -> list[str]:
    more = len(sentences) - _MAX_SENTENCES
    return [
        *sentences[:_MAX_SENTENCES],
        *([f"... and {more} more {what}, in the table {table!r}."] if more > 0 else []),
    ]


def _name_pair(row: pd.Series, states: pd.DataFrame) -> tuple[str, str, str]:
    """Batch of two states, and their names in it."""
    first, second = states.loc[row["first"]], states.loc[row["second"]]
    return str(first["batch"]), str(first["state"]), str(second["state"])


def _explain_merged(row: pd.Series, states: pd.DataFrame) -> str:
    batch, first, second = _name_pair(row, states)
    return (
        f"In {batch}, {first} and {second} were put together: told apart with {_format_misclassified(row['before'])} of cells mistaken before "
        f"({_format_misclassified(row['again'])} if the cells were measured once more), and with {_format_misclassified(row['after'])} now; 50 % is guessing."
    )


def _explain_no_merged(states: pd.DataFrame, merged: pd.DataFrame) -> str:
    if not len(merged):
        return "No batch has two states that noise leaves apart, so none could be seen to merge."
    row = merged.iloc[0]
    batch, first, second = _name_pair(row, states)
    closest = f"the most, {first} and {second} in {batch}, went {max(row['excess'], 0):.0%} of the way to one state"
    return (
        f"No two states of a batch were put together ({len(merged):,} pairs looked at; {closest.replace('%', ' %')})."
    )


def _explain_pulled(row: pd.Series) -> str:
    return (
        f"{row['first']} and {row['second']} were put together, although hardly any of their cells have a counterpart in the other batch "
        f"({_format_share(row['support'])}; {_format_share(row['usual_support'])} for other states that were) and they are "
        f"{row['distance'] / row['usual_distance']:.1f} times as far apart as the furthest of these."
    )


def _explain_lost(row: pd.Series) -> str:
    return (
        f"{row.name} lost its neighbourhoods: its cells keep {_format_share(row['kept'])} of their nearest neighbours in the batch, where a second measurement "
        f"would keep {_format_share(row['kept_again'])}."
    )


def _explain_absent(states: pd.DataFrame, private: pd.DataFrame) -> list[str]:
    """One sentence about the kinds without a finding."""
    kinds = (
        ("no state fell into pieces", states["split"]),
        ("none without a counterpart in another batch was put onto one there", private["pulled"]),
        ("none lost its neighbourhoods", states["lost"]),
    )
    none = [text for text, flags in kinds if not flags.any()]
    return [f"{', '.join(none).capitalize()}."] if none else []


def _explain_kept(states: pd.DataFrame) -> str:
    known = states[states["kept"].notna()]
    if not len(known):
        return "No batch has the three cells that it takes to compare neighbourhoods."
    now, again = (
        _format_share(float(np.average(known[name], weights=known["n_cells"]))) for name in ("kept", "kept_again")
    )
    return (
        f"Cells keep {now} of their nearest neighbours in their batch; a second measurement of the same cells would "
        f"keep {again}."
    )


def _format_misclassified(overlap: float) -> str:
    """Overlap as the share of cells that are misclassified, at most half."""
    return _format_share(overlap / 2)


def _format_share(share: float) -> str:
    return "-" if np.isnan(share) else f"{100 * share:.0f} %"


def _format_html(diagnosis: Diagnosis) -> str:
    """Verdict, reasons, and the states, those with a finding first; control genes that were asked for."""
    tables = [_states_table(diagnosis.states)]
    if len(diagnosis.control_genes):
        tables.append(_control_genes_table(diagnosis.control_genes))
    return render_html(tables, title=f"Verdict: {diagnosis.verdict}", sentences=diagnosis.reasons)


def _states_table(table: pd.DataFrame) -> HtmlTable:
    findings = [_describe_finding(row) for _, row in table.iterrows()]
    order = np.argsort([not finding for finding in findings], kind="stable")
    rows = []
    for place in order:
        row = table.iloc[place]
        numbers = [f"{row['n_cells']:,}", _format_share(row["kept"]), _format_share(row["kept_again"])]
        rows.append([str(row["batch"]), str(row["state"]), findings[place] or "none", *numbers])
    headings = ["batch", "state", "finding", "cells", "kept", "again"]
    caption = f"States: {sum(map(bool, findings))} of {len(table)} with a finding"
    return HtmlTable(caption, headings, rows, n_names=3, notes=[_LEGEND])


def _describe_finding(row: pd.Series) -> str:
    """What happened to a state as text; empty if nothing did."""
    findings = [f"merged with {row['merged_with']}"] if row["merged_with"] else []
    findings += [f"pulled onto {row['pulled_onto']}"] if row["pulled_onto"] else []
    findings += ["split"] if row["split"] else []
    findings += ["lost its neighbourhoods"] if row["lost"] else []
    return ", ".join(findings)


def _control_genes_table(table: pd.DataFrame) -> HtmlTable:
    """Control genes, those that lost their signal first."""
    table = table.sort_values("flagged", ascending=False, kind="stable")
    rows = [
        [
            str(name),
            "signal lost" if row["flagged"] else "none",
            *(_format_number(row[column]) for column in ("signal_before", "signal_again", "signal_after")),
        ]
        for name, row in table.iterrows()
    ]
    headings = ["gene", "finding", "signal before", "again", "after"]
    return HtmlTable("Control genes", headings, rows, n_names=2)


def _format_number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.2f}"
