"""What was found, as tables with names and as sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scbatchnorm.tl._diagnosis import html as _html

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scbatchnorm._data.types import Floats
    from scbatchnorm.tl._diagnosis.findings import Findings
    from scbatchnorm.tl._diagnosis.states import States

# Findings of one kind that are written out.
_MOST_WRITTEN = 8
_PAIR = ("before", "again", "after", "excess")


@dataclass(frozen=True, repr=False, eq=False)
class Diagnosis:
    """What integration changed, and whether that went too far; prints as text, in notebooks as HTML.

    Every table is in `adata.uns` as well. Overlap is 0 where a linear rule never mistakes cells of one state for the
    other, and 1 where states are the same.

    Attributes
    ----------
    verdict
        `"nothing found"`, or how many findings of which kind.
    reasons
        What was looked at and what was found, in sentences.
    states
        One row a state: `batch`, `state`, `label`, `markers`, `n_cells`, `kept` and `kept_again` (share of the
        nearest neighbours in the batch that are kept, and that a second measurement would keep), `displacement` and
        `displacement_own` (mean; units of principal component scores; nan without a model of this package),
        `merged_with`, `pulled_onto`, `split`, `lost`.
    merged
        One row for every two states of a batch: overlap `before`, `again` (after a second measurement) and `after`,
        `excess` (share of the way from what noise does to complete overlap), and whether they count as `merged`.
    private
        One row for every two states of different batches that are together after integration: `together_before`,
        `together` (0 to 1), `support` and `distance` with what is usual for other such pairs of these batches, and
        whether one was `pulled` onto the other.
    changes
        Genes that moved most in each state, beyond its batch: `state`, `gene`, `shift`, `shift_of_batch`, `beyond`;
        log-normalised units.
    control_genes
        One row a gene: `signal_before`, `signal_again`, `signal_after`, `variance_lost`, `largest_shift`, `flagged`.
    calibration
        With `calibrate`, one row for each batch that was split at random: what the same integration does where
        nothing is to be done.
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
        return _html.of(self)


NOTHING = "nothing found"


def names_of(findings: Findings, batches: Sequence[str], labels: Sequence[str], markers: Sequence[str]) -> pd.DataFrame:
    """Table of the states without findings, its index "batch: state" unique; `labels` and `markers` are of states."""
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
    if not table.index.is_unique:  # a label called like a state
        table.index = pd.Index([f"{name} #{place}" for place, name in enumerate(table.index)], name="name")
    return table[["batch", "state", "label", "markers", "n_cells"]]


