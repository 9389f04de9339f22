"""Overlap of groups of cells, from 0 (apart) to 1 (one group): mixing of their neighbours, and misclassification."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from sklearn.covariance import ledoit_wolf_shrinkage

if TYPE_CHECKING:
    from scbatchnorm._data.types import Codes, Floats

# Two groups are one from this overlap on.
SAME_GROUP = 0.5
# An overlap has changed if it went this share of the way to 0 or 1.
MIN_CHANGE = 0.25
_N_FOLDS = 5


def knn_mixing(neighbours: Codes, codes: Codes, n_groups: int) -> Floats:
    """Mixing of every two groups, shape (groups, groups): 0 if apart, 1 as if their labels had been permuted.

    Of the neighbours (cells, k) that cells of group i have in groups i and j, the share in j, divided by its expectation
    under permutation of the two groups; then the mean of both directions. `codes` (cells,) are the groups.
    """
    n_cells, k = neighbours.shape
    sizes = np.bincount(codes, minlength=n_groups)
    member = sparse.csr_matrix((np.ones(n_cells), (codes, np.arange(n_cells))), (n_groups, n_cells))
    cell = np.repeat(np.arange(n_cells), k)
    counts = sparse.coo_matrix((np.ones(n_cells * k), (cell, codes[neighbours].ravel())), (n_cells, n_groups))
    total = np.asarray(member @ counts.toarray())
    within = np.diag(total)[:, None]
    share = total / np.maximum(within + total, 1)
    expected = sizes[None, :] / np.maximum(sizes[:, None] + sizes[None, :] - 1, 1)
    mixing = np.divide(share, expected, out=np.zeros_like(share), where=expected > 0)
    mixing = np.minimum((mixing + mixing.T) / 2, 1)
    np.fill_diagonal(mixing, 0)
    return mixing


def assign_folds(codes: Codes, rng: np.random.Generator) -> Codes:
    """Fold of each cell, shape (cells,), for cross-validation stratified by group."""
    order = np.lexsort((rng.random(len(codes)), codes))
    _, starts, sizes = np.unique(codes[order], return_index=True, return_counts=True)
    folds = np.empty(len(codes), dtype=np.intp)
    folds[order] = (np.arange(len(codes)) - np.repeat(starts, sizes)) % _N_FOLDS
    return folds


def misclassification(points: Floats, codes: Codes, n_groups: int, folds: Codes) -> Floats:
    """Share of the cells of each group that a linear classifier assigns to each other group, shape (groups, groups).

    Two groups at a time are classified by Fisher's linear discriminant, with the covariance within all groups shrunk as
    by Ledoit and Wolf, in cross-validation over `folds` (cells,). Of identical groups half of the cells are
    misclassified.
    """
    points = np.asarray(points, dtype=np.float32)
    points = points - points.mean(axis=0)
    rates = np.zeros((n_groups, n_groups))
    centred = points - _group_means(points, codes, n_groups)[codes]
    shrinkage = float(ledoit_wolf_shrinkage(centred, assume_centered=True))
    for fold in range(_N_FOLDS):
        train, test = folds != fold, folds == fold
        if not train.any() or not test.any():
            continue
        means = _group_means(points[train], codes[train], n_groups)
        covariance = _shrunk_covariance(points[train] - means[codes[train]], shrinkage)
        coefficients = np.linalg.solve(covariance, means.T)
        scores = points[test] @ coefficients - 0.5 * np.einsum("gd,dg->g", means, coefficients)
        for group in range(n_groups):
            of_group = scores[codes[test] == group]
            true = of_group[:, [group]]
            rates[group] += (of_group > true).sum(axis=0) + 0.5 * (of_group == true).sum(axis=0)
    np.fill_diagonal(rates, 0)
    return rates / np.bincount(codes, minlength=n_groups)[:, None]


def _group_means(points: Floats, codes: Codes, n_groups: int) -> Floats:
    """Mean of each group, shape (groups, dimensions); 0 for groups without cells."""
    total = np.zeros((n_groups, points.shape[1]))
    np.add.at(total, codes, points)
    return total / np.maximum(np.bincount(codes, minlength=n_groups), 1)[:, None]


def _shrunk_covariance(centred: Floats, shrinkage: float) -> Floats:
    """Covariance of centred points, shrunk towards equal variances, and never singular."""
    covariance = centred.T @ centred / len(centred)
    mean = max(float(np.trace(covariance)) / len(covariance), float(np.finfo(np.float32).tiny))
    covariance *= 1 - shrinkage
    covariance.flat[:: len(covariance) + 1] += max(shrinkage, 1e-6) * mean
    return covariance


def overlap_of_rates(rates: Floats) -> Floats:
    """Overlap of every two groups by their rates of `misclassification`, both (groups, groups)."""
    return np.minimum(rates + rates.T, 1)


def overlap_error(rates: Floats, sizes: Codes) -> Floats:
    """Standard error of the overlap, shape (groups, groups)."""
    share = (rates * sizes[:, None] + 0.5) / (sizes[:, None] + 1)  # a rate of 0 is not certain
    variance = share * (1 - share) / sizes[:, None]
    return np.sqrt(variance + variance.T)
