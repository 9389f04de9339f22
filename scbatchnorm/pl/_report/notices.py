"""Notices at the top of a report: warnings, and notes on what was not examined."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Literal

from scbatchnorm._data.checks import join_names
from scbatchnorm.metrics._catalogue import BIO, TOTAL

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from scbatchnorm.pl._report.compute import Findings
    from scbatchnorm.pl._report.inputs import Integration

# Batches with fewer cells get a warning.
_FEW_CELLS = 50
# Scores of mixing that are compared with those of shuffled batches.
_MIXING = ("iLISI", "CiLISI", "kBET")
_STOPPED = {
    "interrupted": "Training was interrupted before its end; the weights are those of that moment.",
    "diverged": "Training diverged; the weights are the last ones that were finite. Integrate again with a lower learning_rate.",
}


@dataclass(frozen=True)
class Notice:
    """One or two sentences; a warning asks the reader for action."""

    level: Literal["warning", "note"]
    text: str


def collect_notices(integration: Integration, findings: Findings) -> list[Notice]:
    """All notices on an integration, warnings first."""
    warnings = [
        *_warn_of_assessment(integration, findings),
        *_warn_of_diagnosis(findings),
        *_warn_of_training(integration),
        *_warn_of_scores(integration, findings.scores),
        *_warn_of_small_batches(integration),
    ]
    notes = [*_note_missing_parts(integration, findings), *_note_versions(integration)]
    return [*(Notice("warning", text) for text in warnings), *(Notice("note", text) for text in notes)]


def applied_strength(integration: Integration) -> float | None:
    """Strength of the correction; `None` if another tool made the embedding."""
    return None if integration.record is None else float(integration.record["strength"]["value"])


def _warn_of_assessment(integration: Integration, findings: Findings) -> Iterator[str]:
    verdict, reasons = findings.assessment.verdict, findings.assessment.reasons
    strength = applied_strength(integration)
    if verdict == "confounded":
        yield f"The batch cannot be told from something else: {reasons[0]}"
    if verdict == "none" and strength != 0:
        how = "" if strength is None else f" with strength {strength:.2f}"
        yield f"Batches were corrected{how}, although the uncorrected data show no need: {reasons[0]}"
    if verdict == "correct" and strength == 0:
        yield f"Nothing was corrected, although batches differ: {integration.record['strength']['reason'] if integration.record else ''}."


def _warn_of_diagnosis(findings: Findings) -> Iterator[str]:
    diagnosis = findings.diagnosis
    if diagnosis is not None and diagnosis.flagged:
        yield f"The integration changed what it should not have: {diagnosis.verdict}. {diagnosis.reasons[0]}"


def _warn_of_training(integration: Integration) -> Iterator[str]:
    stopped = "" if integration.record is None else str(integration.record["stopped"])
    if stopped in _STOPPED:
        yield _STOPPED[stopped]


def _warn_of_scores(integration: Integration, scores: pd.DataFrame) -> Iterator[str]:
    """Scores that differ from those of the controls by more than their confidence intervals."""
    after = scores.loc[integration.integrated]
    before = scores[scores["kind"] == "unintegrated"]
    for title in (BIO, TOTAL):
        if title in scores and len(before):
            control = before.iloc[0]
            if after[f"{title} high"] < control[f"{title} low"]:
                yield f"{title} fell from {control[title]:.2f} before the integration to {after[title]:.2f} after it."
    shuffled = find_shuffled_row(scores, integration.integrated)
    if shuffled is None:
        return
    above = [
        f"{title} {after[title]:.2f} against {shuffled[title]:.2f}"
        for title in _MIXING
        if title in scores and after[f"{title} low"] > shuffled[f"{title} high"]
    ]
    if above:
        yield (
            f"Batches are mixed more than the same cells with batches dealt out at random would be ({', '.join(above)}): "
            "what differs between batches for good reason was evened out, too."
        )


def find_shuffled_row(scores: pd.DataFrame, rep: str) -> pd.Series | None:
    """Row of `scores` for the representation `rep` with shuffled batches; `None` if there is none."""
    for name, row in scores[scores["kind"] == "shuffled"].iterrows():
        if str(name).startswith(f"{rep}, "):
            return row
    return None


def _warn_of_small_batches(integration: Integration) -> Iterator[str]:
    small = integration.batches[integration.batches < _FEW_CELLS]
    if len(small):
        listed = join_names([f"{name} ({n})" for name, n in small.items()])
        yield f"Batches of fewer than {_FEW_CELLS} cells are aligned by few anchors: {listed}."


def _note_missing_parts(integration: Integration, findings: Findings) -> Iterator[str]:
    if findings.undiagnosed:
        yield findings.undiagnosed
    if integration.label_key is None:
        yield (
            "No cell types were given (label_key): scores are those that need none, and clusters stand for types. "
            "Whether types were conserved was not scored."
        )
    elif missing := int(integration.adata.obs[integration.label_key].isna().sum()):
        yield f"{missing:,} of {integration.adata.n_obs:,} cells have no value in {integration.label_key!r}; scores leave them out."
    notes = findings.scores["notes"].loc[integration.integrated]
    if isinstance(notes, str) and notes:
        yield f"Scores: {notes}."


def _note_versions(integration: Integration) -> Iterator[str]:
    if integration.record is None:
        yield "The embedding was made by another tool; how is not recorded, so it is not in this report."
        return
    made_by, here = str(integration.record["versions"]["scbatchnorm"]), version("scbatchnorm")
    if made_by != here:
        yield f"The integration was made with scbatchnorm {made_by}, this report with {here}."
    if integration.record["params"]["rng"] is None:
        yield "The integration was made without a seed (rng), so its embedding cannot be made again to the bit."
