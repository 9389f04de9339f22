"""Encoder, decoder and discriminator: small residual networks on components."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from scbatchnorm.nn._statistics import BatchStatistics, Normalizer
from scbatchnorm.nn.mixtures import BatchLayerNorm, SwitchableNorm
from scbatchnorm.nn.normalization import MixedBatchNorm
from scbatchnorm.nn.per_cell import GroupNorm, InstanceNorm, LayerNorm
from scbatchnorm.nn.whitening import WhitenedBatchNorm

if TYPE_CHECKING:
    from collections.abc import Callable

Norm = Literal["batch", "layer", "group", "instance", "switchable", "batch_layer", "whitened", "none"]
NORMS: tuple[str, ...] = get_args(Norm)
NetworkStatistics = Literal["mixed", "per_batch"]
NETWORK_STATISTICS: tuple[str, ...] = get_args(NetworkStatistics)
AdversaryNorm = Literal["layer", "spectral"]
ADVERSARY_NORMS: tuple[str, ...] = get_args(AdversaryNorm)

# Those that do not ask for batches.
_LAYERS: dict[str, type[LayerNorm | GroupNorm | InstanceNorm | SwitchableNorm | BatchLayerNorm | WhitenedBatchNorm]] = {
    "layer": LayerNorm,
    "group": GroupNorm,
    "instance": InstanceNorm,
    "switchable": SwitchableNorm,
    "batch_layer": BatchLayerNorm,
    "whitened": WhitenedBatchNorm,
}
#: Norms whose layers have statistics of minibatches.
MINIBATCH_NORMS = ("batch", *(name for name, kind in _LAYERS.items() if issubclass(kind, BatchStatistics)))

# Weight of the batch code beside components of variance 1.
_CODE_SCALE = 3.0


class Stack(nn.Sequential):
    """`nn.Sequential` that tells its normalisation layers the batch of each cell."""

    def forward(self, x: torch.Tensor, batch: torch.Tensor | None = None) -> torch.Tensor:
        """Pass `x` (cells, features), with batch codes (cells,)."""
        for layer in self:
            x = layer(x, batch) if isinstance(layer, Normalizer) else layer(x)
        return x


class Autoencoder(nn.Module):
    """Residual autoencoder that starts as the identity: training only learns what the linear solution leaves.

    Parameters
    ----------
    n_components
        Width of input, latent space and output.
    n_batches
        Number of batches; their codes are given as integers.
    n_hidden, n_layers
        Width and number of the hidden layers, of encoder and decoder each.
    norm
        Layer between each linear map and its activation, one of `NORMS`.
    statistics
        Of `MixedBatchNorm`, `"mixed"` or `"per_batch"`; only with `norm="batch"`.
    dropout
        Share of hidden units that are left out at each step of training.

    Raises
    ------
    ValueError
        `statistics` is another one.
    """

    def __init__(
        self,
        n_components: int,
        n_batches: int,
        *,
        n_hidden: int,
        n_layers: int,
        norm: Norm = "batch",
        statistics: NetworkStatistics = "mixed",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if statistics not in NETWORK_STATISTICS:
            msg = f"statistics must be one of {', '.join(map(repr, NETWORK_STATISTICS))}; got {statistics!r}."
            raise ValueError(msg)
        self.n_batches = n_batches

        def normalizer() -> Normalizer | None:
            if norm == "batch":
                return MixedBatchNorm(n_hidden, n_batches, statistics=statistics)
            return None if norm == "none" else _LAYERS[norm](n_hidden)

        widths = [n_components + n_batches, *[n_hidden] * n_layers, n_components]
        self.encoder = _stack(widths, normalizer, dropout)
        self.decoder = _stack(widths, normalizer, dropout)
        # Per batch: what is added to the identity, linear on the way in, diagonal on the way out.
        self.linear_in = nn.Parameter(torch.zeros(n_batches * n_components, n_components))
        self.shift_in = nn.Parameter(torch.zeros(n_batches, n_components))
        self.scale_out = nn.Parameter(torch.zeros(n_batches, n_components))
        self.shift_out = nn.Parameter(torch.zeros(n_batches, n_components))

    def encode(self, x: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Latent points (cells, components) of coordinates `x` (cells, components) and batch `codes` (cells,)."""
        one_hot = self._one_hot(x, codes)
        residual = self.encoder(torch.cat([x, _CODE_SCALE * one_hot], dim=1), codes)
        # (cells, batches * components): x in the block of its batch, zeros elsewhere
        blocks = (one_hot[:, :, None] * x[:, None, :]).flatten(1)
        return x + blocks @ self.linear_in + one_hot @ self.shift_in + residual

    def decode(self, z: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Coordinates, as seen in the batches `codes` (cells,), of latent points `z` (cells, components)."""
        one_hot = self._one_hot(z, codes)
        residual = self.decoder(torch.cat([z, _CODE_SCALE * one_hot], dim=1), codes)
        # A product with the one-hot code is a look-up whose gradient is much cheaper than that of an index.
        return z * (1 + one_hot @ self.scale_out) + one_hot @ self.shift_out + residual

    def forward(self, x: torch.Tensor, codes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Latent points and reconstruction."""
        z = self.encode(x, codes)
        return z, self.decode(z, codes)

    def reconstruct(self, x: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Reconstruction alone: passes every layer."""
        return self(x, codes)[1]

    def _one_hot(self, x: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """One column per batch; a code of -1, of a batch that the network does not know, is zeros."""
        return (codes[:, None] == torch.arange(self.n_batches, device=codes.device)).to(x.dtype)


def _stack(widths: list[int], normalizer: Callable[[], Normalizer | None], dropout: float) -> Stack:
    """Linear -> normalisation -> ReLU between the widths, and a last linear layer that starts at zero."""
    layers: list[nn.Module] = []
    for n_in, n_out in zip(widths[:-2], widths[1:-1], strict=True):
        norm = normalizer()
        # A bias before a normalisation would be subtracted again.
        layers += [nn.Linear(n_in, n_out, bias=norm is None), *([] if norm is None else [norm]), nn.ReLU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
    last = nn.Linear(widths[-2], widths[-1])
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return Stack(*layers, last)


def discriminator(n_components: int, n_batches: int, n_hidden: int, *, norm: AdversaryNorm = "layer") -> nn.Sequential:
    """Network that guesses the batch of a latent point, from (cells, components) to (cells, batches).

    Parameters
    ----------
    n_components, n_batches, n_hidden
        Width of input, output and of the two hidden layers.
    norm
        `"layer"`: LayerNorm before each activation. `"spectral"`: linear maps divided by their spectral norms, so that the
        guess changes slowly with the point (Miyato et al. 2018).

    Raises
    ------
    ValueError
        `norm` is another one. Layers with statistics of minibatches are refused: see the message.
    """
    check_adversary_norm("norm", norm)

    def linear(n_in: int, n_out: int) -> nn.Module:
        return spectral_norm(nn.Linear(n_in, n_out)) if norm == "spectral" else nn.Linear(n_in, n_out, bias=False)

    layers: list[nn.Module] = []
    widths = [n_components, n_hidden]
    if norm == "layer":
        layers.append(_BesideOne())
        widths[0] += 1
    for n_in in widths:
        layers += [linear(n_in, n_hidden), *([LayerNorm(n_hidden)] if norm == "layer" else []), nn.LeakyReLU(0.2)]
    last = nn.Linear(n_hidden, n_batches)
    return nn.Sequential(*layers, spectral_norm(last) if norm == "spectral" else last)


class _BesideOne(nn.Module):
    """A constant beside the components: of a point alone LayerNorm would leave the direction, and lose how far out it is."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, torch.ones_like(x[:, :1])], dim=1)


def check_adversary_norm(name: str, norm: object) -> None:
    """Raise ValueError unless the parameter `name` is a norm for the discriminator."""
    if norm in ADVERSARY_NORMS:
        return
    why = (
        " Statistics of a minibatch that mixes batches tell the discriminator which batches are in it, and let it judge cells by their "
        "company instead of by themselves: the answer leaks, and nothing is learned from it."
        if norm in MINIBATCH_NORMS
        else ""
    )
    msg = f"{name} must be one of {', '.join(map(repr, ADVERSARY_NORMS))}; got {norm!r}.{why}"
    raise ValueError(msg)
