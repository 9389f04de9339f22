"""The reference cells that a fitted model keeps, and how novel other cells are beside them.

Two scores say how novel a cell is: its Mahalanobis distance to the nearest reference cells (`ReferenceDensity`), and the squared
expression of its neighbourhood that the principal components of the reference do not explain (`BatchModel`). Both are compared with
their null distribution: the scores of reference cells whose own batch was held out.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from scbatchnorm._method.anchors import cells_per_batch, find_anchors, find_nearest, sketch_batches
from scbatchnorm._method.stem import fit_stem
from scbatchnorm._runtime.device import one_blas_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from scbatchnorm._data.types import Bools, Codes, Floats, Matrix
    from scbatchnorm._method.stem import Stem

#: Fewest cells of a batch, or of the cells it is compared with, from which an offset or a null distribution is estimated.
MIN_CELLS = 20
# Neighbours that expression is averaged over before the stem is subtracted, and genes with the largest residual that are summed.
_POOLED_NEIGHBORS = 15
_TOP_GENES = 20
# Neighbours among the reference cells whose mean a distance is measured to.
_LOCAL_NEIGHBORS = 15
# Shrinkage of the local covariance towards a multiple of the identity: components of hardly any variance would dominate otherwise.
_SHRINKAGE = 0.2
# Batches that are held out one after the other, cells of the held-out batch and of the others, and the share of a cell's neighbours that
# must have anchors in other batches for its state to count as shared.
_HELD_OUT_BATCHES = 3
_HELD_OUT_CELLS = 400
_OTHER_CELLS = 1000
_MIN_ANCHORED = 0.2
# Rows handled at once; no result depends on it.
_ROWS = 2048


@dataclass(frozen=True)
class ReferenceCells:
    """Random cells of every batch, at most 1000 of each and 16 000 in all, and the null distribution of unexplained expression."""

    points: Floats  # (cells, components) before offsets, float32
    codes: Codes  # (cells,) batch of each
    unexplained: Floats  # (held-out cells,) see `unexplained_when_held_out`; empty where it is not known

    @classmethod
    def none(cls) -> ReferenceCells:
        """No cells."""
        return cls(np.empty((0, 0), np.float32), np.empty(0, np.int64), np.empty(0, np.float32))

    def fingerprint(self) -> str:
        """SHA-256 of the arrays, in hexadecimal."""
        arrays = (self.points.astype("<f4"), self.codes.astype("<i8"), self.unexplained.astype("<f4"))
        return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def sketch_reference(
    X: Matrix,
    codes: Codes,
    stem: Stem,
    correct: Callable[[Floats, Codes], Floats],
    n_neighbors: int,
    rng: np.random.Generator,
    *,
    held_out: bool,
) -> ReferenceCells:
    """Sketch of the cells of a fit.

    Parameters
    ----------
    X, codes
        Features of the cells, (cells, features), and the batch of each.
    stem
        Of the fitted model.
    correct
        Function that gives the corrected components of components (cells, components) and batches (cells,).
    n_neighbors
        Nearest neighbours that make two cells anchors if mutual.
    rng
        Draws the cells, and the batches that are held out.
    held_out
        Whether to compute the null distribution of unexplained expression; not of a representation.
    """
    rows = sketch_batches(codes, cells_per_batch(int(codes.max()) + 1), rng)
    X, codes = X[rows], codes[rows].astype(np.int64)
    points = stem.encode(X)
    unexplained = np.empty(0, np.float32)
    if held_out:
        latent = correct(points, codes)
        with one_blas_thread():
            unexplained = unexplained_when_held_out(X, latent, codes, points.shape[1], n_neighbors, rng)
    return ReferenceCells(points, codes, unexplained)


def unexplained_expression(X: Matrix, stem: Stem, rng: np.random.Generator) -> Floats:
    """Expression of the cells of one batch that the `stem` does not explain, shape (cells,), in squared units of `X` (cells, genes).

    See `BatchModel`.
    """
    sketch = sketch_batch(X.shape[0], rng)
    batch_model = BatchModel(X[sketch], stem, rng)
    return batch_model.unexplained(batch_model.stem.encode(X), sketch)


def sketch_batch(n_cells: int, rng: np.random.Generator) -> Codes:
    """Positions of at most 1000 random cells of a batch of `n_cells`, in ascending order."""
    return sketch_batches(np.zeros(n_cells, np.intp), cells_per_batch(1), rng)


class BatchModel:
    """Principal components of one batch, and its expression that the stem of the reference does not explain.

    Expression is averaged over the 15 nearest neighbours of a cell in the principal components of its own batch, in which a type
    that the reference lacks is separate. From each average its reconstruction by the stem of the reference is subtracted. The median
    of these residuals over all cells, which is the effect of the batch on every cell, is subtracted as well. The score of a
    cell is the sum of squares of the 20 largest residuals, negative ones counted as 0.

    Parameters
    ----------
    X
        Expression of a sketch of the batch, (cells, genes).
    reference_stem
        Stem of the reference, restricted to these genes.
    rng
        Draws the start vectors of the decomposition.
    """

    def __init__(self, X: Matrix, reference_stem: Stem, rng: np.random.Generator) -> None:
        n_components = reference_stem.components.shape[1]
        self._X, self._reference_stem = X, reference_stem
        self.stem, _ = fit_stem(X, "pca", n_components, n_components, rng)

    def unexplained(self, points: Floats, sketch: Codes) -> Floats:
        """Unexplained expression of all cells of the batch, shape (cells,).

        Parameters
        ----------
        points
            Components of the cells by `stem`, shape (cells, components).
        sketch
            Positions of the cells that the model was fitted to.
        """
        neighbors = find_nearest(points, points[sketch], min(_POOLED_NEIGHBORS, max(1, len(sketch) // 4)))
        batch_effect = np.median(self._residuals(neighbors[sketch]), axis=0)
        scores = np.empty(len(points), dtype=np.float32)
        for start in range(0, len(scores), _ROWS):
            positive = np.maximum(self._residuals(neighbors[start : start + _ROWS]) - batch_effect, 0)
            n_genes = min(_TOP_GENES, positive.shape[1])
            largest = np.partition(positive, positive.shape[1] - n_genes, axis=1)[:, positive.shape[1] - n_genes :]
            scores[start : start + _ROWS] = np.square(largest).sum(axis=1)
        return scores

    def _residuals(self, neighbors: Codes) -> Floats:
        """Mean expression over the `neighbors` (rows, neighbours) in the sketch, minus its reconstruction by the stem, (rows, genes)."""
        n, k = neighbors.shape
        averaging = sparse.csr_matrix(
            (np.full(n * k, 1 / k, np.float32), (np.repeat(np.arange(n), k), neighbors.ravel())),
            shape=(n, self._X.shape[0]),
        )
        mean = averaging @ self._X
        mean = mean.toarray() if sparse.issparse(mean) else np.asarray(mean)
        return mean - self._reference_stem.decode(self._reference_stem.encode(mean))


def unexplained_when_held_out(
    X: Matrix, latent: Floats, codes: Codes, n_components: int, n_neighbors: int, rng: np.random.Generator
) -> Floats:
    """Null distribution of `unexplained_expression`: its values where the stem was fitted to other batches, ascending.

    Only cells whose state other batches have too are counted. A single batch is split in two at random.

    Parameters
    ----------
    X
        Expression of a sketch of all batches, (cells, genes).
    latent
        Corrected components of these cells, (cells, components).
    codes
        Their batches.
    n_components
        Of the stems.
    n_neighbors
        Nearest neighbours that make two cells anchors if mutual.
    rng
        Draws the batches that are held out, and cells of these and of the others.

    Returns
    -------
    Shape (held-out cells,); empty if no batch has enough cells.
    """
    if codes.max() == 0:
        codes = rng.permutation(np.arange(len(codes)) % 2)
    scores = []
    for level in rng.permutation(int(codes.max()) + 1)[:_HELD_OUT_BATCHES]:
        held_out = rng.permutation(np.flatnonzero(codes == level))[:_HELD_OUT_CELLS]
        others = rng.permutation(np.flatnonzero(codes != level))[:_OTHER_CELLS]
        if min(len(held_out), len(others)) < MIN_CELLS:
            continue
        stem, _ = fit_stem(X[others], "pca", n_components, n_components, rng)
        shared = _in_shared_state(latent[held_out], latent[others], n_neighbors)
        scores.append(unexplained_expression(X[held_out], stem, rng)[shared])
    return np.sort(np.concatenate(scores)) if scores else np.empty(0, np.float32)


def _in_shared_state(cells: Floats, others: Floats, n_neighbors: int) -> Bools:
    """Whether a fifth of the neighbours of each of the `cells` have anchors among the `others`, shape (cells,)."""
    codes = np.repeat([0, 1], [len(cells), len(others)])
    anchors = find_anchors(np.concatenate([cells, others]), codes, n_neighbors)
    anchored = np.zeros(len(cells), bool)
    anchored[anchors.left] = True
    return anchored[find_nearest(cells, cells, _LOCAL_NEIGHBORS)].mean(axis=1) >= _MIN_ANCHORED


class ReferenceDensity:
    """Mahalanobis distances to the reference cells; the covariance is that of the differences of cells from their local means.

    Parameters
    ----------
    points
        Components of reference cells, shape (cells, components).
    codes
        Their batches.
    rng
        Splits a single batch in two.
    """

    def __init__(self, points: Floats, codes: Codes, rng: np.random.Generator) -> None:
        neighbors = find_nearest(points, points, _LOCAL_NEIGHBORS + 1)[:, 1:]
        differences = points - points[neighbors].mean(axis=1)
        covariance = np.atleast_2d(differences.T @ differences) / len(points)
        sphere = _SHRINKAGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
        covariance = (1 - _SHRINKAGE) * covariance + sphere
        variances, axes = np.linalg.eigh(covariance.astype(np.float64))
        self._whitening = (axes / np.sqrt(np.maximum(variances, 1e-12))).astype(np.float32)
        self._points = points @ self._whitening
        self._codes = codes
        if codes.max() == 0:
            self._codes = rng.permutation(np.arange(len(codes)) % 2)

    def distance(self, points: Floats) -> Floats:
        """Distance of cells to the mean of their 15 nearest reference cells, shape (cells,)."""
        return _distance_to_local_mean(points @ self._whitening, self._points)

    def distance_when_held_out(self) -> Floats:
        """Null distribution of `distance`: that of reference cells to those of other batches, shape (cells,), ascending."""
        distances = []
        for level in range(int(self._codes.max()) + 1):
            held_out = self._codes == level
            if held_out.any() and (~held_out).sum() >= MIN_CELLS:
                distances.append(_distance_to_local_mean(self._points[held_out], self._points[~held_out]))
        return np.sort(np.concatenate(distances)) if distances else np.empty(0, np.float32)


def _distance_to_local_mean(points: Floats, reference: Floats) -> Floats:
    """Euclidean distance of each of the `points` to the mean of its nearest cells of the reference, shape (cells,)."""
    distances = np.empty(len(points), np.result_type(points, reference))
    for start in range(0, len(points), _ROWS):
        chunk = points[start : start + _ROWS]
        local_mean = reference[find_nearest(chunk, reference, _LOCAL_NEIGHBORS)].mean(axis=1)
        distances[start : start + _ROWS] = np.linalg.norm(chunk - local_mean, axis=1)
    return distances
