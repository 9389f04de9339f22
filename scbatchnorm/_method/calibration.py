"""Frozen statistics of a trained network: those of all cells, as inference sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scbatchnorm._runtime.device import run_network
from scbatchnorm.nn._statistics import BatchStatistics
from scbatchnorm.nn.normalization import recalibrate

if TYPE_CHECKING:
    from scbatchnorm._data.types import Codes, Floats
    from scbatchnorm.nn.network import Autoencoder


def calibrate_statistics(network: Autoencoder, points: Floats, codes: Codes) -> None:
    """Set all frozen statistics of `network` to those of the cells `points` (cells, components); left in evaluation mode."""
    network.eval()
    recalibrate(network, lambda: run_network(network, network.reconstruct, points, codes))


def has_statistics(network: Autoencoder) -> bool:
    """Whether there is anything that `calibrate_statistics` sets."""
    return any(isinstance(layer, BatchStatistics) for layer in network.modules())
