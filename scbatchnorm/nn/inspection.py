"""Inspection of trained networks: shift between batches at each layer, Lipschitz bounds, learned mixtures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn

from scbatchnorm.nn._moments import Moments
from scbatchnorm.nn._statistics import Normalizer
from scbatchnorm.nn.folding import fold_batchnorm, frozen_affine
from scbatchnorm.nn.mixtures import BatchLayerNorm, SwitchableNorm
from scbatchnorm.nn.network import Autoencoder, Stack

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike

    # Moments of each batch at each place, by the name of the layer, its kind, and "before" or "after".
    Snapshot = dict[tuple[str, str, str], Moments]

_NORMS = (Normalizer, nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)
# Modules whose `forward` takes the codes of the batches.
_TAKES_CODES = (Autoencoder, Stack, Normalizer)
# Cells that pass the network at once; no result depends on it.
_CHUNK = 8192
# Modules of Lipschitz constant 1, but for a LeakyReLU of a larger slope.
_LIPSCHITZ_ONE = (
    *(nn.Identity, nn.Dropout, nn.Flatten),
    *(nn.ReLU, nn.LeakyReLU, nn.ELU, nn.Tanh, nn.Sigmoid, nn.Softplus),
)
_SHARE_COLUMNS = ["layer", "norm", "of", "statistics", "share"]


def covariate_shift(
    model: Any, data: Any, batch: ArrayLike | str | None = None, *, key: str | None = None
) -> pd.DataFrame:
    """Shift of each batch before and after each normalisation.

    For feature f with mean m_f and variance v_f over all cells, and those of batch b,
    `mean_shift = sqrt(mean_f((m_bf - m_f)^2 / v_f))` in standard deviations, and
    `variance_shift = sqrt(mean_f(log(v_bf / v_f)^2))`; 0 where a batch is as all cells are. Features that do not vary are left out. What
    batches differ in because they hold other cell types counts, too: compare a shift with that of another method, not with 0.

    Parameters
    ----------
    model
        A fitted `BatchNormAutoencoder`, or any torch module; it is used in evaluation mode and not changed.
    data
        For an estimator: AnnData that it, or a model like it, integrated, or the X it was fitted on (cells, features). For a module:
        its input, a tensor or array (cells, features).
    batch
        Batch of each cell, shape (cells,): names as in the fit; for a module that takes codes, these. With AnnData a
        column of `obs`, or `None` for that of the integration.
    key
        Only for AnnData: the `key_added` of the integration; `None` is the package's own.

    Returns
    -------
    DataFrame with one row for each layer, `position` and batch:

    `layer` : str
        Name of the normalisation in the module; from an estimator also `"offsets"` (components before and after the
        offsets of the batches were taken off) and `"latent"` (the corrected components).
    `norm` : str
        Class of the layer, or `""`.
    `position` : str
        `"before"` or `"after"` the layer.
    `batch` : str
        Name of the batch.
    `n_cells`, `mean_shift`, `variance_shift`
        Cells of the batch, and the two numbers above.

    Raises
    ------
    ValueError
        The estimator has no network, because nothing was corrected; or `batch` does not fit the cells.
    KeyError
        AnnData lacks genes of the model, or a column.

    Examples
    --------
    >>> import torch
    >>> from scbatchnorm.nn import MixedBatchNorm, covariate_shift
    >>> batch = torch.arange(100) % 2
    >>> x = torch.randn(100, 5, generator=torch.Generator().manual_seed(0)) + 3 * batch[:, None]
    >>> layer = MixedBatchNorm(5, 2, statistics="per_batch")
    >>> layer.recalibrate([(x, batch)])
    >>> table = covariate_shift(layer, x, batch)
    >>> table.groupby("position")["mean_shift"].mean().round(1).to_dict()
    {'after': 0.0, 'before': 0.8}
    """
    if not isinstance(model, nn.Module):
        return _fitted(model).covariate_shift(data, batch, key=key)
    if batch is None or isinstance(batch, str):
        msg = f"batch must give the batch of each cell where model is a torch module; got {batch!r}."
        raise ValueError(msg)
    parameter = next(model.parameters(), torch.zeros(()))
    x, given = torch.as_tensor(data).to(parameter), np.asarray(batch)
    if x.ndim != 2 or given.shape != (len(x),):
        msg = f"batch must have one value for each of the {len(x)} cells; got shape {given.shape}."
        raise ValueError(msg)
    if given.dtype.kind in "iu" and len(given) and given.min() >= 0:
        codes, names = given.astype(np.int64), [str(code) for code in range(given.max() + 1)]
    elif isinstance(model, _TAKES_CODES):
        msg = f"batch must be the codes of the batches that {type(model).__name__} takes, whole numbers from 0; got {given.dtype}."
        raise ValueError(msg)
    else:
        codes, levels = pd.factorize(given)
        names = [str(level) for level in levels]
    return shift_table(snapshot(model, x, torch.from_numpy(codes).to(x.device), len(names)), names)


def _fitted(model: Any) -> Any:
    """What a fitted `BatchNormAutoencoder` has learned, or scikit-learn's NotFittedError."""
    check_is_fitted(model)
    return model.fitted_


