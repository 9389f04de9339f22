"""The answer to whether batches need a correction and allow one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scbatchnorm.pp._assessment import html as _html
from scbatchnorm.pp._assessment import tables as _tables
from scbatchnorm.pp._assessment import text as _text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scbatchnorm.pp._assessment.verdict import Verdict

# Where it is kept in `uns`.
KEY = "scbatchnorm_assess"


@dataclass(frozen=True, eq=False, repr=False)
class Assessment:
    """Result of :func:`scbatchnorm.pp.assess`; printed, it is a report, and in notebooks one of HTML.

    Effects are shares, at most 1: of the variance within a group of cells, how much lies between batches, each batch
    counted as if all had the same number of cells, and chance subtracted. 0 is no effect; slightly negative values
    are chance.

    Attributes
    ----------
    verdict
        `"none"`, `"correct"` or `"confounded"`.
    reasons
        Sentences, the deciding one first.
    effects
        A row for each cluster or label with enough cells of two batches: `cells`, `batches` (with enough cells),
        `effect`, `chance` (95 % of permutations stay below), `p_value`, `p_adjusted`
        (for the number of groups, by Westfall and Young: against the most striking group of each permutation).
    batches
        A row for each batch: `cells`, `shared` (share of its cells with counterparts in another batch), `effect`
        (against the mean of the other batches), `p_value`, `p_adjusted`; nan where it could not be judged.
    shared
        Share of the cells of each batch (rows) with counterparts in each other batch (columns); nan on the diagonal.
    association
        A row for each covariate, the label included: `levels`, `measure`, `value`, `status`, `confounded`, `components`,
        `strays`, `missing`.
    design
        Cells of each covariate's levels (rows: covariate, level) in each batch (columns).
    label_key
        Column that named the groups; `None` where they are clusters.
    batch_key
        Columns that named the batches, joined with `" | "`.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    effects: pd.DataFrame
    batches: pd.DataFrame
    shared: pd.DataFrame
    association: pd.DataFrame
    design: pd.DataFrame
    label_key: str | None
    batch_key: str

    def __repr__(self) -> str:
        return _text.text(self)

    def _repr_html_(self) -> str:
        return _html.of(self)

    def to_uns(self) -> dict[str, Any]:
        """The same as arrays, str and DataFrames that survive h5ad and zarr."""
        record: dict[str, Any] = {
            "verdict": self.verdict,
            "reasons": np.array(self.reasons, dtype=str),
            "batch_key": self.batch_key,
            "label_key": self.label_key or "",
            "batches": self.batches.copy(),
            "shared": self.shared.to_numpy(),
        }
        if len(self.effects):
            record["effects"] = self.effects.copy()
        if len(self.association):
            record["association"] = self.association.copy()
            record["design"] = {
                "covariate": self.design.index.get_level_values(0).to_numpy().astype(str),
                "level": self.design.index.get_level_values(1).to_numpy().astype(str),
                "cells": self.design.to_numpy(),
            }
        return record


def from_uns(record: Mapping[str, Any]) -> Assessment:
    """The assessment that `Assessment.to_uns` has written."""
    batches = _named(record["batches"])
    names = batches.index
    shared = pd.DataFrame(np.asarray(record["shared"]), index=names, columns=names)
    design, association = _tables.design([], names), _tables.association([])
    if "association" in record:
        association = _named(record["association"])
        stored = record["design"]
        rows = [[str(value) for value in stored[part]] for part in ("covariate", "level")]
        index = pd.MultiIndex.from_arrays(rows, names=["covariate", "level"])
        design = pd.DataFrame(np.asarray(stored["cells"]), index=index, columns=names)
    return Assessment(
        verdict=str(record["verdict"]),  # type: ignore[arg-type]
        reasons=tuple(str(reason) for reason in record["reasons"]),
        effects=_named(record["effects"]) if "effects" in record else _tables.effects([]),
        batches=batches,
        shared=shared,
        association=association,
        design=design,
        label_key=str(record["label_key"]) or None,
        batch_key=str(record["batch_key"]),
    )


def _named(table: pd.DataFrame) -> pd.DataFrame:
    """`table` with names of rows and texts as plain str, as they were written."""
    table = table.copy()
    table.index = pd.Index([str(name) for name in table.index], dtype=object)
    for column in table.columns:
        if not pd.api.types.is_numeric_dtype(table[column]):
            table[column] = np.array([str(value) for value in table[column]], dtype=object)
    return table
