"""MixedBatchNorm over several processes, on any backend of torch.distributed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import distributed, nn

from scbatchnorm.nn._moments import Moments, no_reduction
from scbatchnorm.nn.normalization import MixedBatchNorm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scbatchnorm.nn._moments import Reduce
    from scbatchnorm.nn.normalization import Statistics


class SyncMixedBatchNorm(MixedBatchNorm):
    """`MixedBatchNorm` whose statistics are those of the minibatches of all processes together.

    Only sums travel, in both directions, over whatever backend the process group has: gloo on CPUs, too, where
    torch's SyncBatchNorm refuses. All processes must call the layer equally often; one that holds no cell of a batch, or no
    cell at all (shape (0, features)), takes part. `recalibrate` adds up the chunks of all processes, which may
    differ in number. Without a process group it is `MixedBatchNorm`.

    Each process has the gradients of its own cells, their effect on the others' statistics included: add those of the
    parameters up over the processes, with a loss that is a sum over cells divided by the number of cells of all processes.

    Parameters
    ----------
    num_features, n_batches, statistics, affine, momentum, eps
        As in `MixedBatchNorm`.
    process_group
        Processes that take part; `None`: all.

    Raises
    ------
    RuntimeError
        In `forward` and its gradient, by torch: another process has ended, or does not come within the timeout of the group.

    Examples
    --------
    >>> from scbatchnorm.nn import Autoencoder, SyncMixedBatchNorm
    >>> network = Autoencoder(10, 2, n_hidden=16, n_layers=1)
    >>> type(SyncMixedBatchNorm.convert(network).encoder[1]).__name__
    'SyncMixedBatchNorm'
    """

    def __init__(
        self,
        num_features: int,
        n_batches: int = 1,
        *,
        statistics: Statistics = "mixed",
        affine: Literal["shared", "per_batch", "none"] = "shared",
        momentum: float | None = 0.1,
        eps: float = 1e-5,
        process_group: distributed.ProcessGroup | None = None,
    ) -> None:
        super().__init__(num_features, n_batches, statistics=statistics, affine=affine, momentum=momentum, eps=eps)
        self.process_group = process_group

    @classmethod
    def convert(cls, module: nn.Module, process_group: distributed.ProcessGroup | None = None) -> nn.Module:
        """Make every `MixedBatchNorm` of `module`, for instance of an `nn.Autoencoder`, one of these.

        Parameters and buffers stay the same tensors, so optimisers go on. Layers inside `module` are replaced in place; what is
        returned is `module`, or the new layer if it is one itself.
        """
        if type(module) is MixedBatchNorm:
            layer = cls(
                module.num_features,
                module.n_batches,
                statistics=module.statistics,
                affine=module.affine,
                momentum=module.momentum,
                eps=module.eps,
                process_group=process_group,
            ).train(module.training)
            layer._parameters, layer._buffers = module._parameters, module._buffers
            return layer
        for name, child in module.named_children():
            setattr(module, name, cls.convert(child, process_group))
        return module

    def observed(self, moments: Sequence[Moments]) -> bool:
        """Whether there are `moments` to `calibrate` with, in any process."""
        zero = self.running_mean.new_zeros(1, 1)
        return bool(self._reduce(Moments(zero[0] + bool(moments), zero, zero)).weight)

    @torch.no_grad()
    def calibrate(self, moments: Sequence[Moments]) -> None:
        """Set the statistics to those of the sum, over all processes, of what `observe` returned."""
        no_cells = self.running_mean.new_zeros(0)
        local = moments or self.observe(no_cells.new_zeros(0, self.num_features), no_cells.long(), no_cells)
        device = self.running_mean.device
        on_device = [Moments(m.weight.to(device), m.mean.to(device), m.square.to(device)) for m in local]
        super().calibrate([self._reduce(m) for m in on_device])

    @property
    def _reduce(self) -> Reduce:
        if not (distributed.is_available() and distributed.is_initialized()):
            return no_reduction
        return lambda moments: Moments.total(_AllGather.apply(moments.packed(), self.process_group))


class _AllGather(torch.autograd.Function):
    """All-gather of a tensor of each process, shape (processes, ...), with gradients summed over the processes."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, group: distributed.ProcessGroup | None) -> torch.Tensor:
        ctx.group = group
        parts = tensor.new_empty(distributed.get_world_size(group), *tensor.shape)
        distributed.all_gather(list(parts), tensor.detach().contiguous(), group=group)
        return parts

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total, group=ctx.group)
        return total[distributed.get_rank(ctx.group)], None
