"""The training loop: rounds that begin with fresh anchors, steps of AdamW within them."""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch._dynamo  # the first optimiser of a process loads it anyway: seconds that belong to import, not to a fit
from torch import nn
from tqdm.auto import tqdm

from scbatchnorm import _anchors, _losses, _minibatch, _support
from scbatchnorm._device import one_thread
from scbatchnorm._flat import flatten
from scbatchnorm._history import History
from scbatchnorm._schedule import one_cycle
from scbatchnorm._warn import warn
from scbatchnorm.nn.network import Autoencoder, discriminator

if TYPE_CHECKING:
    import pandas as pd

    from scbatchnorm._minibatch import Composition
    from scbatchnorm._typing import Codes, Floats
    from scbatchnorm.nn.network import Normalization

logger = logging.getLogger(__name__)

# Share of the steps over which the adversary comes in.
_ADVERSARY_RAMP = 0.3
_CLIP = 10.0
_CRITIC_LEARNING_RATE = 1e-3
_CRITIC_DECAY = 1e-2
# If batches lack less than this of being mixed after the offsets, the losses between them count the less; a network that
# has nothing to align only reconstructs.
_MIXING_LACK = 0.10
# Where batches are mixed the adversary no longer helps, it merges similar types: if they lack less than the first at
# a refresh, it has less of its weight until the next, but not less than the second.
_ADVERSARY_LACK = 0.05
_ADVERSARY_LEAST = 0.15
# Shares of the anchors that are left out as doubtful at each refresh.
_DISPLACED = 0.1
_DISSIMILAR = 0.15
# The bar's text is renewed every so many steps.
_REPORT = 20


