"""The training loop: rounds that begin with fresh anchors, steps of AdamW within them."""

from __future__ import annotations

import copy
import logging
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from scbatchnorm import _anchors, _losses, _minibatch
from scbatchnorm.nn.network import Autoencoder, discriminator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scbatchnorm._minibatch import Composition
    from scbatchnorm._typing import Codes, Floats
    from scbatchnorm.nn.network import Normalization

logger = logging.getLogger(__name__)

# Share of the steps over which the learning rate rises, and the adversary comes in.
_WARM_UP = 0.1
_ADVERSARY_RAMP = 0.3
_CLIP = 10.0
# Training has converged when reconstruction + displacement of this many refreshes are within this share of each other.
_FLAT_REFRESHES = 3
_FLAT_SHARE = 0.01
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


@dataclass
class _History:
    """Losses of the steps of the current epoch, and the rows of those before."""

    rows: list[dict[str, float]] = field(default_factory=list)
    steps: list[list[float]] = field(default_factory=list)

    def close_epoch(self, step: int, refresh: int, learning_rate: float) -> None:
        if self.steps:
            losses = dict(zip(("reconstruction", "anchors", "adversary"), np.mean(self.steps, axis=0).tolist(), strict=True))
            row = {"epoch": len(self.rows), "step": step, "refresh": refresh, **losses, "learning_rate": learning_rate}
            self.rows.append(row)
            self.steps = []

    def frame(self) -> pd.DataFrame:
        return empty_history() if not self.rows else pd.DataFrame(self.rows).astype(empty_history().dtypes)

    def flat(self) -> bool:
        """Whether reconstruction + displacement no longer change from refresh to refresh."""
        frame = self.frame()
        level = (frame["reconstruction"] + frame["anchors"]).groupby(frame["refresh"]).mean().to_numpy()[-_FLAT_REFRESHES - 1 :]
        return len(level) > _FLAT_REFRESHES and np.ptp(level) <= _FLAT_SHARE * abs(level[-1])


def empty_history() -> pd.DataFrame:
    """History of no training: the columns, without rows."""
    whole, real = ("epoch", "step", "refresh"), ("reconstruction", "anchors", "adversary", "learning_rate")
    return pd.DataFrame({**{c: np.empty(0, np.int64) for c in whole}, **{c: np.empty(0, np.float64) for c in real}})


