"""The steps of training between two refreshes of the anchors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from scbatchnorm._method.anchors import Partners
from scbatchnorm._method.training.history import History
from scbatchnorm._method.training.minibatches import draw_minibatches
from scbatchnorm._runtime.device import one_thread

if TYPE_CHECKING:
    from scbatchnorm._data.types import Bools, Codes, Floats
    from scbatchnorm._method.anchors import Anchors
    from scbatchnorm._method.training.trainer import Trainer
    from scbatchnorm._runtime.interrupt import InterruptRequest
    from scbatchnorm._runtime.progress import tqdm

# The bar's text is renewed every so many steps.
_REPORT = 20


@dataclass(frozen=True)
class Cells:
    """The cells of a round, and what was found about them."""

    points: Floats  # (cells, components)
    codes: Codes  # (cells,)
    counterparts: Floats  # (cells, batches), see `_support.counterparts`
    anchors: Anchors


@dataclass
class Steps:
    """Steps on the cells of a round."""

    trainer: Trainer
    rng: np.random.Generator
    bar: tqdm
    request: InterruptRequest
    history: History = field(default_factory=History)

    def run(self, cells: Cells, until: int, refresh: int) -> None:
        """Epochs up to step `until`."""
        trainer, history, device = self.trainer, self.history, self.trainer.device
        tensors = [torch.from_numpy(values).to(device) for values in (cells.points, cells.codes, cells.counterparts)]
        partners = Partners(cells.anchors, len(cells.codes))
        with one_thread(device):
            try:
                while trainer.step_number < until:
                    self._epoch(tensors, partners, cells.codes, until)
                    history.close_epoch(trainer.step_number, refresh, trainer.learning_rate)
            finally:
                history.close_epoch(trainer.step_number, refresh, trainer.learning_rate)

    def _epoch(self, tensors: list[torch.Tensor], partners: Partners, codes: Codes, until: int) -> None:
        """One pass over the cells, or what is left of it up to step `until`."""
        trainer, settings = self.trainer, self.trainer.settings
        for cells in draw_minibatches(codes, settings.minibatch_size, self.rng, composition=settings.minibatches):
            self._step(tensors, codes, cells, *partners.draw(cells, self.rng))
            if trainer.step_number >= until:
                return

    def _step(self, tensors: list[torch.Tensor], codes: Codes, cells: Codes, anchored: Bools, partner: Codes) -> None:
        """One step on `cells` and the partners of those that are `anchored`."""
        trainer, device = self.trainer, self.trainer.device
        joint = torch.from_numpy(np.concatenate([cells, partner])).to(device)
        keep = torch.from_numpy(anchored).to(device)
        x, batch, counterparts = (values[joint] for values in tensors)
        losses = trainer.step(x, batch, counterparts, keep, len(cells))
        self.history.steps.append(losses)
        self.bar.update()
        if trainer.step_number % _REPORT == 0:
            text = "reconstruction {:.2f}, anchors {:.2f}, adversary {:.2f}".format(*losses)
            self.bar.set_postfix_str(text, refresh=False)
        self.request.obey()
