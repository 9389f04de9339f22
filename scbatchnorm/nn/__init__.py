"""Normalisation layers and networks for any torch model, and their inspection."""

from scbatchnorm.nn.distributed import SyncMixedBatchNorm
from scbatchnorm.nn.folding import fold_batchnorm
from scbatchnorm.nn.inspection import covariate_shift, learned_shares, lipschitz_bound
from scbatchnorm.nn.mixtures import BatchLayerNorm, SwitchableNorm
from scbatchnorm.nn.network import Autoencoder, discriminator
from scbatchnorm.nn.normalization import MixedBatchNorm, recalibrate
from scbatchnorm.nn.per_cell import GroupNorm, InstanceNorm, LayerNorm
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
