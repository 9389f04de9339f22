"""The headline verb: one embedding of cells from several batches."""

from __future__ import annotations

import logging
import time
from numbers import Integral, Real
from typing import TYPE_CHECKING, Literal

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from scbatchnorm._data.adata import Keys, check_writable, read_batches, read_features, write_integration
from scbatchnorm._data.checks import join_names
from scbatchnorm._data.dask_blocks import DaskBlocks
from scbatchnorm._estimator import BatchNormAutoencoder
from scbatchnorm._persistence.record import to_record
from scbatchnorm._runtime.messages import log_written, warn
from scbatchnorm.pp._strength_path import check_strengths, scan_strengths, use_chosen_strength

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from anndata import AnnData

    from scbatchnorm._data.batches import Batches
    from scbatchnorm._data.types import Bools, Floats

logger = logging.getLogger(__name__)


def integrate(
    adata: AnnData,
    batch_key: str | Sequence[str],
    *,
    model: BatchNormAutoencoder | None = None,
    layer: str | None = None,
    use_rep: str | None = None,
    mask_var: Bools | Sequence[bool] | str | None = "auto",
    strength: float | Sequence[float] | Literal["auto"] = "auto",
    rng: int | np.random.Generator | None = 0,
    device: str | torch.device = "auto",
    key_added: str | None = None,
    progress: bool | None = None,
    copy: bool = False,
) -> AnnData | None:
    """Harmonised embedding of cells from several batches.

    Trains `BatchNormAutoencoder` on minibatches that mix all batches. Cell states that batches share are moved onto
    each other; states found in one batch only are not pushed anywhere, and where the data show no batch effect nothing is changed.

    Parameters
    ----------
    adata
        Annotated data, log-normalised, cells of all batches. Expression may be a Dask array, as anndata's lazy readers give: it is read block
        by block and never as a whole, by the workers of the Dask cluster that is connected, if there is one.
    batch_key
        Column of `adata.obs` with the batch of each cell, or several columns: then each combination is a batch.
    model
        A configured, not yet fitted estimator; it is copied. The place for every other hyperparameter; `strength`,
        `rng`, `device` and `progress` are then set there as well, and not here.
    layer
        Layer with log-normalised expression, instead of `adata.X`.
    use_rep
        Representation in `adata.obsm` to integrate, for instance `"X_pca"`, instead of expression.
    mask_var
        Genes to use: a boolean array or a column of `adata.var`; `None` for all. `"auto"` takes the column
        `"highly_variable"` if there is one, otherwise all genes.
    strength
        How much is corrected, from 0 (nothing) to 1; `"auto"` decides by the data, cell state by cell state, and says why. Several, such as
        `[0, 0.25, 0.5, 0.75, 1]`: what each of them mixes and keeps is measured on one fit, and the smallest with nearly all of
        the mixing is used; see :func:`scbatchnorm.pl.strength`.
    rng
        Seed or generator. The same seed gives the same result on the same machine.
    device
        `"auto"`: CUDA where there is one, else the CPU. Or any torch device.
    key_added
        If given, results are written to `obsm[key_added]`, `varm[key_added]` and `uns[key_added]`.
    progress
        Progress bar over the steps; `None` shows it in terminals and notebooks.
    copy
        Work on a copy and return it.

    Returns
    -------
    Returns `None` if `copy=False`, else an `AnnData`. Sets the following fields:

    `adata.obsm['X_scbatchnorm' | key_added]` : :class:`numpy.ndarray` (dtype `float32`)
        Embedding, shape (cells, `n_latent`) with the model's `n_latent`, in units of principal component scores. With strength 0:
        the model's `n_components` principal components as they are. With `use_rep`: as many columns as the representation.
    `adata.varm['scbatchnorm' | key_added]` : :class:`numpy.ndarray` (dtype `float32`)
        Loadings of the genes on the components, shape (genes, components); 0 for genes not used. Not with `use_rep`.
    `adata.uns['scbatchnorm' | key_added]` : :class:`dict`
        `params`, `strength` (value, evidence, reason), with several strengths their `path`, `history` and `shift_history` (DataFrames),
        `batch_key`, `batch_levels`, `layer` or `use_rep` if one was given, `versions`, the fitted `weights` as plain arrays, from which
        `BatchNormAutoencoder.from_anndata` gives back the model, their `fingerprint`, of which cells the frozen statistics are
        (`calibration`), and a sketch of the cells that new ones are placed among (`reference`).

    Raises
    ------
    KeyError
        `batch_key`, `layer`, `use_rep` or `mask_var` name nothing in `adata`; the message lists what there is.
    ValueError
        Cells without a batch; values that are not finite, beyond 1e12, negative, or raw counts; parameters out of range. `adata`
        is unchanged.
    TrainingDivergedError
        Losses were no longer finite. `adata` is unchanged; the error has the `model`, with the last good weights.
    OSError
        Expression that is not in memory cannot be read. `adata` is unchanged.
    ImportError
        A worker of the Dask cluster lacks the package, or has another version of it.

    Warns
    -----
    UserWarning
        There is only one batch; a batch has a single cell; values are larger than log-normalised ones can be; training was
        interrupted.

    Examples
    --------
    >>> import scanpy as sc, scbatchnorm as sbn
    >>> adata = sbn.datasets.pbmc_planted()
    >>> sbn.pp.integrate(adata, "batch")
    >>> adata.obsm["X_scbatchnorm"].shape
    (700, 30)
    >>> sc.pp.neighbors(adata, use_rep="X_scbatchnorm")
    """
    start = time.perf_counter()
    keys = Keys.of(key_added)
    if not isinstance(copy, Integral | np.bool_):
        msg = f"copy must be True or False; got {copy!r}."
        raise ValueError(msg)
    check_writable(adata, copy=bool(copy))
    # A path is measured on a fit of full strength.
    strengths, strength = (None, strength) if isinstance(strength, str | Real) else (check_strengths(strength), 1.0)
    estimator = _estimator(model, strength=strength, rng=rng, device=device, progress=progress)
    batches = read_batches(adata, batch_key)
    features = read_features(adata, layer=layer, use_rep=use_rep, mask_var=mask_var)
    if use_rep is not None:
        estimator.set_params(stem="identity")
    elif estimator.stem == "identity":
        msg = "a model with stem='identity' takes a representation as it is: name it with use_rep."
        raise ValueError(msg)
    blocks = features.blocks
    _check_size(blocks.shape, batches, batch_key)
    logger.info("integrating %d cells x %d features of %d batches", *blocks.shape, batches.n_batches)
    if isinstance(blocks, DaskBlocks):
        blocks.progress = estimator.progress
    products, batches = estimator._fit(blocks, batches, features.names)
    fitted, path = estimator.fitted_, None
    if strengths is not None and fitted.network is not None:
        path = scan_strengths(fitted, products, batches.codes, strengths)
        fitted = use_chosen_strength(fitted, path)
        logger.info("strength %.2f: %s", fitted.strength.value, fitted.strength.reason)
    embedding = fitted.embed(products, batches.codes)
    loadings = None if features.mask is None else _loadings(fitted.stem.components, features.mask)
    record = to_record(fitted, estimator.get_params(deep=False))
    record["batch_key"] = batch_key if isinstance(batch_key, str) else np.asarray(batch_key, dtype=str)
    record |= {
        name: value for name, value in (("layer", layer), ("use_rep", use_rep), ("path", path)) if value is not None
    }
    if copy:
        adata = adata.to_memory() if adata.isbacked else adata.copy()
    write_integration(adata, keys, embedding=embedding, loadings=loadings, record=record)
    log_written(
        logger, {"obsm": [keys.obsm], "varm": [] if loadings is None else [keys.varm], "uns": [keys.uns]}, start
    )
    return adata if copy else None


