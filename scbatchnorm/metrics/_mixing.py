"""How well batches mix: high is good, and too high is possible, so read them together with conservation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import silhouette_samples

from scbatchnorm.metrics import _inputs, _lisi
from scbatchnorm.metrics._neighbors import Neighbors, as_neighbors

if TYPE_CHECKING:
    import numpy.typing as npt


def ilisi(X: npt.ArrayLike | Neighbors, batch: npt.ArrayLike) -> float:
    """Integration LISI: how many batches a cell effectively has among its neighbours, scaled.

    The median over cells of the inverse Simpson index of batches, m, as (m - 1) / (B - 1) for B batches; defined by
    Korsunsky et al., Nature Methods 2019, and scaled as in scIB (Luecken et al., Nature Methods 2022).
    A neighbourhood is the 90 nearest other cells, weighted to an effective number (perplexity) of 30. scib-metrics
    0.6 does the same; 0.5 counts the cell itself, with weight 0, as one of the 90, so that 89 others remain and the
    score differs in the third digit.

    Parameters
    ----------
    X
        Coordinates, shape (cells, dimensions), or neighbours with at least 90 per cell. In data of fewer than 91
        cells all other cells are neighbours, and the perplexity is a third of their number.
    batch
        Batch of each cell, shape (cells,).

    Returns
    -------
    From 0 (only neighbours of one batch) to 1 (all batches with equal weight); nan with a single batch.

    Notes
    -----
    1 is out of reach where batches differ in size or in their cell types: the scale knows neither. Rewards
    over-correction: mixing everything with everything scores highest.

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
    neighbors = as_neighbors(X, _lisi.K)
    batches = _inputs.groups(batch, name="batch", n_cells=neighbors.n_cells)
    if batches.n == 1:
        return float("nan")
    median = np.median(_lisi.per_cell(neighbors, batches))
    return float(np.clip((median - 1) / (batches.n - 1), 0, 1))


def silhouette_batch(X: npt.ArrayLike, label: npt.ArrayLike, batch: npt.ArrayLike) -> float:
    """Batch silhouette (batch ASW): whether batches are apart within cell types.

    For each label, the mean of 1 - abs(s) over its cells, where s is the Euclidean silhouette width of their
    batches; then the mean over labels (Luecken et al., Nature Methods 2022). Labels found in one batch only, or with
    one cell per batch, are left out.

    Parameters
    ----------
    X
        Coordinates, shape (cells, dimensions).
    label
        Cell type of each cell, shape (cells,).
    batch
        Batch of each cell, shape (cells,).

    Returns
    -------
    From 0 (batches far apart) to 1 (not apart); nan where no label can be judged.

    Notes
    -----
    A silhouette compares with the nearest other batch only, so a batch left apart hides behind two that mixed
    (Rautenstrauch and Ohler, Nature Biotechnology 2025); and rare types weigh as much as frequent ones. Takes time
    quadratic in the cells of a label.

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
    >>> round(sbn.metrics.silhouette_batch(X, label, batch), 2)
    0.96
    >>> round(sbn.metrics.silhouette_batch(X + 100 * (batch == "a")[:, None], label, batch), 2)
    0.01
    """
    points = _inputs.embedding(X)
    labels = _inputs.groups(label, name="label", n_cells=len(points))
    batches = _inputs.groups(batch, name="batch", n_cells=len(points))
    scores = []
    for code in range(labels.n):
        cells = labels.codes == code
        within = batches.codes[cells]
        if 1 < len(np.unique(within)) < len(within):
            widths = silhouette_samples(points[cells], within)
            scores.append(float(np.mean(1 - np.abs(widths))))
    return float(np.mean(scores)) if scores else float("nan")
