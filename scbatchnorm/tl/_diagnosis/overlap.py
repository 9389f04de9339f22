"""How often states are mistaken for each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.covariance import ledoit_wolf_shrinkage

if TYPE_CHECKING:
    from scbatchnorm._data.types import Codes, Floats

_FOLDS = 5


def folds(codes: Codes, rng: np.random.Generator) -> Codes:
    """Fold of each cell, shape (cells,), such that every group is spread evenly over them."""
    order = np.lexsort((rng.random(len(codes)), codes))
    _, starts, sizes = np.unique(codes[order], return_index=True, return_counts=True)
    found = np.empty(len(codes), dtype=np.intp)
    found[order] = (np.arange(len(codes)) - np.repeat(starts, sizes)) % _FOLDS
    return found


def mistaken(points: Floats, codes: Codes, n_groups: int, fold: Codes) -> Floats:
    """Share of the cells of each group that a linear rule takes for each other group, shape (groups, groups).

    The rule for two groups is Fisher's, with the covariance inside all groups, shrunk as Ledoit and Wolf do; it is
    learned from the other folds than the one that it is tried on. Half of the cells are mistaken where groups are the
    same.
    """
    points = np.asarray(points, dtype=np.float32)
    points = points - points.mean(axis=0)
    wrong = np.zeros((n_groups, n_groups))
    inside = points - _centres(points, codes, n_groups)[codes]
    shrinkage = float(ledoit_wolf_shrinkage(inside, assume_centered=True))
    for held_out in range(_FOLDS):
        seen, tried = fold != held_out, fold == held_out
        if not seen.any() or not tried.any():
            continue
        centre = _centres(points[seen], codes[seen], n_groups)
        covariance = _covariance(points[seen] - centre[codes[seen]], shrinkage)
        rule = np.linalg.solve(covariance, centre.T)
        score = points[tried] @ rule - 0.5 * np.einsum("gd,dg->g", centre, rule)
        for group in range(n_groups):
            own = score[codes[tried] == group]
            true = own[:, [group]]
            wrong[group] += (own > true).sum(axis=0) + 0.5 * (own == true).sum(axis=0)
    np.fill_diagonal(wrong, 0)
    return wrong / np.bincount(codes, minlength=n_groups)[:, None]


def _centres(points: Floats, codes: Codes, n_groups: int) -> Floats:
    """Mean of each group, shape (groups, dimensions); 0 for groups without cells."""
    total = np.zeros((n_groups, points.shape[1]))
    np.add.at(total, codes, points)
    return total / np.maximum(np.bincount(codes, minlength=n_groups), 1)[:, None]


def _covariance(inside: Floats, shrinkage: float) -> Floats:
    """Covariance of centred points, shrunk towards equal variances, and never singular."""
    covariance = inside.T @ inside / len(inside)
    mean = max(float(np.trace(covariance)) / len(covariance), float(np.finfo(np.float32).tiny))
    covariance *= 1 - shrinkage
    covariance.flat[:: len(covariance) + 1] += max(shrinkage, 1e-6) * mean
    return covariance


def between(wrong: Floats) -> Floats:
    """Overlap of every two groups from what is `mistaken`, (groups, groups): 0 never mistaken, 1 as if they were one."""
    return np.minimum(wrong + wrong.T, 1)


def error(wrong: Floats, sizes: Codes) -> Floats:
    """Standard error of the overlap, shape (groups, groups)."""
    share = (wrong * sizes[:, None] + 0.5) / (sizes[:, None] + 1)  # none mistaken is not certainty
    variance = share * (1 - share) / sizes[:, None]
    return np.sqrt(variance + variance.T)
