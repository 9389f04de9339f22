"""Network, discriminator and optimiser: what one step of training does."""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch._dynamo  # the first optimiser of a process loads it anyway: seconds that belong to import, not to a fit
from torch import nn

from scbatchnorm._method.training.flat import flatten_parameters
from scbatchnorm._method.training.losses import displacement_loss, pairwise_domain_loss, reverse_gradient
from scbatchnorm._method.training.schedule import one_cycle
from scbatchnorm._persistence.container import select_prefix
from scbatchnorm.nn._statistics import Normalizer
from scbatchnorm.nn.network import Autoencoder, discriminator

if TYPE_CHECKING:
    from scbatchnorm._data.types import Floats
    from scbatchnorm._method.training.minibatches import Composition
    from scbatchnorm._persistence.container import Arrays
    from scbatchnorm.nn.network import AdversaryNorm, NetworkStatistics, Norm

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


@dataclass(frozen=True)
class Settings:
    """The parameters of `BatchNormAutoencoder` that training uses; their defaults live there."""

    n_hidden: int
    n_layers: int
    norm: Norm
    statistics: NetworkStatistics
    dropout: float
    minibatch_size: int
    minibatches: Composition
    n_epochs: int
    min_steps: int
    max_steps: int
    learning_rate: float
    weight_decay: float
    anchor_weight: float
    adversary_weight: float
    adversary_norm: AdversaryNorm
    n_neighbors: int
    n_refreshes: int
    record_shift: bool

    @classmethod
    def of(cls, model: Any) -> Settings:
        """Settings of an estimator."""
        return cls(**{f.name: getattr(model, f.name) for f in fields(cls)})

    def n_steps(self, n_cells: int) -> int:
        """Steps of AdamW for `n_cells` cells."""
        return min(self.max_steps, max(self.min_steps, self.n_epochs * (n_cells // self.minibatch_size)))


class Trainer:
    """Network, discriminator and their optimisers, and what one step does to them."""

    def __init__(self, n_components: int, n_batches: int, n_steps: int, settings: Settings, device: torch.device):
        self.network = Autoencoder(
            n_components,
            n_batches,
            n_hidden=settings.n_hidden,
            n_layers=settings.n_layers,
            norm=settings.norm,
            statistics=settings.statistics,
            dropout=settings.dropout,
        ).to(device)
        critic = discriminator(n_components, n_batches, settings.n_hidden, norm=settings.adversary_norm)
        self.critic = critic.to(device)
        self.settings, self.n_batches, self.n_steps, self.device = settings, n_batches, n_steps, device
        # Decay pulls matrices to zero; scales, shifts, shares and biases it would only distort.
        norms = [layer for layer in self.network.modules() if isinstance(layer, Normalizer)]
        spared = {id(parameter) for layer in norms for parameter in layer.parameters()}
        named = [
            (p.ndim > 1 and name.endswith(("weight", "linear_in")) and id(p) not in spared, p)
            for name, p in self.network.named_parameters()
        ]
        matrices = flatten_parameters([p for decayed, p in named if decayed])
        others = flatten_parameters([p for decayed, p in named if not decayed])
        judging = flatten_parameters(list(self.critic.parameters()))
        self.parameters = [matrices, others]
        # One optimiser for both sides: the gradient between them is turned round, not alternated.
        groups: list[dict[str, Any]] = [
            {"params": [matrices], "weight_decay": settings.weight_decay},
            {"params": [others]},
            {"params": [judging], "lr": _CRITIC_LEARNING_RATE, "weight_decay": _CRITIC_DECAY},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, weight_decay=0.0, fused=True)

        def share(step: int) -> float:
            return one_cycle(step / n_steps)

        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, [share, share, lambda _: 1.0])
        self.step_number = 0
        # Shares of their weights that the losses between batches have, and the adversary beside.
        self.pull = self.push = 1.0

    def step(
        self,
        x: torch.Tensor,
        codes: torch.Tensor,
        counterparts: torch.Tensor,
        anchored: torch.Tensor,
        n: int,
    ) -> list[float]:
        """One step on `n` cells followed by the partners of those that are `anchored`; returns the three losses.

        Cells and partners pass the network together, so that the same BatchNorm statistics hold for both.
        """
        z, decoded = self.network(x, codes)
        reconstruction = (decoded - x).square().sum(dim=1).mean()
        anchors = adversary = reconstruction.new_zeros(())
        if self.settings.anchor_weight:
            group = codes[:n][anchored] * self.n_batches + codes[n:]
            if len(group):
                anchors = displacement_loss(z[:n][anchored], z[n:], group)
        if self.settings.adversary_weight:
            ramp = min(1.0, self.step_number / (_ADVERSARY_RAMP * self.n_steps))
            weight = self.settings.adversary_weight * self.pull * self.push * ramp
            guess = self.critic(reverse_gradient(z[:n], weight))
            adversary = pairwise_domain_loss(guess, codes[:n], counterparts[:n])
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

    def state(self) -> Arrays:
        """Everything that the steps from here on depend on, the random numbers of torch included."""
        modules = {"network": self.network, "critic": self.critic}
        parts = {f"{of}.{name}": value for of, module in modules.items() for name, value in module.state_dict().items()}
        for i, parameter in enumerate(self._flat()):
            parts |= {f"optimizer.{i}.{name}": value for name, value in self.optimizer.state[parameter].items()}
        parts["random.cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            parts["random.cuda"] = torch.cuda.get_rng_state(self.device)
        place = np.array([self.step_number, self.pull, self.push], dtype=np.float64)
        return {name: value.cpu().numpy().copy() for name, value in parts.items()} | {"place": place}

    def load(self, arrays: Arrays) -> None:
        """Go on from a `state`.

        Raises
        ------
        ValueError, KeyError
            It is not that of such a training.
        """
        self._check(arrays)
        tensors = {name: torch.from_numpy(value) for name, value in arrays.items()}
        for of, module in (("network", self.network), ("critic", self.critic)):
            module.load_state_dict(select_prefix(tensors, f"{of}."))
        for i, parameter in enumerate(self._flat()):
            found = select_prefix(tensors, f"optimizer.{i}.")
            self.optimizer.state[parameter] = {name: value.to(self.device) for name, value in found.items()}
        torch.set_rng_state(tensors["random.cpu"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random.cuda"], self.device)
        step, self.pull, self.push = arrays["place"].tolist()
        self.step_number = self.schedule.last_epoch = int(step)
        rates = [
            base * share(int(step))
            for base, share in zip(self.schedule.base_lrs, self.schedule.lr_lambdas, strict=True)
        ]
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self.schedule._last_lr = rates

    def _check(self, arrays: Arrays) -> None:
        """Raise ValueError unless `arrays` are those of a `state` of such a training, and finite."""
        expected = self.state()
        if any(name.startswith("optimizer.") for name in arrays):
            for i, parameter in enumerate(self._flat()):
                like = parameter.detach().cpu().numpy()
                moments = {f"optimizer.{i}.exp_avg": like, f"optimizer.{i}.exp_avg_sq": like}
                expected |= {**moments, f"optimizer.{i}.step": np.zeros((), np.float32)}
        for name in arrays.keys() | expected.keys():
            found, like = arrays[name], expected[name]
            if found.dtype != like.dtype or found.shape != like.shape or not np.isfinite(found).all():
                msg = f"{name} has type {found.dtype} and shape {found.shape}, or is not finite"
                raise ValueError(msg)
        if not 0 <= arrays["place"][0] <= self.n_steps:
            msg = f"step {arrays['place'][0]:g} of {self.n_steps}"
            raise ValueError(msg)

    def _flat(self) -> list[nn.Parameter]:
        """What the optimiser moves."""
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

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
