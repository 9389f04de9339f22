"""Calibration: what the same integration does to batches split at random in two, where there is nothing to correct."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scbatchnorm.tl._diagnosis.findings import compare_embeddings
from scbatchnorm.tl._diagnosis.overlap import MIN_CHANGE
from scbatchnorm.tl._diagnosis.states import MIN_CELLS

if TYPE_CHECKING:
    from collections.abc import Callable

    from scbatchnorm._data.types import Codes, Floats, Matrix

# The largest batches are split; each half must have enough cells for two states.
_N_BATCHES = 2
_MIN_CELLS = 4 * MIN_CELLS
# Of the pairs of states in split batches, this share has a smaller excess.
_QUANTILE = 0.95
_COLUMNS = {
    "n_cells": int, "kept": float, "kept_again": float, "merged": int, "pulled": int, "split": int, "lost": int, "excess": float
}  # fmt: skip


def integrate_halves(
    matrix: Matrix,
    codes: Codes,
    names: list[str],
    embed: Callable[[Matrix, Codes, np.random.Generator], tuple[Floats, Floats]],
    rng: np.random.Generator,
) -> pd.DataFrame:
    """What `embed` does to the largest batches, each split at random in two; one row for each.

    `matrix` (cells, features) is what was integrated; `embed` takes some of its rows, their halves and a generator, and
    returns coordinates before and after. `kept` to `lost` are as of `compare_embeddings`, `excess` is the 95 % quantile
    over pairs of states.
    """
    rows, index = [], []
    for level in np.argsort(-np.bincount(codes), kind="stable")[:_N_BATCHES]:
        cells = np.flatnonzero(codes == level)
        if len(cells) < _MIN_CELLS:
            continue
        halves = rng.permutation(np.arange(len(cells)) % 2)
        findings = compare_embeddings(*embed(matrix[cells], halves, rng), halves, rng)
        excess = findings.pairs["excess"]
        counts = (len(findings.merged), len(findings.pulled), int(findings.split.sum()), int(findings.lost.sum()))
        kept = (np.nanmean(findings.kept), np.nanmean(findings.kept_again))
        rows.append((len(cells), *kept, *counts, excess.quantile(_QUANTILE) if len(excess) else 0.0))
        index.append(str(names[level]))
    return _make_table(rows, index)


def empty_calibration() -> pd.DataFrame:
    """The table of `integrate_halves` without rows."""
    return _make_table([], [])


def _make_table(rows: list[tuple], index: list[str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(_COLUMNS), index=pd.Index(index, dtype=object)).astype(_COLUMNS)


def excess_threshold(calibration: pd.DataFrame) -> float:
    """Excess of overlap beyond which a pair of states counts as merged: at least that of split batches."""
    return max(MIN_CHANGE, float(calibration["excess"].max())) if len(calibration) else MIN_CHANGE


def explain_calibration(calibration: pd.DataFrame) -> str:
    """What happened to split batches, as a sentence."""
    if not len(calibration):
        return f"Calibration: no batch has the {_MIN_CELLS} cells that it takes to split one."
    total = calibration[["merged", "pulled", "split", "lost"]].sum()
    kinds = (
        ("merged", "pairs of states merged"),
        ("pulled", "states pulled"),
        ("split", "states split"),
        ("lost", "states that lost their neighbourhoods"),
    )
    counts = ", ".join(f"{total[name]} {text}" for name, text in kinds if total[name]) or "nothing was found"
    now, again = (100 * np.average(calibration[k], weights=calibration["n_cells"]) for k in ("kept", "kept_again"))
    return (
        f"Calibration: {' and '.join(calibration.index)} split at random in two, integrated with the same settings and "
        f"strength: {counts}; cells keep {now:.0f} % of their neighbours (second measurement: {again:.0f} %), and no two "
        f"states are merged by chance that went less than {100 * excess_threshold(calibration):.0f} % of the way."
    )
