"""Normalisation layers and networks, usable in any torch model."""

from scbatchnorm.nn.network import Autoencoder, discriminator
from scbatchnorm.nn.normalization import MixedBatchNorm, recalibrate

__all__ = ["Autoencoder", "MixedBatchNorm", "discriminator", "recalibrate"]
