"""The learning rate over a training."""

from __future__ import annotations

import math

# Share of the steps over which it rises, and the share of its peak at which it starts.
_WARM_UP = 0.1
_FIRST = 0.04


def one_cycle(progress: float) -> float:
    """Share of the peak learning rate after this share of the steps: up over the first tenth, then down, by half cosines."""
    rising = progress < _WARM_UP
    phase = progress / _WARM_UP if rising else 1 - (progress - _WARM_UP) / (1 - _WARM_UP)
    share = 0.5 - 0.5 * math.cos(math.pi * phase)
    return max(_FIRST, share) if rising else share
