"""BatchNorm that decorrelates features as well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import nn

from scbatchnorm.nn._moments import Moments, no_reduction
from scbatchnorm.nn._statistics import BatchStatistics, check_cells, check_shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scbatchnorm.nn._moments import Reduce
    from scbatchnorm.nn._statistics import Affine

Method = Literal["newton_schulz", "cholesky"]
_METHODS: tuple[str, ...] = get_args(Method)


class WhitenedBatchNorm(BatchStatistics):
    """BatchNorm with the whole covariance: in training features have mean 0, variance 1 and no correlation.

    `y = W (x - mean) * weight + bias` with W C W' = 1 for the covariance C of the minibatch, shrunk to
    `(1 - shrinkage) C + shrinkage tr(C) / features 1 + eps 1` (the target of Ledoit & Wolf 2004): a minibatch has hardly more cells
    than features, and its covariance alone is nearly singular.

    Parameters
    ----------
    num_features
        Features of x.
    method
        `"newton_schulz"`: W is C^(-1/2), the map to white features that moves cells least (ZCA), by iteration as in Huang et al. (2019), but
        scaled by the Frobenius norm of C: few iterations leave directions of little variance below variance 1. `"cholesky"`: W is the inverse of the Cholesky factor
        (Siarohin et al. 2019), exact, but features depend on their order.
    n_iterations
        Iterations of Newton and Schulz.
    shrinkage
        From 0 (none) to 1 (no decorrelation).
    momentum
        Weight of a minibatch in the moving averages of mean and covariance; `None`: all minibatches alike.
    eps
        Added to the variances.

    Examples
    --------
    >>> import torch
    >>> from scbatchnorm.nn import WhitenedBatchNorm
    >>> x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    >>> x = x @ torch.tensor([[1.0, 0.9, 0.0], [0.0, 0.5, 0.0], [0.0, 0.3, 2.0]])
    >>> y = WhitenedBatchNorm(3, method="cholesky", shrinkage=0.0)(x)
    >>> torch.allclose(torch.cov(y.T), torch.eye(3), atol=0.01)
    True
    """

    running_mean: torch.Tensor
    running_cov: torch.Tensor

    def __init__(
        self,
        num_features: int,
        *,
        method: Method = "newton_schulz",
        n_iterations: int = 5,
        shrinkage: float = 0.1,
        momentum: float | None = 0.1,
        eps: float = 1e-5,
    ) -> None:
        super().__init__(num_features, momentum=momentum, eps=eps)
        if method not in _METHODS:
            msg = f"method must be one of {', '.join(map(repr, _METHODS))}; got {method!r}."
            raise ValueError(msg)
        if n_iterations < 1:
            msg = f"n_iterations must be an int >= 1; got {n_iterations!r}."
            raise ValueError(msg)
        if not 0 <= shrinkage <= 1:
            msg = f"shrinkage must be a number in [0, 1]; got {shrinkage!r}."
            raise ValueError(msg)
        self.method, self.n_iterations, self.shrinkage = method, n_iterations, shrinkage
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_cov", torch.eye(num_features))
        self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long))
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))

    def forward(self, x: torch.Tensor, batch: torch.Tensor | None = None) -> torch.Tensor:
        """Normalise `x`, shape (cells, features); `batch` is not needed and ignored."""
        check_shape(x, self.num_features)
        mean, covariance = self.running_mean, self.running_cov
        if self.training:
            check_cells(len(x), self)
            moments = self._moments(x)
            self._average(moments)
            current = self._estimates(moments, correction=0)
            mean, covariance = current["running_mean"], current["running_cov"]
        return (x - mean) @ self.whitener(covariance).T * self.weight + self.bias

    def whitener(self, covariance: torch.Tensor) -> torch.Tensor:
        """The matrix W for a covariance, shape (features, features) both."""
        identity = torch.eye(self.num_features, dtype=covariance.dtype, device=covariance.device)
        mean_variance = covariance.trace() / self.num_features
        shrunk = (1 - self.shrinkage) * covariance + (self.shrinkage * mean_variance + self.eps) * identity
        if self.method == "cholesky":
            return torch.linalg.solve_triangular(torch.linalg.cholesky(shrunk), identity, upper=False)
        # Of norm 1, so that the iteration converges. The coupled iteration of root and inverse root is stable (Higham 1997).
        norm = shrunk.norm()
        root, inverse = shrunk / norm, identity
        for _ in range(self.n_iterations):
            step = 1.5 * identity - 0.5 * inverse @ root
            root, inverse = root @ step, step @ inverse
        return inverse * torch.rsqrt(norm)

    @torch.no_grad()
    def frozen_affine(self) -> Affine:
        """Matrix (features, features) and shift (features,) in evaluation mode."""
        matrix = self.weight[:, None] * self.whitener(self.running_cov)
        return matrix, self.bias - matrix @ self.running_mean

    def lipschitz_bound(self) -> float:
        """Spectral norm of the matrix in evaluation mode."""
        return float(torch.linalg.matrix_norm(self.frozen_affine()[0].double(), 2))

    def _moments(
        self, x: torch.Tensor, batch: torch.Tensor | None = None, *, reduce: Reduce = no_reduction
    ) -> list[Moments]:
        return [Moments.products(x, reduce)]

    def _estimates(self, moments: Sequence[Moments], *, correction: int) -> dict[str, torch.Tensor]:
        (pooled,) = moments
        return {"running_mean": pooled.mean[0], "running_cov": pooled.variance(correction)[0]}

    def extra_repr(self) -> str:
        """Parameters, for the printed module."""
        return f"{self.num_features}, method={self.method!r}, shrinkage={self.shrinkage:g}, momentum={self.momentum}, eps={self.eps:g}"
