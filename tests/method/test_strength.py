"""Strength: nothing is corrected where batches differ by chance, all of it where they differ in a common direction."""

from __future__ import annotations

import numpy as np
import pytest

from scbatchnorm._method.strength import Landmarks, Strength, estimate_strength
from tests.helpers.states import states, typed


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("share", [0.5, 0.85])
def test_halves_of_one_batch_are_left_alone(seed, share):
    points = states(800, seed)
    codes = (np.random.default_rng(seed).random(800) > share).astype(int)
    strength = estimate_strength(points, codes, np.random.default_rng(0))
    assert strength.value == 0
    assert strength.states is None
    assert "no batch effect" in strength.reason


@pytest.mark.parametrize("n_batches", [2, 4])
def test_shifted_batches_are_corrected_in_full(n_batches):
    rng = np.random.default_rng(0)
    codes = rng.integers(n_batches, size=800)
    points = states(800) + rng.normal(size=(n_batches, 10)).astype(np.float32)[codes]
    strength = estimate_strength(points, codes, np.random.default_rng(0))
    assert strength.value == 1
    assert strength.states is None
    assert "there is a batch effect" in strength.reason


def test_same_rng_same_strength():
    points, codes = states(4000), np.arange(4000) % 2
    before = points.copy()
    one, other = (estimate_strength(points, codes, np.random.default_rng(5)) for _ in range(2))
    assert one == other
    assert np.array_equal(points, before)


@pytest.mark.parametrize(
    "codes",
    [[0, 1], [0, 0, 0, 0, 0, 1], [0, 1, 2, 3, 4, 5], [0, 0, 1, 1, 1, 1]],
    ids=["two cells", "one against many", "all alone", "two against four"],
)
def test_few_cells_give_a_number(codes):
    strength = estimate_strength(states(len(codes)), np.array(codes), np.random.default_rng(0))
    assert np.isfinite(strength.evidence)
    assert 0 <= strength.value <= 1


def test_batches_far_apart_give_a_number():
    """Types that have nothing in common but the nearest of them."""
    points, codes = states(200), np.repeat([0, 1], 100)
    points[codes == 1] *= -1
    strength = estimate_strength(points, codes, np.random.default_rng(0))
    assert np.isfinite(strength.evidence)
    assert 0 <= strength.value <= 1


def test_one_cell_against_many_is_no_evidence():
    """All pairs share the one cell."""
    points, codes = states(100), np.zeros(100, dtype=int)
    codes[3] = 1
    points[3] += 5
    assert estimate_strength(points, codes, np.random.default_rng(0)).value == 0


@pytest.mark.parametrize("n_cells", [1, 50])
def test_copies_need_no_correction(n_cells):
    points = np.vstack([states(n_cells)] * 2)
    strength = estimate_strength(points, np.repeat([0, 1], n_cells), np.random.default_rng(0))
    assert strength.value == 0
    assert np.isfinite(strength.evidence)


def test_without_anchors_nothing_is_moved():
    """One batch alone: no evidence, strength 0, and a reason that says so."""
    strength = estimate_strength(states(50), np.zeros(50, dtype=int), np.random.default_rng(0))
    assert np.isnan(strength.evidence)
    assert strength.value == 0
    assert strength.reason


def moved(points, cells, step=1.5):
    """`points` with `cells` displaced in a direction of their own."""
    return points + step * cells[:, None] * np.eye(points.shape[1], dtype=np.float32)[3]


@pytest.mark.parametrize("seed", range(3))
def test_an_effect_in_one_state_is_corrected_there(seed):
    points, types = typed(1200, seed)
    codes = np.random.default_rng(100 + seed).integers(2, size=1200)
    affected = (types == 1) & (codes == 1)
    strength = estimate_strength(moved(points, affected), codes, np.random.default_rng(0))
    at = strength.at(moved(points, affected), codes)[:, 0]
    assert at[types == 1].mean() > 0.8
    assert at[types != 1].mean() < 0.1
    assert 0.1 < strength.value < 0.5
    assert "of the shared states only" in strength.reason


@pytest.mark.parametrize("seed", range(3))
def test_states_without_an_effect_are_left_in_place(seed):
    """The other way round: all but one state are displaced."""
    points, types = typed(1600, seed)
    codes = np.random.default_rng(100 + seed).integers(2, size=1600)
    points = moved(points, (types != 1) & (codes == 1))
    at = estimate_strength(points, codes, np.random.default_rng(0)).at(points, codes)[:, 0]
    assert at[types != 1].mean() > 0.9
    assert at[types == 1].mean() < 0.5  # chance alone gives some of it


@pytest.mark.parametrize("seed", range(3))
def test_types_private_to_each_batch_are_no_batch_effect(seed):
    """Each is the nearest that the other has."""
    points, types = typed(1600, seed, n_types=5)
    codes = np.random.default_rng(100 + seed).integers(2, size=1600)
    stay = ~((types == 0) & (codes == 1)) & ~((types == 1) & (codes == 0))
    strength = estimate_strength(points[stay], codes[stay], np.random.default_rng(0))
    assert strength.value == 0


def test_doubt_is_said():
    """One state displaced by so much that it may be two types."""
    points, types = typed(1200)
    codes = np.arange(1200) % 2
    strength = estimate_strength(moved(points, (types == 1) & (codes == 1), 4.0), codes, np.random.default_rng(0))
    assert strength.value == 0
    assert "found in one batch only" in strength.reason


def test_strength_at_cells():
    """One value for all, or by the states around; without batches, those of all batches."""
    points, types = typed(1200)
    codes = np.arange(1200) % 2
    assert np.array_equal(Strength(0.25, 1.0, "").at(points, codes), np.full((1200, 1), 0.25, np.float32))
    points = moved(points, (types == 1) & (codes == 1))
    strength = estimate_strength(points, codes, np.random.default_rng(0))
    known, unknown = strength.at(points, codes), strength.at(points)
    assert known.shape == unknown.shape == (1200, 1)
    assert np.abs(known - unknown).mean() < 0.1


def test_small_batches_use_what_larger_ones_give():
    """Batches that cannot be split are compared all the same."""
    points, codes = states(70), np.arange(70) % 2
    shifted = points + 3 * codes[:, None].astype(np.float32)
    assert estimate_strength(points, codes, np.random.default_rng(0)).value == 0
    assert estimate_strength(shifted, codes, np.random.default_rng(0)).value == 1


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
    marks = Landmarks.sample(points, codes, np.arange(1500.0), np.random.default_rng(0))
    assert np.bincount(marks.codes).tolist() == [200, 500]
    assert np.array_equal(points[marks.values.astype(int)], marks.points)
    assert np.array_equal(codes[marks.values.astype(int)], marks.codes)
