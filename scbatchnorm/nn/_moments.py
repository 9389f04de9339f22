"""Weights, means and squared deviations of groups of cells, which add up over chunks and processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    # What adds moments up over all processes; in one process nothing.
    Reduce = Callable[["Moments"], "Moments"]


def alone(moments: Moments) -> Moments:
    """The sum over the processes where there is one only."""
    return moments


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
        weight = groups.sum(0).detach()
        mean = groups.T @ x / _positive(weight)[:, None]
        return reduce(cls(weight, mean, groups.T @ (x - groups @ mean).square()))

    @classmethod
    def shared(cls, x: torch.Tensor, groups: torch.Tensor, means: torch.Tensor, reduce: Reduce = alone) -> Moments:
        """Moments where a cell is in several groups, with the weights of its row of `groups` (cells, groups).

        `means` (cells, features), alike for the cells of a group, are near its mean: one pass over the data cancels less.
        """
        x = x - means
        weight = groups.sum(0).detach()
        mean = groups.T @ x / _positive(weight)[:, None]
        square = groups.T @ x.square() - weight[:, None] * mean.square()
        near = groups.T @ means / _positive(weight)[:, None]
        return reduce(cls(weight, near + mean, square.clamp_min(0)))

    @classmethod
    def products(cls, x: torch.Tensor, reduce: Reduce = alone) -> Moments:
        """Moments of one group, with the products of the deviations of any two features."""
        weight = x.new_full((1,), len(x))
        mean = x.sum(0, keepdim=True) / _positive(weight)[:, None]
        centred = x - mean
        return reduce(cls(weight, mean, (centred.T @ centred)[None]))

    def __add__(self, other: Moments) -> Moments:
        weight = self.weight + other.weight
        share = other.weight / _positive(weight)
        delta = other.mean - self.mean
        between = self._products_of(delta, self.weight * share)
        return Moments(weight, self.mean + share[:, None] * delta, self.square + other.square + between)

    @classmethod
    def total(cls, parts: torch.Tensor) -> Moments:
        """Sum of the `packed` moments of several processes, shape (processes, groups, 1 + 2 features)."""
        n_features = parts.shape[2] // 2
        weight, mean, square = parts.split([1, n_features, n_features], dim=2)
        weight = weight.detach()
        whole = weight.sum(0)
        middle = (weight * mean).sum(0) / _positive(whole)
        return cls(whole[:, 0], middle, (square + weight * (mean - middle).square()).sum(0))

    def packed(self) -> torch.Tensor:
        """Weight, mean and squared deviations of each group beside each other, shape (groups, 1 + 2 features)."""
        return torch.cat([self.weight[:, None], self.mean, self.square], dim=1)

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
