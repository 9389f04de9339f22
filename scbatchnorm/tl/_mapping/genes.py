"""Genes of new cells found by name among those of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scbatchnorm._data.checks import join_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scbatchnorm._data.types import Codes, Labels

# Of the genes of the model; with fewer the place of a cell is mostly what was put in for the others.
FEWEST = 0.5


@dataclass(frozen=True)
class Found:
    """Which genes of a model there are."""

    columns: Codes  # (found,) positions among the new cells' genes
    positions: Codes  # (found,) positions among the genes of the model
    missing: Labels  # names of the others

    @property
    def share(self) -> float:
        """Of the genes of the model."""
        return len(self.positions) / (len(self.positions) + len(self.missing))


def find(names: Labels, wanted: Labels, others: Mapping[str, Labels]) -> Found:
    """Genes `wanted` by a model among the `names` of the genes of new cells.

    `others` are further names of these genes, by where they are: only looked at to tell where the right ones may be.

    Raises
    ------
    ValueError
        Fewer than half are there.
    """
    position = pd.Index(wanted).get_indexer(pd.Index(names))
    columns = np.flatnonzero(position >= 0)
    columns = columns[np.argsort(position[columns], kind="stable")]
    absent = np.ones(len(wanted), dtype=bool)
    absent[position[columns]] = False
    if len(columns) < FEWEST * len(wanted):
        msg = (
            f"query must have at least half of the {len(wanted)} genes of the reference; {len(columns)} are found "
            f"({len(columns) / len(wanted):.0%}). Reference: {join_names(wanted, 4)}; query: {join_names(names, 4)}. "
            f"{_advice(names, wanted, others, len(columns))}"
        )
        raise ValueError(msg)
    return Found(columns, position[columns], np.asarray(wanted)[absent])


def _advice(names: Labels, wanted: Labels, others: Mapping[str, Labels], n_found: int) -> str:
    """Where the names that are meant may be."""
    known = set(wanted)
    counts = {where: len(known & set(values)) for where, values in others.items()}
    best = max(counts, key=counts.__getitem__, default="")
    if best and counts[best] > max(n_found, FEWEST * len(wanted)):
        return f"{best} has {counts[best]} of them: query.var_names = {best}."
    if len({name.upper() for name in wanted} & {name.upper() for name in names}) > FEWEST * len(wanted):
        return "They differ in capital letters: are they of another species?"
    return "Both must be named alike, by gene symbols or by Ensembl ids, and be of one species; give the query all genes, not its own variable ones."
