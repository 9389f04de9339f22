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

# Layers that take no number of batches.
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
    """`nn.Sequential` that passes the batch of each cell to its normalisation layers."""

    def forward(self, x: torch.Tensor, batch: torch.Tensor | None = None) -> torch.Tensor:
        """Pass `x` (cells, features), with batch codes (cells,)."""
        for layer in self:
            x = layer(x, batch) if isinstance(layer, Normalizer) else layer(x)
        return x


class Autoencoder(nn.Module):
    """Residual autoencoder that is the identity at initialisation: it learns the difference from the linear solution.

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
                # With "mixed" statistics it is BatchNorm1d over the minibatch.
                return MixedBatchNorm(n_hidden, n_batches, statistics=statistics)
            return None if norm == "none" else _LAYERS[norm](n_hidden)

        widths = [n_components + n_batches, *[n_hidden] * n_layers, n_components]
        self.encoder = _build_stack(widths, normalizer, dropout)
        self.decoder = _build_stack(widths, normalizer, dropout)
        # Maps of each batch that are added to the identity: linear in the encoder, diagonal in the decoder.
        self.linear_in = nn.Parameter(torch.zeros(n_batches * n_components, n_components))
        self.shift_in = nn.Parameter(torch.zeros(n_batches, n_components))
        self.scale_out = nn.Parameter(torch.zeros(n_batches, n_components))
        self.shift_out = nn.Parameter(torch.zeros(n_batches, n_components))

    def encode(self, x: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Latent points (cells, components) of coordinates `x` (cells, components) and batch `codes` (cells,)."""
        one_hot = self._one_hot(x, codes)
        residual = self.encoder(torch.cat([x, _CODE_SCALE * one_hot], dim=1), codes)
        # (cells, batches * components): x in the columns of the batch of the cell, zeros elsewhere
        blocks = (one_hot[:, :, None] * x[:, None, :]).flatten(1)
        return x + blocks @ self.linear_in + one_hot @ self.shift_in + residual

    def decode(self, z: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Coordinates, as seen in the batches `codes` (cells,), of latent points `z` (cells, components)."""
        one_hot = self._one_hot(z, codes)
        residual = self.decoder(torch.cat([z, _CODE_SCALE * one_hot], dim=1), codes)
        # The gradient of a product with the one-hot code is much cheaper than that of indexing.
        return z * (1 + one_hot @ self.scale_out) + one_hot @ self.shift_out + residual

    def forward(self, x: torch.Tensor, codes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Latent points and reconstruction."""
        z = self.encode(x, codes)
        return z, self.decode(z, codes)

    def reconstruct(self, x: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Reconstruction only, through all layers."""
        return self(x, codes)[1]

    def _one_hot(self, x: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """One-hot codes (cells, batches); zeros for the code -1, of a batch that the network does not know."""
        return (codes[:, None] == torch.arange(self.n_batches, device=codes.device)).to(x.dtype)


def _build_stack(widths: list[int], normalizer: Callable[[], Normalizer | None], dropout: float) -> Stack:
    """Linear -> normalisation -> ReLU between the widths, and a last linear layer that is zero at initialisation."""
    layers: list[nn.Module] = []
    for n_in, n_out in zip(widths[:-2], widths[1:-1], strict=True):
        norm = normalizer()
        # A normalisation would subtract the bias of the layer before it.
        layers += [nn.Linear(n_in, n_out, bias=norm is None), *([] if norm is None else [norm]), nn.ReLU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
    last = nn.Linear(widths[-2], widths[-1])
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return Stack(*layers, last)


def discriminator(n_components: int, n_batches: int, n_hidden: int, *, norm: AdversaryNorm = "layer") -> nn.Sequential:
    """Network that predicts the batch of a latent point, from (cells, components) to logits (cells, batches).

    Parameters
    ----------
    n_components, n_batches, n_hidden
        Width of input, output and of the two hidden layers.
    norm
        `"layer"`: LayerNorm before each activation. `"spectral"`: linear maps divided by their spectral norms, so that the
        logits have a bounded Lipschitz constant (Miyato et al. 2018).

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
        layers.append(_AppendConstant())
        widths[0] += 1
    for n_in in widths:
        layers += [linear(n_in, n_hidden), *([LayerNorm(n_hidden)] if norm == "layer" else []), nn.LeakyReLU(0.2)]
    last = nn.Linear(n_hidden, n_batches)
    return nn.Sequential(*layers, spectral_norm(last) if norm == "spectral" else last)


class _AppendConstant(nn.Module):
    """Appends a constant component: LayerNorm would otherwise remove the length of a point."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, torch.ones_like(x[:, :1])], dim=1)


def check_adversary_norm(name: str, norm: object) -> None:
    """Raise ValueError unless the parameter `name` is a norm for the discriminator."""
    if norm in ADVERSARY_NORMS:
        return
    why = (
        " Statistics of a minibatch depend on the batches of all its cells, so the discriminator could predict the batch of a cell from "
        "the other cells instead of from the cell itself: the answer leaks, and the autoencoder learns nothing from it."
        if norm in MINIBATCH_NORMS
        else ""
    )
    msg = f"{name} must be one of {', '.join(map(repr, ADVERSARY_NORMS))}; got {norm!r}.{why}"
    raise ValueError(msg)
