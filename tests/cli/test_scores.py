"""Scores as text: every number where it belongs, and nothing unexplained."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scbatchnorm.cli import _scores


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def table() -> pd.DataFrame:
    columns = {
        "kind": ["representation", "unintegrated", "shuffled"],
        "cLISI": [0.9, 1.0, 0.9],
        "iLISI": [0.51249, 0.25, 0.75],
        "PCR comparison": [-0.5, -0.0001, np.nan],
        "CiLISI": [0.5, 0.5, 0.5],
        "Batch correction": [0.1, 0.2, 0.3],
        "Bio conservation": [0.4, 0.5, 0.6],
        "Total": [0.7, 0.8, 0.9],
        "iLISI low": [0.50, 0.25, 0.70],
        "iLISI high": [0.52, 0.25, 0.76],
        "notes": ["", "", "PCR comparison: why"],
    }
    return pd.DataFrame(columns, index=pd.Index(["X_a", "X_pca", "X_a, batches shuffled"], name="representation"))


def test_overall(table):
    assert _scores.format_scores(table).splitlines() == [
        "                            X_a          X_pca               X_a",
        "                                  unintegrated  batches shuffled",
        "Bio conservation          0.400          0.500             0.600",
        "  cLISI                   0.900          1.000             0.900",
        "Batch correction          0.100          0.200             0.300",
        "  iLISI           0.512 ± 0.012  0.250 ± 0.000     0.750 ± 0.050",
        "  PCR comparison         -0.500          0.000                 –",
        "  CiLISI*                 0.500          0.500             0.500",
        "Total                     0.700          0.800             0.900",
        "",
        "0: worst, 1: best. ±: distance to the farther end of the 95 % confidence interval.",
        "*: does not enter the aggregates.",
        "unintegrated: a control, the data before integration.",
        "batches shuffled: a control, what perfect mixing would score on these cells.",
        "–: not defined.",
        "X_a, batches shuffled: PCR comparison: why",
    ]


def test_only_what_occurs_is_explained(table):
    text = _scores.format_scores(table.loc[["X_a"], ["kind", "CiLISI", "notes"]])
    assert text.splitlines() == [
        "                    X_a",
        "Batch correction",
        "  CiLISI          0.500",
        "",
        "0: worst, 1: best.",
    ]


def test_a_note_that_rows_share_stands_once(table):
    table["notes"] = ["x", "y", "x"]
    assert _scores.format_scores(table).splitlines()[-2:] == ["X_a, X_a, batches shuffled: x", "X_pca: y"]
    table["notes"] = "x"
    assert _scores.format_scores(table).splitlines()[-1] == "all: x"


@pytest.mark.parametrize(("width", "blocks"), [(64, 1), (63, 2), (40, 3), (10, 3)])
def test_columns_that_do_not_fit_come_below(table, monkeypatch, width, blocks):
    monkeypatch.setenv("COLUMNS", str(width))
    lines = _scores.format_scores(table).splitlines()
    block = lines[: lines.index("0: worst, 1: best. ±: distance to the farther end of the 95 % confidence interval.")]
    assert sum(line.startswith("Total") for line in block) == blocks
    assert max(map(len, block)) <= max(width, 18 + 2 + 16)
    assert " ".join(block).count("0.512 ± 0.012") == 1


def test_by_label():
    index = pd.MultiIndex.from_product([["X_a", "X_pca"], ["B", "T cells"]], names=["representation", "label"])
    columns = {
        "kind": ["representation"] * 2 + ["unintegrated"] * 2,
        "cells": [7, 1200] * 2,
        "batches": [2, 3] * 2,
        "Silhouette label": [0.1, 0.2, 0.3, np.nan],
    }
    assert _scores.format_scores(pd.DataFrame(columns, index=index)).splitlines() == [
        "X_a",
        "                           Silhouette",
        "           cells  batches       label",
        "  B            7        2       0.100",
        "  T cells   1200        3       0.200",
        "",
        "X_pca (unintegrated)",
        "                           Silhouette",
        "           cells  batches       label",
        "  B            7        2       0.300",
        "  T cells   1200        3           –",
        "",
        "0: worst, 1: best.",
        "unintegrated: a control, the data before integration.",
        "–: not defined.",
    ]
