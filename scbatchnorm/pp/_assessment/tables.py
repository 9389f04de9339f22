"""Tables of an assessment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scbatchnorm.pp._assessment import effect as _effect

if TYPE_CHECKING:
    from scbatchnorm._data.types import Codes, Floats, Labels


@dataclass(frozen=True)
class Column:
    """A column of `obs`: `codes` (cells,) of its `levels`, -1 where it has no value; `numbers` (cells,) if it is numeric."""

    name: str
    codes: Codes
    levels: Labels
    numbers: Floats | None = None


@dataclass(frozen=True)
class Group:
    """A cluster or label that could be judged."""

    name: str
    n_cells: int
    effect: _effect.Effect


_COLUMNS_OF_ASSOCIATION = ["levels", "measure", "value", "status", "confounded", "components", "strays", "missing"]


def association(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """A row for each covariate."""
    index = pd.Index([row["name"] for row in rows], dtype=object)
    return pd.DataFrame(
        [[row[name] for name in _COLUMNS_OF_ASSOCIATION] for row in rows], index=index, columns=_COLUMNS_OF_ASSOCIATION
    )


def design(tables: list[tuple[Column, Codes]], names: pd.Index) -> pd.DataFrame:
    """Cells of each level of each covariate (rows) in each batch (columns)."""
    rows = [(column.name, str(level)) for column, _ in tables for level in column.levels]
    counts = np.concatenate([np.zeros((0, len(names)), dtype=int), *(counts for _, counts in tables)])
    levels = [[row[0] for row in rows], [row[1] for row in rows]]
    return pd.DataFrame(counts, pd.MultiIndex.from_arrays(levels, names=["covariate", "level"]), names)


def effects(groups: list[Group]) -> pd.DataFrame:
    """A row for each group."""
    columns = {
        "cells": np.array([group.n_cells for group in groups], dtype=int),
        "batches": np.array([len(group.effect.batches) for group in groups], dtype=int),
        "effect": np.array([group.effect.value for group in groups], dtype=float),
        "chance": np.array([group.effect.chance for group in groups], dtype=float),
        "p_value": np.array([group.effect.p_value for group in groups], dtype=float),
        "p_adjusted": _effect.adjusted([group.effect for group in groups]),
    }
    return pd.DataFrame(columns, index=pd.Index([group.name for group in groups], dtype=object))


def batches(sizes: Codes, shared: Floats, groups: list[Group], names: pd.Index) -> pd.DataFrame:
    """A row for each batch; nan where it is in none of the groups."""
    found = _effect.of_batches([group.effect for group in groups], len(names))
    judged = [deviation for deviation in found if deviation is not None]
    rows = np.array([deviation is not None for deviation in found])
    table = pd.DataFrame({"cells": sizes, "shared": shared}, index=names)
    for column, values in (
        ("effect", np.array([deviation.value for deviation in judged])),
        ("p_value", np.array([deviation.p_value for deviation in judged])),
        ("p_adjusted", _effect.adjusted(judged)),
    ):
        whole = np.full(len(names), np.nan)
        whole[rows] = values
        table[column] = whole
    return table
