"""Principal component regression: the share of the variance that is between batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scbatchnorm.metrics._inputs import check_embedding, check_flavor, encode_groups
from scbatchnorm.metrics._score import MetricScore, undefined_score

if TYPE_CHECKING:
    import numpy.typing as npt

    from scbatchnorm._data.types import Floats
    from scbatchnorm.metrics._inputs import Flavor, Groups

# Cells that are converted to double precision at once.
_BLOCK = 100_000


def pcr_comparison(
    X: npt.ArrayLike, *, X_pre: npt.ArrayLike, batch: npt.ArrayLike, flavor: Flavor = "default"
) -> float:
    """PCR comparison: the share by which integration reduced the variance that batches explain.

    (before - after) / before, each the sum over principal components of their variance times the R² of batch
    (Büttner et al., Nature Methods 2019; compared as in scIB, Luecken et al., Nature Methods 2022), as a share of the
    whole variance. Summed over all components this is the variance between batches over the whole variance.

    Parameters
    ----------
    X
        Coordinates after integration, shape (cells, dimensions).
    X_pre
        Coordinates before, such as principal components, shape (cells, dimensions before).
    batch
        Batch of each cell, shape (cells,).
    flavor
        `"scib"` sets negative values to 0, as scib-metrics.

    Returns
    -------
    1 if batches explain nothing any more, 0 if as much as before, negative if more; nan where they explained nothing
    before, as with a single batch.

    Notes
    -----
    Compares means of batches only. Where batches differ in composition, means should differ, and over-correction
    scores highest.

    Raises
    ------
    ValueError
        The inputs have wrong shapes, or non-finite or missing values.

    Examples
    --------
    >>> import numpy as np
    >>> import scbatchnorm as sbn
    >>> rng = np.random.default_rng(0)
    >>> X, batch = rng.normal(size=(400, 5)), np.repeat(["a", "b"], 200)
    >>> apart = X + 9 * (batch == "a")[:, None]
    >>> round(sbn.metrics.pcr_comparison(X, X_pre=apart, batch=batch), 2)
    1.0
    >>> sbn.metrics.pcr_comparison(apart, X_pre=X, batch=batch) < 0
    True
    """
    check_flavor(flavor)
    points = check_embedding(X)
    before = check_embedding(X_pre, name="X_pre", n_cells=len(points))
    batches = encode_groups(batch, name="batch", n_cells=len(points))
    return pcr_score(points, batches, before, batches, flavor=flavor).value


def pcr_score(
    after: Floats, batches: Groups, before: Floats, batches_before: Groups, *, flavor: Flavor = "default"
) -> MetricScore:
    """(before - after) / before of the share of variance between batches; controls have shuffled batches `after` only."""
    if batches.n == 1:
        return undefined_score("there is one batch only")
    share_before = _explained_share(before, batches_before)
    if not share_before > 0:
        return undefined_score("batches explain no variance before integration")
    reduction = (share_before - _explained_share(after, batches)) / share_before
    return MetricScore(max(reduction, 0.0) if flavor == "scib" else reduction)


def _explained_share(points: Floats, batches: Groups) -> float:
    """Share of the variance that is between batches; 0 where there is no variance."""
    blocks = [slice(start, start + _BLOCK) for start in range(0, len(points), _BLOCK)]
    mean = points.mean(axis=0, dtype=np.float64)
    total = sum(float(np.square(points[block] - mean).sum()) for block in blocks)
    # The variance of constant data is not exactly 0 because of rounding.
    if total <= 1e-20 * sum(float(np.square(points[block], dtype=np.float64).sum()) for block in blocks):
        return 0.0
    sums = np.zeros((batches.n, points.shape[1]))
    for block in blocks:
        np.add.at(sums, batches.codes[block], points[block] - mean)
    return float((np.square(sums).sum(axis=1) / batches.sizes).sum()) / total
