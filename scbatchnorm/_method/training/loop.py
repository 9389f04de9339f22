"""The training loop: rounds that begin with fresh anchors, steps of AdamW within them."""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from scbatchnorm._method.anchors import cells_per_batch, sketch_batches
from scbatchnorm._method.support import find_shared_states, knn_mixing
from scbatchnorm._method.training.history import ShiftHistory, empty_shift_history
from scbatchnorm._method.training.rounds import Cells, Steps
from scbatchnorm._method.training.trainer import Trainer
from scbatchnorm._persistence.checkpoint import Checkpoint, set_rng_state
from scbatchnorm._persistence.container import select_prefix
from scbatchnorm._runtime.device import seeded
from scbatchnorm._runtime.errors import ModelFileError
from scbatchnorm._runtime.interrupt import catch_interrupts
from scbatchnorm._runtime.messages import warn
from scbatchnorm._runtime.progress import progress_bar
from scbatchnorm.nn.network import MINIBATCH_NORMS

if TYPE_CHECKING:
    import pandas as pd

    from scbatchnorm._data.types import Codes, Floats
    from scbatchnorm._method.training.trainer import Settings
    from scbatchnorm.nn.network import Autoencoder

logger = logging.getLogger(__name__)

# Fewer cells give statistics that are noise: the standard error of a mean of 16 is a quarter of a standard deviation.
_FEW = 16


@dataclass
class Trained:
    """A network, how it got there, and why it stopped."""

    network: Autoencoder
    history: pd.DataFrame
    stopped: str
    shift_history: pd.DataFrame
    trouble: str = ""  # what went wrong, if it diverged


def train_network(
    points: Floats,
    codes: Codes,
    settings: Settings,
    rng: np.random.Generator,
    *,
    device: torch.device,
    progress: bool | None,
    checkpoint: Checkpoint | None = None,
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
    checkpoint
        Where it is noted how far training is, and where it goes on from if that was noted before.
    """
    n_batches = int(codes.max()) + 1
    _warn_of_noise(settings, n_batches)
    with seeded(int(rng.integers(2**62)), device), catch_interrupts() as request:
        trainer = Trainer(points.shape[1], n_batches, settings.n_steps(len(points)), settings, device)
        bar = progress_bar(trainer.n_steps, desc="scbatchnorm", unit="step", progress=progress)
        shift = ShiftHistory(points, codes) if settings.record_shift else None
        steps = Steps(trainer, rng, bar, request)
        return _Loop(steps, shift, checkpoint or Checkpoint()).run(points, codes)


@dataclass
class _Loop:
    """Rounds from one refresh of the anchors to the next."""

    steps: Steps
    shift: ShiftHistory | None
    checkpoint: Checkpoint

    @property
    def trainer(self) -> Trainer:
        """What one step does."""
        return self.steps.trainer

    def run(self, points: Floats, codes: Codes) -> Trained:
        """All rounds, or those up to where training ends early."""
        trainer, settings, n_steps = self.trainer, self.trainer.settings, self.trainer.n_steps
        (first, stopped), trouble = self._resume(), ""
        good = copy.deepcopy(trainer.network.state_dict())
        with self.steps.bar:
            try:
                for refresh in range(first, first if stopped else settings.n_refreshes):
                    self._look()
                    self._round(points, codes, round(n_steps * (refresh + 1) / settings.n_refreshes), refresh)
                    good = copy.deepcopy(trainer.network.state_dict())
                    stopped = "converged" if self.steps.history.flat() else ""
                    self._keep(refresh + 1, stopped)
                    if stopped:
                        self.steps.bar.total = trainer.step_number  # there is nothing left to do
                        break
            except KeyboardInterrupt:
                stopped = "interrupted"
                warn(
                    f"training was interrupted at step {trainer.step_number} of {n_steps}; the weights of that step are used."
                )
            except FloatingPointError as error:
                stopped = "diverged"
                trouble = (
                    f"training diverged at step {trainer.step_number} of {n_steps} (losses {error}); the last good weights are "
                    f"kept. A smaller learning_rate than {settings.learning_rate:g} may help."
                )
                trainer.network.load_state_dict(good)
                self.checkpoint.remove()
        stopped = stopped or "completed"
        logger.info("training %s after %d steps", stopped, trainer.step_number)
        self._look()
        steps = empty_shift_history() if self.shift is None else self.shift.frame()
        return Trained(trainer.network.eval(), self.steps.history.frame(), stopped, steps, trouble)

    def _look(self) -> None:
        """Record the shift of the moment, if that is wanted."""
        if self.shift is not None:
            self.shift.look(self.trainer.network, self.trainer.step_number)

    def _keep(self, refresh: int, stopped: str) -> None:
        """Note that the rounds before `refresh` are done, and whether more are needed."""
        if self.checkpoint.path is None:
            return
        shift, tensors = ({}, {}) if self.shift is None else self.shift.state()
        ended = "completed" if refresh == self.trainer.settings.n_refreshes else ""
        content = {"refresh": refresh, "stopped": stopped or ended, "history": self.steps.history.rows, "shift": shift}
        arrays = {f"trainer.{name}": value for name, value in self.trainer.state().items()}
        self.checkpoint.keep(
            content, arrays | {f"shift.{name}": value for name, value in tensors.items()}, self.steps.rng
        )

    def _resume(self) -> tuple[int, str]:
        """The round to begin with, and why no more are needed, by what an earlier run noted."""
        if (saved := self.checkpoint.training()) is None:
            self._keep(0, "")
            return 0, ""
        content, arrays = saved
        try:
            self.trainer.load(select_prefix(arrays, "trainer."))
            self.steps.history.load(content["history"])
            if self.shift is not None:
                self.shift.load(content["shift"], select_prefix(arrays, "shift."), self.trainer.network)
            set_rng_state(self.steps.rng, content["rng"])
            first, stopped = int(content["refresh"]), content["stopped"]
            if not 0 <= first <= self.trainer.settings.n_refreshes or stopped not in {"", "completed", "converged"}:
                msg = f"refresh {first}, {stopped!r}"
                raise ValueError(msg)
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError) as error:
            msg = f"checkpoint={str(self.checkpoint.path)!r} cannot be used ({' '.join(str(error).split())}). Remove it to begin anew."
            raise ModelFileError(msg) from error
        self.steps.bar.update(self.trainer.step_number)
        logger.info("going on at step %d", self.trainer.step_number)
        return first, stopped

    def _round(self, points: Floats, codes: Codes, until: int, refresh: int) -> None:
        """Anchors of a fresh sketch of the cells, and steps on these cells up to step `until`."""
        trainer, device, rng = self.trainer, self.trainer.device, self.steps.rng
        rows = sketch_batches(codes, cells_per_batch(trainer.n_batches), rng)
        points, codes = points[rows], codes[rows]
        latent = trainer.embed(torch.from_numpy(points).to(device), torch.from_numpy(codes).to(device))
        shared = find_shared_states(latent, codes, trainer.settings.n_neighbors, rng)
        trainer.ease(1 - knn_mixing(latent, codes, np.square(shared.overlap.max(axis=1)), rng), first=refresh == 0)
        self.steps.run(Cells(points, codes, shared.pair_weights, shared.anchors), until, refresh)


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