class _Trainer:
    """Network, discriminator and their optimisers, and what one step does to them."""

    def __init__(self, n_components: int, n_batches: int, n_steps: int, settings: Settings, seed: int, device: torch.device):
        with torch.random.fork_rng(devices=[]):  # the caller's generator stays as it is
            torch.manual_seed(seed)
            self.network = Autoencoder(
                n_components,
                n_batches,
                n_hidden=settings.n_hidden,
                n_layers=settings.n_layers,
                normalization=settings.normalization,
            ).to(device)
            self.critic = discriminator(n_components, n_batches, settings.n_hidden).to(device)
        self.settings, self.n_batches, self.n_steps = settings, n_batches, n_steps
        self.parameters = list(self.network.parameters())
        # Decay pulls weight matrices to zero; scales and biases it would only distort.
        groups = [
            {"params": [p for p in self.parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
            {"params": [p for p in self.parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)
        self.critic_optimizer = torch.optim.AdamW(self.critic.parameters(), lr=settings.learning_rate, fused=True)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, settings.learning_rate, total_steps=n_steps, pct_start=_WARM_UP
        )
        self.step_number = 0

    def step(self, x: torch.Tensor, codes: torch.Tensor, support: torch.Tensor, anchored: torch.Tensor, n: int) -> list[float]:
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
            guess = self.critic(_losses.reverse_gradient(z[:n], self.settings.adversary_weight * ramp))
            adversary = (support * F.cross_entropy(guess, codes[:n], reduction="none")).mean()
        loss = reconstruction + self.settings.anchor_weight * anchors + adversary
        losses = torch.stack([reconstruction, anchors, adversary]).tolist()
        if not np.isfinite(losses).all():
            raise FloatingPointError(str(losses))
        self.optimizer.zero_grad()
        self.critic_optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, _CLIP)
        self.optimizer.step()
        self.critic_optimizer.step()
        self.schedule.step()
        self.step_number += 1
        return losses

    @torch.no_grad()
    def embed(self, x: torch.Tensor, codes: torch.Tensor) -> Floats:
        """Latent points with the statistics of the moment."""
        self.network.eval()
        z = self.network.encode(x, codes).cpu().numpy()
        self.network.train()
        return z


def train(
    points: Floats, codes: Codes, settings: Settings, rng: np.random.Generator, *, device: torch.device, progress: bool | None
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
    history, stopped = _History(), "completed"
    good = copy.deepcopy(trainer.network.state_dict())
    bar = tqdm(total=n_steps, desc="scbatchnorm", unit="step", disable=None if progress is None else not progress)
    with bar, _one_thread(device):
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
            _warn(f"training was interrupted at step {trainer.step_number} of {n_steps}; the weights of that step are used.")
        except FloatingPointError as error:
            stopped = "diverged"
            trainer.network.load_state_dict(good)
            _warn(
                f"training diverged at step {trainer.step_number} of {n_steps} (losses {error}); the last good weights are "
                f"used. A smaller learning_rate than {settings.learning_rate:g} may help."
            )
    history.close_epoch(trainer.step_number, settings.n_refreshes - 1, trainer.schedule.get_last_lr()[0])
    logger.info("training %s after %d steps", stopped, trainer.step_number)
    return Trained(trainer.network.eval(), history.frame(), stopped)


def _round(
    trainer: _Trainer, points: Floats, codes: Codes, until: int, refresh: int, rng: np.random.Generator, history: _History, bar: tqdm
) -> None:
    """Anchors of a fresh sketch of the cells, and steps on these cells up to step `until`."""
    device = trainer.parameters[0].device
    rows = _anchors.sketch(codes, _anchors.per_batch(trainer.n_batches), rng)
    codes = codes[rows]
    x, batch = torch.from_numpy(points[rows]).to(device), torch.from_numpy(codes).to(device)
    latent = trainer.embed(x, batch)
    anchors = _anchors.clean(_anchors.find(latent, codes, trainer.settings.n_neighbors), latent)
    support = torch.from_numpy(_anchors.support(anchors, latent, codes)).to(device)
    partners = _anchors.Partners(anchors, len(codes))
    while trainer.step_number < until:
        for cells in _minibatch.epoch(codes, trainer.settings.minibatch_size, rng, composition=trainer.settings.minibatches):
            anchored, partner = partners.draw(cells, rng)
            joint = torch.from_numpy(np.concatenate([cells, partner])).to(device)
            keep = torch.from_numpy(anchored).to(device)
            losses = trainer.step(x[joint], batch[joint], support[joint[: len(cells)]], keep, len(cells))
            history.steps.append(losses)
            bar.update()
            if trainer.step_number % _REPORT == 0:
                bar.set_postfix_str("reconstruction {:.2f}, anchors {:.2f}, adversary {:.2f}".format(*losses), refresh=False)
            if trainer.step_number >= until:
                break
        history.close_epoch(trainer.step_number, refresh, trainer.schedule.get_last_lr()[0])


def resolve_device(device: str | torch.device) -> torch.device:
    """The torch device that `device` names; `"auto"` is CUDA where there is one, else the CPU.

    Raises
    ------
    ValueError
        It is no device, or not one of this machine.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, TypeError, AssertionError) as error:
        available = ["auto", "cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        msg = f"device must be 'auto' or a torch device of this machine ({', '.join(available)}); got {device!r}."
        raise ValueError(msg) from error
    return found


@contextmanager
def _one_thread(device: torch.device) -> Iterator[None]:
    """One thread on the CPU while training: steps are too small to share, and waiting threads slow each other down."""
    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=6)
