"""Values of landmarks, read off for any cell."""

from __future__ import annotations

import numpy as np

from scbatchnorm._method.landmarks import Landmarks
from tests.helpers.states import states


def brute_force(landmarks, point, own):
    unit = landmarks.points / np.linalg.norm(landmarks.points, axis=1, keepdims=True)
    near = np.argsort(-unit[own] @ (point / np.linalg.norm(point)), kind="stable")[:15]
    return landmarks.values[own][near].mean()


def test_values_are_those_of_the_nearest_of_the_batch():
    points, codes = states(300), np.arange(300) % 3
    marks = Landmarks(points, codes, np.random.default_rng(0).random(300).astype(np.float32))
    query, batch = states(40, seed=1), np.arange(40) % 3
    expected = [brute_force(marks, q, codes == b) for q, b in zip(query, batch, strict=True)]
    np.testing.assert_allclose(marks.at(query, batch), expected, rtol=1e-5)


def test_without_batches_all_are_asked():
    points, codes = states(300), np.arange(300) % 3
    marks = Landmarks(points, codes, np.random.default_rng(0).random(300).astype(np.float32))
    query = states(40, seed=1)
    expected = [brute_force(marks, q, np.full(300, fill_value=True)) for q in query]
    np.testing.assert_allclose(marks.at(query), expected, rtol=1e-5)
    unknown = np.full(40, 7)  # a batch without landmarks
    np.testing.assert_allclose(marks.at(query, unknown), expected, rtol=1e-5)


def test_at_most_500_of_each_batch_are_kept():
    points, codes = states(1500), (np.arange(1500) < 1300).astype(int)
    marks = Landmarks.keep(points, codes, np.arange(1500.0), np.random.default_rng(0))
    assert np.bincount(marks.codes).tolist() == [200, 500]
    assert np.array_equal(points[marks.values.astype(int)], marks.points)
    assert np.array_equal(codes[marks.values.astype(int)], marks.codes)
