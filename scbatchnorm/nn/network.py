"""Encoder, decoder and discriminator: small residual networks on components."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import nn

from scbatchnorm.nn.normalization import MixedBatchNorm

Normalization = Literal["batch", "layer", "none"]
NORMALIZATIONS: tuple[str, ...] = get_args(Normalization)

# Weight of the batch code beside components of variance 1.
_CODE_SCALE = 3.0


def _stack(n_in: int, n_hidden: int, n_layers: int, n_out: int, normalization: Normalization) -> nn.Sequential:
    """`n_layers` of Linear -> normalisation -> ReLU, then a linear layer that starts at zero."""
    layers: list[nn.Module] = []
    for i in range(n_layers):
        # A bias before a normalisation would be subtracted again.
        layers.append(nn.Linear(n_in if i == 0 else n_hidden, n_hidden, bias=normalization == "none"))
        if normalization == "batch":
            layers.append(MixedBatchNorm(n_hidden))
        elif normalization == "layer":
            layers.append(nn.LayerNorm(n_hidden))
        layers.append(nn.ReLU())
    last = nn.Linear(n_hidden, n_out)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)


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
    normalization
        Layer between the linear maps and their activation.
    """

    def __init__(
        self,
        n_components: int,
        n_batches: int,
        *,
        n_hidden: int,
        n_layers: int,
        normalization: Normalization,
    ) -> None:
        super().__init__()
        self.n_batches = n_batches
        self.encoder = _stack(n_components + n_batches, n_hidden, n_layers, n_components, normalization)
        self.decoder = _stack(n_components + n_batches, n_hidden, n_layers, n_components, normalization)
        # Per batch: what is added to the identity, linear on the way in, diagonal on the way out.
        self.linear_in = nn.Parameter(torch.zeros(n_batches * n_components, n_components))
        self.shift_in = nn.Parameter(torch.zeros(n_batches, n_components))
        self.scale_out = nn.Parameter(torch.zeros(n_batches, n_components))
        self.shift_out = nn.Parameter(torch.zeros(n_batches, n_components))

    def encode(self, x: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Latent points (cells, components) of coordinates `x` (cells, components) and batch `codes` (cells,)."""
        return self._encode(x, self._one_hot(x, codes))

    def decode(self, z: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Coordinates, as seen in the batches `codes` (cells,), of latent points `z` (cells, components)."""
        return self._decode(z, self._one_hot(z, codes))

    def forward(self, x: torch.Tensor, codes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Latent points and reconstruction."""
        one_hot = self._one_hot(x, codes)
        z = self._encode(x, one_hot)
        return z, self._decode(z, one_hot)

    def reconstruct(self, x: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Reconstruction alone: passes every layer."""
        return self(x, codes)[1]

    def _encode(self, x: torch.Tensor, one_hot: torch.Tensor) -> torch.Tensor:
        residual = self.encoder(torch.cat([x, _CODE_SCALE * one_hot], dim=1))
        # (cells, batches * components): x in the block of its batch, zeros elsewhere
        blocks = (one_hot[:, :, None] * x[:, None, :]).flatten(1)
        return x + blocks @ self.linear_in + one_hot @ self.shift_in + residual

    def _decode(self, z: torch.Tensor, one_hot: torch.Tensor) -> torch.Tensor:
        residual = self.decoder(torch.cat([z, _CODE_SCALE * one_hot], dim=1))
        # A product with the one-hot code is a look-up whose gradient is much cheaper than that of an index.
        return z * (1 + one_hot @ self.scale_out) + one_hot @ self.shift_out + residual

    def _one_hot(self, x: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        return nn.functional.one_hot(codes, self.n_batches).to(x.dtype)


def discriminator(n_components: int, n_batches: int, n_hidden: int) -> nn.Sequential:
    """Network that guesses the batch of a latent point.

    Normalised by LayerNorm and never BatchNorm: the statistics of a minibatch that mixes batches would tell it the answer.
    """
    return nn.Sequential(
        nn.Linear(n_components, n_hidden),
        nn.LayerNorm(n_hidden),
        nn.LeakyReLU(0.2),
        nn.Linear(n_hidden, n_hidden),
        nn.LayerNorm(n_hidden),
        nn.LeakyReLU(0.2),
        nn.Linear(n_hidden, n_batches),
    )
