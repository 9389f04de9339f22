"""Calibration: batches split at random in two, where there is nothing to correct."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scbatchnorm.tl._diagnosis import findings as _findings
from scbatchnorm.tl._diagnosis.merging import MUCH
from scbatchnorm.tl._diagnosis.states import LEAST_CELLS

if TYPE_CHECKING:
    from collections.abc import Callable

    from scbatchnorm._data.types import Codes, Floats, Matrix

# Batches that are split, the largest ones; each half must have room for two states.
_BATCHES = 2
_LEAST_CELLS = 4 * LEAST_CELLS
# Of the pairs of states that nothing happened to, this share is merged less.
_QUANTILE = 0.95
_COLUMNS = {
    "n_cells": int, "kept": float, "kept_again": float, "merged": int, "pulled": int, "split": int, "lost": int, "excess": float
}  # fmt: skip


def table(
    matrix: Matrix,
    codes: Codes,
    names: list[str],
    embed: Callable[[Matrix, Codes, np.random.Generator], tuple[Floats, Floats]],
    rng: np.random.Generator,
) -> pd.DataFrame:
    """What `embed` does to the largest batches, each split at random in two; one row for each.

    `matrix` is what is integrated, of all cells; `embed` takes cells, their halves and a generator, and gives coordinates
    before and after. `kept` to `lost` are what `_findings.find` finds, `excess` is the 95 % quantile of that of pairs.
    """
    found, index = [], []
    for level in np.argsort(-np.bincount(codes), kind="stable")[:_BATCHES]:
        cells = np.flatnonzero(codes == level)
        if len(cells) < _LEAST_CELLS:
            continue
        halves = rng.permutation(np.arange(len(cells)) % 2)
        findings = _findings.find(*embed(matrix[cells], halves, rng), halves, rng)
        excess = findings.pairs["excess"]
        counts = (len(findings.merged), len(findings.pulled), int(findings.split.sum()), int(findings.lost.sum()))
        kept = (np.nanmean(findings.kept), np.nanmean(findings.kept_again))
        found.append((len(cells), *kept, *counts, excess.quantile(_QUANTILE) if len(excess) else 0.0))
        index.append(str(names[level]))
    return _table(found, index)


def none() -> pd.DataFrame:
    """The table without rows."""
    return _table([], [])


def _table(found: list[tuple], index: list[str]) -> pd.DataFrame:
    return pd.DataFrame(found, columns=list(_COLUMNS), index=pd.Index(index, dtype=object)).astype(_COLUMNS)


def yardstick(found: pd.DataFrame) -> float:
    """How far a pair of states must have gone to count as merged: further than where nothing was to be done."""
    return max(MUCH, float(found["excess"].max())) if len(found) else MUCH


def sentence(found: pd.DataFrame) -> str:
    """What was found, in words."""
    if not len(found):
        return f"Calibration: no batch has the {_LEAST_CELLS} cells that it takes to split one."
    total = found[["merged", "pulled", "split", "lost"]].sum()
    kinds = (
        ("merged", "pairs of states merged"),
        ("pulled", "states pulled"),
        ("split", "states split"),
        ("lost", "states that lost their neighbourhoods"),
    )
    flags = ", ".join(f"{total[name]} {text}" for name, text in kinds if total[name]) or "nothing was found"
    now, again = (100 * np.average(found[name], weights=found["n_cells"]) for name in ("kept", "kept_again"))
    return (
        f"Calibration: {' and '.join(found.index)} split at random in two, integrated with the same settings and strength: {flags}; cells keep "
        f"{now:.0f} % of their neighbours (second measurement: {again:.0f} %), and no two states are merged by chance that went less than "
        f"{100 * yardstick(found):.0f} % of the way."
    )
