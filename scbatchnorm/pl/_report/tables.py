"""Tables of a report, with text to read and values to sort by."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scbatchnorm.metrics._catalogue import AGGREGATES, BATCH, BIO, CATALOGUE, TOTAL
from scbatchnorm.pl._report.notices import find_shuffled_row

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from scbatchnorm.pl._report.compute import Findings
    from scbatchnorm.pl._report.inputs import Integration

# Rows of a table, and of the table of genes; all rows are in the AnnData.
_MAX_ROWS, _MAX_GENES = 200, 50
# The question that each metric answers, in the words of the documentation.
_QUESTIONS = {
    "Isolated labels": "Are types that few batches have still apart from the others?",
    "KMeans NMI": "Do clusters say which type a cell is (mutual information)?",
    "KMeans ARI": "Do clusters say which type a cell is (pairs of cells)?",
    "Silhouette label": "Are cells nearer to their type than to the next one?",
    "cLISI": "Do neighbours have the same type?",
    "kNN preservation": "Which neighbours within its batch does a cell keep? Needs no types.",
    "BRAS": "Within a type, are batches where the other batches are?",
    "iLISI": "How many batches are among the neighbours?",
    "kBET": "Are batches among the neighbours in the shares of their type?",
    "Graph connectivity": "Does each type hang together?",
    "PCR comparison": "How much of the variance that batches explained is gone?",
    "CiLISI": "As iLISI, among cells of the same type.",
    BATCH: "Mean of the five of scIB",
    BIO: "Mean of the five of scIB",
    TOTAL: "0.4 batch correction + 0.6 bio conservation",
}


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its text, the value to sort by, and the length of a bar from 0 to 1 if it has one."""

    text: str
    value: str | float
    bar: float | None = None


@dataclass(frozen=True)
class Table:
    """A table: its headings, which columns are numeric, and its rows, which begin with a name."""

    caption: str
    headings: list[str]
    numeric: list[bool]
    rows: list[list[Cell]]
    left_out: int = 0
    emphasised: tuple[str, ...] = ()  # names of rows in bold
    folded: bool = False  # closed until the reader opens it


def _text_cell(value: object) -> Cell:
    return Cell(str(value), str(value))


def _number_cell(form: str) -> Callable[[Any], Cell]:
    def cell(value: Any) -> Cell:
        known = value is not None and not (isinstance(value, float) and math.isnan(value))
        return Cell(form.format(value), float(value)) if known else Cell("–", "")

    return cell


def _percent_cell(value: Any) -> Cell:
    cell = _number_cell("{:.0f} %")(100 * value)
    return Cell(cell.text, cell.value if cell.value == "" else float(value))


_count_cell, _two_digits_cell, _p_value_cell = _number_cell("{:,.0f}"), _number_cell("{:.2f}"), _number_cell("{:.2g}")


def _make_table(
    caption: str,
    frame: pd.DataFrame,
    name: str,
    columns: Mapping[str, tuple[str, Callable[[Any], Cell]]],
    *,
    folded: bool = False,
    max_rows: int = _MAX_ROWS,
) -> Table:
    """Table of the index of `frame`, headed `name`, and some of its columns: column -> heading, and how a value becomes a cell."""
    shown = frame.head(max_rows)
    # Columns without any text, such as a kind of finding that no row has, are left out.
    columns = {
        column: (title, cell)
        for column, (title, cell) in columns.items()
        if any(cell(value).text for value in shown[column])
    }
    rows = [
        [_text_cell(index), *(cell(row[column]) for column, (_, cell) in columns.items())]
        for index, row in shown.iterrows()
    ]
    headings = [name, *(title for title, _ in columns.values())]
    numeric = [False, *(cell not in {_text_cell, _flag_cell} for _, cell in columns.values())]
    return Table(caption, headings, numeric, rows, len(frame) - len(shown), folded=folded)


def assessment_tables(findings: Findings) -> list[Table]:
    """Results of `pp.assess` by group, by batch and by covariate."""
    assessment = findings.assessment
    tables = []
    if len(assessment.effects):
        columns = {
            "cells": ("cells", _count_cell), "batches": ("batches", _count_cell), "effect": ("effect", _percent_cell),
            "chance": ("by chance up to", _percent_cell), "p_adjusted": ("p, adjusted", _p_value_cell),
        }  # fmt: skip
        word = assessment.label_key or "cluster"
        frame = assessment.effects.sort_values("effect", ascending=False)
        tables.append(
            _make_table("Share of the variance within a group that lies between batches", frame, word, columns)
        )
    columns = {
        "cells": ("cells", _count_cell), "shared": ("with counterparts", _percent_cell),
        "effect": ("effect against the others", _percent_cell), "p_adjusted": ("p, adjusted", _p_value_cell),
    }  # fmt: skip
    tables.append(_make_table("Batches", assessment.batches, assessment.batch_key, columns))
    if len(assessment.association):
        columns = {
            "levels": ("levels", _count_cell), "measure": ("measure", _text_cell), "value": ("value", _two_digits_cell), "status": ("status", _text_cell),
        }  # fmt: skip
        tables.append(_make_table("Covariates and the batch", assessment.association, "covariate", columns))
    return tables


