"""Network, discriminator and optimiser: what one step of training does."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch._dynamo  # the first optimiser of a process loads it anyway: seconds that belong to import, not to a fit
from torch import nn

from scbatchnorm._data.plain import add_prefix, select_prefix
from scbatchnorm._method.training.losses import displacement_loss, pairwise_domain_loss, reverse_gradient
from scbatchnorm.nn._statistics import Normalizer
from scbatchnorm.nn.network import Autoencoder, discriminator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scbatchnorm._data.plain import Arrays
    from scbatchnorm._data.types import Floats
    from scbatchnorm._method.parameters import FitParameters

logger = logging.getLogger(__name__)

# Share of the steps over which the weight of the adversary rises to its value.
_ADVERSARY_RAMP = 0.3
_CLIP = 10.0
_CRITIC_LEARNING_RATE = 1e-3
_CRITIC_DECAY = 1e-2
# If batches lack less than this of being mixed after the offsets, the losses between them count the less: a network that
# has nothing to align only reconstructs.
_MIXING_LACK = 0.10
# Where batches are mixed the adversary no longer helps, it merges similar types: if they lack less than the first at
# a refresh, it has less of its weight until the next, but not less than the second.
_ADVERSARY_LACK = 0.05
_ADVERSARY_LEAST = 0.15
# One-cycle schedule: share of the steps over which the learning rate rises, and least share of its peak, at which it starts.
_WARM_UP = 0.1
_LEAST_SHARE = 0.04


class Trainer:
    """Network, discriminator and their optimiser, and what one step does to them."""

    def __init__(
        self, n_components: int, n_batches: int, n_steps: int, parameters: FitParameters, device: torch.device
    ) -> None:
        self.network = Autoencoder(
            n_components,
            n_batches,
            n_hidden=parameters.n_hidden,
            n_layers=parameters.n_layers,
            norm=parameters.norm,
            statistics=parameters.statistics,
            dropout=parameters.dropout,
        ).to(device)
        critic = discriminator(n_components, n_batches, parameters.n_hidden, norm=parameters.adversary_norm)
        self.critic = critic.to(device)
        self.parameters, self.n_batches, self.n_steps, self.device = parameters, n_batches, n_steps, device
        self.optimizer = self._make_optimizer()

        def share(step: int) -> float:
            return one_cycle(step / n_steps)

        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, [share, share, lambda _: 1.0])
        self.step_number = 0
        # The first scales both losses between batches and is set once; the second scales the adversary beside, anew at each refresh.
        self.alignment_weight = self.adversary_weight_scale = 1.0

    def _make_optimizer(self) -> torch.optim.Optimizer:
        """AdamW over three flat parameters: one optimiser for both sides, as the gradient between them is reversed, not alternated."""
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
        self._clipped = [matrices, others]
        groups: list[dict[str, Any]] = [
            {"params": [matrices], "weight_decay": self.parameters.weight_decay},
            {"params": [others]},
            {"params": [judging], "lr": _CRITIC_LEARNING_RATE, "weight_decay": _CRITIC_DECAY},
        ]
        return torch.optim.AdamW(groups, lr=self.parameters.learning_rate, weight_decay=0.0, fused=True)

    def step(
        self, x: torch.Tensor, codes: torch.Tensor, pair_weights: torch.Tensor, anchored: torch.Tensor, n: int
    ) -> list[float]:
        """One step on `n` cells followed by the partners of those that are `anchored`; returns the three losses.

        `x`, `codes` and `pair_weights` are those of the cells and, from row `n` on, of the partners. All pass the network together, so that the same BatchNorm statistics hold for both.
        """
        z, decoded = self.network(x, codes)
        reconstruction = (decoded - x).square().sum(dim=1).mean()
        anchors = adversary = reconstruction.new_zeros(())
        if self.parameters.anchor_weight:
            pairs_of_batches = codes[:n][anchored] * self.n_batches + codes[n:]
            if len(pairs_of_batches):
                anchors = displacement_loss(z[:n][anchored], z[n:], pairs_of_batches)
        if self.parameters.adversary_weight:
            ramp = min(1.0, self.step_number / (_ADVERSARY_RAMP * self.n_steps))
            weight = self.parameters.adversary_weight * self.alignment_weight * self.adversary_weight_scale * ramp
            logits = self.critic(reverse_gradient(z[:n], weight))
            adversary = pairwise_domain_loss(logits, codes[:n], pair_weights[:n])
        # The weight of the adversary is in the reversed gradient: the discriminator itself learns at weight 1.
        loss = reconstruction + self.parameters.anchor_weight * self.alignment_weight * anchors + adversary
        losses = torch.stack([reconstruction, anchors, adversary]).tolist()
        if not np.isfinite(losses).all():
            raise FloatingPointError(str(losses))
        self.optimizer.zero_grad(set_to_none=False)
        loss.backward()
        if not nn.utils.clip_grad_norm_(self._clipped, _CLIP).isfinite():
            raise FloatingPointError(str(losses))
        self.optimizer.step()
        self.schedule.step()
        self.step_number += 1
        return losses

    def update_loss_weights(self, lack: float, *, first: bool) -> None:
        """Set how much the losses between batches count, by what batches `lack` of being mixed.

        At the `first` refresh the network is the identity still: what is lacking then is what the offsets have left.
        """
        if first:
            self.alignment_weight = float(np.clip(lack / _MIXING_LACK, 0, 1))
            logger.info(
                "mixing lacks %.2f after the offsets: losses between batches count %.2f", lack, self.alignment_weight
            )
        self.adversary_weight_scale = float(np.clip(lack / _ADVERSARY_LACK, _ADVERSARY_LEAST, 1))

    def state(self) -> Arrays:
        """Everything that the steps from here on depend on, the random numbers of torch included."""
        tensors = add_prefix(self.network.state_dict(), "network.") | add_prefix(self.critic.state_dict(), "critic.")
        for i, parameter in enumerate(self._optimised()):
            tensors |= add_prefix(self.optimizer.state[parameter], f"optimizer.{i}.")
        tensors["random.cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.device)
        place = np.array([self.step_number, self.alignment_weight, self.adversary_weight_scale], dtype=np.float64)
        return {name: value.cpu().numpy().copy() for name, value in tensors.items()} | {"place": place}

    def load(self, arrays: Arrays) -> None:
        """Go on from a `state`.

        Raises
        ------
        ValueError, KeyError
            It is not that of such a training.
        """
        self._check_state(arrays)
        tensors = {name: torch.from_numpy(value) for name, value in arrays.items()}
        self.network.load_state_dict(select_prefix(tensors, "network."))
        self.critic.load_state_dict(select_prefix(tensors, "critic."))
        for i, parameter in enumerate(self._optimised()):
            moments = select_prefix(tensors, f"optimizer.{i}.")
            self.optimizer.state[parameter] = {name: value.to(self.device) for name, value in moments.items()}
        torch.set_rng_state(tensors["random.cpu"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random.cuda"], self.device)
        step, self.alignment_weight, self.adversary_weight_scale = arrays["place"].tolist()
        self.step_number = self.schedule.last_epoch = int(step)
        rates = [
            base * share(int(step))
            for base, share in zip(self.schedule.base_lrs, self.schedule.lr_lambdas, strict=True)
        ]
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self.schedule._last_lr = rates

    def _check_state(self, arrays: Arrays) -> None:
        """Raise ValueError unless `arrays` are those of a `state` of such a training, and finite."""
        expected = self.state()
        if any(name.startswith("optimizer.") for name in arrays):
            for i, parameter in enumerate(self._optimised()):
                like = parameter.detach().cpu().numpy()
                moments = {"exp_avg": like, "exp_avg_sq": like, "step": np.zeros((), np.float32)}
                expected |= add_prefix(moments, f"optimizer.{i}.")
        for name in arrays.keys() | expected.keys():
            value, like = arrays[name], expected[name]
            if value.dtype != like.dtype or value.shape != like.shape or not np.isfinite(value).all():
                msg = f"{name} has type {value.dtype} and shape {value.shape}, or is not finite"
                raise ValueError(msg)
        if not 0 <= arrays["place"][0] <= self.n_steps:
            msg = f"step {arrays['place'][0]:g} of {self.n_steps}"
            raise ValueError(msg)

    def _optimised(self) -> list[nn.Parameter]:
        """The flat parameters that the optimiser moves."""
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next step."""
        return float(self.schedule.get_last_lr()[0])

    @torch.no_grad()
    def encode(self, x: torch.Tensor, codes: torch.Tensor) -> Floats:
        """Latent points with the current statistics."""
        self.network.eval()
        z = self.network.encode(x, codes).cpu().numpy()
        self.network.train()
        return z


def flatten_parameters(parameters: Sequence[nn.Parameter]) -> nn.Parameter:
    """One parameter whose memory, and that of its gradient, `parameters` share from now on.

    An optimiser's step is then a few operations and not hundreds. What is learned into the gradient of one is in the gradient of the
    other. Gradients must therefore be set to zero in place, not to `None`. Copies of the parameters, as of a module that is
    deep-copied, are on their own again.
    """
    whole = nn.Parameter(torch.cat([parameter.detach().flatten() for parameter in parameters]))
    whole.grad = torch.zeros_like(whole)
    start = 0
    for parameter in parameters:
        part = slice(start, start + parameter.numel())
        parameter.data = whole.data[part].view_as(parameter)
        parameter.grad = whole.grad[part].view_as(parameter)
        start = part.stop
    return whole


def one_cycle(progress: float) -> float:
    """Share of the peak learning rate after this share of the steps: up over the first tenth, then down, by half cosines."""
    rising = progress < _WARM_UP
    phase = progress / _WARM_UP if rising else 1 - (progress - _WARM_UP) / (1 - _WARM_UP)
    share = 0.5 - 0.5 * math.cos(math.pi * phase)
    return max(_LEAST_SHARE, share) if rising else share
