"""Coherence of displacements: about 1 by chance, large where batches differ in a common direction."""

from __future__ import annotations

import numpy as np
import pytest

from scbatchnorm._method.coherence import (
    coherence_by_chance,
    coherence_ratios,
    find_nearest_pairs,
    is_one_state,
    measure_coherence,
)
from tests.helpers.states import states


def all_around(n):
    """Every pair around every pair."""
    return np.tile(np.arange(n), (n, 1))


def ratios(points, left, right, around):
    """Squared sum of the displacements around each pair over its expectation if partner cells had random signs."""
    found = []
    for pairs in around:
        total = sum(points[left[q]] - points[right[q]] for q in pairs)
        expected = 0.0
        for cell in {right[q] for q in pairs}:
            shared = sum(points[left[q]] - points[right[q]] for q in pairs if right[q] == cell)
            expected += float((shared**2).sum())
        found.append(float((total**2).sum()) / expected)
    return np.array(found)


def test_ratios_are_brute_force():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(120, 4))
    left, right = np.arange(70), 70 + rng.integers(50, size=70)
    around = rng.integers(70, size=(70, 12))
    around = np.array([rng.permutation(70)[:12] for _ in around])
    found = coherence_ratios(points, left, right, around)
    np.testing.assert_allclose(found, ratios(points, left, right, around), rtol=1e-6)


def test_nearest_pairs_are_brute_force():
    """By midpoints; a tenth of the pairs, but 10 to 30."""
    rng = np.random.default_rng(0)
    for n, k in ((8, 8), (50, 10), (200, 20), (500, 30)):
        points = rng.normal(size=(2 * n, 4)).astype(np.float32)
        middle = points[:n] + points[n:]
        expected = [np.argsort(((middle - m) ** 2).sum(axis=1))[:k] for m in middle]
        found = find_nearest_pairs(points, np.arange(n), n + np.arange(n))
        assert [set(row) for row in found] == [set(row) for row in expected]


def test_ratios_of_pairs_that_share_a_partner():
    """Displacements to one and the same cell are one draw: alone they are no evidence, however much they agree."""
    rng = np.random.default_rng(0)
    points = np.vstack([rng.normal(size=(20, 4)) + 10, np.zeros((1, 4))])
    np.testing.assert_allclose(coherence_ratios(points, np.arange(20), np.full(20, 20), all_around(20)), 1)


def test_ratios_of_a_common_displacement():
    """n displacements that are all the same are n times their expectation under random signs."""
    base = np.random.default_rng(0).normal(size=(20, 4))
    points = np.vstack([base, base + [3, 0, 0, 0]])
    found = coherence_ratios(points, np.arange(20), 20 + np.arange(20), all_around(20))
    np.testing.assert_allclose(found, 20, rtol=1e-6)


def test_ratios_under_random_signs_average_to_one():
    """The expectation that the sums are measured by is right."""
    rng = np.random.default_rng(0)
    step = rng.normal(size=(25, 6))
    found = []
    for _ in range(300):
        signed = step * rng.choice([-1, 1], size=(25, 1))
        points = np.vstack([signed, -signed])  # no two pairs share a cell
        found.append(coherence_ratios(points, np.arange(25), 25 + np.arange(25), all_around(25))[0])
    assert np.mean(found) == pytest.approx(1, abs=0.15)


def test_evidence_grows_with_the_shift():
    codes = np.arange(800) % 2
    shift = codes[:, None] * np.eye(10, dtype=np.float32)[0]
    found = [measure_coherence(states(800) + s * shift, codes, np.random.default_rng(0)).low for s in (0, 1, 2)]
    assert found[0] < found[1] < found[2]


def test_evidence_ignores_units_and_axes():
    """A rotation and another unit of the components leave the evidence as it is."""
    points, codes = states(400), np.arange(400) % 2
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(10, 10)))[0]
    turned = (7 * points @ rotation).astype(np.float32)
    one, other = (measure_coherence(p, codes, np.random.default_rng(0)).low for p in (points, turned))
    assert other == pytest.approx(one, rel=0.01)


def test_evidence_names_cells_of_the_whole_data():
    """Also where only a part of the cells was looked at; each cell once for each other batch."""
    codes = np.arange(3600) % 3
    evidence = measure_coherence(states(3600), codes, np.random.default_rng(0))
    assert np.array_equal(evidence.group, codes[evidence.left] * 3 + codes[evidence.right])
    assert (codes[evidence.left] != codes[evidence.right]).all()
    assert len(np.unique(np.stack([evidence.left, evidence.group]), axis=1).T) == len(evidence)
    assert len(np.unique(evidence.left)) <= 3000


def test_chance_brackets_what_halves_give():
    """Few pairs of a split of one batch are above the bound for pairs, none of its summaries above theirs."""
    points, codes = states(1600), np.repeat([0, 1], 800)
    chance = coherence_by_chance(points, codes, np.random.default_rng(0))
    assert chance is not None
    assert 0.9 < chance.median < 1.3
    assert chance.median < chance.high < chance.peak_bound
    for seed in range(5):
        halves = np.random.default_rng(100 + seed).integers(2, size=800)
        evidence = measure_coherence(points[:800], halves, np.random.default_rng(seed))
        assert evidence.low < chance.low_bound
        assert evidence.coherence.max() < chance.peak_bound
        assert (evidence.coherence > chance.high).mean() < 0.3


def test_chance_does_not_depend_on_the_batch_effect():
    """It is taken within batches."""
    points, codes = states(1600), np.repeat([0, 1], 800)
    far = points + 5 * codes[:, None].astype(np.float32)
    near, far = (coherence_by_chance(p, codes, np.random.default_rng(0)) for p in (points, far))
    assert near is not None
    assert far is not None
    assert far.low_bound == pytest.approx(near.low_bound, rel=0.15)
    assert far.high == pytest.approx(near.high, rel=0.15)


def test_batches_too_small_to_split_say_nothing():
    assert coherence_by_chance(states(60), np.arange(60) % 2, np.random.default_rng(0)) is None
    assert coherence_by_chance(states(300), np.arange(300) % 2, np.random.default_rng(0)) is not None


def test_one_batch_has_no_evidence():
    evidence = measure_coherence(states(50), np.zeros(50, dtype=int), np.random.default_rng(0))
    assert len(evidence) == 0
    assert np.isnan(evidence.low)


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
