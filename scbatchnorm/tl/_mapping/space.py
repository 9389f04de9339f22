"""Cells of batches that were not in the fit, moved into the space of a fitted model without gradient steps."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np

from scbatchnorm._method.anchors import clean_anchors, find_anchors, find_nearest
from scbatchnorm._method.calibration import has_statistics
from scbatchnorm._method.reference import MIN_CELLS
from scbatchnorm._runtime.device import run_network
from scbatchnorm.nn.folding import fold_batchnorm
from scbatchnorm.nn.normalization import MixedBatchNorm, recalibrate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scbatchnorm._data.types import Bools, Codes, Floats
    from scbatchnorm._method.fitted import FittedModel

_ITERATIONS = 2
# Shares of anchors that `clean_anchors` removes, as in the fit: for the offset, and for the residual shift.
_OFFSET_DISSIMILAR = 0.15
_DISPLACED, _DISSIMILAR = 0.1, 0.15
# Anchors that the shift of a cell is averaged over. With fewer, cells of one state are moved apart and mix less with the reference.
_SMOOTHING_ANCHORS = 40
# Rows handled at once, and cells that pass the network at once; no result depends on them.
_ROWS = 2048
_NETWORK_ROWS = 8192
# Batch code that the network does not know: its one-hot vector is zero.
_UNKNOWN = -1


class ReferenceSpace:
    """The latent space of a fitted model, with the reference cells that the model keeps.

    Attributes
    ----------
    codes
        Batches of the reference cells, shape (cells,).
    inputs
        Their components without offsets, which enter the network, shape (cells, components).
    latent
        Their corrected components, shape (cells, components).
    """

    def __init__(self, model: FittedModel) -> None:
        reference = model.reference
        self._model = model
        self._network = model.network  # another one after `recalibrate`
        self.codes = reference.codes
        self.inputs = reference.points - model.offsets[reference.codes]
        self.latent = model.correct(reference.points, reference.codes)

    def correct(self, inputs: Floats) -> Floats:
        """Corrected components of cells of unknown batches, shape (cells, components), of their `inputs` to the network."""
        if self._network is None:
            return inputs
        network = fold_batchnorm(self._network)
        codes: Sequence[int] = [_UNKNOWN]
        if any(isinstance(layer, MixedBatchNorm) for layer in network.modules()):
            # Statistics are those of single batches of the fit: the mean over all of them.
            codes = range(network.n_batches)
        corrected = np.empty_like(inputs)
        for start in range(0, len(inputs), _NETWORK_ROWS):
            chunk = inputs[start : start + _NETWORK_ROWS]
            by_batch = [run_network(network, network.encode, chunk, np.full(len(chunk), code)) for code in codes]
            latent = by_batch[0] if len(by_batch) == 1 else np.mean(by_batch, axis=0, dtype=np.float32)
            # `chunk` are also the uncorrected components as in the average batch, for the mean of the offsets is 0.
            corrected[start : start + _NETWORK_ROWS] = chunk + self._model.strength.at(chunk) * (latent - chunk)
        return corrected

    def correct_known(self, points: Floats, code: int) -> Floats:
        """Corrected components of cells of the batch `code` of the fit, shape (cells, components), of their components `points`."""
        chunks = [points[start : start + _NETWORK_ROWS] for start in range(0, len(points), _NETWORK_ROWS)]
        return np.concatenate([self._model.correct(chunk, np.full(len(chunk), code)) for chunk in chunks])

    def recalibrate(self, inputs: Floats) -> ReferenceSpace:
        """Copy whose network has the statistics of the reference cells and of these `inputs`; `latent` is unchanged.

        Raises
        ------
        ValueError
            The network has no statistics, or those of single batches.
        """
        if self._network is None or not has_statistics(self._network):
            msg = "mode='recalibrate' needs layers with statistics of cells, and the model of the reference has none; use mode='frozen'."
            raise ValueError(msg)
        space = copy.copy(self)
        space._network = network = copy.deepcopy(self._network)
        if any(isinstance(layer, MixedBatchNorm) and layer.statistics != "mixed" for layer in network.modules()):
            msg = "mode='recalibrate' needs a reference with statistics='mixed': others are of batches of the fit; use mode='frozen'."
            raise ValueError(msg)
        points = np.concatenate([self.inputs, inputs])
        codes = np.concatenate([self.codes, np.full(len(inputs), _UNKNOWN)])
        recalibrate(network, lambda: run_network(network, network.reconstruct, points, codes))
        return space


def estimate_offset(points: Floats, sketch: Codes, space: ReferenceSpace, n_neighbors: int) -> tuple[Floats, int]:
    """Offset of a batch from the reference: the median displacement of its anchors, and their number.

    Anchors are searched twice: first with the means of both sides subtracted, then with the offset of the first search subtracted.

    Parameters
    ----------
    points
        Components of the cells of the batch, shape (cells, components).
    sketch
        Positions of the cells that anchors are searched for.
    space
        Of the reference.
    n_neighbors
        Nearest neighbours that make two cells anchors if mutual.

    Returns
    -------
    Shape (components,), and a number of anchors. Both are 0 without anchors and for fewer than 20 cells, whose anchors are chance.
    """
    offset = np.zeros(points.shape[1], np.float32)
    cells = points[sketch]
    if len(cells) < MIN_CELLS:
        return offset, 0
    shifted, reference = cells - cells.mean(axis=0), space.inputs - space.inputs.mean(axis=0)
    n_anchors = 0
    for _ in range(_ITERATIONS):
        left, right = _find_clean_anchors(reference, shifted, n_neighbors, displaced=0, dissimilar=_OFFSET_DISSIMILAR)
        n_anchors = len(left)
        if n_anchors:
            offset = np.median(cells[right] - space.inputs[left], axis=0).astype(np.float32)
        shifted, reference = cells - offset, space.inputs
    return offset, n_anchors


def remove_residual_shift(
    latent: Floats, sketch: Codes, space: ReferenceSpace, n_neighbors: int, novel: Bools
) -> tuple[Floats, int]:
    """Cells of a batch without the shift from the reference that the network has left, and the number of anchors it was estimated from.

    Parameters
    ----------
    latent
        Corrected components of the cells of the batch, shape (cells, components).
    sketch
        Positions of the cells that anchors are searched for.
    space
        Of the reference.
    n_neighbors
        Nearest neighbours that make two cells anchors if mutual.
    novel
        Which cells may be of a state that the reference lacks, shape (cells,): their anchors are used only if there are no others.

    Returns
    -------
    Shape (cells, components), and a number of anchors. Without anchors the cells are returned as they are.
    """
    cells = latent[sketch]
    left, right = _find_clean_anchors(space.latent, cells, n_neighbors, displaced=_DISPLACED, dissimilar=_DISSIMILAR)
    known = ~novel[sketch[right]]
    if known.any():
        left, right = left[known], right[known]
    if not len(right):
        return latent, 0
    return _subtract_local_shift(latent, cells[right], cells[right] - space.latent[left]), len(right)


def _subtract_local_shift(points: Floats, anchors: Floats, shifts: Floats) -> Floats:
    """Points minus a weighted mean of the `shifts` of their 40 nearest `anchors`, shape (cells, components); weights are Gaussian."""
    moved = np.empty_like(points)
    for start in range(0, len(points), _ROWS):
        chunk = points[start : start + _ROWS]
        nearest = find_nearest(chunk, anchors, _SMOOTHING_ANCHORS)
        squared_distance = np.square(chunk[:, None] - anchors[nearest]).sum(axis=2)
        width = 0.5 * squared_distance[:, nearest.shape[1] // 2, None]
        weights = np.exp(-squared_distance / np.maximum(width, np.float32(1e-12)))
        weights /= weights.sum(axis=1, keepdims=True)
        moved[start : start + _ROWS] = chunk - (weights[:, :, None] * shifts[nearest]).sum(axis=1)
    return moved


def _find_clean_anchors(
    reference: Floats, cells: Floats, n_neighbors: int, *, displaced: float, dissimilar: float
) -> tuple[Codes, Codes]:
    """Positions in the reference, taken as one batch, and among the cells, of the cleaned anchors between them."""
    points = np.concatenate([reference, cells]).astype(np.float32)
    codes = np.repeat([0, 1], [len(reference), len(cells)])
    anchors = find_anchors(points, codes, n_neighbors)
    anchors = clean_anchors(anchors, points, displaced=displaced, dissimilar=dissimilar)
    return anchors.left, anchors.right - len(reference)
