"""Weights, means and squared deviations of groups of cells, which add up over chunks and processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    # What adds a tensor up over all processes; in one process nothing.
    Reduce = Callable[[torch.Tensor], torch.Tensor]


def alone(tensor: torch.Tensor) -> torch.Tensor:
    """The sum over the processes where there is one only."""
    return tensor


@dataclass(frozen=True)
class Moments:
    """Of each group of cells its weight, mean and sum of squared deviations (or of their products).

    Parts add up exactly (Chan, Golub & LeVeque 1983), so cells may come in any chunks, from any process.
    """

    weight: torch.Tensor  # (groups,)
    mean: torch.Tensor  # (groups, features); 0 for a group without cells
    square: torch.Tensor  # (groups, features), or (groups, features, features) for products

    @classmethod
    def of(cls, x: torch.Tensor, groups: torch.Tensor, reduce: Reduce = alone) -> Moments:
        """Moments of `x` (cells, features), each cell in the group that its row of `groups` (cells, groups) is 1 for."""
        weight = reduce(groups.sum(0).detach())
        mean = reduce(groups.T @ x) / _positive(weight)[:, None]
        return cls(weight, mean, reduce(groups.T @ (x - groups @ mean).square()))

    @classmethod
    def shared(cls, x: torch.Tensor, groups: torch.Tensor, means: torch.Tensor, reduce: Reduce = alone) -> Moments:
        """Moments where a cell is in several groups, with the weights of its row of `groups` (cells, groups).

        `means` (cells, features), alike for the cells of a group, are near its mean: one pass over the data cancels less.
        """
        x = x - means
        weight = reduce(groups.sum(0).detach())
        mean = reduce(groups.T @ x) / _positive(weight)[:, None]
        square = reduce(groups.T @ x.square()) - weight[:, None] * mean.square()
        near = reduce(groups.T @ means) / _positive(weight)[:, None]
        return cls(weight, near + mean, square.clamp_min(0))

    @classmethod
    def products(cls, x: torch.Tensor, reduce: Reduce = alone) -> Moments:
        """Moments of one group, with the products of the deviations of any two features."""
        weight = reduce(x.new_full((1,), len(x)))
        mean = reduce(x.sum(0, keepdim=True)) / _positive(weight)[:, None]
        centred = x - mean
        return cls(weight, mean, reduce(centred.T @ centred)[None])

    def __add__(self, other: Moments) -> Moments:
        weight = self.weight + other.weight
        share = other.weight / _positive(weight)
        delta = other.mean - self.mean
        between = self._products_of(delta, self.weight * share)
        return Moments(weight, self.mean + share[:, None] * delta, self.square + other.square + between)

    def summed(self, reduce: Reduce) -> Moments:
        """Sum of the moments that all processes have."""
        weight = reduce(self.weight)
        mean = reduce(self.weight[:, None] * self.mean) / _positive(weight)[:, None]
        return Moments(weight, mean, reduce(self.square + self._products_of(self.mean - mean, self.weight)))

    def _products_of(self, delta: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        """`factor` (groups,) times the squares, or products, of `delta` (groups, features)."""
        if self.square.ndim == 2:
            return factor[:, None] * delta.square()
        return factor[:, None, None] * delta[:, :, None] * delta[:, None, :]

    def pooled(self) -> Moments:
        """Moments of all groups together, as one group."""
        weight = self.weight.sum()
        mean = (self.weight[:, None] * self.mean).sum(0) / _positive(weight)
        square = (self.square + self.weight[:, None] * (self.mean - mean).square()).sum(0)
        return Moments(weight[None], mean[None], square[None])

    def variance(self, correction: int) -> torch.Tensor:
        """Squared deviations per cell; `correction` 0 as it is, 1 without bias. Shape of `square`."""
        cells = (self.weight - correction).clamp_min(1)
        return self.square / cells.reshape(-1, *[1] * (self.square.ndim - 1))


def _positive(weight: torch.Tensor) -> torch.Tensor:
    """`weight`, and 1 where it is 0: what is divided by it is 0 there."""
    return torch.where(weight > 0, weight, torch.ones_like(weight))