@torch.no_grad()
def snapshot(module: nn.Module, x: torch.Tensor, codes: torch.Tensor, n_batches: int) -> Snapshot:
    """Moments of each batch before and after each normalisation, and of what an `Autoencoder` encodes to, in evaluation mode."""
    groups = nn.functional.one_hot(codes, n_batches).double().cpu()
    moments: Snapshot = {}
    training = {part: part.training for part in module.modules()}
    chunk = slice(0, 0)

    def add(place: tuple[str, str, str], values: torch.Tensor) -> None:
        chunk_moments = Moments.of(values.detach().cpu().double(), groups[chunk])
        moments[place] = moments[place] + chunk_moments if place in moments else chunk_moments

    def hook_of(name: str) -> Any:
        def hook(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            add((name, type(layer).__name__, "before"), inputs[0])
            add((name, type(layer).__name__, "after"), output)

        return hook

    hooks = [
        layer.register_forward_hook(hook_of(name))
        for name, layer in module.named_modules()
        if isinstance(layer, _NORMS)
    ]
    try:
        module.eval()
        for start in range(0, len(x), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            output = module(x[chunk], codes[chunk]) if isinstance(module, _TAKES_CODES) else module(x[chunk])
            if isinstance(module, Autoencoder):
                add(("latent", "", "after"), output[0])
    finally:
        for handle in hooks:
            handle.remove()
        for part, mode in training.items():
            part.training = mode
    # The latent points come before the decoder.
    return dict(sorted(moments.items(), key=lambda item: isinstance(module, Autoencoder) and "decoder" in item[0][0]))


def shift_table(moments: Snapshot, names: Sequence[str]) -> pd.DataFrame:
    """Table of `covariate_shift` from the moments of the batches called `names`."""
    rows = []
    for (layer, norm, position), batches in moments.items():
        pooled = batches.pooled()
        variance = pooled.variance(0)[0]
        varies = _varies(pooled)
        mean_shift = ((batches.mean - pooled.mean).square() / variance)[:, varies].mean(1).sqrt()
        log_ratio = (batches.variance(0) / variance)[:, varies].clamp_min(1e-12).log()
        variance_shift = log_ratio.square().mean(1).sqrt()
        for b, name in enumerate(names):
            n_cells = int(batches.weight[b])
            if not n_cells:
                continue
            row = {"layer": layer, "norm": norm, "position": position, "batch": name, "n_cells": n_cells}
            row["mean_shift"] = float(mean_shift[b])
            row["variance_shift"] = float(variance_shift[b]) if n_cells > 1 else float("nan")
            rows.append(row)
    return pd.DataFrame(rows, columns=["layer", "norm", "position", "batch", "n_cells", "mean_shift", "variance_shift"])


def drift(moments: Snapshot, earlier: Snapshot | None) -> dict[tuple[str, str], float]:
    """Shift of the mean over all cells since the snapshot `earlier`, in its standard deviations: internal covariate shift.

    Root mean square over features, for each layer and position; NaN if there is no earlier snapshot.
    """
    drifts = {}
    for place, batches in moments.items():
        layer, _, position = place
        if earlier is None:
            drifts[layer, position] = float("nan")
            continue
        pooled, reference = batches.pooled(), earlier[place].pooled()
        varies = _varies(reference)
        squares = ((pooled.mean - reference.mean)[0].square() / reference.variance(0)[0])[varies]
        drifts[layer, position] = float(squares.mean().sqrt()) if varies.any() else 0.0
    return drifts


def _varies(pooled: Moments) -> torch.Tensor:
    """Whether each feature varies by more than rounding, shape (features,)."""
    variance = pooled.variance(0)[0]
    return variance > 1e-12 * (variance.max() + pooled.mean[0].square())


def lipschitz_bound(model: Any) -> float:
    """Upper bound of the Lipschitz constant of the frozen encoder, for two cells of the same batch.

    Product of the spectral norms of the linear layers, with the scales of frozen normalisations multiplied in; the constant of
    the activations is 1. A residual encoder has the bound of its linear part plus that of its residual. It is a bound, not an estimate: norms
    of successive layers are reached in different directions. Layers that normalise each cell by its own features have large derivatives where
    these are nearly equal, so the bound is useless with them (`inf` for `SwitchableNorm`).

    Parameters
    ----------
    model
        A fitted `BatchNormAutoencoder`: then of `transform`, strength included, in the units of the embedding (`inf` if the strength
        differs between cell states: it jumps where their neighbourhoods change). An
        `Autoencoder`: of its `encode`. Or an `nn.Sequential` of linear layers, normalisations and activations.

    Raises
    ------
    TypeError
        A layer has no known bound.

    Examples
    --------
    >>> import torch
    >>> from scbatchnorm.nn import lipschitz_bound
    >>> layer = torch.nn.Linear(2, 2)
    >>> _ = layer.weight.data.copy_(torch.tensor([[3.0, 0.0], [0.0, 4.0]]))
    >>> lipschitz_bound(torch.nn.Sequential(layer, torch.nn.ReLU()))
    4.0
    """
    if not isinstance(model, nn.Module):
        return _fitted(model).lipschitz_bound()
    if isinstance(model, Autoencoder):
        return encoder_bound(model, 1.0)
    training = model.training
    try:
        return _product_of_bounds(fold_batchnorm(model.eval()))
    finally:
        model.train(training)


def encoder_bound(network: Autoencoder, strength: float) -> float:
    """Bound of `x + strength * (encode(x) - x)` for cells of the same batch."""
    width = network.linear_in.shape[1]
    maps = network.linear_in.detach().double().reshape(-1, width, width)
    linear = torch.linalg.matrix_norm(torch.eye(width).to(maps) + strength * maps, 2).max()
    encoder = fold_batchnorm(network.encoder)
    first = encoder.get_submodule("0")
    weight = first.get_parameter("weight").detach()
    first.weight = nn.Parameter(weight[:, :width])  # the code of the batch is the same for both cells
    return float(linear) + strength * _product_of_bounds(encoder)


def _product_of_bounds(module: nn.Module) -> float:
    """Product of the bounds of the layers."""
    if isinstance(module, nn.Sequential):
        bounds = [_product_of_bounds(layer) for layer in module]
        # The composition with a constant map is constant, also if another bound is infinite.
        return 0.0 if 0.0 in bounds else float(np.prod(bounds))
    if isinstance(module, nn.Linear):
        return float(torch.linalg.matrix_norm(module.weight.detach().double(), 2))
    if isinstance(module, Normalizer):
        return module.lipschitz_bound()
    if isinstance(module, _LIPSCHITZ_ONE):
        return max(1.0, abs(getattr(module, "negative_slope", 0.0)))
    affine = frozen_affine(module)
    if affine is not None:
        return float(affine[0].abs().max())
    msg = f"model must be made of linear layers, normalisations and activations; no bound is known for {type(module).__name__}."
    raise TypeError(msg)


def learned_shares(model: Any) -> pd.DataFrame:
    """Share of each kind of statistics in the layers that mix several.

    Parameters
    ----------
    model
        A fitted `BatchNormAutoencoder` or any torch module, with `SwitchableNorm` or `BatchLayerNorm` in it (whose share is
        not learned but follows from the size of the minibatches).

    Returns
    -------
    DataFrame with one row for each layer and kind of statistics, none if there are no such layers:

    `layer`, `norm` : str
        Name of the layer in the module, and its class.
    `of` : str
        What is mixed: `"mean"`, `"variance"`, or `"result"` for results of two normalisations.
    `statistics` : str
        `"batch"`, `"layer"` or `"instance"`.
    `share` : float
        From 0 to 1; those of one `of` add up to 1.

    Raises
    ------
    ValueError
        The estimator has no network, because nothing was corrected.

    Examples
    --------
    >>> from scbatchnorm.nn import SwitchableNorm, learned_shares
    >>> learned_shares(SwitchableNorm(8)).round(2)[["of", "statistics", "share"]].values.tolist()[:2]
    [['mean', 'batch', 0.33], ['mean', 'layer', 0.33]]
    """
    module = model if isinstance(model, nn.Module) else _fitted(model).require_network("learned_shares")
    rows = [(name, type(layer).__name__, *row) for name, layer in module.named_modules() for row in _shares_of(layer)]
    return pd.DataFrame(rows, columns=_SHARE_COLUMNS)


def _shares_of(layer: nn.Module) -> Iterator[tuple[str, str, float]]:
    """What is mixed, kind of statistics and share, of one layer."""
    if isinstance(layer, SwitchableNorm):
        for of, shares in layer.shares.items():
            for name, share in shares.items():
                yield of, name, share
    elif isinstance(layer, BatchLayerNorm):
        share = float(layer.batch_share)
        yield "result", "batch", share
        yield "result", "layer", 1 - share
