"""Local inverse Simpson index (LISI): the effective number of batches (iLISI, CiLISI) or labels (cLISI) around a cell."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from scbatchnorm.metrics._inputs import check_embedding, check_flavor, encode_groups
from scbatchnorm.metrics._neighbors import Neighbors, as_neighbors
from scbatchnorm.metrics._score import MetricScore, mean_score, median_score, undefined_score
from scbatchnorm.metrics._search import NeighborIndex, find_nearest, use_exact_search

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from scbatchnorm._data.types import Codes, Floats
    from scbatchnorm.metrics._inputs import Flavor, Groups

# Neighbours of a cell; their effective number is a third (perplexity 30), as in the R package lisi.
LISI_NEIGHBORS = 90
_TOLERANCE = 1e-5
_MAX_BISECTIONS = 50
# Cells of one block: computing weights takes the memory of their distances several times.
_BLOCK = 10_000
# CiLISI leaves out types with fewer cells (Andreatta et al. 2024).
MIN_CELLS = 10


def ilisi(X: npt.ArrayLike | Neighbors, batch: npt.ArrayLike, *, flavor: Flavor = "default") -> float:
    """Integration LISI: how many batches a cell effectively has among its neighbours, scaled.

    The median over cells of the inverse Simpson index of batches, m, as (m - 1) / (B - 1) for B batches; defined by
    Korsunsky et al., Nature Methods 2019, and scaled as in scIB (Luecken et al., Nature Methods 2022).
    A neighbourhood is the 90 nearest other cells, weighted to an effective number (perplexity) of 30.

    Parameters
    ----------
    X
        Coordinates, shape (cells, dimensions), or neighbours with at least 90 per cell. In data of fewer than 91
        cells all other cells are neighbours, and the perplexity is a third of their number.
    batch
        Batch of each cell, shape (cells,).
    flavor
        `"scib"` is scib-metrics 0.5, which counts the cell itself, with weight 0, as one of the 90, so that 89 others
        remain: different in the third digit. scib-metrics 0.6 is the default here.

    Returns
    -------
    From 0 (only neighbours of one batch) to 1 (all batches with equal weight); nan with a single batch.

    Notes
    -----
    1 cannot be reached where batches differ in size or in their cell types: the scale accounts for neither. See
    :func:`cilisi` for types. Rewards over-correction: mixing all cells with all scores highest.

    Raises
    ------
    ValueError
        The inputs have wrong shapes, non-finite or missing values, or too few neighbours.

    Examples
    --------
    >>> import numpy as np
    >>> import scbatchnorm as sbn
    >>> rng = np.random.default_rng(0)
    >>> X, batch = rng.normal(size=(400, 5)), np.repeat(["a", "b"], 200)
    >>> round(sbn.metrics.ilisi(X, batch), 1)
    0.9
    >>> sbn.metrics.ilisi(X + 100 * (batch == "a")[:, None], batch)
    0.0
    """
    check_flavor(flavor)
    neighbors = as_neighbors(X, LISI_NEIGHBORS - (flavor == "scib"))
    batches = encode_groups(batch, name="batch", n_cells=neighbors.n_cells)
    return ilisi_score(weigh_neighbors(neighbors, flavor=flavor), batches).value


def cilisi(X: npt.ArrayLike, *, batch: npt.ArrayLike, label: npt.ArrayLike) -> float:
    """Cell type iLISI (CiLISI): how well batches mix inside each cell type.

    The mean over cells of (l - 1) / (B - 1), where l is the inverse Simpson index of batches among the cells of the
    same type (the 90 nearest, perplexity 30), and B is the number of batches that have the type. Types with fewer
    than 10 cells, or found in one batch, are left out. Defined by Andreatta et al., Nature Communications 2024
    (doi 10.1038/s41467-024-45240-z).

    Parameters
    ----------
    X
        Coordinates, shape (cells, dimensions); not neighbours, for these are searched within each type.
    batch
        Batch of each cell, shape (cells,).
    label
        Cell type of each cell, shape (cells,).

    Returns
    -------
    From 0 (within every type batches are apart) to 1 (all batches of a type with equal weight); nan where no type can
    be scored, as with one batch, or a batch per type.

    Notes
    -----
    Unlike :func:`ilisi` it does not gain by mixing types, and types of one batch do not cap it. Batches of unequal size
    still do. Only as good as the labels.

    Raises
    ------
    ValueError
        The inputs have wrong shapes, or non-finite or missing values.

    Examples
    --------
    >>> import numpy as np
    >>> import scbatchnorm as sbn
    >>> rng = np.random.default_rng(0)
    >>> X, label, batch = rng.normal(size=(400, 5)), np.tile(["T", "B"], 200), np.repeat(["a", "b"], 200)
    >>> round(sbn.metrics.cilisi(X, batch=batch, label=label), 1)
    0.9
    >>> round(sbn.metrics.cilisi(X + 100 * (batch == "a")[:, None], batch=batch, label=label), 1)
    0.0
    """
    points = check_embedding(X)
    labels = encode_groups(label, name="label", n_cells=len(points))
    batches = encode_groups(batch, name="batch", n_cells=len(points))
    neighbors = dict(weigh_neighbors_within_labels(points, labels))
    return cilisi_score(neighbors, labels, batches).value


def clisi(X: npt.ArrayLike | Neighbors, label: npt.ArrayLike, *, flavor: Flavor = "default") -> float:
    """Cell type LISI: whether a cell's neighbours are of one type.

    The median over cells of the inverse Simpson index of labels, m, as (L - m) / (L - 1) for L labels; neighbourhoods,
    sources and `flavor` as for :func:`ilisi`.

    Parameters
    ----------
    X
        Coordinates, shape (cells, dimensions), or neighbours with at least 90 per cell. In data of fewer than 91
        cells all other cells are neighbours, and the perplexity is a third of their number.
    label
        Cell type of each cell, shape (cells,).
    flavor
        `"scib"`: 89 neighbours, as scib-metrics 0.5.

    Returns
    -------
    From 0 (all types with equal weight around a cell) to 1 (one type only); nan with a single label.

    Notes
    -----
    Nearly always above 0.95, so differences in the third digit matter. As a median it does not see what happens to
    fewer than half of the cells, and a type of fewer than 30 cells necessarily has neighbours of other types.

    Raises
    ------
    ValueError
        The inputs have wrong shapes, non-finite or missing values, or too few neighbours.

    Examples
    --------
    >>> import numpy as np
    >>> import scbatchnorm as sbn
    >>> rng = np.random.default_rng(0)
    >>> X, label = rng.normal(size=(400, 5)), np.repeat(["T", "B"], 200)
    >>> round(sbn.metrics.clisi(X, label), 1)
    0.1
    >>> sbn.metrics.clisi(X + 100 * (label == "T")[:, None], label)
    1.0
    """
    check_flavor(flavor)
    neighbors = as_neighbors(X, LISI_NEIGHBORS - (flavor == "scib"))
    labels = encode_groups(label, name="label", n_cells=neighbors.n_cells)
    return clisi_score(weigh_neighbors(neighbors, flavor=flavor), labels).value


def ilisi_score(neighbors: WeightedNeighbors | BlockwiseNeighbors, batches: Groups) -> MetricScore:
    """Median over cells of the scaled index of batches."""
    if batches.n == 1:
        return undefined_score("there is one batch only")
    return median_score(np.clip((neighbors.simpson(batches) - 1) / (batches.n - 1), 0, 1))


def weigh_neighbors_within_labels(
    points: Floats, labels: Groups, rows: Codes | None = None
) -> Iterator[tuple[int, WeightedNeighbors | BlockwiseNeighbors]]:
    """Neighbours of cells within their label, for labels of at least 10 cells: (code of the label, weighted neighbours).

    Of all cells, or of those in `rows`.
    """
    for code in np.flatnonzero(labels.sizes >= MIN_CELLS):
        cells = labels.members(code)
        if rows is not None:
            index = NeighborIndex(points[cells], exact=True)
            yield int(code), find_weighted_neighbors(index, np.flatnonzero(np.isin(cells, rows)))
        elif use_exact_search(len(points)):
            yield int(code), weigh_neighbors(Neighbors(*find_nearest(points[cells], LISI_NEIGHBORS)))
        else:
            yield int(code), BlockwiseNeighbors(partial(_build_index, points, cells))


def _build_index(points: Floats, cells: Codes) -> NeighborIndex:
    # The rows are copied when the index is built, and not for all labels at once.
    return NeighborIndex(points[cells])


def cilisi_score(
    neighbors: dict[int, WeightedNeighbors | BlockwiseNeighbors], labels: Groups, batches: Groups
) -> MetricScore:
    """Mean over cells of the scaled index of batches within labels; `neighbors` is by code of the label."""
    values = np.full(len(labels.codes), np.nan)
    for code, within_label in neighbors.items():
        cells = labels.members(code)
        label_batches = batches.select(cells)
        if label_batches.n > 1:
            values[cells] = np.clip((within_label.simpson(label_batches) - 1) / (label_batches.n - 1), 0, 1)
    if np.isnan(values).all():
        return undefined_score(f"no label with {MIN_CELLS} cells is in two batches")
    return mean_score(values)


def clisi_score(neighbors: WeightedNeighbors | BlockwiseNeighbors, labels: Groups) -> MetricScore:
    """Median over cells of the scaled index of labels."""
    if labels.n == 1:
        return undefined_score("there is one label only")
    return median_score(np.clip((labels.n - neighbors.simpson(labels)) / (labels.n - 1), 0, 1))


@dataclass(frozen=True, eq=False)
class WeightedNeighbors:
    """Neighbours of each cell, `indices`, and their `weights`; both (cells, neighbours), rows of weights sum to 1.

    Of all cells, or of those in `rows`.
    """

    indices: Codes
    weights: Floats
    rows: Codes | None = None

    def simpson(self, groups: Groups) -> Floats:
        """Inverse Simpson index of each cell's neighbours, shape (cells,), from 1 to `groups.n`; nan without neighbours.

        1 / sum_g p_g^2, where p_g is the weight of group g.
        """
        if self.rows is None:
            return self.simpson_of_rows(groups)
        index = np.full(len(groups.codes), np.nan)
        index[self.rows] = self.simpson_of_rows(groups)
        return index

    def simpson_of_rows(self, groups: Groups) -> Floats:
        """The index of the cells in `rows` only, shape (rows,)."""
        index = np.full(len(self.indices), np.nan)
        for start in range(0, len(index), _BLOCK) if self.indices.shape[1] else ():
            block = slice(start, start + _BLOCK)
            neighbor_codes, weights = groups.codes[self.indices[block]], self.weights[block]
            simpson = np.zeros(len(weights))
            for code in range(groups.n):
                simpson += np.square((weights * (neighbor_codes == code)).sum(axis=1))
            index[block] = 1 / simpson
        return index


@dataclass(frozen=True, eq=False)
class BlockwiseNeighbors:
    """Weighted neighbours of too many cells to keep in memory: searched block by block, each time they are used."""

    get_index: Callable[[], NeighborIndex]
    flavor: str = "default"

    def simpson(self, groups: Groups) -> Floats:
        """Inverse Simpson index of each cell's neighbours, see :meth:`WeightedNeighbors.simpson`."""
        simpson, index = np.full(len(groups.codes), np.nan), self.get_index()
        for rows in index.blocks():
            simpson[rows] = find_weighted_neighbors(index, rows, flavor=self.flavor).simpson_of_rows(groups)
        return simpson


