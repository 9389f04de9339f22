"""Normalisation layers over (cells, features), and the exact calibration of their statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable


class MixedBatchNorm(nn.BatchNorm1d):
    """BatchNorm over minibatches that mix all batches, with statistics that can be made exact after training.

    In training it is `torch.nn.BatchNorm1d`: every cell, whatever its batch, is normalised by the mean and the variance of the
    minibatch it is in. The moving average that torch keeps for inference depends on the last few minibatches;
    `recalibrate` replaces it by the statistics of the whole data.
    """


class Moments:
    """Count, mean and sum of squared deviations of a stream of rows, in float64.

    Partial results add up (Chan, Golub & LeVeque 1983), so rows may come in any chunks.
    """

    def __init__(self, n_features: int) -> None:
        self.count = 0
        self.mean = torch.zeros(n_features, dtype=torch.float64)
        self.square = torch.zeros(n_features, dtype=torch.float64)

    def add(self, rows: torch.Tensor) -> None:
        """Take in `rows`, shape (cells, features)."""
        if not len(rows):
            return
        rows = rows.detach().double().cpu()
        count, mean = len(rows), rows.mean(0)
        square = (rows - mean).square().sum(0)
        total = self.count + count
        delta = mean - self.mean
        self.square += square + delta.square() * (self.count * count / total)
        self.mean += delta * (count / total)
        self.count = total

    @property
    def variance(self) -> torch.Tensor:
        """Unbiased variance of each feature, shape (features,)."""
        return self.square / max(self.count - 1, 1)


@torch.no_grad()
def recalibrate(network: nn.Module, forward: Callable[[], object]) -> None:
    """Set the running statistics of every `MixedBatchNorm` of `network` to those of all the data.

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
        if isinstance(layer, MixedBatchNorm) and layer.running_mean is not None and layer.running_var is not None:
            moments = Moments(layer.num_features)
            hook = layer.register_forward_pre_hook(lambda _, args, seen=moments: seen.add(args[0]))
            try:
                forward()
            finally:
                hook.remove()
            layer.running_mean.copy_(moments.mean)
            layer.running_var.copy_(moments.variance)
