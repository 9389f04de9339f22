"""What a linear embedding changed: how far cells moved, and what that says of genes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from scbatchnorm._data.types import Codes, Floats
    from scbatchnorm.tl._diagnosis.states import States

# Genes listed for each state.
_LARGEST = 10
_COLUMNS = {"state": str, "gene": str, "shift": float, "shift_of_batch": float, "beyond": float}


@dataclass(frozen=True, eq=False)
class Change:
    """Displacement of cells and change of genes.

    `moved` (cells, components) is where each cell went, `displacement_own` (cells,) how far beyond the mean of its
    batch; `shift` (genes, batches) is what was added to a gene in a batch, beyond what was added in the mean of all
    batches; `variance_lost` (genes,) is the share of the variance inside batches that is gone, negative where there
    is more.
    """

    moved: Floats
    displacement_own: Floats
    shift: Floats | None
    variance_lost: Floats | None

    @property
    def displacement(self) -> Floats:
        """How far each cell went, shape (cells,), in units of principal component scores."""
        return np.linalg.norm(self.moved, axis=1)


def of(before: Floats, after: Floats, codes: Codes, loadings: Floats | None) -> Change:
    """Change from the scores `before` to those `after`, both (cells, components); `loadings` are (genes, components)."""
    moved = after - before
    mean = _means(moved, codes)
    own = np.linalg.norm(moved - mean[codes], axis=1)
    if loadings is None:
        return Change(moved, own, None, None)
    shift = (mean - mean.mean(axis=0)) @ loadings.T
    then, now = (_variance(points - _means(points, codes)[codes], loadings) for points in (before, after))
    lost = np.full(len(loadings), np.nan)
    np.divide(then - now, then, out=lost, where=then > 1e-9 * then.max(initial=0))
    return Change(moved, own, shift.T, lost)


def none() -> pd.DataFrame:
    """The table of `by_state` without rows."""
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in _COLUMNS.items()})


def by_state(change: Change, codes: Codes, states: States, loadings: Floats, genes: np.ndarray) -> pd.DataFrame:
    """Genes that were moved most in each state beyond its batch: `state`, `gene`, `shift`, `shift_of_batch`, `beyond`."""
    of_batch, of_state = _means(change.moved, codes), _means(change.moved, states.codes)
    columns: dict[str, list[np.ndarray]] = {name: [] for name in _COLUMNS}
    for number, batch in enumerate(states.batch):
        whole, common = loadings @ of_state[number], loadings @ of_batch[batch]
        top = np.argsort(-np.abs(whole - common), kind="stable")[:_LARGEST]
        values = (np.full(len(top), number), genes[top], whole[top], common[top], (whole - common)[top])
        for name, value in zip(columns, values, strict=True):
            columns[name].append(value)
    return pd.DataFrame({name: np.concatenate(parts) for name, parts in columns.items()})


def _means(points: Floats, codes: Codes) -> Floats:
    """Mean of each group, shape (groups, components)."""
    return np.stack([points[codes == group].mean(axis=0) for group in range(int(codes.max()) + 1)])


def _variance(points: Floats, loadings: Floats) -> Floats:
    """Variance of each gene, shape (genes,), of centred scores."""
    covariance = points.T @ points / len(points)
    return np.einsum("gc,cd,gd->g", loadings, covariance, loadings, optimize=True)
