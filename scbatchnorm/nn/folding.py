"""Frozen normalisation folded into the linear layer before it."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import nn

from scbatchnorm.nn._statistics import Normalizer

if TYPE_CHECKING:
    from scbatchnorm.nn._statistics import Affine

Module = TypeVar("Module", bound=nn.Module)


def fold_batchnorm(module: Module) -> Module:
    """Copy of a module for inference, with normalisation folded into the linear layers.

    Wherever in an `nn.Sequential` a `Linear` is followed directly by a layer that is linear in evaluation mode (`MixedBatchNorm` unless its
    statistics or scales differ between batches, `WhitenedBatchNorm`, `torch.nn.BatchNorm1d`), the two become one `Linear` with
    bias: W' = S W, b' = S b + t for a layer S x + t. An `nn.Identity` takes the place of the normalisation, so positions stay.
    Other layers are copied as they are. For inputs (cells, features) the output is the same up to rounding.

    Parameters
    ----------
    module
        In evaluation mode: statistics must be frozen. Not changed.

    Raises
    ------
    ValueError
        The module is in training mode.

    Examples
    --------
    >>> import torch
    >>> from scbatchnorm.nn import MixedBatchNorm, fold_batchnorm
    >>> network = torch.nn.Sequential(torch.nn.Linear(5, 3, bias=False), MixedBatchNorm(3), torch.nn.ReLU()).eval()
    >>> fold_batchnorm(network)[1]
    Identity()
    """
    if module.training:
        msg = "module must be in evaluation mode: only frozen statistics can be folded. Call module.eval() first."
        raise ValueError(msg)
    module = copy.deepcopy(module)
    for layers in module.modules():
        if isinstance(layers, nn.Sequential):
            for i in range(len(layers) - 1):
                # A linear layer with a parametrized weight is of another type.
                linear, affine = layers[i], frozen_affine(layers[i + 1])
                if type(linear) is nn.Linear and affine is not None and len(affine[1]) == linear.out_features:
                    layers[i], layers[i + 1] = _fold_linear(linear, affine), nn.Identity().eval()
    return module


@torch.no_grad()
def frozen_affine(layer: nn.Module) -> Affine | None:
    """Scale (features,), or matrix, and shift of a layer that is linear in evaluation mode; `None` for any other."""
    if layer.training:
        return None
    if isinstance(layer, Normalizer):
        return layer.frozen_affine()
    if isinstance(layer, nn.BatchNorm1d) and layer.running_mean is not None and layer.running_var is not None:
        scale = torch.rsqrt(layer.running_var + layer.eps)
        scale = scale if layer.weight is None else scale * layer.weight
        return scale, -layer.running_mean * scale + (0 if layer.bias is None else layer.bias)
    return None


@torch.no_grad()
def _fold_linear(linear: nn.Linear, affine: Affine) -> nn.Linear:
    """The linear layer that is the composition of `linear` and `affine`, computed in float64."""
    scale, shift = (value.double() for value in affine)
    matrix = torch.diag(scale) if scale.ndim == 1 else scale
    # A random initialisation would advance the generator of the caller.
    like = {"device": linear.weight.device, "dtype": linear.weight.dtype}
    folded = nn.utils.skip_init(nn.Linear, linear.in_features, linear.out_features, **like)
    folded.weight.copy_(matrix @ linear.weight.double())
    folded.bias.copy_(shift if linear.bias is None else shift + matrix @ linear.bias.double())
    return folded.requires_grad_(linear.weight.requires_grad).eval()
