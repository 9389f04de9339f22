"""Frozen statistics of a trained network: those of all cells, as inference sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scbatchnorm._method.anchors import cells_per_batch, sketch_batches
from scbatchnorm._method.support import find_shared_states
from scbatchnorm._runtime.device import run_network
from scbatchnorm.nn._statistics import BatchStatistics
from scbatchnorm.nn.normalization import MixedBatchNorm, recalibrate

if TYPE_CHECKING:
    from scbatchnorm._data.types import Codes, Floats
    from scbatchnorm.nn.network import Autoencoder


def calibrate_statistics(
    network: Autoencoder, points: Floats, codes: Codes, n_neighbors: int, rng: np.random.Generator
) -> None:
    """Set all frozen statistics of `network` to those of the cells `points` (cells, components); left in evaluation mode."""
    network.eval()
    others: list[Codes | Floats] = [codes]
    if any(isinstance(layer, MixedBatchNorm) and layer.statistics == "anchored" for layer in network.modules()):
        others.append(_support_of(network, points, codes, n_neighbors, rng))
    recalibrate(network, lambda: run_network(network, network.reconstruct, points, *others))


def has_statistics(network: Autoencoder) -> bool:
    """Whether there is anything that `calibrate` sets."""
    return any(isinstance(layer, BatchStatistics) for layer in network.modules())


def _support_of(
    network: Autoencoder, points: Floats, codes: Codes, n_neighbors: int, rng: np.random.Generator
) -> Floats:
    """How much each cell counts against each other batch, shape (cells, batches): from a sketch, 0 for all other cells."""
    weight = np.zeros((len(points), network.n_batches), dtype=np.float32)
    rows = sketch_batches(codes, cells_per_batch(network.n_batches), rng)
    latent = run_network(network, network.encode, points[rows], codes[rows])
    found = find_shared_states(latent, codes[rows], n_neighbors, rng).pair_weights
    weight[rows, : found.shape[1]] = found
    return weight
