"""What a linear embedding changed: displacement of cells, and shift and variance of genes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from scbatchnorm._data.types import Codes, Floats, Labels
    from scbatchnorm.tl._diagnosis.states import States

# Genes listed for each state.
_N_GENES = 10
_COLUMNS = {"state": str, "gene": str, "shift": float, "shift_of_batch": float, "beyond": float}


@dataclass(frozen=True, eq=False)
class GeneChange:
    """Change of genes.

    Attributes
    ----------
    shift
        What was added to a gene in a batch beyond the mean over the batches, shape (genes, batches).
    variance_lost
        Share of the variance within batches that is lost, negative where there is more, shape (genes,).
    """

    shift: Floats
    variance_lost: Floats


@dataclass(frozen=True, eq=False)
class Change:
    """Displacement of cells in units of principal component scores, and change of genes if the embedding is of genes.

    Attributes
    ----------
    moved
        Displacement of each cell, shape (cells, components).
    displacement_own
        Length of the displacement of each cell beyond the mean of its batch, shape (cells,).
    genes
        Change of genes.
    """

    moved: Floats
    displacement_own: Floats
    genes: GeneChange | None

    @property
    def displacement(self) -> Floats:
        """Length of the displacement of each cell, shape (cells,)."""
        return np.linalg.norm(self.moved, axis=1)


def measure_change(before: Floats, after: Floats, codes: Codes, loadings: Floats | None) -> Change:
    """Change from the scores `before` to those `after`, both (cells, components); `loadings` are (genes, components)."""
    moved = after - before
    mean = _group_means(moved, codes)
    displacement_own = np.linalg.norm(moved - mean[codes], axis=1)
    if loadings is None:
        return Change(moved, displacement_own, None)
    shift = (mean - mean.mean(axis=0)) @ loadings.T
    variance_before, variance_after = (
        _gene_variance(points - _group_means(points, codes)[codes], loadings) for points in (before, after)
    )
    lost = np.full(len(loadings), np.nan)
    known = variance_before > 1e-9 * variance_before.max(initial=0)
    np.divide(variance_before - variance_after, variance_before, out=lost, where=known)
    return Change(moved, displacement_own, GeneChange(shift.T, lost))


def empty_change_table() -> pd.DataFrame:
    """The table of `rank_changed_genes` without rows."""
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in _COLUMNS.items()})


def rank_changed_genes(change: Change, codes: Codes, states: States, loadings: Floats, genes: Labels) -> pd.DataFrame:
    """Genes shifted most in each state beyond its batch: `state`, `gene`, `shift`, `shift_of_batch`, `beyond`."""
    of_batch, of_state = _group_means(change.moved, codes), _group_means(change.moved, states.codes)
    columns: dict[str, list[np.ndarray]] = {name: [] for name in _COLUMNS}
    for number, batch in enumerate(states.batch):
        shift, shift_of_batch = loadings @ of_state[number], loadings @ of_batch[batch]
        beyond = shift - shift_of_batch
        top = np.argsort(-np.abs(beyond), kind="stable")[:_N_GENES]
        values = (np.full(len(top), number), genes[top], shift[top], shift_of_batch[top], beyond[top])
        for name, value in zip(columns, values, strict=True):
            columns[name].append(value)
    return pd.DataFrame({name: np.concatenate(parts) for name, parts in columns.items()})


def _group_means(points: Floats, codes: Codes) -> Floats:
    """Mean of each group, shape (groups, components)."""
    return np.stack([points[codes == group].mean(axis=0) for group in range(int(codes.max()) + 1)])


def _gene_variance(points: Floats, loadings: Floats) -> Floats:
    """Variance of each gene, shape (genes,), of centred scores."""
    covariance = points.T @ points / len(points)
    return np.einsum("gc,cd,gd->g", loadings, covariance, loadings, optimize=True)