def find_weighted_neighbors(index: NeighborIndex, rows: Codes, *, flavor: str = "default") -> WeightedNeighbors:
    """Weighted neighbours of the cells in `rows` among all cells of the index."""
    count_itself = flavor == "scib"
    indices, distances = index.query(rows, LISI_NEIGHBORS - count_itself)
    return WeightedNeighbors(indices, _weights_in_blocks(distances, count_itself=count_itself), rows)


def weigh_neighbors(neighbors: Neighbors, *, flavor: str = "default") -> WeightedNeighbors:
    """The nearest 90 cells of each cell, with weights proportional to exp(-beta d).

    d is the distance; beta is chosen for each cell such that the entropy of the weights is that of a third as many equal
    weights. scib-metrics 0.5 (flavor "scib") counts the cell itself, with weight 0, as one of the 90.
    """
    count_itself = flavor == "scib"
    nearest = neighbors.nearest(LISI_NEIGHBORS - count_itself)
    return WeightedNeighbors(nearest.indices, _weights_in_blocks(nearest.distances, count_itself=count_itself))


def _weights_in_blocks(distances: Floats, *, count_itself: bool) -> Floats:
    """Weights of neighbours at these distances, both (cells, neighbours), computed block by block."""
    k = distances.shape[1]
    perplexity = max(1, (k + count_itself) // 3)
    starts = range(0, len(distances), _BLOCK) if k else ()
    weights = np.empty(distances.shape)
    for start in starts:
        weights[start : start + _BLOCK] = _weights(distances[start : start + _BLOCK], perplexity)
    return weights


def _weights(distances: Floats, perplexity: float) -> Floats:
    """Weights of neighbours, shape (cells, neighbours), rows summing to 1, by bisection of beta on their entropy."""
    # The distance of the nearest neighbour cancels; without it the weights cannot all underflow.
    distances = distances.astype(np.float64) - distances[:, :1]
    weights = np.empty_like(distances)
    unfinished, beta = np.arange(len(distances)), np.ones(len(distances))
    low, high = np.zeros_like(beta), np.full_like(beta, np.inf)
    for _ in range(_MAX_BISECTIONS):
        row_distances, row_beta = distances[unfinished], beta[unfinished]
        row_weights = np.exp(-row_beta[:, None] * row_distances)
        total = row_weights.sum(axis=1)
        row_weights /= total[:, None]
        weights[unfinished] = row_weights
        excess = np.log(total) + row_beta * (row_weights * row_distances).sum(axis=1) - np.log(perplexity)
        missed = np.abs(excess) >= _TOLERANCE
        unfinished, row_beta, excess = unfinished[missed], row_beta[missed], excess[missed]
        if not len(unfinished):
            break
        too_wide = excess > 0
        low[unfinished] = np.where(too_wide, row_beta, low[unfinished])
        high[unfinished] = np.where(too_wide, high[unfinished], row_beta)
        # Where all neighbours are equally far, beta is doubled until the loop ends, and the weights stay equal.
        beta[unfinished] = np.where(np.isinf(high[unfinished]), row_beta * 2, (low[unfinished] + high[unfinished]) / 2)
    return weights