def composition_tables(integration: Integration) -> list[Table]:
    """Number of cells of each type in each batch."""
    if integration.label_key is None or integration.label_key == integration.batch_column:
        return []
    obs = integration.adata.obs
    labels = obs[integration.label_key].astype(object).where(obs[integration.label_key].notna(), "no value").astype(str)
    counts = pd.crosstab(labels, obs[integration.batch_column].astype(str))
    columns = {str(name): (str(name), _count_cell) for name in counts.columns}
    return [
        _make_table("Cells of each type in each batch, as numbers", counts, integration.label_key, columns, folded=True)
    ]


def scores_table(integration: Integration, findings: Findings) -> Table:
    """Metrics as rows, representations as columns: the integrated one first, controls last."""
    table = findings.scores
    shuffled = find_shuffled_row(table, integration.integrated)
    named = {str(name): row for name, row in table.iterrows()}
    rows = {rep: named[rep] for rep in (integration.integrated, *integration.compared)}
    rows |= {f"{name} (not integrated)": row for name, row in table[table["kind"] == "unintegrated"].iterrows()}
    rows |= {} if shuffled is None else {"if mixed perfectly": shuffled}
    titles = [title for title in (*reversed(AGGREGATES), *(metric.title for metric in CATALOGUE)) if title in table]
    kinds = {metric.title: "conservation" if metric.about == "bio" else "mixing" for metric in CATALOGUE}
    cells = [
        [
            _text_cell(title),
            _text_cell(kinds.get(title, "mean")),
            *(_score_cell(row, title) for row in rows.values()),
            _text_cell(_QUESTIONS[title]),
        ]
        for title in titles
    ]
    headings = ["score", "of", *rows, "what it asks"]
    caption = "Scores: 0 is worst, 1 is best; ± reaches to the farther end of the 95 % interval"
    return Table(caption, headings, [False, False, *([True] * len(rows)), False], cells, emphasised=AGGREGATES)


def _score_cell(row: pd.Series, title: str) -> Cell:
    value = float(row[title])
    if math.isnan(value):
        return Cell("–", "")
    spread = max(value - float(row.get(f"{title} low", np.nan)), float(row.get(f"{title} high", np.nan)) - value)
    text = f"{value:.3f}" if math.isnan(spread) else f"{value:.3f} ± {spread:.3f}"
    return Cell(text, value, min(max(value, 0.0), 1.0))


def label_tables(integration: Integration, findings: Findings) -> list[Table]:
    """Scores of each type after the integration."""
    if findings.by_label is None:
        return []
    frame = pd.DataFrame(findings.by_label.xs(integration.integrated))
    titles = [metric.title for metric in CATALOGUE if metric.title in frame and frame[metric.title].notna().any()]
    columns = {
        "cells": ("cells", _count_cell),
        "batches": ("batches", _count_cell),
        **{title: (title, _two_digits_cell) for title in titles},
    }
    return [_make_table("Scores of each type after the integration", frame, str(integration.label_key), columns)]


def diagnosis_tables(findings: Findings) -> list[Table]:
    """Results of `tl.diagnose`: states, control genes, and the genes with the largest changes."""
    diagnosis = findings.diagnosis
    if diagnosis is None:
        return []
    columns = {
        "n_cells": ("cells", _count_cell), "markers": ("markers", _text_cell), "kept": ("neighbours kept", _percent_cell),
        "kept_again": ("a second measurement keeps", _percent_cell), "merged_with": ("merged with", _text_cell),
        "pulled_onto": ("pulled onto", _text_cell), "split": ("split", _flag_cell), "lost": ("lost", _flag_cell),
    }  # fmt: skip
    tables = [
        _make_table(
            "States: clusters within a batch that noise leaves apart", diagnosis.states, "batch: state", columns
        )
    ]
    if len(diagnosis.control_genes):
        columns = {
            "signal_before": ("signal before", _two_digits_cell), "signal_after": ("after", _two_digits_cell),
            "variance_lost": ("variance lost", _percent_cell), "flagged": ("flagged", _flag_cell),
        }  # fmt: skip
        tables.append(_make_table("Control genes", diagnosis.control_genes, "gene", columns))
    if len(diagnosis.changes):
        frame = diagnosis.changes.set_index("gene")
        frame = frame.iloc[np.argsort(-frame["beyond"].abs().to_numpy(), kind="stable")]
        columns = {
            "state": ("state", _text_cell), "shift": ("shift", _two_digits_cell), "shift_of_batch": ("of its batch", _two_digits_cell), "beyond": ("beyond it", _two_digits_cell),
        }  # fmt: skip
        tables.append(
            _make_table(
                "Genes that moved most, log-normalised units", frame, "gene", columns, folded=True, max_rows=_MAX_GENES
            )
        )
    return tables


def _flag_cell(value: object) -> Cell:
    return Cell("yes" if value else "", "1" if value else "0")


def parameter_tables(integration: Integration, defaults: Mapping[str, Any]) -> list[Table]:
    """Parameters of the model and their defaults."""
    if integration.record is None:
        return []
    rows = []
    for name, value in sorted(integration.record["params"].items()):
        default = defaults.get(name)
        is_changed = value != default and name != "progress"
        rows.append([_text_cell(name), _text_cell(value), _text_cell(default), _flag_cell(is_changed)])
    return [
        Table("Parameters of the model", ["parameter", "value", "default", "changed"], [False] * 4, rows, folded=True)
    ]


def version_tables(integration: Integration) -> list[Table]:
    """Versions of packages at the integration."""
    if integration.record is None:
        return []
    rows = [[_text_cell(name), _text_cell(value)] for name, value in sorted(integration.record["versions"].items())]
    return [Table("Versions at the integration", ["package", "version"], [False, False], rows, folded=True)]
