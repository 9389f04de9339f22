"""Regressions recover planted batch effects, and the correction takes them out and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from scbatchnorm.tl._correction import regression as regression_module
from scbatchnorm.tl._correction.regression import Covariates, Sums, correct_towards, fit_regressions, split_rows

N, D, G, B = 1200, 3, 12, 3


def planted(*, shift=1.0, stretch=1.0, seed=0):
    """Expression well above 0 from components; batch 1 adds `shift` to the first half of the genes, batch 2 stretches noise."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(N, D)).astype(np.float32)
    codes = np.arange(N) % B
    points[codes == 1, 0] += 1.5  # compositions differ
    noise = rng.normal(scale=0.5, size=(N, G))
    truth = 20 + points @ rng.normal(size=(D, G)) + noise
    measured = truth + shift * np.outer(codes == 1, np.arange(G) < G // 2)
    measured += (stretch - 1) * noise * (codes == 2)[:, None]
    return truth.astype(np.float32), measured.astype(np.float32), Covariates(points, codes, np.ones(N, np.float32))


def fit(X, cells, n_batches=B):
    sums = Sums.zeros(n_batches, D, X.shape[1])
    for rows in split_rows(len(cells.codes)):
        sums.add_cells(X[rows], cells[rows])
    return fit_regressions(sums)


def test_regression_is_the_ridge_regression():
    """The normal equations that are solved in parts, solved as a whole."""
    _, X, cells = planted()
    design = np.column_stack([np.ones(N), cells.points]).astype(np.float64)
    blocks = [design] + [design * (cells.codes == b)[:, None] for b in range(B)]
    whole = np.hstack(blocks)
    penalty = np.tile([regression_module._INTERCEPT, *[regression_module._SLOPES] * D], B)
    penalty = np.concatenate([[0], [regression_module._SHARED_SLOPES] * D, penalty])
    solved = np.linalg.solve(whole.T @ whole + np.diag(penalty), whole.T @ X).reshape(1 + B, 1 + D, G)
    regression = fit(X, cells)
    np.testing.assert_allclose(regression.weights, solved[0] + solved[1:], rtol=1e-4, atol=1e-4)
    residual = X - np.stack([design @ weights for weights in regression.weights])[cells.codes, np.arange(N)]
    pooled = np.mean(residual**2, axis=0)
    for b in range(B):
        squares = np.sum(residual[cells.codes == b] ** 2, axis=0)
        expected = (squares + regression_module._POOLED_CELLS * pooled) / (N / B + regression_module._POOLED_CELLS)
        np.testing.assert_allclose(regression.spread[b] ** 2, expected, rtol=1e-3)


def test_shift_is_taken_out():
    truth, X, cells = planted()
    correction = correct_towards(fit(X, cells), np.array([0]))
    corrected = correction.apply(X, cells)
    error, before = corrected - truth, X - truth
    assert np.abs(error[cells.codes == 1].mean(axis=0)).max() < 0.1
    assert np.sqrt(np.mean(error**2)) < 0.25 * np.sqrt(np.mean(before**2))
    np.testing.assert_array_equal(corrected[cells.codes == 0], X[cells.codes == 0])


def test_average_is_between_the_batches():
    _, X, cells = planted(shift=3.0)
    moved = correct_towards(fit(X, cells), np.arange(B)).apply(X, cells) - X
    expected = np.where(cells.codes == 1, -2, 1)[:, None] * (np.arange(G) < G // 2)
    np.testing.assert_allclose(moved, expected, atol=0.5)
    np.testing.assert_allclose(moved.mean(), expected.mean(), atol=0.05)


def test_spread_is_that_of_the_target():
    _, X, cells = planted(shift=0.0, stretch=1.6)
    scale = correct_towards(fit(X, cells), np.array([0])).scale
    np.testing.assert_allclose(scale[2], 1 / 1.6, atol=0.1)
    np.testing.assert_allclose(scale[1], 1, atol=0.1)


def test_spread_is_stretched_twofold_at_most():
    _, X, cells = planted(shift=0.0, stretch=9.0)
    assert correct_towards(fit(X, cells), np.array([2])).scale.max() == 2
    assert correct_towards(fit(X, cells), np.array([0])).scale.min() == 0.5


@pytest.mark.parametrize("value", [0.0, 3.0], ids=["zeros", "constant"])
def test_genes_that_do_not_vary_stay(value):
    _, X, cells = planted()
    X[:, 3] = value
    corrected = correct_towards(fit(X, cells), np.arange(B)).apply(X, cells)
    np.testing.assert_allclose(corrected[:, 3], value, atol=1e-5)


def test_sparse_and_chunks_give_the_same(monkeypatch):
    _, X, cells = planted()
    X[X < 20] = 0
    regression = fit(X, cells)
    monkeypatch.setattr(regression_module, "_CHUNK", 7)
    other = fit(sparse.csr_matrix(X), cells)
    np.testing.assert_allclose(other.weights, regression.weights, atol=1e-4)
    np.testing.assert_allclose(other.spread, regression.spread, rtol=1e-5)
    correction = correct_towards(regression, np.arange(B))
    corrected = correction.apply(X, cells)
    np.testing.assert_array_equal(correction.apply(sparse.csr_matrix(X), cells), corrected)
    parts = [correction.apply(X[rows], cells[rows]) for rows in split_rows(N)]
    np.testing.assert_allclose(np.concatenate(parts), corrected, atol=1e-5)
    assert corrected.min() >= 0
    assert corrected.dtype == np.float32


def test_cells_of_strength_0_stay_and_have_no_say():
    truth, X, cells = planted()
    off = cells.points[:, 1] > 0.5
    X[off] = truth[off] + 5 * (cells.codes[off] == 1)[:, None]
    strength = np.where(off, 0, 1).astype(np.float32)
    some = Covariates(cells.points, cells.codes, strength)
    corrected = correct_towards(fit(X, some), np.array([0])).apply(X, some)
    np.testing.assert_array_equal(corrected[off], X[off])
    on = (cells.codes == 1) & ~off
    assert np.abs((corrected - truth)[on].mean(axis=0)).max() < 0.1


def test_strength_is_the_share_of_the_way():
    _, X, cells = planted()
    correction = correct_towards(fit(X, cells), np.arange(B))
    half = Covariates(cells.points, cells.codes, np.full(N, 0.5, np.float32))
    np.testing.assert_allclose(correction.apply(X, half) - X, 0.5 * (correction.apply(X, cells) - X), atol=1e-4)


def test_batch_without_cells_predicts_what_all_share():
    _, X, cells = planted(shift=0.0)
    weights = fit(X, cells, n_batches=B + 1).weights
    np.testing.assert_allclose(weights[B], weights[:B].mean(axis=0), atol=0.1)


def test_effect_on_one_state_is_followed_with_enough_cells():
    """Slopes of a batch are held back by a penalty that many cells outvote."""
    _, X, cells = planted(shift=0.0)
    X = X + (cells.codes == 1)[:, None] * cells.points[:, [1]] * 0.5
    many = Covariates(*(np.concatenate([part] * 20) for part in (cells.points, cells.codes, cells.strength)))
    few, plenty = fit(X, cells), fit(np.concatenate([X] * 20), many)
    slopes = [(regression.weights[1, 2] - regression.weights[0, 2]).mean() for regression in (few, plenty)]
    assert 0 < slopes[0] < 0.3
    assert slopes[1] > 0.35
