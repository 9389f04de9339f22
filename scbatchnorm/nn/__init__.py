"""Normalisation layers and networks, usable in any torch model, and what can be seen in them."""

from scbatchnorm.nn.distributed import SyncMixedBatchNorm
from scbatchnorm.nn.folding import fold_batchnorm
from scbatchnorm.nn.inspection import covariate_shift, lipschitz_bound
from scbatchnorm.nn.mixtures import BatchLayerNorm, SwitchableNorm
from scbatchnorm.nn.network import Autoencoder, discriminator
from scbatchnorm.nn.normalization import MixedBatchNorm, recalibrate
from scbatchnorm.nn.per_cell import GroupNorm, InstanceNorm, LayerNorm
from scbatchnorm.nn.shares import learned_shares
from scbatchnorm.nn.whitening import WhitenedBatchNorm

__all__ = [
    "Autoencoder",
    "BatchLayerNorm",
    "GroupNorm",
    "InstanceNorm",
    "LayerNorm",
    "MixedBatchNorm",
    "SwitchableNorm",
    "SyncMixedBatchNorm",
    "WhitenedBatchNorm",
    "covariate_shift",
    "discriminator",
    "fold_batchnorm",
    "learned_shares",
    "lipschitz_bound",
    "recalibrate",
]
