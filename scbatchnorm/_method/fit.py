"""What a fit does, step by step: components, cells to learn from, strength, offsets, network, frozen statistics, reference."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from scbatchnorm._data.blocks import Notes
from scbatchnorm._method.anchors import estimate_offsets
from scbatchnorm._method.calibration import calibrate_statistics
from scbatchnorm._method.fitted import FittedModel, LinearModel
from scbatchnorm._method.reference import sketch_reference
from scbatchnorm._method.sketch import choose_cells
from scbatchnorm._method.stem import fit_stem_blocks
from scbatchnorm._method.strength import decide_strength
from scbatchnorm._method.training.history import name_batches
from scbatchnorm._method.training.loop import TrainingCheckpoint, train_network

if TYPE_CHECKING:
    import torch

    from scbatchnorm._data.batches import Batches
    from scbatchnorm._data.blocks import Blocks
    from scbatchnorm._data.types import Codes, Floats, Labels, Matrix
    from scbatchnorm._method.parameters import FitParameters
    from scbatchnorm._method.stem import Stem

logger = logging.getLogger(__name__)


class FitCheckpoint(Notes, TrainingCheckpoint):
    """Where a fit keeps how far it is: while it sums up blocks, before the network, and after each interval of training."""

    def load_linear(self) -> tuple[LinearModel, Codes] | None:
        """What an earlier run of the same fit learned before its network, and the cells that it learned from."""
        return None

    def save_linear(self, linear: LinearModel, rows: Codes) -> None:
        """Keep what was learned before the network, and the cells `rows` that are learned from."""


@dataclass(frozen=True)
class FitResult:
    """A fitted model, and what is needed to embed the cells of the fit."""

    model: FittedModel
    products: Floats  # (cells, components or more) of all cells with the components of the stem
    failure: str = ""  # what went wrong, if training diverged


def fit(
    blocks: Blocks,
    batches: Batches,
    features: Labels,
    parameters: FitParameters,
    *,
    rng: np.random.Generator,
    device: torch.device,
    progress: bool | None = None,
    checkpoint: FitCheckpoint | None = None,
    named: bool = False,
) -> FitResult:
    """Learn components, strength, offsets and network, freeze its statistics, and sketch the cells for mapping.

    Offsets and network are learned from the cells that are corrected by at least half (`Strength.affected`), of at most
    `max_cells_fit` cells.

    Parameters
    ----------
    blocks
        Log-normalised expression or a representation, (cells, features), checked.
    batches
        Batch of each cell.
    features
        Names of the features, and with `named` whether they are those of the columns of a DataFrame.
    parameters
        Hyperparameters; their meaning is in `_estimator.py`.
    rng
        Source of all randomness.
    device
        Where the network is trained.
    progress
        Whether to show a progress bar; `None` shows it in terminals and notebooks.
    checkpoint
        Where it is kept how far the fit is, and where it goes on from.
    """
    checkpoint = checkpoint or FitCheckpoint()
    blocks.notes = checkpoint
    if (saved := checkpoint.load_linear()) is not None:
        linear, rows = saved
        products = blocks.product(linear.stem.components, what="components")
        X, codes = _read_rows(blocks, rows), batches.codes[rows]
        points = linear.stem.standardise(products[rows])
    else:
        plain, leading, products = fit_stem_blocks(
            blocks, parameters.stem, parameters.n_components, parameters.n_latent, rng
        )
        rows = choose_cells(products, leading, batches.codes, parameters.max_cells_fit or len(batches.codes), rng)
        X, codes = _read_rows(blocks, rows), batches.codes[rows]
        points = leading.standardise(products[rows])
        linear = fit_linear(X, points, codes, plain, leading, parameters, rng, n_batches=batches.n_batches)
        checkpoint.save_linear(linear, rows)
    model = FittedModel(
        **vars(linear),
        network=None,
        batches=batches.levels,
        features=features,
        stem_kind=parameters.stem,
        n_neighbors=parameters.n_neighbors,
        named=named,
    )
    learned_from, failure = linear.strength.affected(points, codes), ""
    if linear.strength.value > 0:
        model, failure = _with_network(
            model,
            points[learned_from],
            codes[learned_from],
            parameters,
            rng,
            device=device,
            progress=progress,
            checkpoint=checkpoint,
        )
    reference = sketch_reference(
        X, codes, model.stem, model.correct, parameters.n_neighbors, rng, held_out=parameters.stem == "pca"
    )
    calibration = {"by": "fit", "n_cells": len(codes[learned_from]), "fingerprint_of_fit": model.fingerprint()}
    return FitResult(replace(model, reference=reference, calibration=calibration), products, failure)


def fit_linear(
    X: Matrix,
    points: Floats,
    codes: Codes,
    plain: Stem,
    leading: Stem,
    parameters: FitParameters,
    rng: np.random.Generator,
    *,
    n_batches: int,
) -> LinearModel:
    """Strength, stem and offsets.

    Parameters
    ----------
    X
        Features of the cells that are learned from, (cells, features).
    points, codes
        Their points by the `leading` stem, (cells, components), and their batches, (cells,).
    plain, leading
        Stem that is used where nothing is corrected, and that of the leading components, which are corrected.
    parameters
        Hyperparameters.
    rng
        Source of randomness.
    n_batches
        Batches of the fit.
    """
    strength = decide_strength(parameters.strength, points, codes, rng)
    logger.info("strength %.2f: %s", strength.value, strength.reason)
    stem = leading if strength.value > 0 else plain
    offsets = np.zeros((n_batches, stem.components.shape[1]), dtype=np.float32)
    if strength.value > 0 and parameters.offsets:
        rows = strength.affected(points, codes)
        offsets = estimate_offsets(X[rows], points[rows], codes[rows], parameters.n_neighbors, rng)
    return LinearModel(stem, strength, offsets)


def _with_network(
    model: FittedModel,
    points: Floats,
    codes: Codes,
    parameters: FitParameters,
    rng: np.random.Generator,
    *,
    device: torch.device,
    progress: bool | None,
    checkpoint: FitCheckpoint,
) -> tuple[FittedModel, str]:
    """The model with a network trained on the cells `points` of the batches `codes`, and what went wrong, if it did."""
    points = points - model.offsets[codes]
    trained = train_network(points, codes, parameters, rng, device=device, progress=progress, checkpoint=checkpoint)
    calibrate_statistics(trained.network, points, codes)
    model = replace(
        model,
        network=trained.network.cpu(),
        history=trained.history,
        shift_history=name_batches(trained.shift_history, model.batches),
        stopped=trained.stopped,
    )
    return model, trained.failure


def _read_rows(blocks: Blocks, rows: Codes) -> Matrix:
    """Features of these cells, in memory."""
    return blocks.all() if len(rows) == blocks.shape[0] else blocks.rows(rows, what="cells to learn from")