def _estimator(
    model: BatchNormAutoencoder | None,
    *,
    strength: float | Literal["auto"],
    rng: int | np.random.Generator | None,
    device: str | torch.device,
    progress: bool | None,
) -> BatchNormAutoencoder:
    """The estimator to fit: a new one, or a copy of `model`."""
    if model is None:
        return BatchNormAutoencoder(strength=strength, rng=rng, device=device, progress=progress)
    if not isinstance(model, BatchNormAutoencoder):
        msg = f"model must be a BatchNormAutoencoder; got {type(model).__name__}."
        raise TypeError(msg)
    changed = {
        "strength": strength != "auto",
        "rng": rng != 0,
        "device": device != "auto",
        "progress": progress is not None,
    }
    given = ", ".join(name for name, is_changed in changed.items() if is_changed)
    if given:
        msg = f"{given} and model exclude each other: set {given} on the model, BatchNormAutoencoder({given}=...)."
        raise ValueError(msg)
    try:
        check_is_fitted(model)
    except NotFittedError:
        return clone(model)
    msg = "model must not be fitted yet: integrate fits it. Give a new one, sklearn.base.clone(model)."
    raise ValueError(msg)


def _check_size(shape: tuple[int, int], batches: Batches, batch_key: str | Sequence[str]) -> None:
    """Raise where there are no components; warn where there is nothing to integrate, or a batch too small to be integrated well."""
    if min(shape) < 2:
        msg = f"adata must have at least 2 cells and 2 features to be integrated; got {shape[0]} x {shape[1]}. Were they all filtered out?"
        raise ValueError(msg)
    if batches.n_batches == 1:
        msg = f"batch_key={batch_key!r} has one batch only, {str(batches.levels[0])!r}: the embedding is that of the stem, uncorrected."
        warn(msg)
        return
    single = batches.levels[batches.counts == 1]
    if len(single):
        msg = f"batches of one cell cannot be aligned reliably; batch_key={batch_key!r} has {len(single)}: {join_names(single)}."
        warn(msg)


def _loadings(components: Floats, mask: Bools) -> Floats:
    """Loadings of all genes, shape (n_vars, components): 0 for genes that were not used."""
    loadings = np.zeros((len(mask), components.shape[1]), dtype=np.float32)
    loadings[mask] = components
    return loadings
