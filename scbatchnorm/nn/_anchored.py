"""Shift and scale of batches, estimated from the cell states that they share, whatever their composition."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from scbatchnorm.nn._moments import Moments

if TYPE_CHECKING:
    from scbatchnorm.nn._moments import Reduce

# Cells with the pooled variance that are added to each pair of batches: a ratio of two variances of few cells is noise.
_PRIOR_CELLS = 8.0


def pair_moments(
    x: torch.Tensor, one_hot: torch.Tensor, batch_means: torch.Tensor, support: torch.Tensor | None, reduce: Reduce
) -> Moments:
    """Moments of the states that each batch shares with each other batch.

    Group `a * batches + b` are the cells of batch a, weighted by their `support` in b. `batch_means` (batches, features) are
    subtracted before the sums of squares, for precision.
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
    pairs = one_hot[:, :, None] * (weight * (1 - one_hot))[:, None, :]
    return Moments.weighted(x, pairs.flatten(1), one_hot @ batch_means.detach(), reduce)


def anchored_statistics(batches: Moments, pairs: Moments, correction: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of each batch, shape (batches, features), from the moments of batches and of their pairs.

    Two batches a and b that share states differ by the shift m_ab = mean_ab - mean_ba and by the ratio of their variances.
    Weighted least squares over all pairs, with the precision of such a difference as weight, gives each batch an offset and
    a log-scale. The cells are normalised together after both are removed.
    """
    n_batches = len(batches.weight)
    weight = pairs.weight.reshape(n_batches, n_batches)
    mean = pairs.mean.reshape(n_batches, n_batches, -1)
    precision = weight * weight.T / (weight + weight.T).clamp_min(torch.finfo(weight.dtype).tiny)
    offset = _fit_differences(precision, mean - mean.transpose(0, 1))
    pooled = batches.pooled()
    prior = _PRIOR_CELLS * pooled.variance(0).clamp_min(1e-12)
    log_variance = (
        ((pairs.square + prior) / (pairs.weight[:, None] + _PRIOR_CELLS)).reshape(n_batches, n_batches, -1).log()
    )
    scale = (0.5 * _fit_differences(precision, log_variance - log_variance.transpose(0, 1))).exp()
    # Cells are scaled about the mean of the shared states: about any other point, scaling would shift these.
    total = weight.sum()
    centre = (weight[:, :, None] * (mean - offset[:, None])).sum((0, 1)) / total if total > 0 else pooled.mean[0]
    aligned = Moments(
        batches.weight, (batches.mean - centre - offset) / scale, batches.square / scale.square()
    ).pooled()
    return centre + offset + scale * aligned.mean, scale.square() * aligned.variance(correction)


def _fit_differences(precision: torch.Tensor, difference: torch.Tensor) -> torch.Tensor:
    """Value of each batch, shape (batches, features), whose differences fit `difference` (batches, batches, features) best.

    Weighted by `precision` (batches, batches). Batches that are not connected by pairs of positive precision have values of
    mean 0 each.
    """
    laplacian = torch.diag(precision.double().sum(1)) - precision.double()
    inverse = torch.linalg.pinv(laplacian, rtol=1e-9, hermitian=True).to(precision.dtype)
    return inverse @ (precision[:, :, None] * difference).sum(1)
