"""The table of scores: aggregates of scIB, confidence intervals, notes, and its HTML for notebooks."""

from __future__ import annotations

import types
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scbatchnorm._runtime.html_repr import HtmlTable, render_html
from scbatchnorm.metrics._catalogue import AGGREGATES, BATCH, BIO, TOTAL, WEIGHTS
from scbatchnorm.metrics._inputs import cross_tabulate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scbatchnorm.metrics._catalogue import Metric
    from scbatchnorm.metrics._comparison import Comparison
    from scbatchnorm.metrics._score import MetricScore

_QUANTILE = 1.96  # of the normal distribution, for 95 %
_KIND, _NOTES = "kind", "notes"
_BOUNDS = (" low", " high")


@dataclass(frozen=True)
class Row:
    """A representation or control with its scores."""

    name: str
    kind: str
    scores: dict[Metric, MetricScore]

    def values(self, *, labelled: bool) -> dict[str, float]:
        """Values by title of their column, with the aggregates if there are labels."""
        return _with_aggregates({metric: score.value for metric, score in self.scores.items()}, labelled=labelled)


def _with_aggregates(values: Mapping[Metric, float], *, labelled: bool) -> dict[str, float]:
    return {metric.title: value for metric, value in values.items()} | (aggregate_scores(values) if labelled else {})


def build_table(
    rows: Sequence[Row], comparison: Comparison, subsamples: Sequence[tuple[int, Sequence[Row]]]
) -> pd.DataFrame:
    """Table with a line for each row: metrics, aggregates, intervals, notes.

    `subsamples` has the number of cells and the same rows of each random subsample of the cells.
    """
    records = {}
    for position, row in enumerate(rows):
        values = row.values(labelled=comparison.labelled)
        record: dict[str, str | float] = {"kind": row.kind, **values}
        if subsamples:
            subsample_rows = [all_rows[position] for _, all_rows in subsamples]
            shares = np.array([n_cells for n_cells, _ in subsamples]) / len(comparison.cells)
            for title, width in _half_widths(subsample_rows, shares, comparison).items():
                lowest = next((metric.lowest for metric in row.scores if metric.title == title), 0.0)
                record[f"{title} low"] = float(np.maximum(values[title] - width, min(lowest, values[title])))
                record[f"{title} high"] = float(np.minimum(values[title] + width, 1.0))
        records[row.name] = record | {"notes": _notes(row, comparison)}
    return pd.DataFrame.from_dict(records, orient="index").rename_axis("representation")


def _half_widths(rows: Sequence[Row], shares: np.ndarray, comparison: Comparison) -> dict[str, float]:
    """Half the width of each interval, from one row in all subsamples; nan where fewer than two have a value.

    Subsamples drawn without replacement vary less than independent samples of their size: the variance over subsamples
    of a share f of the cells is (1 - f) / f times that over samples as large as all cells (Politis and Romano, Annals of
    Statistics 1994). A metric computed on a sample of m of N cells has N / m times the variance of one computed on all.
    In an aggregate of both, the part from the sample adds N / m - 1 times its variance, for the sample is drawn from
    these cells.
    """
    share = float(shares.mean())
    factor = np.sqrt(share / (1 - share)) if share < 1 else float("nan")
    deviations = pd.DataFrame([row.values(labelled=comparison.labelled) for row in rows]).std()
    if comparison.sample is not None:
        records = [
            _with_aggregates(
                {metric: score.value * (metric.scope != "all") for metric, score in row.scores.items()},
                labelled=comparison.labelled,
            )
            for row in rows
        ]
        extra = np.sqrt(len(comparison.cells) / len(comparison.sample) - 1)
        deviations = np.hypot(deviations, extra * pd.DataFrame(records).std())
    return {str(title): float(_QUANTILE * factor * deviation) for title, deviation in deviations.items()}


def _notes(row: Row, comparison: Comparison) -> str:
    """Why values are missing, and what was computed on a sample; metrics with the same reason together."""
    titles: dict[str, list[str]] = {}
    for metric, score in row.scores.items():
        if score.reason:
            titles.setdefault(score.reason, []).append(metric.title)
        elif comparison.sample is not None and metric.scope != "all":
            verb = "computed on" if metric.scope == "sample" else "averaged over"
            reason = f"{verb} a sample of {len(comparison.sample)} of {len(comparison.cells)} cells"
            titles.setdefault(reason, []).append(metric.title)
    notes = [f"{', '.join(names)}: {reason}" for reason, names in titles.items()]
    if comparison.n_left_out:
        notes.append(f"{comparison.n_left_out} cells without a label are left out")
    return "; ".join(notes)


