"""Layers that mix statistics of the minibatch with those of the cell."""

from __future__ import annotations

import torch
from torch import nn

from scbatchnorm.nn._statistics import FeatureStatistics, check_shape, mean_and_variance
from scbatchnorm.nn.per_cell import check_groups, default_groups

# Names of the statistics that SwitchableNorm mixes, in the order of its logits.
_MIXED = ("batch", "layer", "instance")


class SwitchableNorm(FeatureStatistics):
    """Learned mixture of batch, layer and instance statistics (Luo et al. 2019).

    `mean = sum_k w_k mean_k` and `var = sum_k v_k var_k`, with w and v softmax of parameters: batch statistics are over the cells of the
    minibatch, layer statistics over the features of the cell, instance statistics over the features of one channel of the
    cell (see `InstanceNorm` for what stands for positions). All weights start equal; `shares` has the learned ones.

    Parameters
    ----------
    num_features
        Features of x, a multiple of `num_channels` and at least twice it.
    num_channels
        Channels of the instance statistics; `None`: the largest of 1, 2, 4, 8 that leaves equal groups of 8 features or more.
    momentum
        Weight of a minibatch in the moving average of the batch statistics; `None`: all minibatches alike.
    eps
        Added to the variance.

    Examples
    --------
    >>> import torch
    >>> from scbatchnorm.nn import SwitchableNorm
    >>> layer = SwitchableNorm(8)
    >>> layer(torch.randn(20, 8, generator=torch.Generator().manual_seed(0))).shape
    torch.Size([20, 8])
    >>> sorted(layer.shares["mean"])
    ['batch', 'instance', 'layer']
    """

    def __init__(
        self,
        num_features: int,
        num_channels: int | None = None,
        *,
        momentum: float | None = 0.1,
        eps: float = 1e-5,
    ) -> None:
        super().__init__(num_features, momentum=momentum, eps=eps)
        self.num_channels = default_groups(num_features) if num_channels is None else num_channels
        check_groups("num_channels", self.num_channels, num_features)
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.mean_logit = nn.Parameter(torch.zeros(len(_MIXED)))
        self.var_logit = nn.Parameter(torch.zeros(len(_MIXED)))

    @property
    def shares(self) -> dict[str, dict[str, float]]:
        """Share of each kind of statistics in `"mean"` and in `"variance"`; they add up to 1."""
        logits = {"mean": self.mean_logit, "variance": self.var_logit}
        return {
            name: dict(zip(_MIXED, logit.detach().softmax(0).tolist(), strict=True)) for name, logit in logits.items()
        }

    def forward(self, x: torch.Tensor, batch: torch.Tensor | None = None) -> torch.Tensor:
        """Normalise `x`, shape (cells, features); `batch` is not needed and ignored."""
        check_shape(x, self.num_features)
        channels = x.unflatten(1, (self.num_channels, self.num_features // self.num_channels))
        instance = tuple(value.expand_as(channels).flatten(1) for value in mean_and_variance(channels))
        means, variances = zip(self._current(x), mean_and_variance(x), instance, strict=True)
        mean = sum(share * value for share, value in zip(self.mean_logit.softmax(0), means, strict=True))
        var = sum(share * value for share, value in zip(self.var_logit.softmax(0), variances, strict=True))
        return (x - mean) * torch.rsqrt(var + self.eps) * self.weight + self.bias


class BatchLayerNorm(FeatureStatistics):
    """Mixture of BatchNorm and LayerNorm, with more weight on BatchNorm the larger the minibatch.

    `y = (s batchnorm(x) + (1 - s) layernorm(x)) * weight + bias` with `s = m / (m + equal_at)` for minibatches of m cells: statistics of few cells are noise.
    After Ziaee & Cano (2022), who weigh by the inverse size of the minibatch, too; the form of s is ours. In evaluation mode s is
    its moving average in training, so that a cell's result does not depend on how many come with it.

    Parameters
    ----------
    num_features
        Features of x, at least 2.
    equal_at
        Cells in a minibatch for which both have the same share.
    momentum
        Weight of a minibatch in the moving averages; `None`: all minibatches alike.
    eps
        Added to the variances.
    """

    batch_share: torch.Tensor

    def __init__(
        self, num_features: int, *, equal_at: float = 16.0, momentum: float | None = 0.1, eps: float = 1e-5
    ) -> None:
        super().__init__(num_features, momentum=momentum, eps=eps)
        check_groups("num_features", 1, num_features)
        if not equal_at >= 0:
            msg = f"equal_at must be a number >= 0; got {equal_at!r}."
            raise ValueError(msg)
        self.equal_at = equal_at
        self.register_buffer("batch_share", torch.tensor(0.0))
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))

    def forward(self, x: torch.Tensor, batch: torch.Tensor | None = None) -> torch.Tensor:
        """Normalise `x`, shape (cells, features); `batch` is not needed and ignored."""
        check_shape(x, self.num_features)
        mean, var = self._current(x)
        share = self._share(len(x))
        batch_norm = (x - mean) * torch.rsqrt(var + self.eps)
        mean, var = mean_and_variance(x)
        layer_norm = (x - mean) * torch.rsqrt(var + self.eps)
        return (share * batch_norm + (1 - share) * layer_norm) * self.weight + self.bias

    @torch.no_grad()
    def lipschitz_bound(self) -> float:
        """Bounds of BatchNorm and LayerNorm, weighted by their shares."""
        batch_norm = (self.weight.abs() * torch.rsqrt(self.running_var + self.eps)).max()
        layer_norm = self.weight.abs().max() / self.eps**0.5
        return float(self.batch_share * batch_norm + (1 - self.batch_share) * layer_norm)

    @torch.no_grad()
    def _share(self, n_cells: int) -> torch.Tensor:
        """Share of the batch statistics; in training also averaged into `batch_share`."""
        if not self.training:
            return self.batch_share
        share = torch.full_like(self.batch_share, n_cells / (n_cells + self.equal_at))
        equal = 1 / self.num_batches_tracked.to(share.dtype)  # counts this minibatch already
        self.batch_share.lerp_(share, equal if self.momentum is None else torch.where(equal == 1, equal, self.momentum))
        return share
