"""Neighbours within batches, and the noise of a simulated second measurement."""

from __future__ import annotations

import numpy as np

from scbatchnorm.tl._diagnosis.noise import find_batch_neighbours, share_kept, simulate_remeasurement


def test_neighbours_stay_in_their_batch():
    points = np.random.default_rng(0).normal(size=(50, 4))
    rows = [np.arange(0, 50, 2), np.arange(1, 50, 2), np.array([], dtype=int)][:2]
    for near in find_batch_neighbours(points, rows):
        assert near.shape == (25, 12)
        assert (near != np.arange(25)[:, None]).all()
        assert near.max() < 25


def test_a_second_measurement_has_the_noise_of_the_first():
    """Of a cloud of one state, noise has about the covariance of the cloud; of states apart, that of each of them."""
    rng = np.random.default_rng(0)
    sd = np.array([2.0, 1.0, 0.5])
    points = rng.normal(size=(600, 3)) * sd
    points[300:] += 100
    rows = [np.arange(600)]
    added = simulate_remeasurement(points, rows, find_batch_neighbours(points, rows), rng) - points
    assert np.abs(added).max() < 20
    assert np.abs(added.mean(axis=0)).max() < 0.2
    # Neighbours of a cell differ a little less than cells do.
    ratio = added.std(axis=0) / sd
    assert (ratio > 0.2).all()
    assert (ratio < 1.1).all()


def test_kept():
    near = [np.array([[1, 2], [0, 2], [0, 1]])]
    now = [np.array([[1, 2], [3, 2], [4, 5]])]
    np.testing.assert_array_equal(share_kept(near, now, [np.array([0, 2, 3])], 5), [1, np.nan, 0.5, 0, np.nan])
