"""Base classes of the layers; moving averages of minibatch statistics, and exact statistics in their place."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from numbers import Integral
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from scbatchnorm.nn._moments import Moments, no_reduction

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from scbatchnorm.nn._moments import Reduce

    # Scale (features,) or matrix (features, features), and shift (features,), of a frozen layer that is linear.
    Affine = tuple[torch.Tensor, torch.Tensor]


class Normalizer(nn.Module):
    """Base of the normalisation layers: modules over (cells, features) that take the batch of each cell, if they need it."""

    #: Whether, in training, the output of a cell depends on the other cells of the minibatch.
    minibatch_statistics: ClassVar[bool] = False

    def frozen_affine(self) -> Affine | None:
        """Scale (features,), or matrix, and shift of the layer in evaluation mode if it is one linear map, else `None`."""
        return None

    def lipschitz_bound(self) -> float:
        """Upper bound of the Lipschitz constant in evaluation mode, between cells of the same batch."""
        return math.inf


class BatchStatistics(Normalizer, ABC):
    """Base of the layers with statistics of minibatches.

    In training a layer normalises by the statistics of the minibatch and keeps their exponential moving average, as
    torch's BatchNorm does. With `momentum` m the average is over about 2 / m - 1 minibatches: its variance is m / (2 - m) of
    that of one minibatch's statistics, while a target that moves is followed 1 / m - 1 steps late, and what the buffers started
    with still has the weight (1 - m)^t after t steps. `momentum=None` averages all minibatches alike, early ones of an
    untrained network included. `recalibrate` has neither error.
    """

    minibatch_statistics = True
    num_batches_tracked: torch.Tensor

    def __init__(self, num_features: int, *, momentum: float | None, eps: float) -> None:
        super().__init__()
        self.num_features, self.momentum, self.eps = num_features, momentum, eps
        check_positive_int("num_features", num_features)
        if momentum is not None and not 0 <= momentum <= 1:
            msg = f"momentum must be None or a number in [0, 1]; got {momentum!r}."
            raise ValueError(msg)

    @torch.no_grad()
    def recalibrate(self, batches: Iterable[torch.Tensor | Sequence[torch.Tensor]]) -> None:
        """Replace the moving average by the exact statistics of all the cells given.

        One pass, in float64, over what enters the layer; chunks of any size give the same. Batches without cells keep
        what they have. The variances are unbiased, as those of the moving average.

        Parameters
        ----------
        batches
            Chunks of what enters the layer: tensors (cells, features), or tuples of what `forward` takes.

        Raises
        ------
        ValueError
            There are no cells.
        """
        total: list[Moments] = []
        for chunk in batches:
            total = add_moments(total, self.observe(*((chunk,) if isinstance(chunk, torch.Tensor) else chunk)))
        self.calibrate(total)

    @torch.no_grad()
    def observe(self, x: torch.Tensor, *others: torch.Tensor | None) -> list[Moments]:
        """Moments of the arguments of `forward`, in float64 and on the CPU; `calibrate` takes sums of them."""
        check_shape(x, self.num_features)
        return self._moments(_as_float64(x), *[None if other is None else _as_float64(other) for other in others])

    def observed(self, moments: Sequence[Moments]) -> bool:
        """Whether there are `moments` to `calibrate` with, in any process."""
        return bool(moments)

    @torch.no_grad()
    def calibrate(self, moments: Sequence[Moments]) -> None:
        """Set the statistics to those of `moments`, a sum of results of `observe`."""
        if not moments or not moments[0].weight.sum():
            msg = f"batches must hold cells to recalibrate {type(self).__name__} with; they hold none."
            raise ValueError(msg)
        self._update(moments, exact=True)

    @torch.no_grad()
    def _average(self, moments: Sequence[Moments]) -> None:
        """Update the moving average with the statistics of a minibatch."""
        self.num_batches_tracked += self._has_cells(moments).to(self.num_batches_tracked)
        self._update(moments, exact=False)

    def _update(self, moments: Sequence[Moments], *, exact: bool) -> None:
        """Set the buffers to the statistics of `moments` (`exact`), or average them in; those without cells stay."""
        has_cells = self._has_cells(moments)
        for name, value in self._estimates(moments, correction=1).items():
            buffer = self.get_buffer(name)
            shape = (*has_cells.shape, *[1] * (buffer.ndim - has_cells.ndim))
            updated = value = value.to(buffer)
            if not exact:
                equal = 1 / self.num_batches_tracked.clamp_min(1).to(buffer.dtype).reshape(shape)
                momentum = equal if self.momentum is None else self.momentum
                updated = (1 - momentum) * buffer + momentum * value
            buffer.copy_(torch.where(has_cells.reshape(shape), updated, buffer))

    def _has_cells(self, moments: Sequence[Moments]) -> torch.Tensor:
        """Whether there were cells, for each row of the buffers or for all, shape of `num_batches_tracked`."""
        return (moments[0].weight.sum() > 0).to(self.num_batches_tracked.device)

    @abstractmethod
    def _moments(
        self, x: torch.Tensor, batch: torch.Tensor | None = None, *, reduce: Reduce = no_reduction
    ) -> list[Moments]:
        """Moments that the statistics are computed from, summed over the processes by `reduce`."""

    @abstractmethod
    def _estimates(self, moments: Sequence[Moments], *, correction: int) -> dict[str, torch.Tensor]:
        """Statistics by the names of their buffers; variances biased (`correction` 0) or unbiased (1)."""


class FeatureStatistics(BatchStatistics):
    """Mean and variance of each feature over the minibatch, whatever the batches of its cells."""

    running_mean: torch.Tensor
    running_var: torch.Tensor

    def __init__(self, num_features: int, *, momentum: float | None, eps: float) -> None:
        super().__init__(num_features, momentum=momentum, eps=eps)
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long))

    def _moments(
        self, x: torch.Tensor, batch: torch.Tensor | None = None, *, reduce: Reduce = no_reduction
    ) -> list[Moments]:
        return [Moments.of(x, x.new_ones(len(x), 1), reduce)]

    def _estimates(self, moments: Sequence[Moments], *, correction: int) -> dict[str, torch.Tensor]:
        (pooled,) = moments
        return {"running_mean": pooled.mean[0], "running_var": pooled.variance(correction)[0]}

    def _current(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and variance to normalise by: those of the minibatch, or the frozen ones, shape (features,) each."""
        if not self.training:
            return self.running_mean, self.running_var
        check_cells(len(x), self)
        moments = self._moments(x)
        self._average(moments)
        current = self._estimates(moments, correction=0)
        return current["running_mean"], current["running_var"]


