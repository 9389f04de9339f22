"""Association of batches with a covariate: how strong it is, and whether the effects of both can be separated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scbatchnorm._data.types import Bools, Codes, Floats, Labels

# A level counts as present in a batch with at least this share of the batch's or of the level's cells; fewer are strays.
_STRAY_SHARE = 0.05
# Above this share of the variance between batches, a numeric covariate hardly varies within them.
_EXPLAINED = 0.95
# Bins of a numeric covariate, between quantiles.
_N_BINS = 5

ASSOCIATION_COLUMNS = ["levels", "measure", "value", "status", "confounded", "components", "strays", "missing"]


@dataclass(frozen=True)
class Column:
    """A column of `obs`: `codes` (cells,) of its `levels`, -1 where a value is missing; `numbers` (cells,) if numeric."""

    name: str
    codes: Codes
    levels: Labels
    numbers: Floats | None = None


@dataclass(frozen=True)
class Confounding:
    """Whether effects of batches and of the levels of a covariate can be separated.

    They can among the levels of one connected component: levels that occur in the same batches, directly or through
    other levels and batches. The design matrix [batch, covariate] has the rank batches + levels - components.
    """

    status: str
    n_components: int
    n_strays: int  # cells in combinations of batch and level that were ignored as too rare

    @property
    def confounded(self) -> bool:
        """Whether the effect of no level can be separated from those of batches."""
        return self.status in {"confounded", "nearly confounded"}


def classify_levels(counts: Codes) -> Confounding:
    """Confounding of a categorical covariate by its `counts` (levels, batches); no row or column is empty."""
    n_levels, n_batches = counts.shape
    if n_levels == 1:
        return Confounding("one level", 1, 0)
    if n_batches == 1:
        return Confounding("one batch", 1, 0)
    present = counts > 0
    frequent = (counts >= _STRAY_SHARE * counts.sum(axis=0)) | (
        counts >= _STRAY_SHARE * counts.sum(axis=1, keepdims=True)
    )
    frequent &= present
    n_strays = int(counts[~frequent].sum())
    n_components = _count_components(frequent)
    if n_components == n_levels:
        status = "confounded" if _count_components(present) == n_levels else "nearly confounded"
    elif n_components == 1:
        status = "separable"
    elif n_components == n_batches:
        status = "nested in batches"
    else:
        status = "partly separable"
    return Confounding(status, n_components, n_strays if status == "nearly confounded" else 0)


def _count_components(present: Bools) -> int:
    """Connected components of the bipartite graph of levels and batches with the adjacency `present` (levels, batches)."""
    edges = sparse.csr_matrix(present)
    graph = sparse.bmat([[None, edges], [edges.T, None]])
    return int(sparse.csgraph.connected_components(graph, directed=False)[0])


def cramers_v(counts: Codes) -> float:
    """Cramer's V with Bergsma's bias correction, from 0 (independent) to 1 (one determines the other).

    nan where there is only one row or column.
    """
    counts = np.asarray(counts, dtype=float)
    n, (rows, columns) = counts.sum(), counts.shape
    if min(rows, columns) < 2 or n < 2:
        return float("nan")
    expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0) / n
    phi = float((np.square(counts - expected) / expected).sum()) / n
    phi = max(0.0, phi - (rows - 1) * (columns - 1) / (n - 1))
    # Degrees of freedom of rows and columns, bias subtracted.
    freedom = [size - (size - 1) ** 2 / (n - 1) - 1 for size in (rows, columns)]
    return float(np.sqrt(min(1.0, phi / min(freedom)))) if min(freedom) > 0 else float("nan")


def classify_numbers(values: Floats, codes: Codes) -> Confounding:
    """Confounding of a numeric covariate: a linear effect can be estimated if `values` vary within batches."""
    if len(np.unique(values)) == 1:
        return Confounding("one level", 1, 0)
    share, n_batches = _variance_between(values, codes)
    if n_batches == 1:
        return Confounding("one batch", 1, 0)
    if share >= 1 - 1e-9:
        return Confounding("confounded", n_batches, 0)
    if share >= _EXPLAINED:
        return Confounding("nearly confounded", n_batches, 0)
    return Confounding("separable", 1, 0)


def correlation_ratio(values: Floats, codes: Codes) -> float:
    """Correlation ratio of numbers and batches, from 0 to 1: square root of the share of variance between batches.

    The share expected by chance is subtracted. nan where there is one batch only, or one value.
    """
    share, n_batches = _variance_between(values, codes)
    n = len(values)
    if n_batches < 2 or np.isnan(share):
        return float("nan")
    if n > n_batches:
        share = 1 - (1 - share) * (n - 1) / (n - n_batches)
    return float(np.sqrt(np.clip(share, 0, 1)))


def _variance_between(values: Floats, codes: Codes) -> tuple[float, int]:
    """Share of the variance of numbers between batches, nan without variance, and the number of batches."""
    codes = np.unique(codes, return_inverse=True)[1]
    sizes = np.bincount(codes)
    values = values / (np.abs(values).max() or 1)  # squares of large numbers would be infinite
    values = values - values.mean()
    total = float(np.square(values).sum())
    if not total > 0:
        return float("nan"), len(sizes)
    return float(np.square(np.bincount(codes, values) / sizes) @ sizes) / total, len(sizes)


def bin_numbers(values: Floats) -> tuple[Codes, list[str]]:
    """Bin of each number, shape (cells,), between quantiles, and the names of the bins in ascending order."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, _N_BINS + 1)))
    bins = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, max(len(edges) - 2, 0))
    present, codes = np.unique(bins, return_inverse=True)
    names = [f"{values[codes == code].min():g} to {values[codes == code].max():g}" for code in range(len(present))]
    return codes, names


