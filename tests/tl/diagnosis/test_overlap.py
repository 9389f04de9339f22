"""Overlap is 0 of separate groups and 1 of identical ones."""

from __future__ import annotations

import numpy as np
import pytest

from scbatchnorm.tl._diagnosis.noise import find_batch_neighbours
from scbatchnorm.tl._diagnosis.overlap import (
    assign_folds,
    knn_mixing,
    misclassification,
    overlap_error,
    overlap_of_rates,
)


def test_mixing_of_shuffled_and_of_separate_groups():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(400, 3))
    codes = (np.arange(400) % 4 == 0).astype(int)  # unequal sizes
    near = find_batch_neighbours(points, [np.arange(400)])[0]
    mixing = knn_mixing(near, codes, 2)
    assert mixing[0, 1] == pytest.approx(1, abs=0.1)
    assert mixing[0, 0] == mixing[1, 1] == 0
    near = find_batch_neighbours(points + 50 * codes[:, None], [np.arange(400)])[0]
    assert knn_mixing(near, codes, 2)[0, 1] == 0


def test_overlap_of_equal_and_of_separate_groups():
    rng = np.random.default_rng(0)
    points, codes = rng.normal(size=(400, 3)), np.arange(400) % 2
    folds = assign_folds(codes, rng)
    assert (np.bincount(folds[codes == 0]) == 40).all()
    rates = misclassification(points, codes, 2, folds)
    assert overlap_of_rates(rates)[0, 1] == pytest.approx(1, abs=0.12)
    # Half a standard deviation to each side: 2 * P(N > .5) of the cells.
    rates = misclassification(points + np.array([1.0, 0, 0]) * codes[:, None], codes, 2, folds)
    assert overlap_of_rates(rates)[0, 1] == pytest.approx(0.617, abs=0.08)
    assert overlap_error(rates, np.array([200, 200]))[0, 1] == pytest.approx(0.046, abs=0.005)
    rates = misclassification(points + 50 * codes[:, None], codes, 2, folds)
    assert overlap_of_rates(rates)[0, 1] == 0
    assert overlap_error(rates, np.array([200, 200]))[0, 1] > 0, "none mistaken is not certainty"


def test_overlap_of_cells_at_one_place():
    codes = np.arange(40) % 2
    rates = misclassification(np.ones((40, 3)), codes, 2, assign_folds(codes, np.random.default_rng(0)))
    assert overlap_of_rates(rates)[0, 1] == 1
