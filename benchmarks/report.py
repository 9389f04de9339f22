"""From rows of runs to Markdown: means and standard deviations over seeds."""

from __future__ import annotations

import math
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import pandas as pd

from benchmarks.scoring import BATCH, BIO

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHORT = {"Batch correction": "Batch", "Bio conservation": "Bio", "Graph connectivity": "Graph", "KBET": "kBET"}
_SHORT |= {"PCR comparison": "PCR", "Isolated labels": "Isolated", "Silhouette label": "Silhouette"}
_SHORT |= {"seconds": "s", "peak_mb": "peak MB", "before_mb": "before MB"}


def mean_sd(values: pd.Series, *, digits: int = 3) -> str:
    """Mean, with the standard deviation where there are several values; "-" where there is none."""
    values = values.dropna().astype(float)
    if values.empty:
        return "-"
    text = f"{values.mean():.{digits}f}"
    return f"{text} ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else text


def markdown(table: pd.DataFrame, *, index_name: str) -> str:
    """Markdown of a table whose cells are text already."""
    rows = [[index_name, *map(str, table.columns)], ["---"] + ["---:"] * table.shape[1]]
    rows += [[str(name), *map(str, row)] for name, row in zip(table.index, table.to_numpy(), strict=True)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def totals_table(rows: pd.DataFrame, by: str, *, metric: str = "Total") -> pd.DataFrame:
    """One row per value of `by`, one column per data set and their mean, best row first.

    The spread of the mean is over seeds: the mean over data sets is taken seed by seed. A row without a score for every
    data set has no mean, for it would not be comparable.
    """
    datasets = list(dict.fromkeys(rows["dataset"]))
    table = pd.DataFrame(index=pd.Index(list(dict.fromkeys(rows[by]))), columns=[*datasets, "mean"], dtype=object)
    order = {}
    for name, group in rows.groupby(by, sort=False):
        per_dataset = group.groupby("dataset")[metric]
        for dataset, values in per_dataset:
            table.loc[name, dataset] = mean_sd(values)
        complete = len(datasets) == per_dataset.count().gt(0).sum()
        table.loc[name, "mean"] = mean_sd(_mean_by_seed(group, metric)) if complete else "-"
        order[name] = per_dataset.mean().mean() if complete else -math.inf
    return table.fillna("-").loc[sorted(order, key=lambda name: -order[name])]


def _mean_by_seed(group: pd.DataFrame, metric: str) -> pd.Series:
    wide = group.pivot_table(index="seed", columns="dataset", values=metric)
    return wide.dropna().mean(axis=1)


def dataset_table(rows: pd.DataFrame) -> pd.DataFrame:
    """All columns of one data set, one row per method, best total first."""
    metrics = ["Total", "Batch correction", "Bio conservation", *BATCH, *BIO]
    done = rows[rows["status"] == "ok"]
    names = done.groupby("method")["Total"].mean().sort_values(ascending=False).index
    table = pd.DataFrame(index=names, columns=[*metrics, "seconds", "peak_mb", "before_mb"], dtype=object)
    for name in names:
        runs = done[done["method"] == name]
        table.loc[name] = [mean_sd(runs[m]) if m in runs else "-" for m in metrics] + [
            mean_sd(runs["seconds"], digits=2),
            f"{runs['peak_mb'].max():.0f}",
            f"{runs['before_mb'].max():.0f}",
        ]
    return table.rename(columns=_SHORT)


def environment(distributions: Sequence[str]) -> str:
    """One line that says on what the numbers were made."""
    parts = [f"Python {platform.python_version()}"]
    for name in distributions:
        try:
            parts.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return f"{', '.join(parts)}; {os.cpu_count()} cores, {platform.machine()}"
