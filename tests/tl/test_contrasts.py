"""Means of groups, and how alike differences between groups are before and after."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import spearmanr

from scbatchnorm.tl import _contrasts


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
def test_means(form):
    X = np.random.default_rng(0).poisson(1, (20, 4)).astype(np.float32)
    codes = np.arange(20) % 4 - 1
    found = _contrasts.means(form(X), codes, 4)
    np.testing.assert_allclose(found[:3], [X[codes == code].mean(axis=0) for code in range(3)], rtol=1e-6)
    assert (found[3] == 0).all()


def test_contrasts_are_those_of_the_batch():
    rng = np.random.default_rng(0)
    before = rng.uniform(0.1, 1, (2, 3, 40))
    after = before + rng.normal(0, 0.1, before.shape)
    before[0, :2, :5] = 0  # not expressed in either
    sizes = np.array([[10, 12, 9], [10, 10, 10]])
    found = list(_contrasts.contrasts(before, after, sizes, min_cells=10))
    assert [(c.batch, c.groups, c.n_genes) for c in found] == [
        (0, (0, 1), 35),
        (1, (0, 1), 40),
        (1, (0, 2), 40),
        (1, (1, 2), 40),
    ]
    assert found[0].n_cells == (10, 12)
    expected = spearmanr((before[0, 0] - before[0, 1])[5:], (after[0, 0] - after[0, 1])[5:]).statistic
    assert found[0].spearman == pytest.approx(expected)


def test_nothing_that_differs_is_nan():
    before = np.random.default_rng(0).uniform(size=(1, 2, 10))
    (found,) = _contrasts.contrasts(before, np.ones((1, 2, 10)), np.array([[5, 5]]), min_cells=1)
    assert np.isnan(found.spearman)
    before[:, :, 2:] = 0
    (found,) = _contrasts.contrasts(before, before, np.array([[5, 5]]), min_cells=1)
    assert found.n_genes == 2
    assert np.isnan(found.spearman)
