"""Shift and scale between batches as their shared states tell them: what composition cannot disturb."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from scbatchnorm.nn._moments import Moments

if TYPE_CHECKING:
    from scbatchnorm.nn._moments import Reduce

# A variance counts as if so many more cells had the variance of all: a ratio of two variances of few cells is noise.
_PRIOR_CELLS = 8.0


def pairs(
    x: torch.Tensor, one_hot: torch.Tensor, own: Moments, support: torch.Tensor | None, reduce: Reduce
) -> Moments:
    """Moments of the cells of each batch (`own`) as far as each other batch shares their states.

    Group `a * batches + b` are the cells of batch a with the weights that `support` gives them for b.
    """
    n_batches = one_hot.shape[1]
    if support is None:
        if n_batches > 1:
            msg = (
                "support must be given for statistics='anchored' in training and recalibration: how much of each cell's state "
                "other batches share, shape (cells,) or (cells, batches)."
            )
            raise ValueError(msg)
        support = x.new_zeros(len(x))
    if support.shape not in {(len(x),), (len(x), n_batches)}:
        msg = f"support must have shape ({len(x)},) or ({len(x)}, {n_batches}); got {tuple(support.shape)}."
        raise ValueError(msg)
    if len(support) and not float(support.min()) >= 0:
        msg = f"support must be numbers >= 0; got {float(support.min()):g}."
        raise ValueError(msg)
    weight = support.to(x.dtype)
    weight = weight[:, None].expand(-1, n_batches) if weight.ndim == 1 else weight
    others = one_hot[:, :, None] * (weight * (1 - one_hot))[:, None, :]
    return Moments.shared(x, others.flatten(1), one_hot @ own.mean.detach(), reduce)


def estimates(own: Moments, shared: Moments, correction: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of each batch, shape (batches, features), from moments of batches and of their pairs.

    Two batches a and b that share states differ there by m_ab = mean_ab - mean_ba and by the ratio of their variances.
    Least squares over all pairs, weighted by the precision of such a difference, gives each batch an offset and a
    log-scale; with these taken off, all cells are normalised together.
    """
    n = len(own.weight)
    weight = shared.weight.reshape(n, n)
    mean = shared.mean.reshape(n, n, -1)
    edge = weight * weight.T / (weight + weight.T).clamp_min(torch.finfo(weight.dtype).tiny)
    offset = _reconcile(edge, mean - mean.transpose(0, 1))
    pooled = own.pooled()
    prior = _PRIOR_CELLS * pooled.variance(0).clamp_min(1e-12)
    spread = ((shared.square + prior) / (shared.weight[:, None] + _PRIOR_CELLS)).reshape(n, n, -1).log()
    scale = (0.5 * _reconcile(edge, spread - spread.transpose(0, 1))).exp()
    # Scales are about the middle of what is shared: about any other point they would move it.
    total = weight.sum()
    middle = (weight[:, :, None] * (mean - offset[:, None])).sum((0, 1)) / total if total > 0 else pooled.mean[0]
    rest = Moments(own.weight, (own.mean - middle - offset) / scale, own.square / scale.square()).pooled()
    return middle + offset + scale * rest.mean, scale.square() * rest.variance(correction)


def _reconcile(edge: torch.Tensor, difference: torch.Tensor) -> torch.Tensor:
    """Value of each batch, shape (batches, features), whose `difference` (batches, batches, features) fit best.

    Batches that no chain of edges connects have values about 0 each.
    """
    laplacian = torch.diag(edge.double().sum(1)) - edge.double()
    inverse = torch.linalg.pinv(laplacian, rtol=1e-9, hermitian=True).to(edge.dtype)
    return inverse @ (edge[:, :, None] * difference).sum(1)
