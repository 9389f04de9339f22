"""New cells, of batches that were not in the fit, moved into the space of a fitted model without gradient steps."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np

from scbatchnorm._method.anchors import clean_anchors, find_anchors, find_nearest
from scbatchnorm._method.calibration import has_statistics
from scbatchnorm._runtime.device import run_network
from scbatchnorm.nn.folding import fold_batchnorm
from scbatchnorm.nn.normalization import MixedBatchNorm, recalibrate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scbatchnorm._data.types import Bools, Codes, Floats
    from scbatchnorm._method.fitted import FittedModel

#: Cells of a batch below which its offset, from anchors of so few, would be chance.
FEWEST = 20
_ROUNDS = 2
# As in the fit: what anchors are cleaned of, for the offset and for what is left after it.
_ALIGN_DISSIMILAR = 0.15
_DISPLACED, _DISSIMILAR = 0.1, 0.15
# Anchors that the displacement of a cell is averaged over. Fewer pull cells together, and they mix less.
_SMOOTH = 40
_ROWS = 2048
# Cells that pass the network at once.
_CHUNK = 8192
# The code of a batch that the network does not know: zeros.
_UNKNOWN = -1


class Space:
    """The space of a fitted model, and the sketch of its reference cells in it."""

    def __init__(self, model: FittedModel) -> None:
        sketch = model.reference
        self._model = model
        self._network = model.network
        self.codes = sketch.codes
        self.inputs = sketch.points - model.offsets[sketch.codes]  # (cells, components) what enters the network
        self.latent = model.correct(sketch.points, sketch.codes)  # (cells, components) where the reference is

    def correct(self, aligned: Floats) -> Floats:
        """Corrected components of cells of unknown batches that were moved onto the `inputs`, (cells, components)."""
        if self._network is None:
            return aligned
        network = fold_batchnorm(self._network)
        codes: Sequence[int] = [_UNKNOWN]
        if any(isinstance(layer, MixedBatchNorm) for layer in network.modules()):
            # Normalised by the batch of a cell: as in each batch of the reference, on average.
            codes = range(network.n_batches)
        found = np.empty_like(aligned)
        for start in range(0, len(aligned), _CHUNK):
            some = aligned[start : start + _CHUNK]
            each = [run_network(network, network.encode, some, np.full(len(some), code)) for code in codes]
            latent = each[0] if len(each) == 1 else np.mean(each, axis=0, dtype=np.float32)
            # Uncorrected they are as in the average batch, for offsets have the mean 0.
            found[start : start + _CHUNK] = some + self._model.strength.at(some) * (latent - some)
        return found

    def recalibrated(self, aligned: Floats) -> Space:
        """Copy whose network has the statistics of the reference and of these cells; the reference stays where it is.

        Raises
        ------
        ValueError
            There are no statistics, or they are those of single batches.
        """
        if self._network is None or not has_statistics(self._network):
            msg = "mode='recalibrate' needs layers with statistics of cells, and the model of the reference has none; use mode='frozen'."
            raise ValueError(msg)
        space = copy.copy(self)
        space._network = network = copy.deepcopy(self._network)
        if any(isinstance(layer, MixedBatchNorm) and layer.statistics != "mixed" for layer in network.modules()):
            msg = "mode='recalibrate' needs a reference with statistics='mixed': others are of batches of the fit; use mode='frozen'."
            raise ValueError(msg)
        points = np.concatenate([self.inputs, aligned])
        codes = np.concatenate([self.codes, np.full(len(aligned), _UNKNOWN)])
        recalibrate(network, lambda: run_network(network, network.reconstruct, points, codes))
        return space


def align(points: Floats, rows: Codes, space: Space, n_neighbors: int) -> tuple[Floats, int]:
    """Offset of the cells `points` (cells, components) of one batch, shape (components,), and the number of its anchors.

    Anchors are sought for the cells `rows`, first after the means were subtracted, then after the offset that these give. 0
    without anchors, and for fewer than 20 cells, for which they would be chance.
    """
    offset = np.zeros(points.shape[1], np.float32)
    cells = points[rows]
    if len(cells) < FEWEST:
        return offset, 0
    moved, reference = cells - cells.mean(axis=0), space.inputs - space.inputs.mean(axis=0)
    n_anchors = 0
    for _ in range(_ROUNDS):
        left, right = _pairs(reference, moved, n_neighbors, displaced=0, dissimilar=_ALIGN_DISSIMILAR)
        n_anchors = len(left)
        if n_anchors:
            offset = np.median(cells[right] - space.inputs[left], axis=0).astype(np.float32)
        moved, reference = cells - offset, space.inputs
    return offset, n_anchors


def settle(
    latent: Floats, rows: Codes, space: Space, n_neighbors: int, novel: Bools, *, anchored: bool
) -> tuple[Floats, int]:
    """Cells without the displacement that is left between them and the reference, and the number of anchors.

    Parameters
    ----------
    latent
        Corrected components of the cells of one batch, shape (cells, components).
    rows
        Those among them that anchors are sought for.
    space
        Of the reference.
    n_neighbors
        Nearest neighbours that make anchors if mutual.
    novel
        Cells that may be of a state the reference lacks, shape (cells,): their anchors do not count, unless there are no others.
    anchored
        Whether the batch had anchors at all; otherwise nothing is moved.
    """
    if not anchored:
        return latent, 0
    cells = latent[rows]
    left, right = _pairs(space.latent, cells, n_neighbors, displaced=_DISPLACED, dissimilar=_DISSIMILAR)
    sure = ~novel[rows[right]]
    if sure.any():
        left, right = left[sure], right[sure]
    if not len(right):
        return latent, 0
    return _smoothly_moved(latent, cells[right], cells[right] - space.latent[left]), len(right)


def _smoothly_moved(points: Floats, origin: Floats, displacement: Floats) -> Floats:
    """Points without the mean `displacement` at the 40 nearest `origin`, the nearer the heavier, shape (cells, components)."""
    moved = np.empty_like(points)
    for start in range(0, len(points), _ROWS):
        chunk = points[start : start + _ROWS]
        near = find_nearest(chunk, origin, _SMOOTH)
        distance = np.square(chunk[:, None] - origin[near]).sum(axis=2)
        width = 0.5 * distance[:, near.shape[1] // 2, None]
        weight = np.exp(-distance / np.maximum(width, np.float32(1e-12)))
        weight /= weight.sum(axis=1, keepdims=True)
        moved[start : start + _ROWS] = chunk - (weight[:, :, None] * displacement[near]).sum(axis=1)
    return moved


def _pairs(
    reference: Floats, cells: Floats, n_neighbors: int, *, displaced: float, dissimilar: float
) -> tuple[Codes, Codes]:
    """Positions in the reference, taken as one batch, and among the cells, of clean anchors between them."""
    points = np.concatenate([reference, cells]).astype(np.float32)
    codes = np.repeat([0, 1], [len(reference), len(cells)])
    anchors = find_anchors(points, codes, n_neighbors)
    anchors = clean_anchors(anchors, points, displaced=displaced, dissimilar=dissimilar)
    return anchors.left, anchors.right - len(reference)
