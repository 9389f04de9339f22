"""Weights, means and squared deviations of groups of cells, which add up over chunks and processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    # Sums moments over all processes.
    Reduce = Callable[["Moments"], "Moments"]


def no_reduction(moments: Moments) -> Moments:
    """`moments` as they are: the sum over processes where there is only one."""
    return moments


@dataclass(frozen=True)
class Moments:
    """Weight, mean and sum of squared deviations (or of their products) of groups of cells.

    Moments of parts of the data add up exactly (Chan, Golub & LeVeque 1983), whatever the chunks and processes.
    """

    weight: torch.Tensor  # (groups,)
    mean: torch.Tensor  # (groups, features); 0 for a group without cells
    square: torch.Tensor  # (groups, features), or (groups, features, features) for products

    @classmethod
    def of(cls, x: torch.Tensor, groups: torch.Tensor, reduce: Reduce = no_reduction) -> Moments:
        """Moments of `x` (cells, features); `groups` (cells, groups) is the one-hot code of the group of each cell."""
        weight = groups.sum(0).detach()
        mean = groups.T @ x / _one_where_zero(weight)[:, None]
        return reduce(cls(weight, mean, groups.T @ (x - groups @ mean).square()))

    @classmethod
    def weighted(
        cls, x: torch.Tensor, groups: torch.Tensor, means: torch.Tensor, reduce: Reduce = no_reduction
    ) -> Moments:
        """Moments of groups that share cells, with the weight of each cell in each group, `groups` (cells, groups).

        `means` (cells, features), equal for the cells of a batch, are subtracted before the sums of squares, for precision.
        """
        x = x - means
        weight = groups.sum(0).detach()
        mean = groups.T @ x / _one_where_zero(weight)[:, None]
        square = groups.T @ x.square() - weight[:, None] * mean.square()
        subtracted = groups.T @ means / _one_where_zero(weight)[:, None]
        return reduce(cls(weight, subtracted + mean, square.clamp_min(0)))

    @classmethod
    def products(cls, x: torch.Tensor, reduce: Reduce = no_reduction) -> Moments:
        """Moments of all cells as one group, with the products of the deviations of each pair of features."""
        weight = x.new_full((1,), len(x))
        mean = x.sum(0, keepdim=True) / _one_where_zero(weight)[:, None]
        centred = x - mean
        return reduce(cls(weight, mean, (centred.T @ centred)[None]))

    def __add__(self, other: Moments) -> Moments:
        weight = self.weight + other.weight
        fraction = other.weight / _one_where_zero(weight)
        delta = other.mean - self.mean
        between = self._products_of(delta, self.weight * fraction)
        return Moments(weight, self.mean + fraction[:, None] * delta, self.square + other.square + between)

    @classmethod
    def total(cls, parts: torch.Tensor) -> Moments:
        """Sum of the `packed` moments of several processes, shape (processes, groups, 1 + 2 features)."""
        n_features = parts.shape[2] // 2
        weight, mean, square = parts.split([1, n_features, n_features], dim=2)
        weight = weight.detach()
        total_weight = weight.sum(0)
        total_mean = (weight * mean).sum(0) / _one_where_zero(total_weight)
        return cls(total_weight[:, 0], total_mean, (square + weight * (mean - total_mean).square()).sum(0))

    def packed(self) -> torch.Tensor:
        """Weight, mean and squared deviations of each group in one tensor, shape (groups, 1 + 2 features)."""
        return torch.cat([self.weight[:, None], self.mean, self.square], dim=1)

    def _products_of(self, delta: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        """`factor` (groups,) times the squares, or pairwise products, of `delta` (groups, features)."""
        if self.square.ndim == 2:
            return factor[:, None] * delta.square()
        return factor[:, None, None] * delta[:, :, None] * delta[:, None, :]

    def pooled(self) -> Moments:
        """Moments of all groups together, as one group."""
        weight = self.weight.sum()
        mean = (self.weight[:, None] * self.mean).sum(0) / _one_where_zero(weight)
        square = (self.square + self.weight[:, None] * (self.mean - mean).square()).sum(0)
        return Moments(weight[None], mean[None], square[None])

    def variance(self, correction: int) -> torch.Tensor:
        """Variance, biased (`correction` 0) or unbiased (1). Shape of `square`."""
        cells = (self.weight - correction).clamp_min(1)
        return self.square / cells.reshape(-1, *[1] * (self.square.ndim - 1))


def _one_where_zero(weight: torch.Tensor) -> torch.Tensor:
    """`weight` with 1 in place of 0, as a divisor of sums that are 0 there."""
    return torch.where(weight > 0, weight, torch.ones_like(weight))
