"""Cells of a few types, as coordinates."""

from __future__ import annotations

import numpy as np


def states(n, seed=0, *, d=10, n_types=4):
    """Cells of a few types in `d` components; which type a cell has depends on the seed, where types are does not."""
    rng = np.random.default_rng(seed)
    centre = np.random.default_rng(99).normal(0, 2, (n_types, d))
    return (centre[rng.integers(n_types, size=n)] + rng.normal(0, 0.6, (n, d))).astype(np.float32)


def typed(n, seed=0, *, d=10, n_types=4):
    """Cells as of `states`, and the type of each."""
    return states(n, seed, d=d, n_types=n_types), np.random.default_rng(seed).integers(n_types, size=n)
