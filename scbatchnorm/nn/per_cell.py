"""Layers that normalise each cell by its own features: the same in training and evaluation mode."""

from __future__ import annotations

import math

import torch
from torch import nn

from scbatchnorm.nn._statistics import Normalizer, check_shape


class LayerNorm(nn.LayerNorm, Normalizer):
    """`torch.nn.LayerNorm` over the features of each cell: mean 0 and variance 1 over features (Ba et al. 2016).

    Removes what all features of a cell have in common, as its depth, and no difference between batches in single features.

    Parameters
    ----------
    num_features
        Features of x.
    affine
        Whether there are a scale and a shift for each feature.
    eps
        Added to the variance.

    Examples
    --------
    >>> import torch
    >>> from scbatchnorm.nn import LayerNorm
    >>> y = LayerNorm(8)(torch.randn(1, 8, generator=torch.Generator().manual_seed(0)))
    >>> bool(y.mean().abs() < 1e-6)
    True
    """

    def __init__(self, num_features: int, *, affine: bool = True, eps: float = 1e-5) -> None:
        check_groups("num_features", 1, num_features)
        super().__init__(num_features, eps=eps, elementwise_affine=affine)
        self.num_features = num_features

    def forward(self, x: torch.Tensor, batch: torch.Tensor | None = None) -> torch.Tensor:
        """Normalise `x`, shape (cells, features); `batch` is not needed and ignored."""
        check_shape(x, self.num_features)
        return super().forward(x)

    def lipschitz_bound(self) -> float:
        """Largest scale / sqrt(eps), reached where all features of a cell are equal: a loose bound."""
        return _largest_derivative(self.weight, self.eps)


class GroupNorm(nn.GroupNorm, Normalizer):
    """`torch.nn.GroupNorm` over groups of consecutive features of each cell (Wu & He 2018); with one group LayerNorm.

    Parameters
    ----------
    num_features
        Features of x, a multiple of `num_groups` and at least twice it.
    num_groups
        Groups; `None`: the largest of 1, 2, 4, 8 that leaves equal groups of 8 features or more.
    affine
        Whether there are a scale and a shift for each feature.
    eps
        Added to the variance.
    """

    def __init__(
        self, num_features: int, num_groups: int | None = None, *, affine: bool = True, eps: float = 1e-5
    ) -> None:
        groups = default_groups(num_features) if num_groups is None else num_groups
        check_groups("num_groups", groups, num_features)
        super().__init__(groups, num_features, eps=eps, affine=affine)

    def forward(self, x: torch.Tensor, batch: torch.Tensor | None = None) -> torch.Tensor:
        """Normalise `x`, shape (cells, features); `batch` is not needed and ignored."""
        check_shape(x, self.num_channels)
        return super().forward(x)

    def lipschitz_bound(self) -> float:
        """Largest scale / sqrt(eps), reached where all features of a cell are equal: a loose bound."""
        return _largest_derivative(self.weight, self.eps)


class InstanceNorm(nn.InstanceNorm1d, Normalizer):
    """`torch.nn.InstanceNorm1d` with features in place of positions.

    On images, instance normalisation takes mean and variance over the *positions* of one channel of one image. A cell has
    no positions: each feature is a single value, which minus its mean is 0. So here consecutive features are the positions of
    a channel. It is GroupNorm, except that scale and shift are one per channel, and none by default; with one channel it is
    LayerNorm without scale and shift. It does not normalise a *batch*: for that there is `MixedBatchNorm(statistics="per_batch")`.

    Parameters
    ----------
    num_features
        Features of x, a multiple of `num_channels` and at least twice it.
    num_channels
        Channels; `None`: the largest of 1, 2, 4, 8 that leaves equal groups of 8 features or more.
    affine
        Whether there are a scale and a shift for each channel.
    eps
        Added to the variance.
    """

    def __init__(
        self, num_features: int, num_channels: int | None = None, *, affine: bool = False, eps: float = 1e-5
    ) -> None:
        channels = default_groups(num_features) if num_channels is None else num_channels
        check_groups("num_channels", channels, num_features)
        super().__init__(channels, eps=eps, affine=affine)
        self.num_channels, self.length = channels, num_features // channels

    def forward(self, x: torch.Tensor, batch: torch.Tensor | None = None) -> torch.Tensor:
        """Normalise `x`, shape (cells, features); `batch` is not needed and ignored."""
        check_shape(x, self.num_channels * self.length)
        if not len(x):  # torch's layer fails without cells
            return x
        return super().forward(x.unflatten(1, (self.num_channels, self.length))).flatten(1)

    def lipschitz_bound(self) -> float:
        """Largest scale / sqrt(eps), reached where all features of a cell are equal: a loose bound."""
        return _largest_derivative(self.weight, self.eps)


def default_groups(num_features: int) -> int:
    """Largest of 1, 2, 4, 8 that divides the features into groups of 8 or more, enough for a variance."""
    return max((n for n in (1, 2, 4, 8) if num_features % n == 0 and num_features >= 8 * n), default=1)


def check_groups(name: str, n_groups: int, num_features: int) -> None:
    """Raise unless the features are equal groups of two or more."""
    if n_groups < 1 or num_features % n_groups or num_features < 2 * n_groups:
        msg = (
            f"{name} must leave equal groups of at least 2 features, because a single value minus its mean is 0; "
            f"got {num_features} features in {n_groups} group{'s' * (n_groups != 1)}."
        )
        raise ValueError(msg)


def _largest_derivative(weight: torch.Tensor | None, eps: float) -> float:
    """Upper bound of the derivative of the normalisation of a cell, reached where its features are equal."""
    return (1.0 if weight is None else float(weight.detach().abs().max())) / math.sqrt(eps)
