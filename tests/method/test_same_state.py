"""One state displaced, or two types."""

from __future__ import annotations

import numpy as np
import pytest

from scbatchnorm._method.same_state import is_one_state


def cloud(n, seed, *, d=10):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("n", "m"), [(100, 100), (40, 200), (200, 40)])
@pytest.mark.parametrize("step", [0.5, 2.0])
def test_a_displaced_cloud_is_one_state(n, m, step, seed):
    assert is_one_state(cloud(n, seed), cloud(m, seed + 10) + np.float32(step / 10**0.5))


def test_a_gap_leaves_it_open():
    assert not is_one_state(cloud(100, 0), cloud(100, 1) + 3)


def test_clouds_of_other_shape_are_two_types():
    """Their means are alike; what varies in one is constant in the other."""
    narrow = np.repeat([0.2, 2.0], 5).astype(np.float32)
    assert not is_one_state(cloud(100, 0) * narrow, cloud(100, 1) * narrow[::-1])


def test_few_cells_are_not_enough():
    assert not is_one_state(cloud(14, 0), cloud(100, 1))
    assert not is_one_state(cloud(100, 0), np.empty((0, 10), np.float32))


def test_order_does_not_matter():
    left, right = cloud(60, 0), cloud(90, 1) + np.float32(0.3)
    expected = is_one_state(left, right)
    assert is_one_state(right, left) == expected
    assert is_one_state(left[::-1], right[::-1]) == expected
