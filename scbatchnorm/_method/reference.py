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
    from collections.abc import Callable

    from scbatchnorm._data.types import Codes, Floats, Matrix
    from scbatchnorm._method.stem import Stem


@dataclass(frozen=True)
class ReferenceCells:
    """Random cells of every batch, at most 1000 of each and 16 000 in all, and what is usual for a batch not seen."""

    points: Floats  # (cells, components) before offsets, float32
    codes: Codes  # (cells,) batch of each
    unexplained: Floats  # (some cells,) see `_novelty.unexplained_when_held_out`; empty where it is not known

    @classmethod
    def none(cls) -> ReferenceCells:
        """No cells."""
        return cls(np.empty((0, 0), np.float32), np.empty(0, np.int64), np.empty(0, np.float32))

    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of the sketch."""
        arrays = (self.points.astype("<f4"), self.codes.astype("<i8"), self.unexplained.astype("<f4"))
        return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def sketch_reference(
    X: Matrix,
    codes: Codes,
    stem: Stem,
    correct: Callable[[Floats, Codes], Floats],
    n_neighbors: int,
    rng: np.random.Generator,
    *,
    held_out: bool,
) -> ReferenceCells:
    """Sketch of the cells of a fit.

    Parameters
    ----------
    X, codes
        Features of the cells, (cells, features), and the batch of each.
    stem
        Of the fitted model.
    correct
        Gives the corrected points of points (cells, components) of batches (cells,).
    n_neighbors
        Nearest neighbours that make two cells anchors.
    rng
        Draws the cells.
    held_out
        Whether to hold out batches to see how much of their expression stays unexplained: not of a representation.
    """
    rows = sketch_batches(codes, cells_per_batch(int(codes.max()) + 1), rng)
    X, codes = X[rows], codes[rows].astype(np.int64)
    points = stem.encode(X)
    unexplained = np.empty(0, np.float32)
    if held_out:
        latent = correct(points, codes)
        with one_blas_thread():
            unexplained = unexplained_when_held_out(X, latent, codes, points.shape[1], n_neighbors, rng)
    return ReferenceCells(points, codes, unexplained)
