"""Many small parameters as one tensor, so that an optimiser's step is a few operations and not hundreds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence


def flatten_parameters(parameters: Sequence[nn.Parameter]) -> nn.Parameter:
    """One parameter whose memory, and that of its gradient, `parameters` share from now on.

    What is learned into the gradient of one is in the gradient of the other. Gradients must therefore be set to zero
    in place, not to `None`. Copies of the parameters, as of a module that is deep-copied, are on their own again.
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