def count_levels(column: Column, batch: Column) -> Codes:
    """Cells of each level in each batch, shape (levels, batches)."""
    known = column.codes >= 0
    pairs = column.codes[known] * len(batch.levels) + batch.codes[known]
    shape = (len(column.levels), len(batch.levels))
    return np.bincount(pairs, minlength=shape[0] * shape[1]).reshape(shape)


def make_association_table(columns: Sequence[Column], batch: Column) -> pd.DataFrame:
    """The table `Assessment.association`: a row for each covariate."""
    rows = [_associate(column, batch) for column in columns]
    index = pd.Index([column.name for column in columns], dtype=object)
    return pd.DataFrame(rows, index=index, columns=ASSOCIATION_COLUMNS)


def _associate(column: Column, batch: Column) -> list[object]:
    """A row of the association table."""
    known = column.codes >= 0
    if not known.any():
        confounding, value = Confounding("no values", 0, 0), float("nan")
    elif column.numbers is None:
        counts = count_levels(column, batch)
        counts = counts[:, counts.any(axis=0)]
        confounding, value = classify_levels(counts), cramers_v(counts)
    else:
        confounding = classify_numbers(column.numbers[known], batch.codes[known])
        value = correlation_ratio(column.numbers[known], batch.codes[known])
    return [
        len(column.levels),
        "Cramer's V" if column.numbers is None else "correlation ratio",
        value,
        confounding.status,
        confounding.confounded,
        confounding.n_components,
        confounding.n_strays,
        int((~known).sum()),
    ]


def make_design_table(columns: Sequence[Column], batch: Column) -> pd.DataFrame:
    """The table `Assessment.design`: cells of each level of each covariate (rows) in each batch (columns)."""
    names = pd.Index(batch.levels, dtype=object)
    rows = [(column.name, str(level)) for column in columns for level in column.levels]
    counts = np.concatenate(
        [np.zeros((0, len(names)), dtype=int), *(count_levels(column, batch) for column in columns)]
    )
    levels = [[row[0] for row in rows], [row[1] for row in rows]]
    return pd.DataFrame(counts, pd.MultiIndex.from_arrays(levels, names=["covariate", "level"]), names)
