"""What a reader must know first: warnings, and notes on what was not looked at."""

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
    from scbatchnorm.pl._report.inputs import Subject

# Cells of a batch below which what is said of it is of little weight.
_SMALL = 50
# Mixing of batches, that labels bound from above.
_MIXING = ("iLISI", "CiLISI", "kBET")
_STOPPED = {
    "interrupted": "Training was interrupted before its end; the weights are those of that moment.",
    "diverged": "Training diverged; the weights are the last ones that were finite. Integrate again with a lower learning_rate.",
}


@dataclass(frozen=True)
class Notice:
    """A sentence or two, and whether they ask for action."""

    level: Literal["warning", "note"]
    text: str


def of(subject: Subject, findings: Findings) -> list[Notice]:
    """All there are, warnings first."""
    warnings = [
        *_of_need(subject, findings),
        *_of_harm(findings),
        *_of_training(subject),
        *_of_scores(subject, findings.scores),
        *_of_batches(subject),
    ]
    notes = [*_of_what_is_missing(subject, findings), *_of_versions(subject)]
    return [*(Notice("warning", text) for text in warnings), *(Notice("note", text) for text in notes)]


def applied(subject: Subject) -> float | None:
    """Strength of the correction; `None` where another tool made it."""
    return None if subject.record is None else float(subject.record["strength"]["value"])


def _of_need(subject: Subject, findings: Findings) -> Iterator[str]:
    verdict, reasons = findings.assessment.verdict, findings.assessment.reasons
    strength = applied(subject)
    if verdict == "confounded":
        yield f"The batch cannot be told from something else: {reasons[0]}"
    if verdict == "none" and strength != 0:
        how = "" if strength is None else f" with strength {strength:.2f}"
        yield f"Batches were corrected{how}, although the uncorrected data show no need: {reasons[0]}"
    if verdict == "correct" and strength == 0:
        yield f"Nothing was corrected, although batches differ: {subject.record['strength']['reason'] if subject.record else ''}."


def _of_harm(findings: Findings) -> Iterator[str]:
    diagnosis = findings.diagnosis
    if diagnosis is not None and diagnosis.flagged:
        yield f"The integration changed what it should not have: {diagnosis.verdict}. {diagnosis.reasons[0]}"


def _of_training(subject: Subject) -> Iterator[str]:
    stopped = "" if subject.record is None else str(subject.record["stopped"])
    if stopped in _STOPPED:
        yield _STOPPED[stopped]


def _of_scores(subject: Subject, scores: pd.DataFrame) -> Iterator[str]:
    """Scores that are beyond those of the controls, by more than their intervals."""
    after = scores.loc[subject.integrated]
    before = scores[scores["kind"] == "unintegrated"]
    for title in (BIO, TOTAL):
        if title in scores and len(before):
            known = before.iloc[0]
            if after[f"{title} high"] < known[f"{title} low"]:
                yield f"{title} fell from {known[title]:.2f} before the integration to {after[title]:.2f} after it."
    shuffled = control(scores, subject.integrated)
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


def control(scores: pd.DataFrame, rep: str) -> pd.Series | None:
    """The row of `scores` with the batches of this representation shuffled."""
    for name, row in scores[scores["kind"] == "shuffled"].iterrows():
        if str(name).startswith(f"{rep}, "):
            return row
    return None


def _of_batches(subject: Subject) -> Iterator[str]:
    small = subject.batches[subject.batches < _SMALL]
    if len(small):
        listed = join_names([f"{name} ({n})" for name, n in small.items()])
        yield f"Batches of fewer than {_SMALL} cells are aligned by few anchors: {listed}."


def _of_what_is_missing(subject: Subject, findings: Findings) -> Iterator[str]:
    if findings.undiagnosed:
        yield findings.undiagnosed
    if subject.label_key is None:
        yield (
            "No cell types were given (label_key): scores are those that need none, and clusters stand for types. "
            "Whether types were conserved was not scored."
        )
    elif missing := int(subject.adata.obs[subject.label_key].isna().sum()):
        yield f"{missing:,} of {subject.adata.n_obs:,} cells have no value in {subject.label_key!r}; scores leave them out."
    notes = findings.scores["notes"].loc[subject.integrated]
    if isinstance(notes, str) and notes:
        yield f"Scores: {notes}."


def _of_versions(subject: Subject) -> Iterator[str]:
    if subject.record is None:
        yield "The embedding was made by another tool; how is not recorded, so it is not in this report."
        return
    made_by, here = str(subject.record["versions"]["scbatchnorm"]), version("scbatchnorm")
    if made_by != here:
        yield f"The integration was made with scbatchnorm {made_by}, this report with {here}."
    if subject.record["params"]["rng"] is None:
        yield "The integration was made without a seed (rng), so its embedding cannot be made again to the bit."
