"""Mixing scores of each cell: how well batches are mixed around it, and the share of its neighbours that is kept."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import numpy as np

from scbatchnorm._data.adata import Keys, check_writable, write_columns
from scbatchnorm._runtime.messages import log_written, warn
from scbatchnorm.metrics._catalogue import choose_metrics
from scbatchnorm.metrics._comparison import read_comparison
from scbatchnorm.metrics._representation import Representation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

logger = logging.getLogger(__name__)

_NAMES = ("ilisi", "cilisi", "clisi", "knn_preservation")


def mixing(
    adata: AnnData,
    batch_key: str | Sequence[str],
    *,
    use_rep: str = "X_scbatchnorm",
    label_key: str | None = None,
    unintegrated: str | None = "X_pca",
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | None:
    """How well each cell is mixed with cells of other batches, and what share of its neighbours is kept.

    The local scores of :func:`scbatchnorm.metrics.evaluate` for single cells: they show where batches are separate, and
    where cells lost their neighbours. :func:`scbatchnorm.pl.mixing` draws them.

    Parameters
    ----------
    adata
        Annotated data.
    batch_key
        Column of `adata.obs` with the batch, or several that are combined.
    use_rep
        Key of `adata.obsm` with the representation to evaluate, of any tool.
    label_key
        Column of `adata.obs` with cell types. Cells without a value are left out, with a warning: their values are nan.
    unintegrated
        Key of `adata.obsm` with the principal components before integration; `None`: without kNN preservation.
    key_added
        Prefix of the columns, and key in `uns`; `None` is `"mixing"`.
    copy
        Work on a copy and return it.

    Returns
    -------
    Returns `None` if `copy=False`, else an `AnnData`. Sets the following fields, values from 0 to 1, 1 is best, nan where
    a value is not defined:

    `adata.obs['mixing_ilisi' | key_added + '_ilisi']` : :class:`pandas.Series` (dtype `float64`)
        (l - 1) / (B - 1), where l is the effective number of batches among the neighbours, of B; see :func:`scbatchnorm.metrics.ilisi`.
    `adata.obs['mixing_cilisi']`
        With `label_key`: the same among the cells of the cell's label; see :func:`scbatchnorm.metrics.cilisi`.
    `adata.obs['mixing_clisi']`
        With `label_key`: whether the neighbours are of one label; see :func:`scbatchnorm.metrics.clisi`.
    `adata.obs['mixing_knn_preservation']`
        With `unintegrated`: share of neighbours kept; see :func:`scbatchnorm.metrics.knn_preservation`.
    `adata.uns['mixing' | key_added]`
        The parameters.

    Raises
    ------
    KeyError
        A key names nothing in `adata`.
    ValueError
        A cell has no batch, or coordinates are not finite or beyond 1e12. `adata` is unchanged.

    Warns
    -----
    UserWarning
        Cells have no label; a value is not defined for any cell.

    Examples
    --------
    >>> import scanpy as sc
    >>> import scbatchnorm as sbn
    >>> adata = sbn.datasets.pbmc_planted()
    >>> sc.pp.pca(adata)
    >>> sbn.tl.mixing(adata, "batch", use_rep="X_pca", label_key="cell_type")
    >>> bool(adata.obs["mixing_clisi"].median() > adata.obs["mixing_ilisi"].median())
    True
    """
    start = time.perf_counter()
    key = Keys.of("mixing" if key_added is None else key_added).uns
    check_writable(adata, copy=copy)
    comparison = read_comparison(adata, use_rep, batch_key=batch_key, label_key=label_key, unintegrated=unintegrated)
    before = None
    if unintegrated is not None:
        before = Representation(comparison.points[unintegrated], comparison.batches, comparison.labels, None)
    after = Representation(comparison.points[use_rep], comparison.batches, comparison.labels, before)
    names = ["ilisi", *(["cilisi", "clisi"] if label_key is not None else [])]
    names += ["knn_preservation"] if unintegrated is not None else []
    columns = {}
    for metric in choose_metrics(names, label=label_key is not None, before=unintegrated is not None):
        score = metric.score(after, comparison.batches)
        if score.reason:
            warn(f"{metric.title} is not defined, {key}_{metric.name} is nan: {score.reason}.")
        columns[f"{key}_{metric.name}"] = comparison.expand(score.cells)
    if copy:
        adata = adata.to_memory() if adata.isbacked else adata.copy()
    params = {
        "use_rep": use_rep,
        "batch_key": batch_key if isinstance(batch_key, str) else np.asarray(batch_key, dtype=str),
        "label_key": label_key or "",
        "unintegrated": unintegrated or "",
    }
    # Columns of an earlier call with more keys.
    stale = [f"{key}_{name}" for name in _NAMES if f"{key}_{name}" not in columns]
    write_columns(adata, columns, key, {"params": params}, stale=stale)
    log_written(logger, {"obs": columns, "uns": [key]}, start)
    return adata if copy else None
