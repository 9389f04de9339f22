"""Batches against a covariate: how strongly they go together, and whether their effects can be told apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from scbatchnorm._data.types import Bools, Codes, Floats

# A level takes part in a batch with this share of the batch's or of the level's cells; fewer are strays.
_STRAYS = 0.05
# A number of which batches explain this share does hardly vary within them.
_EXPLAINED = 0.95
# Quantiles that numbers are divided at.
_BINS = 5


@dataclass(frozen=True)
class Link:
    """How batches and levels of a covariate hang together.

    Effects of batches and levels can be told apart among the levels of one `component`: levels that occur in the same
    batches, directly or through other levels and batches. In the words of regression, the design [batch, covariate] has
    the rank batches + levels - components.
    """

    status: str
    n_components: int
    n_strays: int  # cells whose batches and levels were taken as not meeting

    @property
    def confounded(self) -> bool:
        """Whether no level can be told from the effects of batches."""
        return self.status in {"confounded", "nearly confounded"}


def link(counts: Codes) -> Link:
    """Link of the table `counts` (levels, batches), of which every row and column has cells."""
    n_levels, n_batches = counts.shape
    if n_levels == 1:
        return Link("one level", 1, 0)
    met = counts > 0
    clear = (counts >= _STRAYS * counts.sum(axis=0)) | (counts >= _STRAYS * counts.sum(axis=1, keepdims=True))
    clear &= met
    strays = int(counts[~clear].sum())
    if n_batches == 1:
        return Link("one batch", 1, 0)
    n = _components(clear)
    if n == n_levels:
        status = "confounded" if _components(met) == n_levels else "nearly confounded"
    elif n == 1:
        status = "separable"
    elif n == n_batches:
        status = "nested in batches"
    else:
        status = "partly separable"
    return Link(status, n, strays if status == "nearly confounded" else 0)


def _components(met: Bools) -> int:
    """Number of connected pieces of levels and batches, by which of them meet (levels, batches)."""
    edges = sparse.csr_matrix(met)
    graph = sparse.bmat([[None, edges], [edges.T, None]])
    return int(sparse.csgraph.connected_components(graph, directed=False)[0])


def cramers_v(counts: Codes) -> float:
    """Cramer's V with Bergsma's correction for the bias of few cells, from 0 (independent) to 1 (one tells the other).

    nan where there is only one row or column.
    """
    counts = np.asarray(counts, dtype=float)
    n, (rows, columns) = counts.sum(), counts.shape
    if min(rows, columns) < 2 or n < 2:
        return float("nan")
    expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0) / n
    phi = float((np.square(counts - expected) / expected).sum()) / n
    phi = max(0.0, phi - (rows - 1) * (columns - 1) / (n - 1))
    # Levels, with what is expected by chance taken off.
    freedom = [size - (size - 1) ** 2 / (n - 1) - 1 for size in (rows, columns)]
    return float(np.sqrt(min(1.0, phi / min(freedom)))) if min(freedom) > 0 else float("nan")


def link_of_numbers(values: Floats, codes: Codes) -> Link:
    """Link of numbers, by which a linear effect is meant: it needs variation within batches."""
    if len(np.unique(values)) == 1:
        return Link("one level", 1, 0)
    if len(np.unique(codes)) == 1:
        return Link("one batch", 1, 0)
    share = _between(values, codes)[0]
    n = len(np.unique(codes))
    if share >= 1 - 1e-9:
        return Link("confounded", n, 0)
    if share >= _EXPLAINED:
        return Link("nearly confounded", n, 0)
    return Link("separable", 1, 0)


def correlation_ratio(values: Floats, codes: Codes) -> float:
    """Correlation ratio of numbers and batches, from 0 to 1: root of the share of variance between batches.

    What is expected by chance is subtracted. nan where there is one batch only, or one value.
    """
    share, n_batches = _between(values, codes)
    n = len(values)
    if n_batches < 2 or np.isnan(share):
        return float("nan")
    if n > n_batches:
        share = 1 - (1 - share) * (n - 1) / (n - n_batches)
    return float(np.sqrt(np.clip(share, 0, 1)))


def _between(values: Floats, codes: Codes) -> tuple[float, int]:
    """Share of the variance of numbers between batches, nan without variance, and the number of batches."""
    codes = np.unique(codes, return_inverse=True)[1]
    sizes = np.bincount(codes)
    values = values / (np.abs(values).max() or 1)  # any unit: squares of large numbers would be infinite
    values = values - values.mean()
    total = float(np.square(values).sum())
    if not total > 0:
        return float("nan"), len(sizes)
    return float(np.square(np.bincount(codes, values) / sizes) @ sizes) / total, len(sizes)


def binned(values: Floats) -> tuple[Codes, list[str]]:
    """Numbers as levels: bin of each, shape (cells,), between quantiles, and the bins' names in ascending order."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, _BINS + 1)))
    found = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, max(len(edges) - 2, 0))
    present, codes = np.unique(found, return_inverse=True)
    names = [f"{values[codes == code].min():g} to {values[codes == code].max():g}" for code in range(len(present))]
    return codes, names
