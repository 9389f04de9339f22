"""Principal component regression: how much of the variance is between batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scbatchnorm.metrics import _inputs, _score

if TYPE_CHECKING:
    import numpy.typing as npt

    from scbatchnorm._data.types import Floats
    from scbatchnorm.metrics._inputs import Flavor, Groups

# Cells of which differences are held in double precision at once.
_BLOCK = 100_000


def pcr_comparison(
    X: npt.ArrayLike, *, X_pre: npt.ArrayLike, batch: npt.ArrayLike, flavor: Flavor = "default"
) -> float:
    """PCR comparison: by which share integration lowered the variance that batches explain.

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
        `"scib"` calls 0 what is negative, as scib-metrics.

    Returns
    -------
    1 if batches explain nothing any more, 0 if as much as before, negative if more; nan where they explained nothing
    before, as with a single batch.

    Notes
    -----
    Sees means of batches only. Where batches differ in composition, means ought to differ, and over-correction
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
    _inputs.check_flavor(flavor)
    points = _inputs.embedding(X)
    before = _inputs.embedding(X_pre, name="X_pre", n_cells=len(points))
    batches = _inputs.groups(batch, name="batch", n_cells=len(points))
    return score(points, batches, before, batches, flavor=flavor).value


def score(
    after: Floats, batches: Groups, before: Floats, batches_before: Groups, *, flavor: Flavor = "default"
) -> _score.Score:
    """The comparison; the control has its shuffled batches on the side of `after` only."""
    if batches.n == 1:
        return _score.undefined("there is one batch only")
    first = _explained(before, batches_before)
    if not first > 0:
        return _score.undefined("batches explain no variance before integration")
    found = (first - _explained(after, batches)) / first
    return _score.Score(max(found, 0.0) if flavor == "scib" else found)


def _explained(points: Floats, batches: Groups) -> float:
    """Share of the variance that is between batches; 0 where there is no variance."""
    blocks = [slice(start, start + _BLOCK) for start in range(0, len(points), _BLOCK)]
    centre = points.mean(axis=0, dtype=np.float64)
    whole = sum(float(np.square(points[block] - centre).sum()) for block in blocks)
    # Of constant data rounding leaves something.
    if whole <= 1e-20 * sum(float(np.square(points[block], dtype=np.float64).sum()) for block in blocks):
        return 0.0
    means = np.zeros((batches.n, points.shape[1]))
    for block in blocks:
        np.add.at(means, batches.codes[block], points[block] - centre)
    return float((np.square(means).sum(axis=1) / batches.sizes).sum()) / whole
