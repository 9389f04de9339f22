"""How far new cells are from everything the reference has: in its space, and in the expression that this space cannot say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from scbatchnorm._method.anchors import cells_per_batch, find_anchors, find_nearest, sketch_batches
from scbatchnorm._method.stem import fit_stem

if TYPE_CHECKING:
    from scbatchnorm._data.types import Bools, Codes, Floats, Matrix
    from scbatchnorm._method.stem import Stem

# Cells that a profile is the mean of, and genes of it that are looked at: those that markers of a new type are among.
_POOLED = 15
_GENES = 20
# Reference cells that a new cell is compared with.
_LOCAL = 15
# Share of a sphere in the spread around local means: without it directions of hardly any spread would decide.
_SHRINKAGE = 0.2
# Batches held out one after the other, cells of these and of the others, and the share of anchored neighbours in a state of both.
_HELD_OUT = 3
_HELD = 400
_OTHERS = 1000
_SHARED = 0.2
#: Fewer cells of a batch, or of what it is compared with, do not show what is usual.
MIN_CELLS = 20
_ROWS = 2048


def unexplained_expression(X: Matrix, stem: Stem, rng: np.random.Generator) -> Floats:
    """Expression of cells of one batch that the `stem` cannot express, shape (cells,), in squared units of `X` (cells, genes); see `Own`."""
    rows = sketch_batch(X.shape[0], rng)
    own = BatchModel(X[rows], stem, rng)
    return own.unexplained(own.stem.encode(X), rows)


def sketch_batch(n_cells: int, rng: np.random.Generator) -> Codes:
    """Cells of a batch that stand for all of it, at most 1000, in ascending order."""
    return sketch_batches(np.zeros(n_cells, np.intp), cells_per_batch(1), rng)


class BatchModel:
    """What the cells of one batch have themselves, as far as a `known` stem cannot express it.

    Profiles are pooled over the 15 nearest cells among the principal components of these cells themselves, in which a type that the
    known stem has never seen is apart. From each what that stem makes of it is subtracted, and the median over all profiles: what the
    batch does to every cell. The squares of the 20 genes with most left, of those above 0, are added up.

    Parameters
    ----------
    X
        Expression of a sketch of the batch, (cells, genes).
    known
        The stem of these genes.
    rng
        Draws vectors to start with.
    """

    def __init__(self, X: Matrix, known: Stem, rng: np.random.Generator) -> None:
        n_components = known.components.shape[1]
        self._X, self._known = X, known
        self.stem, _ = fit_stem(X, "pca", n_components, n_components, rng)

    def unexplained(self, places: Floats, rows: Codes) -> Floats:
        """What is left of cells, shape (cells,), by their components of `stem`; the sketch are those at `rows`."""
        among = places[rows]
        near = find_nearest(places, among, min(_POOLED, max(1, len(rows) // 4)))
        usual = np.median(self._left(near[rows]), axis=0)
        found = np.empty(len(places), dtype=np.float32)
        for start in range(0, len(found), _ROWS):
            over = np.maximum(self._left(near[start : start + _ROWS]) - usual, 0)
            n_genes = min(_GENES, over.shape[1])
            highest = np.partition(over, over.shape[1] - n_genes, axis=1)[:, over.shape[1] - n_genes :]
            found[start : start + _ROWS] = np.square(highest).sum(axis=1)
        return found

    def _left(self, near: Codes) -> Floats:
        """Mean over the `near` cells of the sketch (profiles, neighbours) of what the known stem leaves of them, (profiles, genes)."""
        n, k = near.shape
        member = sparse.csr_matrix(
            (np.full(n * k, 1 / k, np.float32), (np.repeat(np.arange(n), k), near.ravel())),
            shape=(n, self._X.shape[0]),
        )
        mean = member @ self._X
        mean = mean.toarray() if sparse.issparse(mean) else np.asarray(mean)
        return mean - self._known.decode(self._known.encode(mean))


def unexplained_when_held_out(
    X: Matrix, latent: Floats, codes: Codes, n_components: int, n_neighbors: int, rng: np.random.Generator
) -> Floats:
    """What `unexplained` is for cells of the fit whose batch the stem has not seen, shape (some cells,), ascending.

    `X` (cells, genes) is a sketch of the batches `codes`, and `latent` (cells, components) where its cells are after correction. Only
    cells count whose state other batches have too. A single batch is split at random.
    """
    if codes.max() == 0:
        codes = rng.permutation(np.arange(len(codes)) % 2)
    found = []
    for level in rng.permutation(int(codes.max()) + 1)[:_HELD_OUT]:
        held = rng.permutation(np.flatnonzero(codes == level))[:_HELD]
        others = rng.permutation(np.flatnonzero(codes != level))[:_OTHERS]
        if min(len(held), len(others)) < MIN_CELLS:
            continue
        stem, _ = fit_stem(X[others], "pca", n_components, n_components, rng)
        found.append(unexplained_expression(X[held], stem, rng)[_shared(latent[held], latent[others], n_neighbors)])
    return np.sort(np.concatenate(found)) if found else np.empty(0, np.float32)


def _shared(held: Floats, others: Floats, n_neighbors: int) -> Bools:
    """Cells of `held` in states that `others` have too: enough of their neighbours have anchors there."""
    codes = np.repeat([0, 1], [len(held), len(others)])
    anchors = find_anchors(np.concatenate([held, others]), codes, n_neighbors)
    anchored = np.zeros(len(held), bool)
    anchored[anchors.left] = True
    return anchored[find_nearest(held, held, _LOCAL)].mean(axis=1) >= _SHARED


class ReferenceDensity:
    """States of the reference as places among its cells, for Mahalanobis distances to them.

    Parameters
    ----------
    points
        Corrected components of reference cells, shape (cells, components).
    codes
        Their batches.
    """

    def __init__(self, points: Floats, codes: Codes, rng: np.random.Generator) -> None:
        around = points - points[find_nearest(points, points, _LOCAL + 1)[:, 1:]].mean(axis=1)
        spread = np.atleast_2d(around.T @ around) / len(points)
        spread = (1 - _SHRINKAGE) * spread + _SHRINKAGE * np.trace(spread) / len(spread) * np.eye(len(spread))
        size, axes = np.linalg.eigh(spread.astype(np.float64))
        self._whiten = (axes / np.sqrt(np.maximum(size, 1e-12))).astype(np.float32)
        self._places = points @ self._whiten
        self._codes = codes
        if codes.max() == 0:
            self._codes = rng.permutation(np.arange(len(codes)) % 2)

    def distance(self, points: Floats) -> Floats:
        """Mahalanobis distance of cells to the mean of the 15 nearest reference cells, shape (cells,)."""
        return _to_local_mean(points @ self._whiten, self._places)

    def distance_when_held_out(self) -> Floats:
        """Distance of reference cells to those of other batches, shape (cells,), ascending."""
        found = []
        for level in range(int(self._codes.max()) + 1):
            held = self._codes == level
            if held.any() and (~held).sum() >= MIN_CELLS:
                found.append(_to_local_mean(self._places[held], self._places[~held]))
        return np.sort(np.concatenate(found)) if found else np.empty(0, np.float32)


def _to_local_mean(places: Floats, reference: Floats) -> Floats:
    """Distance to the mean of the nearest cells of the reference."""
    found = np.empty(len(places), np.result_type(places, reference))
    for start in range(0, len(places), _ROWS):
        some = places[start : start + _ROWS]
        around = reference[find_nearest(some, reference, _LOCAL)].mean(axis=1)
        found[start : start + _ROWS] = np.linalg.norm(some - around, axis=1)
    return found
