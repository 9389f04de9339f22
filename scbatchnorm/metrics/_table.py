"""Scores as the table that people read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scbatchnorm.metrics import _inputs
from scbatchnorm.metrics._aggregate import aggregates

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scbatchnorm.metrics._catalogue import Metric
    from scbatchnorm.metrics._comparison import Design
    from scbatchnorm.metrics._score import Score

_QUANTILE = 1.96  # of the normal distribution, for 95 %


@dataclass(frozen=True)
class Row:
    """A representation or control with its metrics."""

    name: str
    kind: str
    scores: dict[Metric, Score]

    def values(self, *, labelled: bool) -> dict[str, float]:
        """Values by the title of their column, with the aggregates if there are labels."""
        return _with_aggregates({metric: score.value for metric, score in self.scores.items()}, labelled=labelled)


def _with_aggregates(values: Mapping[Metric, float], *, labelled: bool) -> dict[str, float]:
    return {metric.title: value for metric, value in values.items()} | (aggregates(values) if labelled else {})


def overall(rows: Sequence[Row], design: Design, draws: Sequence[tuple[int, Sequence[Row]]]) -> pd.DataFrame:
    """One row each: metrics, aggregates, intervals, notes.

    `draws` has the number of cells and the same rows, of random parts of the cells.
    """
    records = {}
    for place, row in enumerate(rows):
        values = row.values(labelled=design.labelled)
        record: dict[str, str | float] = {"kind": row.kind, **values}
        if draws:
            parts = [of_part[place] for _, of_part in draws]
            shares = np.array([n_cells for n_cells, _ in draws]) / len(design.cells)
            for title, spread in _spreads(parts, shares, design).items():
                lowest = next((metric.lowest for metric in row.scores if metric.title == title), 0.0)
                record[f"{title} low"] = float(np.maximum(values[title] - spread, min(lowest, values[title])))
                record[f"{title} high"] = float(np.minimum(values[title] + spread, 1.0))
        records[row.name] = record | {"notes": _notes(row, design)}
    return pd.DataFrame.from_dict(records, orient="index").rename_axis("representation")


def _spreads(parts: Sequence[Row], shares: np.ndarray, design: Design) -> dict[str, float]:
    """Half the width of each interval; nan where fewer than two parts have a value.

    Parts without replacement differ less than samples of their size: the variance of a share f of the cells is
    (1 - f) / f times that of all cells (Politis and Romano, Annals of Statistics 1994). What comes from a sample of m
    of N cells varies N / m times as much as what comes from all; in an aggregate of both, what the former add to it has
    N / m - 1 times its variance on top, for the sample is drawn from these cells.
    """
    share = float(shares.mean())
    factor = np.sqrt(share / (1 - share)) if share < 1 else float("nan")
    found = pd.DataFrame([part.values(labelled=design.labelled) for part in parts]).std()
    if design.sample is not None:
        records = [
            _with_aggregates(
                {m: s.value * (m.scope != "all") for m, s in part.scores.items()},
                labelled=design.labelled,
            )
            for part in parts
        ]
        more = np.sqrt(len(design.cells) / len(design.sample) - 1)
        found = np.hypot(found, more * pd.DataFrame(records).std())
    return {str(title): float(_QUANTILE * factor * spread) for title, spread in found.items()}


def _notes(row: Row, design: Design) -> str:
    """Why values are missing, and what was computed on a sample; metrics with the same reason together."""
    titles: dict[str, list[str]] = {}
    for metric, score in row.scores.items():
        if score.reason:
            titles.setdefault(score.reason, []).append(metric.title)
        elif design.sample is not None and metric.scope != "all":
            what = "computed on" if metric.scope == "sample" else "averaged over"
            reason = f"{what} a sample of {len(design.sample)} of {len(design.cells)} cells"
            titles.setdefault(reason, []).append(metric.title)
    notes = [f"{', '.join(of_reason)}: {reason}" for reason, of_reason in titles.items()]
    if design.n_left_out:
        notes.append(f"{design.n_left_out} cells without a label are left out")
    return "; ".join(notes)


def by_label(rows: Sequence[Row], design: Design) -> pd.DataFrame:
    """One row for each representation and label, with the metrics to which single cells contribute."""
    labels = design.labels
    n_batches = (_inputs.crossed(labels, design.batches) > 0).sum(axis=1)
    records: dict[tuple[str, object], dict[str, object]] = {}
    for row in rows:
        for code in labels.in_order:
            chosen = labels.codes == code
            records[row.name, labels.names[code]] = {
                "kind": row.kind,
                "cells": int(labels.sizes[code]),
                "batches": int(n_batches[code]),
                **{metric.title: score.of(chosen) for metric, score in row.scores.items() if score.of_cells},
            }
    frame = pd.DataFrame(list(records.values()))
    frame.index = pd.MultiIndex.from_tuples(list(records), names=["representation", "label"])
    return frame
