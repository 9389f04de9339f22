"""Negative controls: genes whose differences between cells of one batch integration should leave alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scbatchnorm._data.types import Floats

# Standard errors that a correlation must be above 0 by to be a signal.
_CLEAR = 3.0
COLUMNS = ("signal_before", "signal_again", "signal_after", "variance_lost", "largest_shift")


def none() -> pd.DataFrame:
    """The table without rows."""
    return table([], dict.fromkeys(COLUMNS, np.empty(0)), 1)


def table(names: Sequence[str], values: dict[str, Floats], n_cells: int) -> pd.DataFrame:
    """One row a gene, of the `values` (genes,) of `COLUMNS`, and whether it is `flagged`.

    A gene is flagged if neighbourhoods told something of it before, clearly more than by chance, and now tell less
    than half of what they do after a second measurement.
    """
    found = pd.DataFrame(
        {name: values[name] for name in COLUMNS}, index=pd.Index(list(names), dtype=object), dtype=float
    )
    told = np.minimum(found["signal_before"], found["signal_again"]) > _CLEAR / np.sqrt(n_cells)
    found["flagged"] = (told & (found["signal_after"] < found["signal_again"] / 2)).astype(bool)
    return found


def sentence(found: pd.DataFrame) -> str:
    """What was found, in words."""
    lost = [str(gene) for gene in found.index[found["flagged"]]]
    head = "Control genes, by how well the nearest cells of the same batch predict them: "
    if not lost:
        return f"{head}none of {len(found)} lost more than half of what noise leaves."
    before, after = found["signal_before"].to_dict(), found["signal_after"].to_dict()
    rows = [f"{gene} (correlation {before[gene]:.2f} before, {after[gene]:.2f} now)" for gene in lost[:5]]
    return f"{head}{len(lost)} of {len(found)} lost more than half of what noise leaves: {', '.join(rows)}{', ...' if len(lost) > 5 else ''}."
