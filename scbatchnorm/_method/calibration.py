"""Frozen statistics of a trained network: those of all cells, as inference sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scbatchnorm._method import anchors as _anchors
from scbatchnorm._method import support as _support
from scbatchnorm._runtime import device as _device
from scbatchnorm.nn._statistics import BatchStatistics
from scbatchnorm.nn.normalization import MixedBatchNorm, recalibrate

if TYPE_CHECKING:
    from scbatchnorm._data.types import Codes, Floats
    from scbatchnorm.nn.network import Autoencoder


def calibrate(network: Autoencoder, points: Floats, codes: Codes, n_neighbors: int, rng: np.random.Generator) -> None:
    """Set all frozen statistics of `network` to those of the cells `points` (cells, components); left in evaluation mode."""
    network.eval()
    others: list[Codes | Floats] = [codes]
    if any(isinstance(layer, MixedBatchNorm) and layer.statistics == "anchored" for layer in network.modules()):
        others.append(_support_of(network, points, codes, n_neighbors, rng))
    recalibrate(network, lambda: _device.run(network, network.reconstruct, points, *others))


def has_statistics(network: Autoencoder) -> bool:
    """Whether there is anything that `calibrate` sets."""
    return any(isinstance(layer, BatchStatistics) for layer in network.modules())


def _support_of(
    network: Autoencoder, points: Floats, codes: Codes, n_neighbors: int, rng: np.random.Generator
) -> Floats:
    """How much each cell counts against each other batch, shape (cells, batches): from a sketch, 0 for all other cells."""
    weight = np.zeros((len(points), network.n_batches), dtype=np.float32)
    rows = _anchors.sketch(codes, _anchors.per_batch(network.n_batches), rng)
    latent = _device.run(network, network.encode, points[rows], codes[rows])
    found = _support.shared_states(latent, codes[rows], n_neighbors, rng).counterparts
    weight[rows, : found.shape[1]] = found
    return weight