def tables(findings: Findings, names: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """States, pairs of states and private states, with names in place of numbers."""
    states, index = names.copy(), names.index.to_numpy()
    states["kept"], states["kept_again"] = (
        means(each, findings.states) for each in (findings.kept, findings.kept_again)
    )
    merged, private = findings.pairs.copy(), findings.private.copy()
    for table in (merged, private):
        for column in ("first", "second"):
            table[column] = (
                index[table[column].to_numpy(dtype=int)].astype(str) if len(table) else table[column].astype(str)
            )
        table.index = pd.Index([str(place) for place in range(len(table))], dtype=object)
    states["merged_with"] = _others(states.index, merged[merged["merged"]])
    states["pulled_onto"] = _others(states.index, private[private["pulled"]])
    states["split"], states["lost"] = findings.split, findings.lost
    return states, merged, private


def means(values: Floats, states: States) -> list[float]:
    """Mean over the cells of each state; nan where it is not defined for its cells."""
    inside = [values[states.codes == number] for number in range(states.n)]
    return [float(np.mean(cells)) for cells in inside]


def _others(names: pd.Index, pairs: pd.DataFrame) -> list[str]:
    """For each state those that it forms a pair with, in one str."""
    partners: dict[str, list[str]] = {name: [] for name in names}
    for first, second in zip(pairs["first"], pairs["second"], strict=True):
        partners[first].append(second)
        partners[second].append(first)
    return ["; ".join(found) for found in partners.values()]


def verdict(states: pd.DataFrame, merged: pd.DataFrame, private: pd.DataFrame, controls: pd.DataFrame) -> str:
    """Number of findings of each kind."""
    counts = (
        (int(merged["merged"].sum()), "pair of states merged", "pairs of states merged"),
        (int(private["pulled"].sum()), "private state pulled onto another", "private states pulled onto others"),
        (int(states["split"].sum()), "state split", "states split"),
        (int(states["lost"].sum()), "state lost its neighbourhoods", "states lost their neighbourhoods"),
        (int(controls["flagged"].sum()), "control gene lost its signal", "control genes lost their signal"),
    )
    return ", ".join(f"{n} {one if n == 1 else many}" for n, one, many in counts if n) or NOTHING


def reasons(states: pd.DataFrame, merged: pd.DataFrame, private: pd.DataFrame) -> list[str]:
    """What was looked at and what was found, in sentences."""
    together = [_merged(row, states) for _, row in merged[merged["merged"]].iterrows()]
    pieces = [f"{name} fell into pieces that were mingled before." for name in states.index[states["split"]]]
    pulled = [_pulled(row) for _, row in private[private["pulled"]].iterrows()]
    lost = [_lost(row) for _, row in states[states["lost"]].iterrows()]
    return [
        *(_limited(together, "merged pairs", "merged") or [_none_merged(states, merged)]),
        *_limited(pulled, "pulled states", "private"),
        *_limited(pieces, "split states", "states"),
        *_limited(lost, "states that lost their neighbourhoods", "states"),
        *_absent(states, private),
        _kept(states),
    ]


def _limited(sentences: list[str], what: str, table: str) -> list[str]:
    more = len(sentences) - _MOST_WRITTEN
    return [*sentences[:_MOST_WRITTEN], *([f"... and {more} more {what}, in the table {table!r}."] if more > 0 else [])]


def _pair(row: pd.Series, states: pd.DataFrame) -> tuple[str, str, str]:
    """Batch of two states, and their names in it."""
    first, second = states.loc[row["first"]], states.loc[row["second"]]
    return str(first["batch"]), str(first["state"]), str(second["state"])


def _merged(row: pd.Series, states: pd.DataFrame) -> str:
    batch, first, second = _pair(row, states)
    return (
        f"In {batch}, {first} and {second} were put together: told apart with {_wrong(row['before'])} of cells mistaken before "
        f"({_wrong(row['again'])} if the cells were measured once more), and with {_wrong(row['after'])} now; 50 % is guessing."
    )


def _none_merged(states: pd.DataFrame, merged: pd.DataFrame) -> str:
    if not len(merged):
        return "No batch has two states that noise leaves apart, so none could be seen to merge."
    row = merged.iloc[0]
    batch, first, second = _pair(row, states)
    closest = f"the most, {first} and {second} in {batch}, went {max(row['excess'], 0):.0%} of the way to one state"
    return (
        f"No two states of a batch were put together ({len(merged):,} pairs looked at; {closest.replace('%', ' %')})."
    )


def _pulled(row: pd.Series) -> str:
    return (
        f"{row['first']} and {row['second']} were put together, although hardly any of their cells have a counterpart in the other batch "
        f"({_percent(row['support'])}; {_percent(row['usual_support'])} for other states that were) and they are "
        f"{row['distance'] / row['usual_distance']:.1f} times as far apart as the furthest of these."
    )


def _lost(row: pd.Series) -> str:
    return (
        f"{row.name} lost its neighbourhoods: its cells keep {_percent(row['kept'])} of their nearest neighbours in the batch, where a second measurement "
        f"would keep {_percent(row['kept_again'])}."
    )


def _absent(states: pd.DataFrame, private: pd.DataFrame) -> list[str]:
    """One sentence for the kinds without a finding."""
    kinds = (
        ("no state fell into pieces", states["split"]),
        ("none without a counterpart in another batch was put onto one there", private["pulled"]),
        ("none lost its neighbourhoods", states["lost"]),
    )
    none = [text for text, found in kinds if not found.any()]
    return [f"{', '.join(none).capitalize()}."] if none else []


def _kept(states: pd.DataFrame) -> str:
    known = states[states["kept"].notna()]
    if not len(known):
        return "No batch has the three cells that it takes to compare neighbourhoods."
    now, again = (_percent(float(np.average(known[name], weights=known["n_cells"]))) for name in ("kept", "kept_again"))
    return (
        f"Cells keep {now} of their nearest neighbours in their batch; a second measurement of the same cells would "
        f"keep {again}."
    )


def _wrong(overlap: float) -> str:
    """Overlap as the share of cells mistaken, of which half is chance."""
    return _percent(overlap / 2)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
