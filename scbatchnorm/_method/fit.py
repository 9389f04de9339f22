"""What a fit does, step by step: stem, dial, offsets, network."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from scbatchnorm._method.calibration import calibrate_statistics
from scbatchnorm._method.offsets import estimate_offsets
from scbatchnorm._method.parameters import check_parameters
from scbatchnorm._method.reference import sketch_reference
from scbatchnorm._method.sketch import choose_cells
from scbatchnorm._method.stem import fit_stem_blocks
from scbatchnorm._method.strength import decide_strength
from scbatchnorm._method.training import history as _history
from scbatchnorm._method.training import trainer as _trainer
from scbatchnorm._method.training.loop import train_network
from scbatchnorm._persistence.checkpoint import Checkpoint
from scbatchnorm._persistent import PersistentAutoencoder
from scbatchnorm._runtime.device import resolve_device
from scbatchnorm._runtime.errors import TrainingDivergedError

if TYPE_CHECKING:
    import torch
    from numpy.typing import ArrayLike

    from scbatchnorm._data.blocks import Blocks
    from scbatchnorm._data.types import Codes, Floats, Labels, Matrix
    from scbatchnorm._method.stem import Stem

logger = logging.getLogger(__name__)


class FittingAutoencoder(PersistentAutoencoder):
    """The part of `BatchNormAutoencoder` that learns."""

    def _start(self, X: ArrayLike | Blocks) -> Blocks:
        """`X` (cells, features) in blocks, which a fit of these parameters begins with."""
        check_parameters(self)
        resolve_device(self.device)
        return self._blocks(X, fit=True)

    def _fit(self, blocks: Blocks, codes: Codes, levels: Labels) -> Floats:
        """See `fit`; returns the products of the cells, of the batches `codes` of `levels`, with the components of the stem."""
        device = resolve_device(self.device)
        self.batches_ = levels
        self.features_ = getattr(self, "feature_names_in_", np.array([f"x{i}" for i in range(blocks.shape[1])]))
        rng = np.random.default_rng(self.rng)
        checkpoint = Checkpoint.of(self, blocks, codes, rng, device)
        blocks.notes = checkpoint
        if checkpoint.resume(self):
            rows = checkpoint.rows()
            products = blocks.product(self.stem_.components, what="components")
            X = _some(blocks, rows)
            points = self.stem_.standardise(products[rows])
        else:
            plain, leading, products = fit_stem_blocks(blocks, self.stem, self.n_components, self.n_latent, rng)
            rows = choose_cells(products, leading, codes, self.max_cells_fit or len(codes), rng)
            X = _some(blocks, rows)
            points = leading.standardise(products[rows])
            self._prepare(X, points, codes[rows], plain, leading, rng)
            checkpoint.begin(self, rows)
        self._learn(X, points, codes[rows], rng, device, checkpoint)
        return products

    def _prepare(
        self, X: Matrix, points: Floats, codes: Codes, plain: Stem, leading: Stem, rng: np.random.Generator
    ) -> None:
        """Strength, stem and offsets, by cells with the features `X` and the `leading` coordinates `points`."""
        self.strength_ = decide_strength(self.strength, points, codes, rng)
        logger.info("strength %.2f: %s", self.strength_.value, self.strength_.reason)
        self.stem_ = leading if self.strength_.value > 0 else plain
        self.offsets_ = np.zeros((len(self.batches_), self.stem_.components.shape[1]), dtype=np.float32)
        self.network_ = None
        if self.strength_.value > 0 and self.offsets:
            rows = self.strength_.affected(points, codes)
            self.offsets_ = estimate_offsets(X[rows], points[rows], codes[rows], self.n_neighbors, rng)

    def _learn(
        self,
        X: Matrix,
        points: Floats,
        codes: Codes,
        rng: np.random.Generator,
        device: torch.device,
        checkpoint: Checkpoint,
    ) -> None:
        """Network, histories, calibration and reference."""
        self.network_, self.stopped_, trouble = None, "not trained", ""
        self.history_, self.shift_history_ = _history.empty_history(), _history.empty_shift_history()
        rows = self.strength_.affected(points, codes)
        if self.strength_.value > 0:
            trouble = self._train(points[rows] - self.offsets_[codes[rows]], codes[rows], rng, device, checkpoint)
        self.reference_ = sketch_reference(self, X, codes, rng)
        self.calibration_ = {"by": "fit", "n_cells": len(codes[rows]), "fingerprint_of_fit": self.fingerprint()}
        if trouble:
            raise TrainingDivergedError(trouble, self)

    def _train(
        self,
        points: Floats,
        codes: Codes,
        rng: np.random.Generator,
        device: torch.device,
        checkpoint: Checkpoint,
    ) -> str:
        """Network and histories; returns what went wrong, if it did."""
        trained = train_network(
            points,
            codes,
            _trainer.Settings.of(self),
            rng,
            device=device,
            progress=self.progress,
            checkpoint=checkpoint,
        )
        self.network_, self.history_, self.stopped_ = trained.network, trained.history, trained.stopped
        self.shift_history_ = _history.name_batches(trained.shift_history, self.batches_)
        calibrate_statistics(trained.network, points, codes)
        trained.network.cpu()
        return trained.trouble


def _some(blocks: Blocks, rows: Codes) -> Matrix:
    """Features of these cells, in memory."""
    return blocks.all() if len(rows) == blocks.shape[0] else blocks.rows(rows, what="cells to learn from")
