"""Corrected expression, from the model that `pp.integrate` left in `uns`."""

from __future__ import annotations

import logging
import math
import time
import warnings
from importlib.metadata import version
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal

import anndata as ad
import numpy as np

from scbatchnorm._data.adata import Keys, check_writable, load_annotation
from scbatchnorm._data.checks import check_unique_genes, join_names
from scbatchnorm._data.dask_blocks import is_lazy
from scbatchnorm._estimator import BatchNormAutoencoder
from scbatchnorm._runtime.messages import log_written
from scbatchnorm.tl._correction.in_memory import ExpressionInMemory
from scbatchnorm.tl._correction.lazy import LazyExpression
from scbatchnorm.tl._correction.regression import correct_towards, fit_regressions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData

    from scbatchnorm._data.types import Codes, Labels

logger = logging.getLogger(__name__)

_LIBRARIES = ("scbatchnorm", "anndata", "numpy", "scipy")


def correct(
    adata: AnnData,
    *,
    target: str = "average",
    genes: Literal["all", "hvg"] = "all",
    threshold: float | None = None,
    key: str | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | None:
    """Corrected log-normalised expression: each cell as predicted for the average batch, or for one batch.

    Each gene is predicted by a ridge regression on the corrected components, with slopes that batches share, and an
    intercept and slopes of each batch. The prediction for the state of a cell in its own batch is replaced by that for
    the target. The residual is kept, rescaled to its standard deviation in the target (by a factor of at most 2). Negative values
    become 0. So genes that were not integrated are corrected as well, variation that the components do not explain is
    kept, and zeros may become small numbers. Batch effects that remain in the embedding remain in expression, too. States
    found in one batch only are shifted like the rest of their batch. With a strength below 1 the change is
    multiplied by it: at strength 0 expression is copied. The regressions are fitted to the cells in `adata`: a part of
    them gives slightly different values.

    For figures, scores of gene sets and the like. Not for differential expression: the correction is fitted to all
    cells of a batch together, which tests of single cells do not take into account, so p-values are too small; and effects of
    what differs between batches (condition, donor) are removed. Test raw counts with the batch as a covariate, best as
    sums per sample (pseudobulk). :func:`concordance` shows whether differences between cell types are preserved.

    Parameters
    ----------
    adata
        Annotated data that :func:`scbatchnorm.pp.integrate` has written to; the expression that was integrated is corrected,
        `adata.X` or the layer. It may be a Dask array, as anndata's lazy readers give: it is then read once, block by block, for the
        regressions, by the workers of the Dask cluster that is connected, if there is one.
    target
        `"average"`: the mean over the batches with cells in `adata`, with equal weights. Or the name of a batch, whose own
        cells do not change.
    genes
        `"all"`, or `"hvg"`: only those that were integrated; the others are copied.
    threshold
        If given, values below it become 0 and the layer is sparse (CSR); 0.1 is hardly less accurate than `None`,
        a dense array with many values close to 0.
    key
        The `key_added` of the integration.
    key_added
        Key of the layer, and with `"_correct"` behind it in `uns`; `None` is `"scbatchnorm"`.
    copy
        Work on a copy and return it.

    Returns
    -------
    Returns `None` if `copy=False`, else an `AnnData`. Sets the following fields:

    `adata.layers['scbatchnorm' | key_added]` : :class:`numpy.ndarray` or :class:`scipy.sparse.csr_matrix` (dtype `float32`)
        Corrected expression, shape (cells, genes), never negative, on the scale of the log-normalised expression. It
        is computed for 1 024 cells at a time: there is no other dense matrix of all cells and genes, only coefficients of
        shape (batches, components, genes). For a Dask array it is a :class:`dask.array.Array` with the same chunks of cells, all genes
        in one, dense or CSR: a chunk is corrected when it is computed or written (`adata.write_zarr`), and no matrix of all cells and genes
        is ever in memory. Its graph holds the coefficients, once: a few 100 MB for 30 batches and 30 000 genes.
    `adata.uns['scbatchnorm_correct' | key_added + '_correct']` : :class:`dict`
        `params`, `fingerprint` and `strength` (value and reason) of the model, `batches` that the average is over or
        the target, `n_genes` that were corrected, and `versions`.

    If `adata` was read lazily, its `obs`, `var` and `uns` are in memory afterwards: anndata writes them from there only.

    Raises
    ------
    KeyError
        There is no integration, or its genes, batches or layer are missing.
    ValueError
        The integration was of a representation, or its weights are incomplete; `target`, `genes`, `threshold` or
        `key_added` are out of range; `key_added` is a layer that this function did not write; values are negative, not
        finite or beyond 1e12; for a Dask array the message names block and rows, and values that are first read when the layer is
        computed (strength 0) are checked only then. `adata` is unchanged.

    Warns
    -----
    UserWarning
        Values are larger than log-normalised ones can be.

    Examples
    --------
    >>> import scbatchnorm as sbn
    >>> adata = sbn.datasets.pbmc_planted()
    >>> sbn.pp.integrate(adata, "batch")
    >>> sbn.tl.correct(adata)
    >>> adata.layers["scbatchnorm"].shape
    (700, 765)
    >>> sbn.tl.correct(adata, target="protocol A", threshold=0.1, key_added="like_A")
    >>> adata.layers["like_A"].format, adata.uns["like_A_correct"]["params"]["target"]
    ('csr', 'protocol A')
    """
    start = time.perf_counter()
    slot, name = Keys.of(key).uns, Keys.of(key_added).uns
    _check_options(genes, threshold)
    check_writable(adata, copy=copy)
    estimator = BatchNormAutoencoder.from_anndata(adata, key=slot)
    model = estimator.fitted_
    _check_layer_name(adata, name)
    source = _integrated_layer(adata.uns[slot], slot)
    check_unique_genes(np.asarray(adata.var_names, dtype=str))
    lazy = is_lazy(adata.X if source is None else adata.layers.get(source))
    hvg = genes == "hvg"
    expression = (
        LazyExpression(adata, model, slot, source, hvg=hvg, progress=estimator.progress)
        if lazy
        else ExpressionInMemory(adata, model, slot, source, hvg=hvg)
    )
    target_codes = _target_codes(target, model.batches, expression.codes)
    sums = expression.sums()
    correction = None if sums is None else correct_towards(fit_regressions(sums), target_codes)
    layer = expression.corrected(correction, threshold)
    params: dict[str, str | float] = {"target": str(target), "genes": genes, "key": slot}
    params |= {} if threshold is None else {"threshold": float(threshold)}
    params |= {} if source is None else {"layer": source}
    record = {
        "params": params,
        "fingerprint": model.fingerprint(),
        "strength": {"value": model.strength.value, "reason": model.strength.reason},
        "batches": model.batches[target_codes].astype(str),
        "n_genes": expression.n_genes if correction is not None else 0,
        "versions": {library: version(library) for library in _LIBRARIES},
    }
    if copy:
        adata = adata.to_memory() if adata.isbacked else adata.copy()
    with warnings.catch_warnings():
        # Writing to a view makes it a copy, as in `pp.integrate`.
        warnings.simplefilter("ignore", ad.ImplicitModificationWarning)
        load_annotation(adata)
        adata.layers[name] = layer
        adata.uns[_record_key(name)] = record
    how = "copied unchanged, strength is 0" if correction is None else f"{expression.n_genes} genes corrected"
    log_written(logger, {"layers": [name], "uns": [_record_key(name)]}, start, detail=how)
    return adata if copy else None


def _integrated_layer(record: Mapping[str, Any], slot: str) -> str | None:
    """The layer that was integrated, `None` for `X`; raises ValueError if it was a representation."""
    if record.get("use_rep"):
        msg = (
            f"adata.uns[{slot!r}] is an integration of the representation {str(record['use_rep'])!r}, which has no genes to correct. "
            "Integrate expression: pp.integrate(adata, batch_key), without use_rep."
        )
        raise ValueError(msg)
    return str(record["layer"]) if record.get("layer") else None


def _target_codes(target: str, levels: Labels, codes: Codes) -> Codes:
    """Codes of the batches whose average is the target; `levels` are the names of all batches, `codes` the batches of the cells."""
    present = np.unique(codes)
    if target == "average":
        return present
    named = present[levels[present].astype(str) == str(target)]
    if not len(named):
        available = join_names(levels[present])
        msg = f"target={target!r} must be 'average' or a batch with cells in adata; batches: {available}."
        raise ValueError(msg)
    return named


def _check_options(genes: str, threshold: float | None) -> None:
    """Raise ValueError for `genes` or `threshold` that are out of range."""
    if not isinstance(genes, str) or genes not in {"all", "hvg"}:
        msg = f"genes must be 'all' or 'hvg'; got {genes!r}."
        raise ValueError(msg)
    if threshold is None:
        return
    number = isinstance(threshold, Real) and not isinstance(threshold, bool | np.bool_)
    if not number or not math.isfinite(threshold) or threshold < 0:
        msg = f"threshold must be None or a number of at least 0; got {threshold!r}."
        raise ValueError(msg)


def _check_layer_name(adata: AnnData, name: str) -> None:
    """Raise ValueError if there is a layer `name` that this function did not write: counts that are overwritten are lost."""
    if name in adata.layers and _record_key(name) not in adata.uns:
        msg = (
            f"key_added={name!r} is a layer that tl.correct did not write; choose another name. "
            f"Layers: {join_names(key for key in adata.layers if key is not None)}."
        )
        raise ValueError(msg)


def _record_key(name: str) -> str:
    """Key in `uns` of the record of the layer `name`."""
    return f"{name}_correct"
