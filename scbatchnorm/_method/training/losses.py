"""Losses between batches: displacement of anchors, and pairwise domain classification with gradient reversal."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn import functional as F

# Width of the kernel, as a share of the squared distance to the anchor of this rank.
_WIDTH = 0.5
_RANK = 10


def displacement_loss(left: torch.Tensor, right: torch.Tensor, group: torch.Tensor) -> torch.Tensor:
    """Mean squared length of the smoothed displacement of anchors, a scalar.

    Displacements are averaged over neighbouring anchors of the same ordered pair of batches before they are squared: what
    anchors have in common is the batch effect, what each has of its own is variation within a cell type,
    which a loss on single pairs would remove as well.

    Parameters
    ----------
    left, right
        Latent points of the two cells of each anchor, shape (anchors, components).
    group
        Ordered pair of batches of each anchor, shape (anchors,).
    """
    with torch.no_grad():
        middle = 0.5 * (left + right)
        distance = torch.cdist(middle, middle).square()
        distance = distance.masked_fill(group[:, None] != group[None, :], math.inf)
        ranked = distance.topk(min(_RANK + 1, len(group)), dim=1, largest=False).values
        width = ranked.masked_fill(ranked.isinf(), 0).amax(dim=1, keepdim=True)
        kernel = torch.exp(-distance / (_WIDTH * width).clamp_min(1e-12))
        kernel = kernel / kernel.sum(dim=1, keepdim=True)
    return (kernel @ (left - right)).square().sum(dim=1).mean()


def pairwise_domain_loss(logits: torch.Tensor, codes: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Pairwise domain classification loss, a scalar: how badly the discriminator tells two batches apart, for each pair of batches.

    The logistic loss of a cell's own batch against each other batch. A cell is only classified against the batches that share
    its state, and `weight` can balance each pair of them state by state: otherwise a difference in composition, which is no
    batch effect, would tell the batch and be removed. Scaled so that a random classification costs what it costs in a cross-entropy
    over all batches whose cells have these weights.

    Parameters
    ----------
    logits
        Unnormalised log-probability of each batch, shape (cells, batches).
    codes
        Batch of each cell, shape (cells,).
    weight
        Weight of each other batch for each cell, shape (cells, batches); 0 for its own.
    """
    own_batch = logits.gather(1, codes[:, None])
    return math.log2(logits.shape[1]) * (weight * F.softplus(logits - own_batch)).sum(dim=1).mean()


class _Reverse(torch.autograd.Function):
    """Gradient reversal: the identity, whose gradient is negated and weighted (Ganin & Lempitsky 2015)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: float) -> torch.Tensor:
        ctx.weight = weight
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return -ctx.weight * gradients[0], None


def reverse_gradient(x: torch.Tensor, weight: float) -> torch.Tensor:
    """`x` itself; its gradient is the negated one, `weight` times as large."""
    return _Reverse.apply(x, weight)
