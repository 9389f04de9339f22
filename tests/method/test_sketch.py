from __future__ import annotations

import numpy as np
import pytest

from scbatchnorm._method.sketch import choose_cells
from scbatchnorm._method.stem import fit_identity_stem


@pytest.fixture(scope="module")
def cells():
    """20 000 cells in one cloud, 30 far from it, and a batch of 40."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(20_000, 8)).astype(np.float32)
    rare = rng.permutation(20_000)[:30]
    points[rare] += 12
    codes = rng.integers(0, 3, 20_000)
    small = rng.permutation(20_000)[:40]
    codes[small] = 3
    stem = fit_identity_stem(points)
    return points, codes, stem, rare, small


def test_so_many_cells_each_once_and_in_order(cells):
    points, codes, stem, *_ = cells
    rows = choose_cells(points, stem, codes, 2000, np.random.default_rng(0))
    assert len(rows) == 2000
    assert (np.diff(rows) > 0).all()


def test_all_cells_where_there_are_no_more(cells):
    points, codes, stem, *_ = cells
    rows = choose_cells(points[:500], stem, codes[:500], 500, np.random.default_rng(0))
    np.testing.assert_array_equal(rows, np.arange(500))


def test_what_is_rare_is_represented(cells):
    points, codes, stem, rare, small = cells
    for seed in range(3):
        rows = choose_cells(points, stem, codes, 2000, np.random.default_rng(seed))
        # By chance 3 and 4 of them would be there.
        assert np.isin(rare, rows).sum() >= 10
        assert np.isin(small, rows).all()
        counts = np.bincount(codes[rows])
        np.testing.assert_allclose(counts[:3] / counts[:3].sum(), 1 / 3, atol=0.04)


def test_the_seed_decides(cells):
    points, codes, stem, *_ = cells
    first, second, other = (choose_cells(points, stem, codes, 1500, np.random.default_rng(seed)) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_cells_that_are_all_alike():
    points, codes = np.ones((3000, 4), np.float32), np.zeros(3000, dtype=np.int64)
    rows = choose_cells(points, fit_identity_stem(points), codes, 1000, np.random.default_rng(0))
    assert len(np.unique(rows)) == 1000
