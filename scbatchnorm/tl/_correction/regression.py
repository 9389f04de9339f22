"""Corrected expression: each gene regressed on the corrected components, batch by batch, with arrays and no AnnData.

A value is split into what the cell's state and batch predict and a residual. The prediction for the own batch is
replaced by that for the target, and the residual, in units of its spread in the own batch, is kept.
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
# Ridge penalties, in cells: of the slopes all batches share, and of what a batch adds to the intercept and to the
# slopes. The last one is large: between batches a gene is shifted far more often than it follows the state differently.
# Chosen by the error to the truth of planted and simulated batches; a factor of 3 either way changes little.
_SHARED, _INTERCEPT, _SLOPES = 1.0, 3.0, 2000.0
# Cells that speak for the spread that batches share, and the most that a residual is stretched or shrunk.
_SPREAD, _STRETCH = 100.0, 2.0


@dataclass(frozen=True)
class Cells:
    """What is known about cells beside their expression."""

    points: Floats  # (cells, components): corrected components, of mean variance 1
    codes: Codes  # (cells,): batches, counted from 0
    strength: Floats  # (cells,): share of the correction that is applied, from 0 to 1

    def __getitem__(self, rows: slice) -> Cells:
        return Cells(self.points[rows], self.codes[rows], self.strength[rows])


@dataclass(frozen=True)
class Sums:
    """Sums over cells, weighted by their strength, that the regressions need; those of several chunks add up."""

    n: Floats  # (batches,)
    gram: Floats  # (batches, 1 + components, 1 + components)
    cross: Floats  # (batches, 1 + components, genes)
    squares: Floats  # (batches, genes)

    def add(self, part: Part) -> None:
        """Add the sums over a block of cells, in place: there are gigabytes of them where genes and batches are many."""
        for own, batch in enumerate(part.batches):
            for name in ("n", "gram", "cross", "squares"):
                getattr(self, name)[batch] += getattr(part.sums, name)[own]


@dataclass(frozen=True)
class Part:
    """Sums over a block of cells, of the batches that it has."""

    batches: Codes  # (batches of the block,), ascending
    sums: Sums


@dataclass(frozen=True)
class Regression:
    """Expression of a gene in a batch: linear in the components, with a residual."""

    weights: Floats  # (batches, 1 + components, genes), the intercept first
    spread: Floats  # (batches, genes), standard deviation of the residual


@dataclass(frozen=True)
class Correction:
    """What becomes of a value at full strength: `scale` times the value plus what `weights` make of the components."""

    weights: Floats  # (batches, 1 + components, genes)
    scale: Floats  # (batches, genes)

    def apply(self, X: Matrix, cells: Cells) -> Floats:
        """Corrected expression of a few cells, float32 of shape (cells, genes), never negative; `X` is not changed."""
        corrected = np.empty(X.shape, dtype=np.float32)
        design = _design(cells.points).astype(np.float32)
        for batch in np.unique(cells.codes):
            rows = np.flatnonzero(cells.codes == batch)
            values = X[rows].toarray() if sparse.issparse(X) else X[rows]
            change = values * (self.scale[batch] - 1) + design[rows] @ self.weights[batch]
            corrected[rows] = values + cells.strength[rows, None] * change
        return np.maximum(corrected, 0, out=corrected)


def chunks(n_cells: int) -> Iterator[slice]:
    """Rows that are handled at once, one after the other."""
    for start in range(0, n_cells, _CHUNK):
        yield slice(start, min(start + _CHUNK, n_cells))


def no_sums(n_batches: int, n_components: int, n_genes: int) -> Sums:
    """Sums of no cells, to be added to by `add`."""
    width = 1 + n_components
    return Sums(
        np.zeros(n_batches),
        np.zeros((n_batches, width, width)),
        np.zeros((n_batches, width, n_genes)),
        np.zeros((n_batches, n_genes)),
    )


def part(read: Callable[[slice], Matrix], cells: Cells, n_genes: int) -> Part:
    """Sums over the cells of a block, of which `read` gives the expression of some rows."""
    batches, codes = np.unique(cells.codes, return_inverse=True)
    cells = Cells(cells.points, codes, cells.strength)
    sums = no_sums(len(batches), cells.points.shape[1], n_genes)
    for rows in chunks(len(codes)):
        add(sums, read(rows), cells[rows])
    return Part(batches, sums)


def add(sums: Sums, X: Matrix, cells: Cells) -> None:
    """Add cells to `sums`, in place; `X` is their log-normalised expression (cells, genes), a sparse one stays so.

    Cells that are not corrected have no say in how others are.
    """
    design = _design(cells.points)
    for batch in np.unique(cells.codes):
        rows = np.flatnonzero(cells.codes == batch)
        values, known, weight = X[rows], design[rows], cells.strength[rows].astype(np.float64)
        weighted = known * weight[:, None]
        squares = values.multiply(values) if sparse.issparse(values) else np.square(values, dtype=np.float64)
        sums.n[batch] += weight.sum()
        sums.gram[batch] += known.T @ weighted
        sums.cross[batch] += (values.T @ weighted).T
        sums.squares[batch] += squares.T @ weight


def regress(sums: Sums) -> Regression:
    """Ridge regressions of all genes: slopes that batches share, and what each batch adds to intercept and slopes.

    A batch without cells predicts what all share.
    """
    n_batches, width, n_genes = sums.cross.shape
    shared = np.full(width, _SHARED)
    shared[0] = 0
    own = np.diag(np.full(width, _SLOPES))
    own[0, 0] = _INTERCEPT
    # What a batch adds is eliminated from the normal equations, which leaves a small system for what all share.
    system, right = np.diag(shared), np.zeros((width, n_genes))
    for gram, cross in zip(sums.gram, sums.cross, strict=True):
        system += gram - gram @ np.linalg.solve(gram + own, gram)
        right += cross - gram @ np.linalg.solve(gram + own, cross)
    common = np.linalg.solve(system, right)
    weights = np.empty((n_batches, width, n_genes), dtype=np.float32)
    squares = np.empty((n_batches, n_genes))
    for batch, (gram, cross) in enumerate(zip(sums.gram, sums.cross, strict=True)):
        total = common + np.linalg.solve(gram + own, cross - gram @ common)
        explained = np.einsum("wg,wg->g", total, 2 * cross - gram @ total)
        squares[batch] = np.maximum(sums.squares[batch] - explained, 0)
        weights[batch] = total
    pooled = squares.sum(axis=0) / sums.n.sum()
    variance = (squares + _SPREAD * pooled) / (sums.n + _SPREAD)[:, None]
    return Regression(weights, np.sqrt(variance))


def correction(regression: Regression, toward: Codes) -> Correction:
    """What is done to the values of each batch.

    Parameters
    ----------
    regression
        Of all genes.
    toward
        Batches to whose average all are moved; one of them: to that batch.
    """
    weights, spread = regression.weights[toward].mean(axis=0), regression.spread[toward].mean(axis=0)
    # Where there is no residual there is nothing to stretch.
    ratio = np.divide(spread, regression.spread, out=np.ones_like(regression.spread), where=regression.spread > 0)
    scale = np.clip(ratio, 1 / _STRETCH, _STRETCH).astype(np.float32)
    return Correction(weights - scale[:, None, :] * regression.weights, scale)


def _design(points: Floats) -> Floats:
    """Components with a one before them, for the intercept."""
    return np.column_stack([np.ones(len(points)), points])
