"""The training loop: intervals that begin with new anchors, and steps of the optimiser within them."""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from scbatchnorm._data.plain import add_prefix, rng_state, select_prefix, set_rng_state
from scbatchnorm._method.anchors import AnchorPartners, cells_per_batch, sketch_batches
from scbatchnorm._method.support import find_shared_states, knn_mixing
from scbatchnorm._method.training.history import History, ShiftHistory, empty_shift_history
from scbatchnorm._method.training.minibatches import draw_minibatches
from scbatchnorm._method.training.trainer import Trainer
from scbatchnorm._runtime.device import one_thread, seeded
from scbatchnorm._runtime.interrupt import catch_interrupts
from scbatchnorm._runtime.messages import warn
from scbatchnorm._runtime.progress import progress_bar
from scbatchnorm.nn.network import MINIBATCH_NORMS

if TYPE_CHECKING:
    import pandas as pd

    from scbatchnorm._data.plain import Arrays, Content
    from scbatchnorm._data.types import Bools, Codes, Floats
    from scbatchnorm._method.anchors import Anchors
    from scbatchnorm._method.parameters import FitParameters
    from scbatchnorm._runtime.interrupt import InterruptRequest
    from scbatchnorm._runtime.progress import tqdm
    from scbatchnorm.nn.network import Autoencoder

logger = logging.getLogger(__name__)

# Fewer cells give statistics that are noise: the standard error of a mean of 16 is a quarter of a standard deviation.
_FEW = 16
# The text of the progress bar is renewed every so many steps.
_REPORT_EVERY = 20


class TrainingCheckpoint:
    """Where the state of a training is kept between two intervals; this one keeps nothing."""

    keeps = False  # whether anything is kept: a state takes time to make

    def load_training(self) -> tuple[Content, Arrays] | None:
        """What `save_training` was given last, by an earlier run of the same fit."""
        return None

    def save_training(self, content: Content, arrays: Arrays) -> None:
        """Keep the state of a training: plain values and arrays. What cannot be kept does not end the training."""

    def refuse(self, reason: Exception) -> Exception:
        """The error that says that what `load_training` gave cannot be used."""
        return ValueError(str(reason))

    def remove(self) -> None:
        """Forget everything: who goes on from here comes to the same bad end."""


@dataclass(frozen=True)
class TrainedNetwork:
    """A network, how it got there, and why training stopped."""

    network: Autoencoder
    history: pd.DataFrame
    shift_history: pd.DataFrame
    stopped: str
    failure: str = ""  # what went wrong, if training diverged


@dataclass(frozen=True)
class IntervalCells:
    """The cells that an interval learns from, and what was found about them at its start."""

    points: Floats  # (cells, components)
    codes: Codes  # (cells,) batch of each
    pair_weights: Floats  # (cells, batches), see `support.pair_weights`
    anchors: Anchors


def train_network(
    points: Floats,
    codes: Codes,
    parameters: FitParameters,
    rng: np.random.Generator,
    *,
    device: torch.device,
    progress: bool | None,
    checkpoint: TrainingCheckpoint | None = None,
) -> TrainedNetwork:
    """Train a network on coordinates whose batches were already moved onto each other.

    Parameters
    ----------
    points
        Coordinates of mean variance about 1, float32 of shape (cells, components).
    codes
        Batch of each cell, counted from 0, int64 of shape (cells,).
    parameters
        Hyperparameters.
    rng
        Source of all randomness.
    device
        Where the network is trained.
    progress
        Whether to show a bar over the steps; `None` shows it in terminals and notebooks.
    checkpoint
        Where the state is kept after each interval, and where training goes on from if an earlier run kept one.
    """
    n_batches = int(codes.max()) + 1
    _warn_of_noise(parameters, n_batches)
    with seeded(int(rng.integers(2**62)), device), catch_interrupts() as request:
        trainer = Trainer(points.shape[1], n_batches, parameters.n_steps(len(points)), parameters, device)
        bar = progress_bar(trainer.n_steps, desc="scbatchnorm", unit="step", progress=progress)
        shift = ShiftHistory(points, codes) if parameters.record_shift else None
        loop = TrainingLoop(trainer, rng, bar, request, checkpoint or TrainingCheckpoint(), shift)
        return loop.run(points, codes)


