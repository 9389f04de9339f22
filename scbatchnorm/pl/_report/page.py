"""The report as one HTML page that contains its style, script and figures."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from scbatchnorm.metrics._catalogue import TOTAL
from scbatchnorm.pl._report.figures import (
    draw_batches,
    draw_before_and_after,
    draw_change,
    draw_composition,
    draw_training,
)
from scbatchnorm.pl._report.methods_text import (
    REFERENCES,
    default_parameters,
    describe_input,
    write_call,
    write_paragraph,
)
from scbatchnorm.pl._report.notices import applied_strength, collect_notices
from scbatchnorm.pl._report.tables import (
    assessment_tables,
    composition_tables,
    diagnosis_tables,
    label_tables,
    parameter_tables,
    scores_table,
    version_tables,
)
from scbatchnorm.pp._assessment.result import headline

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scbatchnorm.pl._report.compute import Findings
    from scbatchnorm.pl._report.figures import DrawnCells, Picture
    from scbatchnorm.pl._report.inputs import Integration
    from scbatchnorm.pl._report.tables import Table

_FOLDER = Path(__file__).parent
_NEEDED = {"none": "no", "correct": "yes", "confounded": "it cannot be told"}


@dataclass(frozen=True)
class Answer:
    """A question at the top of the page, its short answer, and the reason."""

    question: str
    answer: str
    why: str


@dataclass(frozen=True)
class Section:
    """A section of the page."""

    anchor: str
    title: str
    sentences: list[str]
    pictures: list[Picture]
    tables: list[Table]
    small: bool = False  # whether the pictures are small


def render_page(
    integration: Integration, findings: Findings, drawn: DrawnCells, *, path_name: str, options: Mapping[str, object]
) -> str:
    """Render the page; `options` are further arguments of `pl.report`, for the title and the call to repeat it."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    context: dict[str, Any] = {
        "title": options.get("title")
        or f"Integration of {integration.adata.n_obs:,} cells by {integration.batch_name}",
        "facts": _facts(integration),
        "answers": _answers(integration, findings),
        "notices": collect_notices(integration, findings),
        "sections": [
            section
            for section in _sections(integration, findings, drawn)
            if section.sentences or section.pictures or section.tables
        ],
        "paragraph": write_paragraph(integration, findings),
        "call": write_call(integration, path_name, options),
        "references": REFERENCES,
        "version": version("scbatchnorm"),
        # These are files of the package and need no escaping.
        "style": Markup((_FOLDER / "style.css").read_text(encoding="utf-8")),
        "script": Markup((_FOLDER / "script.js").read_text(encoding="utf-8")),
    }
    return environment.get_template("template.html").render(context)


def _facts(integration: Integration) -> list[str]:
    adata = integration.adata
    n_batches = len(integration.batches)
    facts = [
        f"{adata.n_obs:,} cells, {adata.n_vars:,} genes",
        f"{n_batches} batch{'es' if n_batches > 1 else ''} ({integration.batch_name})",
        f"embedding {integration.integrated}",
    ]
    if integration.label_key is not None:
        facts.append(f"{adata.obs[integration.label_key].nunique()} cell types ({integration.label_key})")
    return [*facts, datetime.now().astimezone().strftime("%d %B %Y").lstrip("0")]


def _answers(integration: Integration, findings: Findings) -> list[Answer]:
    assessment = findings.assessment
    strength = applied_strength(integration)
    answers = [Answer("Was a correction needed?", _NEEDED[assessment.verdict], _as_sentence(headline(assessment)))]
    if integration.record is None or strength is None:
        answers.append(Answer("How much was corrected?", "not known", "Another tool made the embedding."))
    else:
        word = "nothing" if strength == 0 else f"{100 * strength:.0f} %"
        answers.append(Answer("How much was corrected?", word, _as_sentence(integration.record["strength"]["reason"])))
    diagnosis = findings.diagnosis
    verdict = "not looked at" if diagnosis is None else diagnosis.verdict
    why = findings.undiagnosed if diagnosis is None else diagnosis.reasons[0]
    answers.append(Answer("Did it go too far?", verdict, why))
    return [*answers, _score_answer(integration, findings)]


def _as_sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:].rstrip('.')}."


def _score_answer(integration: Integration, findings: Findings) -> Answer:
    table = findings.scores
    name, what = (TOTAL, "total of scIB") if TOTAL in table else ("iLISI", "mixing of batches (iLISI)")
    after, before = table.loc[integration.integrated], table[table["kind"] == "unintegrated"].iloc[0]
    span = f"95 % interval {after[f'{name} low']:.2f} to {after[f'{name} high']:.2f}"
    return Answer(
        "How good is it?", f"{before[name]:.2f} → {after[name]:.2f}", f"The {what}, before and after; {span}."
    )


def _sections(integration: Integration, findings: Findings, drawn: DrawnCells) -> list[Section]:
    """Sections in the order of the questions."""
    diagnosis = findings.diagnosis
    reasons = [findings.undiagnosed] if diagnosis is None else [f"Verdict: {diagnosis.verdict}.", *diagnosis.reasons]
    drawing = _describe_drawing(integration, drawn)
    return [
        Section(
            "need", "Was a correction needed?", list(findings.assessment.reasons), [], assessment_tables(findings)
        ),
        Section("done", "What was done", _describe_integration(integration), draw_training(integration),
                [*parameter_tables(integration, default_parameters()), *version_tables(integration)]),
        Section("cells", "The cells before and after", drawing, draw_before_and_after(integration, drawn), []),
        Section("apart", "Each batch by itself, after the integration",
                ["Where a batch has no cells that others have, it may lack a type, or stand apart."],
                draw_batches(integration, drawn), [], small=True),
        Section("composition", "Which batch holds what", [], draw_composition(integration), composition_tables(integration)),
        Section("scores", "How good is it?", [_HOW_TO_READ], [],
                [scores_table(integration, findings), *label_tables(integration, findings)]),
        Section("changed", "What changed", reasons, draw_change(integration, findings, drawn), diagnosis_tables(findings)),
    ]  # fmt: skip


_HOW_TO_READ = (
    "Read mixing and conservation together: mixing alone is easy to raise by destroying what differs. The last columns are "
    "controls on the same cells: what they scored before the integration, and what batches dealt out at random within each "
    "cell type would score. Differences within the intervals are ties; intervals hold the sampling of cells, not that of "
    "donors, nor another seed."
)


def _describe_integration(integration: Integration) -> list[str]:
    record = integration.record
    if record is None:
        return [f"The embedding {integration.integrated} was made by another tool, which left no record."]
    strength = record["strength"]
    seed = record["params"]["rng"]
    return [
        f"pp.integrate of scbatchnorm {record['versions']['scbatchnorm']}, from {describe_input(integration)}"
        f"{'' if seed is None else f', seed {seed}'}.",
        f"Strength of the correction: {strength['value']:.2f} of 1, {strength['reason']}.",
        f"Training: {record['stopped']}.",
        f"Fingerprint of the model: {record['fingerprint']}",
    ]


def _describe_drawing(integration: Integration, drawn: DrawnCells) -> list[str]:
    words = [
        "Distances in a UMAP mean little: what lies together is alike, how far apart the rest is says nothing. "
        "Numbers name the cell types where their cells are."
    ]
    if drawn.adata.n_obs < integration.adata.n_obs:
        words.append(f"A random sample of {drawn.adata.n_obs:,} of {integration.adata.n_obs:,} cells is drawn.")
    return words
