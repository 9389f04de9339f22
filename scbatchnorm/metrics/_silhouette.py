"""Silhouette widths of labels and of batches: distances within the own group against distances to other groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scbatchnorm.metrics._inputs import check_embedding, encode_groups
from scbatchnorm.metrics._score import MetricScore, label_mean_score, mean_score, undefined_score

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from scbatchnorm._data.types import Floats
    from scbatchnorm.metrics._inputs import Groups

# With more cells, distances are computed in single precision: half the time, and the mean differs in the sixth digit.
_MAX_DOUBLE = 20_000
# Distances in memory at once.
_CHUNK = 4_000_000
# Cells that are converted to double precision at once.
_BLOCK = 100_000


def silhouette_label(X: npt.ArrayLike, label: npt.ArrayLike) -> float:
    """Label silhouette (cell type ASW): how compact and separate cell types are.

    (s + 1) / 2, where s is the mean over cells of the Euclidean silhouette width of their labels; defined by Rousseeuw
    1987, scaled as in scIB (Luecken et al., Nature Methods 2022).

    Parameters
    ----------
    X
        Coordinates, shape (cells, dimensions).
    label
        Cell type of each cell, shape (cells,).

    Returns
    -------
    From 0 (cells lie in other types) to 1 (far apart); 0.5 is no structure. nan with a single label, or where every
    cell has a label of its own.

    Notes
    -----
    Assumes that types are round and equally dense: elongated types (a differentiation) score low although nothing is
    wrong, and shrinking each type to a point, which destroys all biology within, scores highest. Takes time
    quadratic and memory linear in the number of cells.

    Raises
    ------
    ValueError
        The inputs have wrong shapes, or non-finite or missing values.

    Examples
    --------
    >>> import numpy as np
    >>> import scbatchnorm as sbn
    >>> rng = np.random.default_rng(0)
    >>> X, label = rng.normal(size=(400, 5)), np.repeat(["T", "B"], 200)
    >>> round(sbn.metrics.silhouette_label(X, label), 2)
    0.5
    >>> round(sbn.metrics.silhouette_label(X + 100 * (label == "T")[:, None], label), 2)
    0.99
    """
    points = check_embedding(X)
    labels = encode_groups(label, name="label", n_cells=len(points))
    return silhouette_label_score(silhouette_widths(points, labels), labels).value


def silhouette_batch(X: npt.ArrayLike, *, batch: npt.ArrayLike, label: npt.ArrayLike) -> float:
    """Batch silhouette (batch ASW): whether batches are apart within cell types.

    For each label, the mean of 1 - abs(s) over its cells, where s is the Euclidean silhouette width of their
    batches; then the mean over labels (Luecken et al., Nature Methods 2022). Labels found in one batch only, or with
    one cell per batch, are left out.

    Parameters
    ----------
    X
        Coordinates, shape (cells, dimensions).
    batch
        Batch of each cell, shape (cells,).
    label
        Cell type of each cell, shape (cells,).

    Returns
    -------
    From 0 (batches far apart) to 1 (not apart); nan where no label can be scored.

    Notes
    -----
    A silhouette compares with the nearest other batch only, so it does not see one batch apart if two others are mixed
    (Rautenstrauch and Ohler, Nature Biotechnology 2025): prefer :func:`bras`. Rare types weigh as much as frequent
    ones. Takes time quadratic in the cells of a label.

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
    >>> round(sbn.metrics.silhouette_batch(X, batch=batch, label=label), 2)
    0.96
    >>> round(sbn.metrics.silhouette_batch(X + 100 * (batch == "a")[:, None], batch=batch, label=label), 2)
    0.01
    """
    return _batch_silhouette(X, batch, label, silhouette_widths)


def bras(X: npt.ArrayLike, *, batch: npt.ArrayLike, label: npt.ArrayLike) -> float:
    """Batch removal adapted silhouette (BRAS): whether batches are apart within cell types, in directions.

    As :func:`silhouette_batch`, but distances are 1 - cosine, and a cell's own batch is compared with the mean of all
    cells of the other batches instead of the nearest batch (Rautenstrauch and Ohler, Nature Biotechnology 2025,
    doi 10.1038/s41587-025-02743-4).

    Parameters
    ----------
    X
        Coordinates, shape (cells, dimensions). Their origin matters: use an embedding centred at 0, such as PCA.
    batch
        Batch of each cell, shape (cells,).
    label
        Cell type of each cell, shape (cells,).

    Returns
    -------
    From 0 (batches far apart) to 1 (not apart); nan where no label can be scored.

    Notes
    -----
    Lengths have no influence: batches that differ in scale only count as mixed. Rare types weigh as much as frequent ones.
    Mean cosines are cosines with means, so time is linear in the number of cells.

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
    >>> round(sbn.metrics.bras(X, batch=batch, label=label), 1)
    0.9
    >>> round(sbn.metrics.bras(X + 9 * np.where(batch == "a", 1, -1)[:, None], batch=batch, label=label), 1)
    0.0
    """
    return _batch_silhouette(X, batch, label, cosine_silhouette_widths)


def _batch_silhouette(
    X: npt.ArrayLike, batch: npt.ArrayLike, label: npt.ArrayLike, compute_widths: Callable[[Floats, Groups], Floats]
) -> float:
    points = check_embedding(X)
    labels = encode_groups(label, name="label", n_cells=len(points))
    batches = encode_groups(batch, name="batch", n_cells=len(points))
    return silhouette_batch_score(points, labels, batches, compute_widths).value


def silhouette_label_score(widths: Floats, labels: Groups) -> MetricScore:
    """Mean of the scaled widths; `widths`, shape (cells,), are those of :func:`silhouette_widths`."""
    if labels.n == 1:
        return undefined_score("there is one label only")
    if labels.n == len(labels.codes):
        return undefined_score("every cell has a label of its own")
    return mean_score((widths + 1) / 2)


def silhouette_batch_score(
    points: Floats, labels: Groups, batches: Groups, compute_widths: Callable[[Floats, Groups], Floats]
) -> MetricScore:
    """Mean of 1 - abs(width) of batches within each label."""
    values = np.full(len(points), np.nan)
    for code in range(labels.n):
        cells = labels.members(code)
        cell_batches = batches.select(cells)
        if 1 < cell_batches.n < len(cells):
            values[cells] = 1 - np.abs(compute_widths(points[cells], cell_batches))
    if np.isnan(values).all():
        return undefined_score("no label is in two batches with more cells than batches")
    return label_mean_score(values, labels)


def silhouette_widths(points: Floats, groups: Groups) -> Floats:
    """Euclidean silhouette width of each cell, shape (cells,): (b - a) / max(a, b), 0 for a cell alone in its group.

    a is the mean distance to the other cells of its group, b that to the cells of the nearest other group.
    """
    n_cells = len(points)
    if groups.n == 1:
        return np.zeros(n_cells)
    double = n_cells <= _MAX_DOUBLE
    points = (points - points.mean(axis=0, dtype=np.float64)).astype(np.float64 if double else np.float32)
    squares, ones = np.einsum("ij,ij->i", points, points)[:, None], np.ones((n_cells, 1), dtype=points.dtype)
    # One matrix product gives |x|^2 - 2 x y + |y|^2.
    left, right = np.hstack([-2 * points, squares, ones]), np.hstack([points, ones, squares])
    one_hot = np.zeros((n_cells, groups.n), dtype=points.dtype)
    one_hot[np.arange(n_cells), groups.codes] = 1
    widths = np.empty(n_cells)
    step = max(1, _CHUNK // n_cells)
    for start in range(0, n_cells, step):
        rows = np.arange(start, min(start + step, n_cells))
        distances = left[rows] @ right.T
        np.maximum(distances, 0, out=distances)
        distances[np.arange(len(rows)), rows] = 0
        np.sqrt(distances, out=distances)
        widths[rows] = _widths_from_sums((distances @ one_hot).astype(np.float64), groups, groups.codes[rows])
    return widths


def _widths_from_sums(sums: Floats, groups: Groups, codes: npt.NDArray[np.integer]) -> Floats:
    """Widths of cells in groups `codes`, from sums of distances to the cells of each group, shape (cells, groups)."""
    rows = np.arange(len(sums))
    within = sums[rows, codes] / np.maximum(groups.sizes[codes] - 1, 1)
    others = sums / groups.sizes
    others[rows, codes] = np.inf
    return _width(within, others.min(axis=1), alone=groups.sizes[codes] == 1)


def cosine_silhouette_widths(points: Floats, groups: Groups) -> Floats:
    """As :func:`silhouette_widths`, with distance 1 - cosine, and b the mean distance to all cells of other groups."""
    blocks = [slice(start, start + _BLOCK) for start in range(0, len(points), _BLOCK)]
    group_sums = np.zeros((groups.n, points.shape[1]))
    for block in blocks:
        np.add.at(group_sums, groups.codes[block], _directions(points[block])[0])
    widths = np.empty(len(points))
    for block in blocks:
        directions, lengths = _directions(points[block])
        own_sums, own_sizes = group_sums[groups.codes[block]], groups.sizes[groups.codes[block]]
        own_cosines = np.einsum("ij,ij->i", directions, own_sums)
        # The cell itself is in the sum of its own group: at distance 0, also where its length is 0.
        itself = (lengths[:, 0] > 0).astype(float)
        within = (own_sizes - 1 - (own_cosines - itself)) / np.maximum(own_sizes - 1, 1)
        n_others = len(points) - own_sizes
        between = 1 - (directions @ group_sums.sum(axis=0) - own_cosines) / np.maximum(n_others, 1)
        widths[block] = _width(np.maximum(within, 0), np.maximum(between, 0), alone=own_sizes == 1)
    return widths


def _directions(points: Floats) -> tuple[Floats, Floats]:
    """Points scaled to length 1 (0 at the origin), shape (cells, dimensions), and their lengths, shape (cells, 1)."""
    points = points.astype(np.float64)
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    return np.divide(points, lengths, out=np.zeros_like(points), where=lengths > 0), lengths


def _width(within: Floats, between: Floats, *, alone: npt.NDArray[np.bool_]) -> Floats:
    """(b - a) / max(a, b) for mean distances a `within` and b `between`, shape (cells,); 0 for a cell alone in its group."""
    larger = np.maximum(within, between)
    width = np.divide(between - within, larger, out=np.zeros(len(within)), where=larger > 0)
    return np.where(alone, 0.0, width)