@dataclass
class TrainingLoop:
    """Intervals from one refresh of the anchors to the next."""

    trainer: Trainer
    rng: np.random.Generator
    bar: tqdm
    request: InterruptRequest
    checkpoint: TrainingCheckpoint
    shift: ShiftHistory | None
    history: History = field(default_factory=History)

    def run(self, points: Floats, codes: Codes) -> TrainedNetwork:
        """All intervals, or those up to where training ends early."""
        trainer, n_refreshes, n_steps = self.trainer, self.trainer.parameters.n_refreshes, self.trainer.n_steps
        (first, stopped), failure = self._resume(), ""
        good = copy.deepcopy(trainer.network.state_dict())
        with self.bar:
            try:
                for refresh in range(first, first if stopped else n_refreshes):
                    self._record_shift()
                    cells = self._refresh(points, codes, first=refresh == 0)
                    self._train_interval(cells, refresh, until=round(n_steps * (refresh + 1) / n_refreshes))
                    good = copy.deepcopy(trainer.network.state_dict())
                    stopped = "converged" if self.history.is_flat() else ""
                    self._save(refresh + 1, stopped)
                    if stopped:
                        self.bar.total = trainer.step_number  # there is nothing left to do
                        break
            except KeyboardInterrupt:
                stopped = "interrupted"
                warn(
                    f"training was interrupted at step {trainer.step_number} of {n_steps}; the weights of that step are used."
                )
            except FloatingPointError as error:
                stopped = "diverged"
                failure = (
                    f"training diverged at step {trainer.step_number} of {n_steps} (losses {error}); the last good weights are "
                    f"kept. A smaller learning_rate than {trainer.parameters.learning_rate:g} may help."
                )
                trainer.network.load_state_dict(good)
                self.checkpoint.remove()
        stopped = stopped or "completed"
        logger.info("training %s after %d steps", stopped, trainer.step_number)
        self._record_shift()
        shift_history = empty_shift_history() if self.shift is None else self.shift.frame()
        return TrainedNetwork(trainer.network.eval(), self.history.frame(), shift_history, stopped, failure)

    def _refresh(self, points: Floats, codes: Codes, *, first: bool) -> IntervalCells:
        """A new sketch of the cells, its anchors in the current latent space, and the weights of the losses."""
        trainer, device = self.trainer, self.trainer.device
        rows = sketch_batches(codes, cells_per_batch(trainer.n_batches), self.rng)
        points, codes = points[rows], codes[rows]
        latent = trainer.encode(torch.from_numpy(points).to(device), torch.from_numpy(codes).to(device))
        shared = find_shared_states(latent, codes, trainer.parameters.n_neighbors, self.rng)
        # A cell without counterparts cannot mix, so it does not count.
        mixing = knn_mixing(latent, codes, np.square(shared.overlap.max(axis=1)), self.rng)
        trainer.update_loss_weights(1 - mixing, first=first)
        return IntervalCells(points, codes, shared.pair_weights, shared.anchors)

    def _train_interval(self, cells: IntervalCells, refresh: int, *, until: int) -> None:
        """Passes over the sketch `cells` up to step `until`; each is an epoch of the history."""
        trainer, history, device = self.trainer, self.history, self.trainer.device
        tensors = [torch.from_numpy(values).to(device) for values in (cells.points, cells.codes, cells.pair_weights)]
        partners = AnchorPartners(cells.anchors, len(cells.codes))
        with one_thread(device):
            try:
                while trainer.step_number < until:
                    self._pass_over(tensors, partners, cells.codes, until)
                    history.close_epoch(trainer.step_number, refresh, trainer.learning_rate)
            finally:
                history.close_epoch(trainer.step_number, refresh, trainer.learning_rate)

    def _pass_over(self, tensors: list[torch.Tensor], partners: AnchorPartners, codes: Codes, until: int) -> None:
        """One pass over the cells, or what is left of it up to step `until`."""
        trainer, parameters = self.trainer, self.trainer.parameters
        for minibatch in draw_minibatches(
            codes, parameters.minibatch_size, self.rng, composition=parameters.minibatches
        ):
            self._train_step(tensors, minibatch, *partners.draw(minibatch, self.rng))
            if trainer.step_number >= until:
                return

    def _train_step(self, tensors: list[torch.Tensor], minibatch: Codes, anchored: Bools, partner: Codes) -> None:
        """One step on the cells of a minibatch and the partners of those that are `anchored`."""
        trainer, device = self.trainer, self.trainer.device
        rows = torch.from_numpy(np.concatenate([minibatch, partner])).to(device)
        x, codes, pair_weights = (values[rows] for values in tensors)
        losses = trainer.step(x, codes, pair_weights, torch.from_numpy(anchored).to(device), len(minibatch))
        self.history.steps.append(losses)
        self.bar.update()
        if trainer.step_number % _REPORT_EVERY == 0:
            text = "reconstruction {:.2f}, anchors {:.2f}, adversary {:.2f}".format(*losses)
            self.bar.set_postfix_str(text, refresh=False)
        self.request.raise_if_requested()

    def _record_shift(self) -> None:
        """Record the current shift between batches, if that is wanted."""
        if self.shift is not None:
            self.shift.record(self.trainer.network, self.trainer.step_number)

    def _save(self, refresh: int, stopped: str) -> None:
        """Keep that the intervals before `refresh` are done, and whether more are needed."""
        if not self.checkpoint.keeps:
            return
        shift, shift_arrays = ({}, {}) if self.shift is None else self.shift.state()
        ended = "completed" if refresh == self.trainer.parameters.n_refreshes else ""
        content = {
            "refresh": refresh,
            "stopped": stopped or ended,
            "history": self.history.rows,
            "shift": shift,
            "rng": rng_state(self.rng),
        }
        self.checkpoint.save_training(
            content, add_prefix(self.trainer.state(), "trainer.") | add_prefix(shift_arrays, "shift.")
        )

    def _resume(self) -> tuple[int, str]:
        """The interval to begin with, and why no more are needed, by what an earlier run kept."""
        if (saved := self.checkpoint.load_training()) is None:
            self._save(0, "")
            return 0, ""
        content, arrays = saved
        try:
            self.trainer.load(select_prefix(arrays, "trainer."))
            self.history.load(content["history"])
            if self.shift is not None:
                self.shift.load(content["shift"], select_prefix(arrays, "shift."), self.trainer.network)
            set_rng_state(self.rng, content["rng"])
            first, stopped = int(content["refresh"]), content["stopped"]
            if not 0 <= first <= self.trainer.parameters.n_refreshes or stopped not in {"", "completed", "converged"}:
                msg = f"refresh {first}, {stopped!r}"
                raise ValueError(msg)
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError) as error:
            raise self.checkpoint.refuse(error) from error
        self.bar.update(self.trainer.step_number)
        logger.info("going on at step %d", self.trainer.step_number)
        return first, stopped


def _warn_of_noise(parameters: FitParameters, n_batches: int) -> None:
    """Warn where the cells of a minibatch are too few for the statistics that the network takes of them."""
    norm, statistics, size = parameters.norm, parameters.statistics, parameters.minibatch_size
    if norm not in MINIBATCH_NORMS or norm == "batch_layer":  # which leans to the statistics of each cell by itself
        return
    if statistics == "mixed" or n_batches == 1:
        if size < _FEW:
            warn(
                f"minibatch_size={size} is too small for norm={norm!r}: statistics of fewer than {_FEW} cells are noise. Use "
                f"minibatch_size={_FEW} or more, or a norm that looks at each cell alone: norm='layer' or norm='group', or leans to "
                "it: norm='batch_layer'."
            )
    elif size < _FEW * n_batches:
        warn(
            f"minibatch_size={size} has about {size // n_batches} cells of each of {n_batches} batches, too few for "
            f"statistics={statistics!r}: statistics of fewer than {_FEW} cells are noise. Use statistics='mixed', or "
            f"minibatch_size={_FEW * n_batches} or more."
        )
