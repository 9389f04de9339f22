"""The random draws behind simulated data: what is faster or in blocks gives the same numbers."""

from __future__ import annotations

import numpy as np

from scbatchnorm.datasets._simulation import _find_root


def test_root_is_that_of_twelve_steps_to_the_bit():
    rng = np.random.default_rng(0)
    p = 1 / (1 + np.exp(rng.normal(-1, 3, 20_000)) / 2)
    target = np.log((1 - rng.random(p.size)) * (1 - p**2))
    slope, m = np.log1p(-p), np.ones_like(p)
    for _ in range(12):
        m -= (m * slope + np.log1p(m * p) - target) / (slope + p / (1 + m * p))
    np.testing.assert_array_equal(_find_root(p, target), m)
    assert _find_root(p[:0], target[:0]).shape == (0,)
