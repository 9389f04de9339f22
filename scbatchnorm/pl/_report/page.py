"""The page: everything that was found, as one HTML file that needs nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from scbatchnorm.metrics._catalogue import TOTAL
from scbatchnorm.pl._report import figures as _pictures
from scbatchnorm.pl._report import methods_text as _methods
from scbatchnorm.pl._report import notices as _notices
from scbatchnorm.pl._report import tables as _tables
from scbatchnorm.pp._assessment.text import headline

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scbatchnorm.pl._report.compute import Findings
    from scbatchnorm.pl._report.figures import Picture
    from scbatchnorm.pl._report.inputs import Subject
    from scbatchnorm.pl._report.tables import Table

_HERE = Path(__file__).parent
_NEEDED = {"none": "no", "correct": "yes", "confounded": "it cannot be told"}


@dataclass(frozen=True)
class Answer:
    """A question that every reader has, the answer in a word or two, and why."""

    question: str
    answer: str
    why: str


@dataclass(frozen=True)
class Section:
    """A heading with what stands under it."""

    anchor: str
    title: str
    sentences: list[str]
    pictures: list[Picture]
    tables: list[Table]
    small: bool = False  # pictures side by side


def html(
    subject: Subject, findings: Findings, drawn: _pictures.Drawn, *, path_name: str, options: Mapping[str, object]
) -> str:
    """The whole page, made by `pl.report` with these `options`."""
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    context: dict[str, Any] = {
        "title": options.get("title") or f"Integration of {subject.adata.n_obs:,} cells by {subject.batch_name}",
        "facts": _facts(subject),
        "answers": _answers(subject, findings),
        "notices": _notices.of(subject, findings),
        "sections": [it for it in _sections(subject, findings, drawn) if it.sentences or it.pictures or it.tables],
        "paragraph": _methods.paragraph(subject, findings),
        "call": _methods.call(subject, path_name, options),
        "references": _methods.REFERENCES,
        "version": version("scbatchnorm"),
        # Files of the package, not of the user.
        "style": Markup((_HERE / "style.css").read_text(encoding="utf-8")),
        "script": Markup((_HERE / "script.js").read_text(encoding="utf-8")),
    }
    return environment.get_template("template.html").render(context)


def _facts(subject: Subject) -> list[str]:
    adata = subject.adata
    n_batches = len(subject.batches)
    facts = [
        f"{adata.n_obs:,} cells, {adata.n_vars:,} genes",
        f"{n_batches} batch{'es' if n_batches > 1 else ''} ({subject.batch_name})",
        f"embedding {subject.integrated}",
    ]
    if subject.label_key is not None:
        facts.append(f"{adata.obs[subject.label_key].nunique()} cell types ({subject.label_key})")
    return [*facts, datetime.now().astimezone().strftime("%d %B %Y").lstrip("0")]


def _answers(subject: Subject, findings: Findings) -> list[Answer]:
    found = findings.assessment
    strength = _notices.applied(subject)
    answers = [Answer("Was a correction needed?", _NEEDED[found.verdict], _sentence(headline(found)))]
    if subject.record is None or strength is None:
        answers.append(Answer("How much was corrected?", "not known", "Another tool made the embedding."))
    else:
        word = "nothing" if strength == 0 else f"{100 * strength:.0f} %"
        answers.append(Answer("How much was corrected?", word, _sentence(subject.record["strength"]["reason"])))
    diagnosis = findings.diagnosis
    harm = "not looked at" if diagnosis is None else diagnosis.verdict
    why = findings.undiagnosed if diagnosis is None else diagnosis.reasons[0]
    answers.append(Answer("Did it go too far?", harm, why))
    return [*answers, _quality(subject, findings)]


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:].rstrip('.')}."


def _quality(subject: Subject, findings: Findings) -> Answer:
    table = findings.scores
    name, what = (TOTAL, "total of scIB") if TOTAL in table else ("iLISI", "mixing of batches (iLISI)")
    after, before = table.loc[subject.integrated], table[table["kind"] == "unintegrated"].iloc[0]
    span = f"95 % interval {after[f'{name} low']:.2f} to {after[f'{name} high']:.2f}"
    return Answer(
        "How good is it?", f"{before[name]:.2f} → {after[name]:.2f}", f"The {what}, before and after; {span}."
    )


def _sections(subject: Subject, findings: Findings, drawn: _pictures.Drawn) -> list[Section]:
    """What is shown, in the order of questions."""
    diagnosis = findings.diagnosis
    harm = [findings.undiagnosed] if diagnosis is None else [f"Verdict: {diagnosis.verdict}.", *diagnosis.reasons]
    seen = _seen(subject, drawn)
    return [
        Section(
            "need", "Was a correction needed?", list(findings.assessment.reasons), [], _tables.effects(findings)
        ),
        Section("done", "What was done", _done(subject), _pictures.draw_training(subject),
                [*_tables.parameters(subject, _methods.defaults()), *_tables.versions(subject)]),
        Section("cells", "The cells before and after", seen, _pictures.before_and_after(subject, drawn), []),
        Section("apart", "Each batch by itself, after the integration",
                ["Where a batch has no cells that others have, it may lack a type, or stand apart."],
                _pictures.batches_apart(subject, drawn), [], small=True),
        Section("composition", "Which batch holds what", [], _pictures.draw_composition(subject), _tables.composition(subject)),
        Section("scores", "How good is it?", [_HOW_TO_READ], [],
                [_tables.scores(subject, findings), *_tables.by_label(subject, findings)]),
        Section("changed", "What changed", harm, _pictures.draw_change(subject, findings, drawn), _tables.changes(findings)),
    ]  # fmt: skip


_HOW_TO_READ = (
    "Read mixing and conservation together: mixing alone is easy to raise by destroying what differs. The last columns are "
    "controls on the same cells: what they scored before the integration, and what batches dealt out at random within each "
    "cell type would score. Differences within the intervals are ties; intervals hold the sampling of cells, not that of "
    "donors, nor another seed."
)


def _done(subject: Subject) -> list[str]:
    record = subject.record
    if record is None:
        return [f"The embedding {subject.integrated} was made by another tool, which left no record."]
    strength = record["strength"]
    seed = record["params"]["rng"]
    return [
        f"pp.integrate of scbatchnorm {record['versions']['scbatchnorm']}, from {_methods.input_words(subject)}"
        f"{'' if seed is None else f', seed {seed}'}.",
        f"Strength of the correction: {strength['value']:.2f} of 1, {strength['reason']}.",
        f"Training: {record['stopped']}.",
        f"Fingerprint of the model: {record['fingerprint']}",
    ]


def _seen(subject: Subject, drawn: _pictures.Drawn) -> list[str]:
    words = [
        "Distances in a UMAP mean little: what lies together is alike, how far apart the rest is says nothing. "
        "Numbers name the cell types where their cells are."
    ]
    if drawn.adata.n_obs < subject.adata.n_obs:
        words.append(f"A random sample of {drawn.adata.n_obs:,} of {subject.adata.n_obs:,} cells is drawn.")
    return words
