"""What normalisation does to the shift between batches, and how steep a frozen encoder can be."""

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
from scbatchnorm.nn.network import Autoencoder, Stack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    # Moments of each batch at each place, by the name of the layer, its kind, and "before" or "after".
    Snapshot = dict[tuple[str, str, str], Moments]

_NORMS = (Normalizer, nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)
# Modules whose forward takes the codes of the batches.
_TOLD = (Autoencoder, Stack, Normalizer)
# Cells that pass the network at once; no result depends on it.
_CHUNK = 8192
_SILENT = (nn.Identity, nn.Dropout, nn.Flatten)
_GENTLE = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.Tanh, nn.Sigmoid, nn.Softplus)


def covariate_shift(
    model: Any, data: Any, batch: ArrayLike | str | None = None, *, key: str | None = None
) -> pd.DataFrame:
    """Shift of each batch before and after each normalisation.

    For feature f with mean m_f and variance v_f over all cells, and those of batch b,
    `mean_shift = sqrt(mean_f((m_bf - m_f)^2 / v_f))` in standard deviations, and
    `variance_shift = sqrt(mean_f(log(v_bf / v_f)^2))`; 0 where a batch is as all cells are. Features that do not vary are left out. What
    batches differ in because they hold other cell types counts, too: compare a shift with that of a method you trust, not with 0.

    Parameters
    ----------
    model
        A fitted `BatchNormAutoencoder`, or any torch module; it is looked at in evaluation mode and not changed.
    data
        For an estimator: AnnData that it, or a model like it, integrated, or the X it was fitted on (cells, features). For a module:
        its input, a tensor or array (cells, features).
    batch
        Batch of each cell, shape (cells,): names as in the fit; for a module the codes it knows them by. With AnnData a
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
    elif isinstance(model, _TOLD):
        msg = f"batch must be the codes that {type(model).__name__} knows the batches by, whole numbers from 0; got {given.dtype}."
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
    found: Snapshot = {}
    modes = {part: part.training for part in module.modules()}
    chunk = slice(0, 0)

    def keep(place: tuple[str, str, str], values: torch.Tensor) -> None:
        part = Moments.of(values.detach().cpu().double(), groups[chunk])
        found[place] = found[place] + part if place in found else part

    def look(name: str) -> Any:
        def hook(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            keep((name, type(layer).__name__, "before"), inputs[0])
            keep((name, type(layer).__name__, "after"), output)

        return hook

    hooks = [
        part.register_forward_hook(look(name)) for name, part in module.named_modules() if isinstance(part, _NORMS)
    ]
    try:
        module.eval()
        for start in range(0, len(x), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            out = module(x[chunk], codes[chunk]) if isinstance(module, _TOLD) else module(x[chunk])
            if isinstance(module, Autoencoder):
                keep(("latent", "", "after"), out[0])
    finally:
        for hook in hooks:
            hook.remove()
        for part, training in modes.items():
            part.training = training
    # The latent points come before the decoder.
    return dict(sorted(found.items(), key=lambda item: isinstance(module, Autoencoder) and "decoder" in item[0][0]))


def shift_table(found: Snapshot, names: Sequence[str]) -> pd.DataFrame:
    """Table of `covariate_shift` from moments of the batches called `names`."""
    rows = []
    for (layer, norm, position), moments in found.items():
        whole = moments.pooled()
        variance = whole.variance(0)[0]
        varies = variance > 1e-12 * (variance.max() + whole.mean[0].square())
        mean = ((moments.mean - whole.mean).square() / variance)[:, varies].mean(1).sqrt()
        ratio = (moments.variance(0) / variance)[:, varies].clamp_min(1e-12).log()
        spread = ratio.square().mean(1).sqrt()
        for b, name in enumerate(names):
            n_cells = int(moments.weight[b])
            if not n_cells:
                continue
            place = {"layer": layer, "norm": norm, "position": position, "batch": name}
            variance_shift = float(spread[b]) if n_cells > 1 else float("nan")
            rows.append(place | {"n_cells": n_cells, "mean_shift": float(mean[b]), "variance_shift": variance_shift})
    return pd.DataFrame(rows, columns=["layer", "norm", "position", "batch", "n_cells", "mean_shift", "variance_shift"])


def drift(found: Snapshot, before: Snapshot | None) -> dict[tuple[str, str], float]:
    """How far the mean over all cells moved since the snapshot `before`, in its standard deviations: internal covariate shift.

    Root mean square over features, for each layer and position; NaN where there is nothing before.
    """
    moved = {}
    for place, moments in found.items():
        now = moments.pooled()
        if before is None:
            moved[place[0], place[2]] = float("nan")
            continue
        then = before[place].pooled()
        variance = then.variance(0)[0]
        varies = variance > 1e-12 * (variance.max() + then.mean[0].square())
        moved[place[0], place[2]] = float(
            ((now.mean - then.mean)[0].square() / variance)[varies].mean().sqrt() if varies.any() else 0.0
        )
    return moved


def lipschitz_bound(model: Any) -> float:
    """Upper bound of how much further apart the frozen encoder can move two cells of the same batch.

    Product of the spectral norms of the linear layers with the scales of frozen normalisations multiplied in; activations
    do not stretch. A residual encoder has the bound of its linear part plus that of its residual. A bound, not an estimate: norms of successive
    layers are reached in different directions. Layers that normalise each cell by itself are steep where all features of a cell are equal, so with
    them the bound is useless (`inf` for `SwitchableNorm`); with batch statistics it is a property of the model.

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
        return _product(fold_batchnorm(model.eval()))
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
    return float(linear) + strength * _product(encoder)


def _product(module: nn.Module) -> float:
    """Product of the bounds of the layers."""
    if isinstance(module, nn.Sequential):
        bounds = [_product(layer) for layer in module]
        # After a constant nothing is steep, whatever its own bound.
        return 0.0 if 0.0 in bounds else float(np.prod(bounds))
    if isinstance(module, nn.Linear):
        return float(torch.linalg.matrix_norm(module.weight.detach().double(), 2))
    if isinstance(module, Normalizer):
        return module.lipschitz_bound()
    if isinstance(module, _SILENT + _GENTLE):
        return max(1.0, abs(getattr(module, "negative_slope", 0.0)))
    affine = frozen_affine(module)
    if affine is not None:
        return float(affine[0].abs().max())
    msg = f"model must be made of linear layers, normalisations and activations; no bound is known for {type(module).__name__}."
    raise TypeError(msg)