def add_moments(total: Sequence[Moments], part: Sequence[Moments]) -> list[Moments]:
    """Sum of two results of `observe`; an empty `total` is 0."""
    return [a + b for a, b in zip(total, part, strict=True)] if total else list(part)


def _as_float64(values: torch.Tensor) -> torch.Tensor:
    """Floating-point `values` as float64, which not every device has, on the CPU; others with their type."""
    values = values.detach().cpu()
    return values.double() if values.is_floating_point() else values


def mean_and_variance(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and biased variance over the last axis, which is kept with length 1."""
    mean = x.mean(-1, keepdim=True)
    return mean, (x - mean).square().mean(-1, keepdim=True)


def check_positive_int(name: str, value: object) -> None:
    """Raise unless the parameter `name` is an integer >= 1, of Python or numpy."""
    if not isinstance(value, Integral) or int(value) < 1:
        msg = f"{name} must be an int >= 1; got {value!r}."
        raise ValueError(msg)


def check_shape(x: torch.Tensor, num_features: int) -> None:
    """Raise unless `x` is (cells, num_features)."""
    if x.ndim != 2 or x.shape[1] != num_features:
        msg = f"x must have shape (cells, {num_features}); got {tuple(x.shape)}."
        raise ValueError(msg)


def check_cells(n_cells: float, layer: nn.Module) -> None:
    """Raise unless a minibatch has at least two cells, as a variance needs."""
    if n_cells < 2:
        msg = (
            f"{type(layer).__name__} needs minibatches of at least 2 cells in training; got {n_cells:g}. For single "
            "cells use evaluation mode, or a layer without minibatch statistics: LayerNorm, GroupNorm."
        )
        raise ValueError(msg)
