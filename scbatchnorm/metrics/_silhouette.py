"""Silhouettes: distances to the own group against distances to the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scbatchnorm.metrics import _inputs, _score

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from scbatchnorm._data.types import Floats
    from scbatchnorm.metrics._inputs import Groups

# Above, distances are taken with single precision, which halves the time and costs the sixth digit of the mean.
_MOST_DOUBLE = 20_000
_CHUNK = 4_000_000
# Cells whose directions are held in double precision at once.
_MOST_COSINES = 100_000


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
    quadratic in the number of cells, and memory linear in it.

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
    points = _inputs.embedding(X)
    labels = _inputs.groups(label, name="label", n_cells=len(points))
    return label_score(widths(points, labels), labels).value


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
    From 0 (batches far apart) to 1 (not apart); nan where no label can be judged.

    Notes
    -----
    A silhouette compares with the nearest other batch only, so a batch left apart hides behind two that mixed
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
    return _of_batches(X, batch, label, widths)


def bras(X: npt.ArrayLike, *, batch: npt.ArrayLike, label: npt.ArrayLike) -> float:
    """Batch removal adapted silhouette (BRAS): whether batches are apart within cell types, in directions.

    As :func:`silhouette_batch`, but distances are 1 - cosine, and a cell's own batch is compared with the mean of all
    cells of the other batches instead of the nearest batch (Rautenstrauch and Ohler, Nature Biotechnology 2025,
    doi 10.1038/s41587-025-02743-4).

    Parameters
    ----------
    X
        Coordinates, shape (cells, dimensions). Their origin matters: an embedding centred at 0, as PCA is, is meant.
    batch
        Batch of each cell, shape (cells,).
    label
        Cell type of each cell, shape (cells,).

    Returns
    -------
    From 0 (batches far apart) to 1 (not apart); nan where no label can be judged.

    Notes
    -----
    Blind to lengths: batches that differ in scale only are not told apart. Rare types weigh as much as frequent ones.
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
    return _of_batches(X, batch, label, cosine_widths)


def _of_batches(
    X: npt.ArrayLike, batch: npt.ArrayLike, label: npt.ArrayLike, widths_of: Callable[[Floats, Groups], Floats]
) -> float:
    points = _inputs.embedding(X)
    labels = _inputs.groups(label, name="label", n_cells=len(points))
    batches = _inputs.groups(batch, name="batch", n_cells=len(points))
    return batch_score(points, labels, batches, widths_of).value


def label_score(of_cells: Floats, labels: Groups) -> _score.Score:
    """Mean of the scaled widths; `of_cells` (cells,) are those of :func:`widths`."""
    if labels.n == 1:
        return _score.undefined("there is one label only")
    if labels.n == len(labels.codes):
        return _score.undefined("every cell has a label of its own")
    return _score.mean((of_cells + 1) / 2)


def batch_score(
    points: Floats, labels: Groups, batches: Groups, widths_of: Callable[[Floats, Groups], Floats]
) -> _score.Score:
    """Mean of 1 - abs(width) of batches within each label."""
    values = np.full(len(points), np.nan)
    for code in range(labels.n):
        cells = labels.members(code)
        within = batches.of(cells)
        if 1 < within.n < len(cells):
            values[cells] = 1 - np.abs(widths_of(points[cells], within))
    if np.isnan(values).all():
        return _score.undefined("no label is in two batches with more cells than batches")
    return _score.label_mean(values, labels)


def widths(points: Floats, groups: Groups) -> Floats:
    """Euclidean silhouette width of each cell, shape (cells,): (b - a) / max(a, b), 0 for a cell alone in its group.

    a is the mean distance to the other cells of its group, b that to the cells of the nearest other group.
    """
    n_cells = len(points)
    if groups.n == 1:
        return np.zeros(n_cells)
    double = n_cells <= _MOST_DOUBLE
    points = (points - points.mean(axis=0, dtype=np.float64)).astype(np.float64 if double else np.float32)
    squares, ones = np.einsum("ij,ij->i", points, points)[:, None], np.ones((n_cells, 1), dtype=points.dtype)
    # One product makes |x|^2 - 2 x y + |y|^2.
    left, right = np.hstack([-2 * points, squares, ones]), np.hstack([points, ones, squares])
    of_groups = np.zeros((n_cells, groups.n), dtype=points.dtype)
    of_groups[np.arange(n_cells), groups.codes] = 1
    found = np.empty(n_cells)
    step = max(1, _CHUNK // n_cells)
    for start in range(0, n_cells, step):
        rows = np.arange(start, min(start + step, n_cells))
        distances = left[rows] @ right.T
        np.maximum(distances, 0, out=distances)
        distances[np.arange(len(rows)), rows] = 0
        np.sqrt(distances, out=distances)
        found[rows] = _compare((distances @ of_groups).astype(np.float64), groups, groups.codes[rows])
    return found


def _compare(sums: Floats, groups: Groups, own: npt.NDArray[np.integer]) -> Floats:
    """Widths out of sums of distances to the cells of each group, shape (cells, groups)."""
    rows = np.arange(len(sums))
    within = sums[rows, own] / np.maximum(groups.sizes[own] - 1, 1)
    others = sums / groups.sizes
    others[rows, own] = np.inf
    return _width(within, others.min(axis=1), alone=groups.sizes[own] == 1)


def cosine_widths(points: Floats, groups: Groups) -> Floats:
    """As :func:`widths`, with distance 1 - cosine, and b the mean over all cells of other groups."""
    blocks = [slice(start, start + _MOST_COSINES) for start in range(0, len(points), _MOST_COSINES)]
    of_groups = np.zeros((groups.n, points.shape[1]))
    for block in blocks:
        np.add.at(of_groups, groups.codes[block], _directions(points[block])[0])
    found = np.empty(len(points))
    for block in blocks:
        directions, lengths = _directions(points[block])
        own, n_own = of_groups[groups.codes[block]], groups.sizes[groups.codes[block]]
        to_own = np.einsum("ij,ij->i", directions, own)
        # The cell itself is in the sum of its own group: at distance 0, also where its length is 0.
        itself = (lengths[:, 0] > 0).astype(float)
        within = (n_own - 1 - (to_own - itself)) / np.maximum(n_own - 1, 1)
        n_others = len(points) - n_own
        between = 1 - (directions @ of_groups.sum(axis=0) - to_own) / np.maximum(n_others, 1)
        found[block] = _width(np.maximum(within, 0), np.maximum(between, 0), alone=n_own == 1)
    return found


def _directions(points: Floats) -> tuple[Floats, Floats]:
    """Points at length 1, or 0 where they are at the origin, and their lengths, (cells, 1)."""
    points = points.astype(np.float64)
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    return np.divide(points, lengths, out=np.zeros_like(points), where=lengths > 0), lengths


def _width(within: Floats, between: Floats, *, alone: npt.NDArray[np.bool_]) -> Floats:
    larger = np.maximum(within, between)
    found = np.divide(between - within, larger, out=np.zeros(len(within)), where=larger > 0)
    return np.where(alone, 0.0, found)
