"""What a step of training needs of the other processes: nothing where there are none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scbatchnorm._data.types import Bools, Codes
    from scbatchnorm._runtime.interrupt import Request
    from scbatchnorm._runtime.processes import Group

    # Two cells of each anchor, shape (anchors, components) each, and their ordered pair of batches, shape (anchors,).
    Pairs = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class Alone:
    """A minibatch that one process has as a whole."""

    stop = False  # whether somebody wants this to end

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Mean over the cells."""
        return values.mean()

    def mean_with_partners(self, values: torch.Tensor) -> torch.Tensor:
        """Mean over the cells and the partners of anchored ones."""
        return values.mean()

    def pairs(self, left: torch.Tensor, right: torch.Tensor, group: torch.Tensor) -> Pairs:
        """The anchors of the minibatch."""
        return left, right, group

    def agree(self, losses: torch.Tensor) -> torch.Tensor:
        """The losses of the minibatch."""
        return losses

    def add(self, gradients: Sequence[torch.Tensor]) -> None:
        """Make them the gradients of the losses of the minibatch."""


ALONE: Alone = Alone()


@dataclass
class Part(Alone):
    """What one of several processes has of a minibatch: every so many-th of its cells, and the partners of those.

    The sum over processes of what each computes is what one process computes, and so is the sum of the gradients.
    """

    group: Group
    request: Request
    cells: Codes  # of this process
    anchored: Bools
    partner: Codes
    n_cells: int  # of all processes
    place: torch.Tensor  # of the anchors of this process among all, shape (its anchors,)
    all_pairs: torch.Tensor  # ordered pair of batches of all anchors, shape (anchors,)
    stop: bool = False

    @classmethod
    def of(
        cls,
        group: Group,
        request: Request,
        cells: Codes,
        anchored: Bools,
        partner: Codes,
        *,
        pairs: Codes,
        device: torch.device,
    ) -> Part:
        """The part of the minibatch of `cells`, of which the `anchored` have a `partner` each, in these `pairs` of batches."""
        mine = slice(group.rank, None, group.size)
        place = (np.cumsum(anchored) - 1)[mine][anchored[mine]]
        return cls(
            group,
            request,
            cells[mine],
            anchored[mine],
            partner[place],
            len(cells),
            torch.from_numpy(place).to(device),
            torch.from_numpy(pairs).to(device),
        )

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Sum over the cells of this process, divided by the cells of all."""
        return values.sum() / self.n_cells

    def mean_with_partners(self, values: torch.Tensor) -> torch.Tensor:
        """Sum over the cells and partners of this process, divided by those of all."""
        return values.sum() / (self.n_cells + len(self.all_pairs))

    def pairs(self, left: torch.Tensor, right: torch.Tensor, group: torch.Tensor) -> Pairs:
        """The anchors of all processes, as each of them has them; gradients flow to those of this process."""
        own = torch.cat([left, right], dim=1)
        whole = own.new_zeros(len(self.all_pairs), own.shape[1])
        whole[self.place] = own.detach()
        self.group.add(whole)
        left, right = whole.index_copy(0, self.place, own).chunk(2, dim=1)
        return left, right, self.all_pairs

    def agree(self, losses: torch.Tensor) -> torch.Tensor:
        """The losses of the minibatch; all learn as well whether somebody wants this to end."""
        # Of the anchors each process has the whole loss.
        parts = torch.stack([losses[0], losses[1] / self.group.size, losses[2]])
        stop = losses.new_tensor([float(self.request.signal is not None)])
        total = self.group.add(torch.cat([parts.detach(), stop]))
        self.stop = bool(total[3] > 0)
        return total[:3]

    def add(self, gradients: Sequence[torch.Tensor]) -> None:
        """Make them the sums over processes."""
        total = self.group.add(torch.cat(list(gradients)))
        for own, value in zip(gradients, total.split([len(g) for g in gradients]), strict=True):
            own.copy_(value)
