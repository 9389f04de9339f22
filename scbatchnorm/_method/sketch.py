"""The cells to learn from, where there are very many: a sketch in which every batch and every region is represented."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from scbatchnorm._data.types import Codes, Floats
    from scbatchnorm._method.stem import Stem

# Centres of regions, and the rounds in which they are drawn: in each, cells far from the centres so far are more likely.
_REGIONS = 512
_ROUNDS = 4
# Share of the sketch that regions divide among them equally, and batches.
_EQUAL = 0.1
_ROWS = 65_536


def choose_cells(products: Floats, stem: Stem, codes: Codes, most: int, rng: np.random.Generator) -> Codes:
    """Positions of `most` cells, in ascending order; of all cells, if there are no more.

    Each batch and each region has its share of them, but a tenth is set apart for what is rare: it is divided equally
    among regions and a second one among batches, which get no more than they have.

    Parameters
    ----------
    products
        Of all cells with the components of the `stem`, shape (cells, components).
    stem
        Of the components in which regions are sought.
    codes
        Batch of each cell, counted from 0.
    most
        Size of the sketch.
    rng
        Draws cells.

    Notes
    -----
    Regions are those of the nearest of 512 centres. These are cells, drawn in four rounds with a probability that is the squared distance to
    the nearest centre so far (k-means||; Bahmani et al., Proceedings of the VLDB Endowment 2012), so that small groups far from all
    others have centres of their own.
    """
    if len(codes) <= most:
        return np.arange(len(codes))
    keep = np.zeros(len(codes), dtype=bool)
    for groups in (_regions(products, stem, rng), codes):
        keep[_at_least(groups, most * _EQUAL, rng)] = True
    others = np.flatnonzero(~keep)
    keep[rng.choice(others, max(0, most - int(keep.sum())), replace=False)] = True
    return np.flatnonzero(keep)


def _at_least(groups: Codes, n: float, rng: np.random.Generator) -> Codes:
    """At most `n` cells, as many of each group; all of those that have fewer."""
    levels = np.flatnonzero(np.bincount(groups))
    share = max(1, int(n // len(levels)))
    kept = []
    for level in levels:
        cells = np.flatnonzero(groups == level)
        kept.append(rng.choice(cells, share, replace=False) if len(cells) > share else cells)
    return np.concatenate(kept)


def _regions(products: Floats, stem: Stem, rng: np.random.Generator) -> Codes:
    """The nearest of some hundred centres for each cell, shape (cells,)."""
    nearest = np.zeros(len(products), dtype=np.int16)
    distance = np.full(len(products), np.inf, dtype=np.float32)
    n_new = _REGIONS // _ROUNDS
    for i in range(_ROUNDS):
        centres = torch.from_numpy(stem.standardise(products[_far(distance, n_new, rng)]))
        for start in range(0, len(products), _ROWS):
            rows = slice(start, start + _ROWS)
            nearest_distance, which = torch.cdist(torch.from_numpy(stem.standardise(products[rows])), centres).min(
                dim=1
            )
            square = nearest_distance.square().numpy()
            closer = square < distance[rows]
            distance[rows][closer] = square[closer]
            nearest[rows][closer] = (i * n_new + which.numpy())[closer]
    return nearest


def _far(distance: Floats, n: int, rng: np.random.Generator) -> Codes:
    """At most `n` cells, drawn with a probability in proportion to their squared `distance`; any, where nothing is known of it."""
    total = np.cumsum(distance, dtype=np.float64)
    if not 0 < total[-1] < np.inf:
        return rng.choice(len(distance), n, replace=False)
    return np.unique(np.searchsorted(total, rng.uniform(0, total[-1], n), side="right"))