@dataclass(frozen=True)
class Settings:
    """The parameters of `BatchNormAutoencoder` that training uses; their defaults live there."""

    n_hidden: int
    n_layers: int
    normalization: Normalization
    minibatch_size: int
    minibatches: Composition
    n_epochs: int
    min_steps: int
    max_steps: int
    learning_rate: float
    weight_decay: float
    anchor_weight: float
    adversary_weight: float
    n_neighbors: int
    n_refreshes: int

    @classmethod
    def of(cls, model: Any) -> Settings:
        """Settings of an estimator."""
        return cls(**{f.name: getattr(model, f.name) for f in fields(cls)})

    def n_steps(self, n_cells: int) -> int:
        """Steps of AdamW for `n_cells` cells."""
        return min(self.max_steps, max(self.min_steps, self.n_epochs * (n_cells // self.minibatch_size)))


@dataclass
class Trained:
    """A network, how it got there, and why it stopped."""

    network: Autoencoder
    history: pd.DataFrame
    stopped: str


class _Trainer:
    """Network, discriminator and their optimisers, and what one step does to them."""

    def __init__(
        self, n_components: int, n_batches: int, n_steps: int, settings: Settings, seed: int, device: torch.device
    ):
        with torch.random.fork_rng(devices=[]):  # the caller's generator stays as it is
            torch.default_generator.manual_seed(seed)
            self.network = Autoencoder(
                n_components,
                n_batches,
                n_hidden=settings.n_hidden,
                n_layers=settings.n_layers,
                normalization=settings.normalization,
            ).to(device)
            self.critic = discriminator(n_components, n_batches, settings.n_hidden).to(device)
        self.settings, self.n_batches, self.n_steps = settings, n_batches, n_steps
        # Decay pulls matrices to zero; scales, shifts and biases it would only distort.
        named = [
            (p.ndim > 1 and name.endswith(("weight", "linear_in")), p) for name, p in self.network.named_parameters()
        ]
        matrices = flatten([p for decayed, p in named if decayed])
        others = flatten([p for decayed, p in named if not decayed])
        critic = flatten(list(self.critic.parameters()))
        self.parameters = [matrices, others]
        # One optimiser for both sides: the gradient between them is turned round, not alternated.
        groups: list[dict[str, Any]] = [
            {"params": [matrices], "weight_decay": settings.weight_decay},
            {"params": [others]},
            {"params": [critic], "lr": _CRITIC_LEARNING_RATE, "weight_decay": _CRITIC_DECAY},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, weight_decay=0.0, fused=True)

        def share(step: int) -> float:
            return one_cycle(step / n_steps)

        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, [share, share, lambda _: 1.0])
        self.step_number = 0
        # Shares of their weights that the losses between batches have, and the adversary beside.
        self.pull = self.push = 1.0

    def step(
        self, x: torch.Tensor, codes: torch.Tensor, counterparts: torch.Tensor, anchored: torch.Tensor, n: int
    ) -> list[float]:
        """One step on `n` cells followed by the partners of those that are `anchored`; returns the three losses.

        Cells and partners pass the network together, so that the same BatchNorm statistics hold for both.
        """
        z, decoded = self.network(x, codes)
        reconstruction = (decoded - x).square().sum(dim=1).mean()
        anchors = adversary = reconstruction.new_zeros(())
        if self.settings.anchor_weight and len(x) > n:
            group = codes[:n][anchored] * self.n_batches + codes[n:]
            anchors = _losses.displacement(z[:n][anchored], z[n:], group)
        if self.settings.adversary_weight:
            ramp = min(1.0, self.step_number / (_ADVERSARY_RAMP * self.n_steps))
            weight = self.settings.adversary_weight * self.pull * self.push * ramp
            guess = self.critic(_losses.reverse_gradient(z[:n], weight))
            adversary = _losses.discrimination(guess, codes[:n], counterparts)
        loss = reconstruction + self.settings.anchor_weight * self.pull * anchors + adversary
        losses = torch.stack([reconstruction, anchors, adversary]).tolist()
        if not np.isfinite(losses).all():
            raise FloatingPointError(str(losses))
        self.optimizer.zero_grad(set_to_none=False)
        loss.backward()
        if not nn.utils.clip_grad_norm_(self.parameters, _CLIP).isfinite():
            raise FloatingPointError(str(losses))
        self.optimizer.step()
        self.schedule.step()
        self.step_number += 1
        return losses

    def ease(self, lack: float, *, first: bool) -> None:
        """Set how much the losses between batches count, by what batches lack of being mixed."""
        if first:
            self.pull = float(np.clip(lack / _MIXING_LACK, 0, 1))
            logger.info("mixing lacks %.2f after the offsets: losses between batches count %.2f", lack, self.pull)
        self.push = float(np.clip(lack / _ADVERSARY_LACK, _ADVERSARY_LEAST, 1))

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next step."""
        return float(self.schedule.get_last_lr()[0])

    @torch.no_grad()
    def embed(self, x: torch.Tensor, codes: torch.Tensor) -> Floats:
        """Latent points with the statistics of the moment."""
        self.network.eval()
        z = self.network.encode(x, codes).cpu().numpy()
        self.network.train()
        return z


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
    n_steps = settings.n_steps(len(points))
    n_batches = int(codes.max()) + 1
    trainer = _Trainer(points.shape[1], n_batches, n_steps, settings, int(rng.integers(2**62)), device)
    history, stopped = History(), "completed"
    good = copy.deepcopy(trainer.network.state_dict())
    bar = tqdm(total=n_steps, desc="scbatchnorm", unit="step", disable=None if progress is None else not progress)
    with bar:
        try:
            for refresh in range(settings.n_refreshes):
                until = round(n_steps * (refresh + 1) / settings.n_refreshes)
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
    return Trained(trainer.network.eval(), history.frame(), stopped)


def _round(
    trainer: _Trainer,
    points: Floats,
    codes: Codes,
    until: int,
    refresh: int,
    rng: np.random.Generator,
    history: History,
    bar: tqdm,
) -> None:
    """Anchors of a fresh sketch of the cells, and steps on these cells up to step `until`."""
    device = trainer.parameters[0].device
    rows = _anchors.sketch(codes, _anchors.per_batch(trainer.n_batches), rng)
    codes = codes[rows]
    x, batch = torch.from_numpy(points[rows]).to(device), torch.from_numpy(codes).to(device)
    latent = trainer.embed(x, batch)
    found = _anchors.find(latent, codes, trainer.settings.n_neighbors, rng)
    anchors = _anchors.clean(found, latent, displaced=_DISPLACED, dissimilar=_DISSIMILAR)
    near = _support.neighbours(latent, codes)
    share = _support.support(anchors, near, codes)
    trainer.ease(1 - _support.mixing(latent, codes, np.square(share.max(axis=1)), rng), first=refresh == 0)
    counterparts = torch.from_numpy(_support.counterparts(anchors, share, near, codes)).to(device)
    partners = _anchors.Partners(anchors, len(codes))
    with one_thread(device):
        try:
            while trainer.step_number < until:
                _epoch(trainer, x, batch, counterparts, partners, codes, until, rng, history, bar)
                history.close_epoch(trainer.step_number, refresh, trainer.learning_rate)
        finally:
            history.close_epoch(trainer.step_number, refresh, trainer.learning_rate)


def _epoch(
    trainer: _Trainer,
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
        losses = trainer.step(x[joint], batch[joint], counterparts[joint[: len(cells)]], keep, len(cells))
        history.steps.append(losses)
        bar.update()
        if trainer.step_number % _REPORT == 0:
            text = "reconstruction {:.2f}, anchors {:.2f}, adversary {:.2f}".format(*losses)
            bar.set_postfix_str(text, refresh=False)
        if trainer.step_number >= until:
            return
