"""What a fitted model keeps of the cells of its fit, so that new cells can be placed among them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scbatchnorm._method.anchors import cells_per_batch, sketch_batches
from scbatchnorm._method.novelty import unexplained_when_held_out
from scbatchnorm._runtime.device import one_blas_thread

if TYPE_CHECKING:
    from scbatchnorm._data.types import Codes, Floats, Matrix
    from scbatchnorm._estimator import BatchNormAutoencoder


@dataclass(frozen=True)
class ReferenceCells:
    """Random cells of every batch, at most 1000 of each and 16 000 in all, and what is usual for a batch not seen."""

    points: Floats  # (cells, components) before offsets, float32
    codes: Codes  # (cells,) batch of each
    unexplained: Floats  # (some cells,) see `_novelty.unexplained_when_held_out`; empty where it is not known

    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of the sketch."""
        arrays = (self.points.astype("<f4"), self.codes.astype("<i8"), self.unexplained.astype("<f4"))
        return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def sketch_reference(model: BatchNormAutoencoder, X: Matrix, codes: Codes, rng: np.random.Generator) -> ReferenceCells:
    """Sketch of the cells that `model` was fitted on, `X` (cells, features) of the batches `codes`."""
    rows = sketch_batches(codes, cells_per_batch(int(codes.max()) + 1), rng)
    X, codes = X[rows], codes[rows].astype(np.int64)
    points = model.stem_.encode(X)
    unexplained = np.empty(0, np.float32)
    if model.stem == "pca":
        latent = model._latent(points, codes)
        n_components, n_neighbors = points.shape[1], model.n_neighbors
        with one_blas_thread():
            unexplained = unexplained_when_held_out(X, latent, codes, n_components, n_neighbors, rng)
    return ReferenceCells(points, codes, unexplained)
