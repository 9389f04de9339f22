"""Corrected expression: ridge regressions of genes on corrected components in each batch. Arrays in and out, no AnnData.

The value of a gene is the prediction for the state of the cell in its own batch, plus a residual. The prediction is replaced by that for
the target, and the residual is rescaled by the ratio of the standard deviations of residuals in target and own batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scbatchnorm._data.types import Codes, Floats, Matrix

# Cells that are dense at once; no value depends on it.
_CHUNK = 1024
# Ridge penalties, in cells: of the slopes that batches share, and of the deviations of a batch from the shared intercept and slopes.
# The last one is large, for batch effects are mostly shifts of a gene and seldom depend on the state.
# Chosen by the error to the truth of planted and simulated batches; a factor of 3 either way changes little.
_SHARED_SLOPES, _INTERCEPT, _SLOPES = 1.0, 3.0, 2000.0
# Weight, in cells, of the variance of residuals pooled over batches, and the largest factor by which residuals are rescaled.
_POOLED_CELLS, _MAX_RESCALING = 100.0, 2.0


@dataclass(frozen=True)
class Covariates:
    """What the expression of cells is regressed on, and how much of the correction they get."""

    points: Floats  # (cells, components) corrected components, of mean variance 1
    codes: Codes  # (cells,) batches, counted from 0
    strength: Floats  # (cells,) share of the correction that is applied, from 0 to 1

    def __getitem__(self, rows: slice) -> Covariates:
        return Covariates(self.points[rows], self.codes[rows], self.strength[rows])


@dataclass(frozen=True)
class Sums:
    """Sufficient statistics of the regressions: sums over cells, weighted by their strength; those of several blocks add up."""

    n: Floats  # (batches,)
    gram: Floats  # (batches, 1 + components, 1 + components)
    cross: Floats  # (batches, 1 + components, genes)
    squares: Floats  # (batches, genes)

    @classmethod
    def zeros(cls, n_batches: int, n_components: int, n_genes: int) -> Sums:
        """Sums over no cells."""
        width = 1 + n_components
        return cls(
            np.zeros(n_batches),
            np.zeros((n_batches, width, width)),
            np.zeros((n_batches, width, n_genes)),
            np.zeros((n_batches, n_genes)),
        )

    def add_cells(self, X: Matrix, cells: Covariates) -> None:
        """Add cells, in place; `X` is their log-normalised expression (cells, genes), dense or sparse.

        Cells of strength 0 are without influence.
        """
        design = _design_matrix(cells.points)
        for batch in np.unique(cells.codes):
            rows = np.flatnonzero(cells.codes == batch)
            values, predictors, weight = X[rows], design[rows], cells.strength[rows].astype(np.float64)
            weighted = predictors * weight[:, None]
            squares = values.multiply(values) if sparse.issparse(values) else np.square(values, dtype=np.float64)
            self.n[batch] += weight.sum()
            self.gram[batch] += predictors.T @ weighted
            self.cross[batch] += (values.T @ weighted).T
            self.squares[batch] += squares.T @ weight

    def add_block(self, block: BlockSums) -> None:
        """Add the sums over a block of cells, in place: they take gigabytes where genes and batches are many."""
        for i, batch in enumerate(block.batches):
            for name in ("n", "gram", "cross", "squares"):
                getattr(self, name)[batch] += getattr(block.sums, name)[i]


@dataclass(frozen=True)
class BlockSums:
    """Sums over a block of cells, of the batches that it has."""

    batches: Codes  # (batches of the block,) ascending
    sums: Sums


@dataclass(frozen=True)
class Regression:
    """Expression of each gene in each batch as a linear function of the components, with a residual."""

    weights: Floats  # (batches, 1 + components, genes) the intercept first
    spread: Floats  # (batches, genes) standard deviation of the residual


@dataclass(frozen=True)
class Correction:
    """Affine map of expression: `scale` times the value plus the product of `weights` with the components, at strength 1."""

    weights: Floats  # (batches, 1 + components, genes) the intercept first
    scale: Floats  # (batches, genes)

    def apply(self, X: Matrix, cells: Covariates) -> Floats:
        """Corrected expression of a few cells, float32 of shape (cells, genes), never negative; `X` is not changed."""
        corrected = np.empty(X.shape, dtype=np.float32)
        design = _design_matrix(cells.points).astype(np.float32)
        for batch in np.unique(cells.codes):
            rows = np.flatnonzero(cells.codes == batch)
            values = X[rows].toarray() if sparse.issparse(X) else X[rows]
            change = values * (self.scale[batch] - 1) + design[rows] @ self.weights[batch]
            corrected[rows] = values + cells.strength[rows, None] * change
        return np.maximum(corrected, 0, out=corrected)


def split_rows(n_cells: int) -> Iterator[slice]:
    """Consecutive slices of at most 1024 rows, which are dense at once."""
    for start in range(0, n_cells, _CHUNK):
        yield slice(start, min(start + _CHUNK, n_cells))


def sum_block(read_rows: Callable[[slice], Matrix], cells: Covariates, n_genes: int) -> BlockSums:
    """Sums over the cells of a block; `read_rows` gives the expression of some rows of it."""
    batches, codes = np.unique(cells.codes, return_inverse=True)
    cells = Covariates(cells.points, codes, cells.strength)
    sums = Sums.zeros(len(batches), cells.points.shape[1], n_genes)
    for rows in split_rows(len(codes)):
        sums.add_cells(read_rows(rows), cells[rows])
    return BlockSums(batches, sums)


def fit_regressions(sums: Sums) -> Regression:
    """Ridge regressions of all genes: intercept and slopes that batches share, plus the deviation of each batch from these.

    The prediction for a batch without cells is the shared one.
    """
    n_batches, width, n_genes = sums.cross.shape
    shared_penalty = np.full(width, _SHARED_SLOPES)
    shared_penalty[0] = 0
    batch_penalty = np.diag(np.full(width, _SLOPES))
    batch_penalty[0, 0] = _INTERCEPT
    # Eliminating the deviations of the batches from the normal equations leaves a small system for the shared weights.
    system, right_side = np.diag(shared_penalty), np.zeros((width, n_genes))
    for gram, cross in zip(sums.gram, sums.cross, strict=True):
        system += gram - gram @ np.linalg.solve(gram + batch_penalty, gram)
        right_side += cross - gram @ np.linalg.solve(gram + batch_penalty, cross)
    shared = np.linalg.solve(system, right_side)
    weights = np.empty((n_batches, width, n_genes), dtype=np.float32)
    squares = np.empty((n_batches, n_genes))
    for batch, (gram, cross) in enumerate(zip(sums.gram, sums.cross, strict=True)):
        total = shared + np.linalg.solve(gram + batch_penalty, cross - gram @ shared)
        explained = np.einsum("wg,wg->g", total, 2 * cross - gram @ total)
        squares[batch] = np.maximum(sums.squares[batch] - explained, 0)
        weights[batch] = total
    pooled = squares.sum(axis=0) / sums.n.sum()
    variance = (squares + _POOLED_CELLS * pooled) / (sums.n + _POOLED_CELLS)[:, None]
    return Regression(weights, np.sqrt(variance))


def correct_towards(regression: Regression, target: Codes) -> Correction:
    """Correction of each batch towards the average of the batches `target`; of one batch: towards that batch."""
    weights, spread = regression.weights[target].mean(axis=0), regression.spread[target].mean(axis=0)
    # Residuals that are all 0 are not rescaled.
    ratio = np.divide(spread, regression.spread, out=np.ones_like(regression.spread), where=regression.spread > 0)
    scale = np.clip(ratio, 1 / _MAX_RESCALING, _MAX_RESCALING).astype(np.float32)
    return Correction(weights - scale[:, None, :] * regression.weights, scale)


def correct_layer(
    read_rows: Callable[[slice], Matrix],
    shape: tuple[int, int],
    columns: Codes | slice,
    correction: Correction | None,
    cells: Covariates | None,
    threshold: float | None,
) -> Matrix:
    """Corrected expression of all genes, float32 of this `shape` (cells, genes), a few cells at a time.

    Parameters
    ----------
    read_rows
        Expression of some rows, dense or CSR; it is not changed.
    shape
        Of the expression.
    columns
        Genes that are corrected; the others are copied.
    correction, cells
        Of these genes, and the covariates of all cells. `None`: expression is copied.
    threshold
        Values below it become 0, and the result is CSR. `None`: it is dense.
    """
    parts, layer = [], np.empty(shape if threshold is None else (0, 0), dtype=np.float32)
    for rows in split_rows(shape[0]):
        measured = read_rows(rows)
        values = measured.toarray() if sparse.issparse(measured) else measured.copy()
        if correction is not None and cells is not None:
            values[:, columns] = correction.apply(measured[:, columns], cells[rows])
        if threshold is None:
            layer[rows] = values
        else:
            values[values < threshold] = 0
            parts.append(sparse.csr_matrix(values))
    if threshold is None:
        return layer
    return sparse.vstack(parts, format="csr") if parts else sparse.csr_matrix(shape, dtype=np.float32)


def _design_matrix(points: Floats) -> Floats:
    """Components with a column of ones before them, for the intercept, (cells, 1 + components)."""
    return np.column_stack([np.ones(len(points)), points])
