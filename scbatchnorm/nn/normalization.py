"""BatchNorm for minibatches that mix experimental batches, and the exact calibration of all minibatch statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import nn
from torch.nn import functional as F

from scbatchnorm.nn._anchored import anchored_statistics, pair_moments
from scbatchnorm.nn._moments import Moments, no_reduction
from scbatchnorm.nn._statistics import BatchStatistics, add_moments, check_cells, check_positive_int, check_shape

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scbatchnorm.nn._moments import Reduce
    from scbatchnorm.nn._statistics import Affine

Statistics = Literal["mixed", "per_batch", "anchored"]
STATISTICS: tuple[str, ...] = get_args(Statistics)
_AFFINE = ("shared", "per_batch", "none")


class MixedBatchNorm(BatchStatistics):
    """BatchNorm over minibatches that mix batches, by statistics of all cells or of the batch of each cell.

    `y = (x - mean) / sqrt(var + eps) * weight + bias` for x of shape (cells, features), after Ioffe & Szegedy (2015).

    Parameters
    ----------
    num_features
        Features of x.
    n_batches
        Experimental batches, whose codes in `forward` are 0 to `n_batches - 1`.
    statistics
        `"mixed"`: mean and variance of all cells of the minibatch. All cells are shifted and scaled alike: differences of
        composition do no harm, differences between batches stay. It is `torch.nn.BatchNorm1d`.
        `"per_batch"`: those of the cell's own batch. Batches are aligned, also those that differ because they hold other
        cell types, and a code of the batch in the layer's input is removed with the rest. A batch with a single cell in
        the minibatch has the mixed statistics there.
        `"anchored"`: those of the cell's batch, as far as batches differ in *shared* states. Shift and scale between two batches
        are estimated from cells weighted by `support`, fitted over all pairs by least squares, and removed; the rest is normalised by
        mixed statistics. Differences of composition have no effect; a batch that shares nothing is normalised as mixed. Time grows
        with the square of the number of batches.
    affine
        Scale `weight` and shift `bias`: `"shared"` by all batches, `"per_batch"`, or `"none"`.
    momentum
        Weight of a minibatch in the moving average of the statistics, see `BatchStatistics`; `None`: all minibatches alike.
    eps
        Added to the variance.

    Raises
    ------
    ValueError
        A parameter is out of its range.

    Examples
    --------
    >>> import torch
    >>> from scbatchnorm.nn import MixedBatchNorm
    >>> batch = torch.tensor([0, 0, 0, 1, 1, 1])
    >>> x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)) + 5 * batch[:, None]
    >>> y = MixedBatchNorm(4, 2, statistics="per_batch")(x, batch)
    >>> torch.allclose(y[:3].mean(0), y[3:].mean(0), atol=1e-5)
    True
    """

    running_mean: torch.Tensor
    running_var: torch.Tensor

    def __init__(
        self,
        num_features: int,
        n_batches: int = 1,
        *,
        statistics: Statistics = "mixed",
        affine: Literal["shared", "per_batch", "none"] = "shared",
        momentum: float | None = 0.1,
        eps: float = 1e-5,
    ) -> None:
        super().__init__(num_features, momentum=momentum, eps=eps)
        for name, value, words in (("statistics", statistics, STATISTICS), ("affine", affine, _AFFINE)):
            if value not in words:
                msg = f"{name} must be one of {', '.join(map(repr, words))}; got {value!r}."
                raise ValueError(msg)
        check_positive_int("n_batches", n_batches)
        self.n_batches, self.statistics, self.affine = n_batches, statistics, affine
        rows = () if statistics == "mixed" else (n_batches,)
        self.register_buffer("running_mean", torch.zeros(*rows, num_features))
        self.register_buffer("running_var", torch.ones(*rows, num_features))
        self.register_buffer("num_batches_tracked", torch.zeros(rows, dtype=torch.long))
        of_batches = (n_batches, num_features) if affine == "per_batch" else (num_features,)
        self.weight = None if affine == "none" else nn.Parameter(torch.ones(of_batches))
        self.bias = None if affine == "none" else nn.Parameter(torch.zeros(of_batches))

    @property
    def _reduce(self) -> Reduce:
        """Sum over processes; here there is one."""
        return no_reduction

    def forward(
        self, x: torch.Tensor, batch: torch.Tensor | None = None, support: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Normalise.

        Parameters
        ----------
        x
            Shape (cells, features).
        batch
            Code of the batch of each cell, int64 of shape (cells,). Needed where the result depends on it.
        support
            How much of each cell's state its batch shares with others, >= 0, shape (cells,), or with each other batch, shape
            (cells, batches). Needed for `"anchored"` in training and recalibration; otherwise ignored.
        """
        check_shape(x, self.num_features)
        if self.statistics == "mixed" and self.affine != "per_batch" and self._reduce is no_reduction:
            return self._torch_batch_norm(x)
        one_hot = self._one_hot(x, batch)
        if self.training:
            moments = self._moments(x, batch, support, reduce=self._reduce)
            check_cells(len(x) if self._reduce is no_reduction else float(moments[0].weight.sum()), self)
            self._average(moments)
            current = self._estimates(moments, correction=0)
            mean, var = current["running_mean"], current["running_var"]
        else:
            mean, var = self.running_mean, self.running_var
        mean, var = (_select_rows(one_hot, value) for value in (mean, var))
        y = (x - mean) * torch.rsqrt(var + self.eps)
        if self.weight is None or self.bias is None:
            return y
        return y * _select_rows(one_hot, self.weight) + _select_rows(one_hot, self.bias)

    def frozen_affine(self) -> Affine | None:
        """Scale and shift in evaluation mode, shape (features,) each; `None` if they differ between batches."""
        scale, shift = self._frozen_scale_and_shift()
        return (scale[0], shift[0]) if len(scale) == 1 else None

    def lipschitz_bound(self) -> float:
        """Largest scale of a feature in evaluation mode."""
        return float(self._frozen_scale_and_shift()[0].abs().max())

    @torch.no_grad()
    def _frozen_scale_and_shift(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Scale and shift in evaluation mode, shape (batches, features), or (1, features) where batches do not differ."""
        mean, var = (torch.atleast_2d(value) for value in (self.running_mean, self.running_var))
        scale = torch.rsqrt(var + self.eps)
        if self.weight is None or self.bias is None:
            return scale, -mean * scale
        scale = scale * self.weight
        return scale, self.bias - mean * scale

    def _torch_batch_norm(self, x: torch.Tensor) -> torch.Tensor:
        """The fused operation of `nn.BatchNorm1d`."""
        momentum = self.momentum
        if self.training:
            check_cells(len(x), self)
            self.num_batches_tracked += 1
            momentum = 1 / float(self.num_batches_tracked) if momentum is None else momentum
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, momentum or 0.0, self.eps
        )

    def _one_hot(self, x: torch.Tensor, batch: torch.Tensor | None) -> torch.Tensor:
        """One-hot codes, shape (cells, batches): the gradient of a product with them is cheaper than that of indexing."""
        if batch is None:
            if self.n_batches > 1 and (self.statistics != "mixed" or self.affine == "per_batch"):
                msg = (
                    f"batch must be given for statistics={self.statistics!r}, affine={self.affine!r} and {self.n_batches} "
                    "batches: the code of the batch of each cell."
                )
                raise ValueError(msg)
            batch = torch.zeros(len(x), dtype=torch.long, device=x.device)
        if batch.shape != x.shape[:1] or batch.is_floating_point():
            msg = f"batch must hold a whole number for each of the {len(x)} cells; got {batch.dtype} of shape {tuple(batch.shape)}."
            raise ValueError(msg)
        # A compiled graph cannot depend on values; F.one_hot refuses codes out of range there, too.
        checks_values = len(batch) and not torch.compiler.is_compiling()
        if checks_values and not 0 <= int(batch.min()) <= int(batch.max()) < self.n_batches:
            msg = f"batch must be codes from 0 to {self.n_batches - 1}; got {int(batch.min())} to {int(batch.max())}."
            raise ValueError(msg)
        return F.one_hot(batch.long(), self.n_batches).to(x.dtype)

    def _moments(
        self,
        x: torch.Tensor,
        batch: torch.Tensor | None = None,
        support: torch.Tensor | None = None,
        *,
        reduce: Reduce = no_reduction,
    ) -> list[Moments]:
        if self.statistics == "mixed":
            return [Moments.of(x, x.new_ones(len(x), 1), reduce)]
        one_hot = self._one_hot(x, batch)
        batches = Moments.of(x, one_hot, reduce)
        if self.statistics != "anchored":
            return [batches]
        return [batches, pair_moments(x, one_hot, batches.mean, support, reduce)]

    def _estimates(self, moments: Sequence[Moments], *, correction: int) -> dict[str, torch.Tensor]:
        batches = moments[0]
        pooled = batches.pooled()
        mean, var = pooled.mean, pooled.variance(correction)
        if self.statistics == "mixed":
            mean, var = mean[0], var[0]
        elif self.statistics == "anchored":
            mean, var = anchored_statistics(batches, moments[1], correction)
        else:
            has_variance = batches.weight[:, None] >= 2
            mean = torch.where(has_variance, batches.mean, mean)
            var = torch.where(has_variance, batches.variance(correction), var)
        return {"running_mean": mean, "running_var": var}

    def _has_cells(self, moments: Sequence[Moments]) -> torch.Tensor:
        if self.statistics == "mixed":
            return super()._has_cells(moments)
        return (moments[0].weight > 0).to(self.num_batches_tracked.device)

    def extra_repr(self) -> str:
        """Parameters, for the printed module."""
        return (
            f"{self.num_features}, {self.n_batches}, statistics={self.statistics!r}, affine={self.affine!r}, "
            f"momentum={self.momentum}, eps={self.eps:g}"
        )


def _select_rows(one_hot: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Row of the batch of each cell, or `rows` itself if there is one for all cells."""
    return rows if rows.ndim == 1 else one_hot @ rows


@torch.no_grad()
def recalibrate(network: nn.Module, forward: Callable[[], object]) -> None:
    """Set the statistics of every layer of `network` that has statistics of minibatches to those of all the data.

    Layers are calibrated one after the other, each with the layers before it already exact, so that inference sees the same
    statistics the layer is given.

    Parameters
    ----------
    network
        Module whose layers are registered in the order in which data pass them. Left in evaluation mode.
    forward
        Runs all cells through `network` once, in chunks of any size.
    """
    network.eval()
    for layer in network.modules():
        if not isinstance(layer, BatchStatistics):
            continue
        moments: list[Moments] = []

        def observe(layer: nn.Module, inputs: tuple[torch.Tensor, ...], moments: list[Moments] = moments) -> None:
            moments[:] = add_moments(moments, layer.observe(*inputs))  # type: ignore[operator]

        hook = layer.register_forward_pre_hook(observe)
        try:
            forward()
        finally:
            hook.remove()
        if layer.observed(moments):
            layer.calibrate(moments)
