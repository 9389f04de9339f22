"""The training loop: rounds that begin with fresh anchors, steps of AdamW within them."""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from scbatchnorm import _anchors, _minibatch, _progress, _support
from scbatchnorm._device import one_thread, seeded
from scbatchnorm._history import History, ShiftHistory, empty_shift_history
from scbatchnorm._trainer import Trainer
from scbatchnorm._warn import warn
from scbatchnorm.nn.network import MINIBATCH_NORMS

if TYPE_CHECKING:
    import pandas as pd

    from scbatchnorm._progress import tqdm
    from scbatchnorm._trainer import Settings
    from scbatchnorm._typing import Codes, Floats
    from scbatchnorm.nn.network import Autoencoder

logger = logging.getLogger(__name__)

# Fewer cells give statistics that are noise: the standard error of a mean of 16 is a quarter of a standard deviation.
_FEW = 16
# The bar's text is renewed every so many steps.
_REPORT = 20


@dataclass
class Trained:
    """A network, how it got there, and why it stopped."""

    network: Autoencoder
    history: pd.DataFrame
    stopped: str
    shift_history: pd.DataFrame


def train(
    points: Floats,
    codes: Codes,
    settings: Settings,
    rng: np.random.Generator,
    *,
    device: torch.device,
    progress: bool | None,
) -> Trained:
    """Train a network on coordinates whose batches were already moved onto each other.

    Parameters
    ----------
    points
        Coordinates of mean variance about 1, float32 of shape (cells, components).
    codes
        Batch of each cell, counted from 0, int64 of shape (cells,).
    settings
        Hyperparameters.
    rng
        Source of all randomness.
    device
        Where the network is trained.
    progress
        Whether to show a bar over the steps; `None` shows it in terminals and notebooks.
    """
    n_batches = int(codes.max()) + 1
    _warn_of_noise(settings, n_batches)
    with seeded(int(rng.integers(2**62)), device):
        trainer = Trainer(points.shape[1], n_batches, settings.n_steps(len(points)), settings, device)
        return _run(trainer, points, codes, rng, progress=progress)


def _run(trainer: Trainer, points: Floats, codes: Codes, rng: np.random.Generator, *, progress: bool | None) -> Trained:
    """All rounds, or those up to where training ends early."""
    settings, n_steps = trainer.settings, trainer.n_steps
    history, stopped = History(), "completed"
    shift = ShiftHistory(points, codes, settings.n_neighbors) if settings.record_shift else None
    good = copy.deepcopy(trainer.network.state_dict())
    bar = _progress.bar(n_steps, desc="scbatchnorm", unit="step", progress=progress)
    with bar:
        try:
            for refresh in range(settings.n_refreshes):
                until = round(n_steps * (refresh + 1) / settings.n_refreshes)
                if shift is not None:
                    shift.look(trainer.network, trainer.step_number)
                _round(trainer, points, codes, until, refresh, rng, history, bar)
                good = copy.deepcopy(trainer.network.state_dict())
                if history.flat():
                    stopped = "converged"
                    break
        except KeyboardInterrupt:
            stopped = "interrupted"
            warn(
                f"training was interrupted at step {trainer.step_number} of {n_steps}; the weights of that step are used."
            )
        except FloatingPointError as error:
            stopped = "diverged"
            trainer.network.load_state_dict(good)
            warn(
                f"training diverged at step {trainer.step_number} of {n_steps} (losses {error}); the last good weights are "
                f"used. A smaller learning_rate than {settings.learning_rate:g} may help."
            )
    logger.info("training %s after %d steps", stopped, trainer.step_number)
    if shift is not None:
        shift.look(trainer.network, trainer.step_number)
    steps = empty_shift_history() if shift is None else shift.frame()
    return Trained(trainer.network.eval(), history.frame(), stopped, steps)


def _warn_of_noise(settings: Settings, n_batches: int) -> None:
    """Warn where the cells of a minibatch are too few for the statistics that the network takes of them."""
    if settings.norm not in MINIBATCH_NORMS or settings.norm == "batch_layer":  # which leans to the cell by itself
        return
    if settings.statistics == "mixed" or n_batches == 1:
        if settings.minibatch_size < _FEW:
            warn(
                f"minibatch_size={settings.minibatch_size} is too small for norm={settings.norm!r}: statistics of fewer than "
                f"{_FEW} cells are noise. Use minibatch_size={_FEW} or more, or a norm that looks at each cell alone: "
                "norm='layer' or norm='group', or leans to it: norm='batch_layer'."
            )
    elif settings.minibatch_size < _FEW * n_batches:
        warn(
            f"minibatch_size={settings.minibatch_size} has about {settings.minibatch_size // n_batches} cells of each of {n_batches} "
            f"batches, too few for statistics={settings.statistics!r}: statistics of fewer than {_FEW} cells are noise. Use "
            f"statistics='mixed', or minibatch_size={_FEW * n_batches} or more."
        )


def _round(
    trainer: Trainer,
    points: Floats,
    codes: Codes,
    until: int,
    refresh: int,
    rng: np.random.Generator,
    history: History,
    bar: tqdm,
) -> None:
    """Anchors of a fresh sketch of the cells, and steps on these cells up to step `until`."""
    device = trainer.device
    rows = _anchors.sketch(codes, _anchors.per_batch(trainer.n_batches), rng)
    codes = codes[rows]
    x, batch = torch.from_numpy(points[rows]).to(device), torch.from_numpy(codes).to(device)
    latent = trainer.embed(x, batch)
    shared = _support.shared_states(latent, codes, trainer.settings.n_neighbors, rng)
    trainer.ease(1 - _support.mixing(latent, codes, np.square(shared.share.max(axis=1)), rng), first=refresh == 0)
    counterparts = torch.from_numpy(shared.counterparts).to(device)
    partners = _anchors.Partners(shared.anchors, len(codes))
    with one_thread(device):
        try:
            while trainer.step_number < until:
                _epoch(trainer, x, batch, counterparts, partners, codes, until, rng, history, bar)
                history.close_epoch(trainer.step_number, refresh, trainer.learning_rate)
        finally:
            history.close_epoch(trainer.step_number, refresh, trainer.learning_rate)


def _epoch(
    trainer: Trainer,
    x: torch.Tensor,
    batch: torch.Tensor,
    counterparts: torch.Tensor,
    partners: _anchors.Partners,
    codes: Codes,
    until: int,
    rng: np.random.Generator,
    history: History,
    bar: tqdm,
) -> None:
    """One pass over the sketch, or what is left of it up to step `until`."""
    settings = trainer.settings
    for cells in _minibatch.epoch(codes, settings.minibatch_size, rng, composition=settings.minibatches):
        anchored, partner = partners.draw(cells, rng)
        joint = torch.from_numpy(np.concatenate([cells, partner])).to(x.device)
        keep = torch.from_numpy(anchored).to(x.device)
        losses = trainer.step(x[joint], batch[joint], counterparts[joint], keep, len(cells))
        history.steps.append(losses)
        bar.update()
        if trainer.step_number % _REPORT == 0:
            text = "reconstruction {:.2f}, anchors {:.2f}, adversary {:.2f}".format(*losses)
            bar.set_postfix_str(text, refresh=False)
        if trainer.step_number >= until:
            return