def build_label_table(rows: Sequence[Row], comparison: Comparison) -> pd.DataFrame:
    """Table with a line for each representation and label, with the metrics that have values of single cells."""
    labels = comparison.labels
    n_batches = (cross_tabulate(labels, comparison.batches) > 0).sum(axis=1)
    records: dict[tuple[str, object], dict[str, object]] = {}
    for row in rows:
        for code in labels.sorted_codes:
            mask = labels.codes == code
            records[row.name, labels.names[code]] = {
                "kind": row.kind,
                "cells": int(labels.sizes[code]),
                "batches": int(n_batches[code]),
                **{metric.title: score.of_subset(mask) for metric, score in row.scores.items() if score.has_cells},
            }
    frame = pd.DataFrame(list(records.values()))
    frame.index = pd.MultiIndex.from_tuples(list(records), names=["representation", "label"])
    return frame


def aggregate_scores(values: Mapping[Metric, float]) -> dict[str, float]:
    """Aggregates of scIB: means of the metrics about batches and about biology that are given and defined, and `Total`."""
    means = {}
    for title, about in ((BATCH, "batch"), (BIO, "bio")):
        members = [value for metric, value in values.items() if metric.about == about and metric.in_total]
        if members:
            defined = [value for value in members if not np.isnan(value)]
            means[title] = float(np.mean(defined)) if defined else float("nan")
    if len(means) == len(WEIGHTS):
        means[TOTAL] = sum(weight * means[title] for title, weight in WEIGHTS.items())
    return {title: means[title] for title in AGGREGATES if title in means}


def with_html(table: pd.DataFrame) -> pd.DataFrame:
    """The same table, which notebooks show by :func:`table_to_html`.

    IPython uses a method of the instance. A subclass would be kept by copies and slices, but anndata cannot write it.
    """
    table._repr_html_ = types.MethodType(table_to_html, table)  # type: ignore[attr-defined]
    return table


def table_to_html(table: pd.DataFrame) -> str | None:
    """HTML with a row for each representation, scores with half the width of their intervals, controls below in italics."""
    if not pd.get_option("display.notebook_repr_html"):  # as for any DataFrame
        return None
    if _KIND not in table or not table.columns.is_unique or not table.index.is_unique:
        return pd.DataFrame._repr_html_(table)  # type: ignore[attr-defined]
    controls = (table[_KIND] != "representation").to_numpy()
    table, controls = table.iloc[np.argsort(controls, kind="stable")], np.sort(controls)
    titles = [title for title in table.columns if title not in {_KIND, _NOTES} and not _is_bound(title, table)]
    titles.sort(key=lambda title: title not in AGGREGATES)  # aggregates first, for the table is wide
    rows = [
        [str(name), str(row[_KIND]), *(_format_score(row, title) for title in titles)] for name, row in table.iterrows()
    ]
    caption = "Scores: 1 is best; in italics controls, computed on the same cells"
    if any(_is_bound(title, table) for title in table.columns):
        caption += "; \u00b1 half the width of the 95 % confidence interval"
    scores = HtmlTable(
        f"{caption}.",
        ["representation", _KIND, *map(str, titles)],
        rows,
        n_names=2,
        bold={column for column, title in enumerate(titles, start=2) if title in AGGREGATES},
        italic=set(np.flatnonzero(controls).tolist()),
        notes=_html_notes(table),
    )
    return render_html([scores])


def _is_bound(title: object, table: pd.DataFrame) -> bool:
    """Whether a column is an end of the interval of another column."""
    return any(str(title).endswith(end) and str(title).removesuffix(end) in table for end in _BOUNDS)


def _format_score(row: pd.Series, title: str) -> str:
    """A score with three digits and half the width of its interval; ends are cut at 0 and 1, so the longer side counts."""
    value = row[title]
    if not isinstance(value, float):
        return str(value)
    if np.isnan(value):
        return "-"
    low, high = (row.get(f"{title}{end}", np.nan) for end in _BOUNDS)
    width = max(value - low, high - value)
    return f"{value:.3f}" if np.isnan(width) else f"{value:.3f} \u00b1 {width:.3f}"


def _html_notes(table: pd.DataFrame) -> Sequence[str]:
    """Each note once, with the names of its rows."""
    if _NOTES not in table:
        return []
    names_of: dict[str, list[str]] = {}
    for name, note in table[_NOTES].items():
        if note:
            names_of.setdefault(str(note), []).append(str(name))
    return [
        f"{'all rows' if len(names) == len(table) else ', '.join(names)}: {note}." for note, names in names_of.items()
    ]
