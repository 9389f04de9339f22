"""Tables of a report: text for the reader, values to sort by."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scbatchnorm.metrics._catalogue import AGGREGATES, BATCH, BIO, CATALOGUE, TOTAL
from scbatchnorm.pl._report import notices as _notices

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from scbatchnorm.pl._report.compute import Findings
    from scbatchnorm.pl._report.inputs import Subject

# Rows of a table, and of that of genes; the rest is in the AnnData.
_MOST_ROWS, _MOST_GENES = 200, 50
# What each metric asks, in the words of this package's documentation.
_ASKS = {
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
    """What is read, what is sorted by, and the length of a bar from 0 to 1, if there is one."""

    text: str
    value: str | float
    bar: float | None = None


@dataclass(frozen=True)
class Table:
    """Headings, of which some are of numbers, and rows that begin with a name."""

    caption: str
    headings: list[str]
    numeric: list[bool]
    rows: list[list[Cell]]
    left_out: int = 0
    emphasised: tuple[str, ...] = ()  # names of rows
    folded: bool = False  # shown when asked for


def _name(value: object) -> Cell:
    return Cell(str(value), str(value))


def _number(form: str) -> Callable[[Any], Cell]:
    def cell(value: Any) -> Cell:
        known = value is not None and not (isinstance(value, float) and math.isnan(value))
        return Cell(form.format(value), float(value)) if known else Cell("–", "")

    return cell


def _share(value: Any) -> Cell:
    cell = _number("{:.0f} %")(100 * value)
    return Cell(cell.text, cell.value if cell.value == "" else float(value))


_COUNT, _TWO, _P = _number("{:,.0f}"), _number("{:.2f}"), _number("{:.2g}")


def _of(
    caption: str,
    frame: pd.DataFrame,
    name: str,
    columns: Mapping[str, tuple[str, Callable[[Any], Cell]]],
    *,
    folded: bool = False,
    most: int = _MOST_ROWS,
) -> Table:
    """A table of some columns of `frame`, its index first."""
    shown = frame.head(most)
    # What holds for nothing here, such as findings of a kind, gets no column.
    columns = {name: it for name, it in columns.items() if any(it[1](value).text for value in shown[name])}
    rows = [
        [_name(index), *(cell(row[column]) for column, (_, cell) in columns.items())] for index, row in shown.iterrows()
    ]
    headings = [name, *(title for title, _ in columns.values())]
    numeric = [False, *(cell not in {_name, _flag} for _, cell in columns.values())]
    return Table(caption, headings, numeric, rows, len(frame) - len(shown), folded=folded)


def effects(findings: Findings) -> list[Table]:
    """What `pp.assess` found by group, by batch and by covariate."""
    found = findings.assessment
    tables = []
    if len(found.effects):
        columns = {
            "cells": ("cells", _COUNT), "batches": ("batches", _COUNT), "effect": ("effect", _share),
            "chance": ("by chance up to", _share), "p_adjusted": ("p, adjusted", _P),
        }  # fmt: skip
        word = found.label_key or "cluster"
        frame = found.effects.sort_values("effect", ascending=False)
        tables.append(_of("Share of the variance within a group that lies between batches", frame, word, columns))
    columns = {
        "cells": ("cells", _COUNT), "shared": ("with counterparts", _share),
        "effect": ("effect against the others", _share), "p_adjusted": ("p, adjusted", _P),
    }  # fmt: skip
    tables.append(_of("Batches", found.batches, found.batch_key, columns))
    if len(found.association):
        columns = {
            "levels": ("levels", _COUNT), "measure": ("measure", _name), "value": ("value", _TWO), "status": ("status", _name),
        }  # fmt: skip
        tables.append(_of("Covariates and the batch", found.association, "covariate", columns))
    return tables


def composition(subject: Subject) -> list[Table]:
    """Cells of each type in each batch, as numbers."""
    if subject.label_key is None or subject.label_key == subject.batch_column:
        return []
    obs = subject.adata.obs
    labels = obs[subject.label_key].astype(object).where(obs[subject.label_key].notna(), "no value").astype(str)
    counts = pd.crosstab(labels, obs[subject.batch_column].astype(str))
    columns = {str(name): (str(name), _COUNT) for name in counts.columns}
    return [_of("Cells of each type in each batch, as numbers", counts, subject.label_key, columns, folded=True)]


def scores(subject: Subject, findings: Findings) -> Table:
    """Metrics as rows, representations as columns: the integrated one first, controls last."""
    table = findings.scores
    shuffled = _notices.control(table, subject.integrated)
    named = {str(name): row for name, row in table.iterrows()}
    rows = {rep: named[rep] for rep in (subject.integrated, *subject.compared)}
    rows |= {f"{name} (not integrated)": row for name, row in table[table["kind"] == "unintegrated"].iterrows()}
    rows |= {} if shuffled is None else {"if mixed perfectly": shuffled}
    titles = [title for title in (*reversed(AGGREGATES), *(metric.title for metric in CATALOGUE)) if title in table]
    kinds = {metric.title: "conservation" if metric.about == "bio" else "mixing" for metric in CATALOGUE}
    cells = [
        [
            _name(title),
            _name(kinds.get(title, "mean")),
            *(_score(row, title) for row in rows.values()),
            _name(_ASKS[title]),
        ]
        for title in titles
    ]
    headings = ["score", "of", *rows, "what it asks"]
    caption = "Scores: 0 is worst, 1 is best; ± reaches to the farther end of the 95 % interval"
    return Table(caption, headings, [False, False, *([True] * len(rows)), False], cells, emphasised=AGGREGATES)


def _score(row: pd.Series, title: str) -> Cell:
    value = float(row[title])
    if math.isnan(value):
        return Cell("–", "")
    spread = max(value - float(row.get(f"{title} low", np.nan)), float(row.get(f"{title} high", np.nan)) - value)
    text = f"{value:.3f}" if math.isnan(spread) else f"{value:.3f} ± {spread:.3f}"
    return Cell(text, value, min(max(value, 0.0), 1.0))


def by_label(subject: Subject, findings: Findings) -> list[Table]:
    """Scores of each type after the integration."""
    if findings.by_label is None:
        return []
    frame = pd.DataFrame(findings.by_label.xs(subject.integrated))
    titles = [metric.title for metric in CATALOGUE if metric.title in frame and frame[metric.title].notna().any()]
    columns = {"cells": ("cells", _COUNT), "batches": ("batches", _COUNT), **{title: (title, _TWO) for title in titles}}
    return [_of("Scores of each type after the integration", frame, str(subject.label_key), columns)]


def changes(findings: Findings) -> list[Table]:
    """States, control genes, and genes that moved most."""
    found = findings.diagnosis
    if found is None:
        return []
    columns = {
        "n_cells": ("cells", _COUNT), "markers": ("markers", _name), "kept": ("neighbours kept", _share),
        "kept_again": ("a second measurement keeps", _share), "merged_with": ("merged with", _name),
        "pulled_onto": ("pulled onto", _name), "split": ("split", _flag), "lost": ("lost", _flag),
    }  # fmt: skip
    tables = [_of("States: clusters within a batch that noise leaves apart", found.states, "batch: state", columns)]
    if len(found.control_genes):
        columns = {
            "signal_before": ("signal before", _TWO), "signal_after": ("after", _TWO),
            "variance_lost": ("variance lost", _share), "flagged": ("flagged", _flag),
        }  # fmt: skip
        tables.append(_of("Control genes", found.control_genes, "gene", columns))
    if len(found.changes):
        frame = found.changes.set_index("gene")
        frame = frame.iloc[np.argsort(-frame["beyond"].abs().to_numpy(), kind="stable")]
        columns = {
            "state": ("state", _name), "shift": ("shift", _TWO), "shift_of_batch": ("of its batch", _TWO), "beyond": ("beyond it", _TWO),
        }  # fmt: skip
        tables.append(
            _of("Genes that moved most, log-normalised units", frame, "gene", columns, folded=True, most=_MOST_GENES)
        )
    return tables


def _flag(value: object) -> Cell:
    return Cell("yes" if value else "", "1" if value else "0")


def parameters(subject: Subject, defaults: Mapping[str, Any]) -> list[Table]:
    """Parameters of the model; those that are not the default are marked."""
    if subject.record is None:
        return []
    rows = []
    for name, value in sorted(subject.record["params"].items()):
        usual = defaults.get(name)
        own = value != usual and name != "progress"
        rows.append([_name(name), _name(value), _name(usual), _flag(own)])
    return [
        Table("Parameters of the model", ["parameter", "value", "default", "changed"], [False] * 4, rows, folded=True)
    ]


def versions(subject: Subject) -> list[Table]:
    """Versions with which the integration was made."""
    if subject.record is None:
        return []
    rows = [[_name(name), _name(value)] for name, value in sorted(subject.record["versions"].items())]
    return [Table("Versions at the integration", ["package", "version"], [False, False], rows, folded=True)]
