"""The steps of training between two refreshes of the anchors, in one process or as process 0 tells several."""

from __future__ import annotations

import traceback
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from scbatchnorm._method import anchors as _anchors
from scbatchnorm._method.training import minibatches as _minibatch
from scbatchnorm._method.training.history import History
from scbatchnorm._method.training.parts import ALONE, Part
from scbatchnorm._method.training.trainer import Trainer
from scbatchnorm._runtime.device import one_thread
from scbatchnorm._runtime.errors import LostProcessError
from scbatchnorm._runtime.interrupt import AgreedInterrupt
from scbatchnorm._runtime.processes import portable
from scbatchnorm.nn.distributed import lost

if TYPE_CHECKING:
    from scbatchnorm._data.types import Bools, Codes, Floats
    from scbatchnorm._method.anchors import Anchors
    from scbatchnorm._method.training.trainer import Settings
    from scbatchnorm._persistence.container import Arrays
    from scbatchnorm._runtime.interrupt import Request
    from scbatchnorm._runtime.processes import Group
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


@dataclass(frozen=True)
class Round:
    """All that a process needs to take the steps of a round as process 0 does."""

    settings: Settings
    n_components: int
    n_batches: int
    n_steps: int
    state: Arrays
    rng: np.random.Generator
    cells: Cells
    until: int

    @classmethod
    def of(cls, steps: Steps, cells: Cells, until: int) -> Round:
        """The round that `steps` is about to take up to step `until`."""
        trainer = steps.trainer
        width = cells.points.shape[1]
        return cls(
            trainer.settings, width, trainer.n_batches, trainer.n_steps, trainer.state(), steps.rng, cells, until
        )

    def trainer(self, device: torch.device) -> Trainer:
        """One that can `load` the state."""
        return Trainer(self.n_components, self.n_batches, self.n_steps, self.settings, device)


@dataclass
class Steps:
    """Steps on the cells of a round; with a `group` this process takes its part in them."""

    trainer: Trainer
    rng: np.random.Generator
    bar: tqdm
    request: Request
    group: Group | None = None
    history: History = field(default_factory=History)

    def lead(self, cells: Cells, until: int, refresh: int) -> None:
        """The steps up to step `until`, in all processes."""
        if self.group is None:
            self._run(cells, until, refresh)
            return
        self.group.tell(Round.of(self, cells, until))
        own = self._attempt(cells, until, refresh)
        found = self._answer(self.group, own)
        errors = [error for error in (own, *found[1:]) if error is not None]
        # Who lost another is not the cause, unless nobody says more.
        for error in sorted(errors, key=lambda error: isinstance(error, LostProcessError)):
            raise error

    def assist(self, told: Round) -> None:
        """The part of this process in the steps that process 0 leads, from the state that it tells."""
        if self.group is not None:
            self.rng = told.rng
            own = self._attempt(told.cells, told.until, 0, told.state)
            self._answer(self.group, own)

    def _answer(self, group: Group, own: BaseException | None) -> list[Any]:
        """See `Group.answers`: what ended the steps early, if something did."""
        try:
            return group.answers(None if own is None else portable(own))
        except LostProcessError:
            if own is None:
                raise
        raise own

    def _attempt(self, cells: Cells, until: int, refresh: int, state: Arrays | None = None) -> BaseException | None:
        """What ended the steps early, if something did; the others then do not wait for this process."""
        try:
            if state is not None:
                self._take_over(state)
            self._run(cells, until, refresh)
        except (AgreedInterrupt, FloatingPointError) as agreed:
            return agreed
        except BaseException as error:  # noqa: BLE001 - it is raised when all have heard of it
            _forget(error)
            if self.group is not None:
                self.group.leave()
            if isinstance(error, LostProcessError):
                trainer = self.trainer
                return lost(f"in step {trainer.step_number + 1} of {trainer.n_steps} of training", error.__cause__)
            return error
        return None

    def _take_over(self, state: Arrays) -> None:
        """Go on from the state of process 0, but with random numbers of one's own for what cells of one's own pass."""
        trainer, device = self.trainer, self.trainer.device
        trainer.load(state)
        if self.group is not None:
            seed = int(torch.randint(2**62, ())) + self.group.rank
            torch.default_generator.manual_seed(seed)
            if device.type == "cuda":
                torch.cuda.manual_seed(seed)

    def _run(self, cells: Cells, until: int, refresh: int) -> None:
        """Epochs up to step `until`."""
        trainer, history, device = self.trainer, self.history, self.trainer.device
        tensors = [torch.from_numpy(values).to(device) for values in (cells.points, cells.codes, cells.counterparts)]
        partners = _anchors.Partners(cells.anchors, len(cells.codes))
        together = nullcontext() if self.group is None else self.group.synchronised(trainer.network)
        with one_thread(device), together:
            try:
                while trainer.step_number < until:
                    self._epoch(tensors, partners, cells.codes, until)
                    history.close_epoch(trainer.step_number, refresh, trainer.learning_rate)
            finally:
                history.close_epoch(trainer.step_number, refresh, trainer.learning_rate)

    def _epoch(self, tensors: list[torch.Tensor], partners: _anchors.Partners, codes: Codes, until: int) -> None:
        """One pass over the cells, or what is left of it up to step `until`."""
        trainer, settings = self.trainer, self.trainer.settings
        for cells in _minibatch.epoch(codes, settings.minibatch_size, self.rng, composition=settings.minibatches):
            self._step(tensors, codes, cells, *partners.draw(cells, self.rng))
            if trainer.step_number >= until:
                return

    def _step(self, tensors: list[torch.Tensor], codes: Codes, cells: Codes, anchored: Bools, partner: Codes) -> None:
        """One step on `cells` and the partners of those that are `anchored`."""
        trainer, device = self.trainer, self.trainer.device
        part = ALONE
        if self.group is not None:
            pairs = codes[cells[anchored]] * trainer.n_batches + codes[partner]
            part = Part.of(self.group, self.request, cells, anchored, partner, pairs=pairs, device=device)
            cells, anchored, partner = part.cells, part.anchored, part.partner
        joint = torch.from_numpy(np.concatenate([cells, partner])).to(device)
        keep = torch.from_numpy(anchored).to(device)
        x, batch, counterparts = (values[joint] for values in tensors)
        losses = trainer.step(x, batch, counterparts, keep, len(cells), part)
        self.history.steps.append(losses)
        self.bar.update()
        if trainer.step_number % _REPORT == 0:
            text = "reconstruction {:.2f}, anchors {:.2f}, adversary {:.2f}".format(*losses)
            self.bar.set_postfix_str(text, refresh=False)
        if part.stop:
            self.request.agree()
        elif self.group is None:
            self.request.obey()


def _forget(error: BaseException | None) -> None:
    """Let go of what was at hand when something went wrong: it holds connections open."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
