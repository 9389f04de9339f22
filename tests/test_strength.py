"""The dial: nothing is corrected where batches differ by chance, all of it where they differ in a common direction."""

from __future__ import annotations

import numpy as np
import pytest

from scbatchnorm import _strength


def ratios(points, left, right):
    """Squared sum of the displacements around each pair over its expectation if partner cells had random signs."""
    found = []
    middle = points[left] + points[right]
    for p in range(len(left)):
        around = np.argsort(((middle - middle[p]) ** 2).sum(axis=1), kind="stable")[: _strength._AROUND]
        total = sum(points[left[q]] - points[right[q]] for q in around)
        expected = 0.0
        for cell in {right[q] for q in around}:
            shared = sum(points[left[q]] - points[right[q]] for q in around if right[q] == cell)
            expected += float((shared**2).sum())
        found.append(float((total**2).sum()) / expected)
    return np.array(found)


def states(n, seed=0, *, d=10, n_types=4):
    """Cells of a few types in `d` components."""
    rng = np.random.default_rng(seed)
    centre = np.random.default_rng(99).normal(0, 2, (n_types, d))
    return (centre[rng.integers(n_types, size=n)] + rng.normal(0, 0.6, (n, d))).astype(np.float32)


def test_ratios_are_brute_force():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(120, 4))
    left, right = np.arange(70), 70 + rng.integers(50, size=70)
    np.testing.assert_allclose(_strength._ratios(points, left, right), ratios(points, left, right), rtol=1e-6)


def test_ratios_of_pairs_that_share_a_partner():
    """Displacements to one and the same cell are one draw: alone they are no evidence, however much they agree."""
    rng = np.random.default_rng(0)
    points = np.vstack([rng.normal(size=(20, 4)) + 10, np.zeros((1, 4))])
    np.testing.assert_allclose(_strength._ratios(points, np.arange(20), np.full(20, 20)), 1)


def test_ratios_of_a_common_displacement():
    """n displacements that are all the same are n times their expectation under random signs."""
    base = np.random.default_rng(0).normal(size=(20, 4))
    points = np.vstack([base, base + [3, 0, 0, 0]])
    np.testing.assert_allclose(_strength._ratios(points, np.arange(20), 20 + np.arange(20)), 20, rtol=1e-6)


def test_ratios_under_random_signs_average_to_one():
    """The expectation that the sums are measured by is right."""
    rng = np.random.default_rng(0)
    step = rng.normal(size=(25, 6))
    found = []
    for _ in range(300):
        signed = step * rng.choice([-1, 1], size=(25, 1))
        # Few pairs, so that all are around each of them; no two share a cell.
        found.append(_strength._ratios(np.vstack([signed, -signed]), np.arange(25), 25 + np.arange(25))[0])
    assert np.mean(found) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("share", [0.5, 0.85])
def test_halves_of_one_batch_are_left_alone(seed, share):
    points = states(800, seed)
    codes = (np.random.default_rng(seed).random(800) > share).astype(int)
    strength = _strength.choose(points, codes, np.random.default_rng(0))
    assert strength.value == 0
    assert strength.evidence < _strength._NO_EFFECT
    assert "no batch effect" in strength.reason


@pytest.mark.parametrize("n_batches", [2, 4])
def test_shifted_batches_are_corrected_in_full(n_batches):
    rng = np.random.default_rng(0)
    codes = rng.integers(n_batches, size=800)
    points = states(800) + rng.normal(size=(n_batches, 10)).astype(np.float32)[codes]
    strength = _strength.choose(points, codes, np.random.default_rng(0))
    assert strength.value == 1
    assert strength.evidence > _strength._CLEAR_EFFECT
    assert "there is a batch effect" in strength.reason


def test_evidence_grows_with_the_shift():
    codes = np.arange(800) % 2
    shift = codes[:, None] * np.eye(10, dtype=np.float32)[0]
    found = [_strength.coherence(states(800) + s * shift, codes, np.random.default_rng(0)) for s in (0, 1, 2)]
    assert found[0] < found[1] < found[2]


@pytest.mark.parametrize("evidence", [0.5, 0.0, 0.9, 1.0])
def test_strength_rises_between_the_thresholds(monkeypatch, evidence):
    """Linear from 0 to 1; in between the reason says that the correction is partial."""
    value = _strength._NO_EFFECT + evidence * (_strength._CLEAR_EFFECT - _strength._NO_EFFECT)
    monkeypatch.setattr(_strength, "coherence", lambda *_: value)
    strength = _strength.choose(np.empty((0, 2)), np.empty(0, dtype=int), np.random.default_rng(0))
    assert strength.value == pytest.approx(evidence, abs=1e-9)
    assert ("partial" in strength.reason) == (0 < evidence < 1)
    assert f"{value:.2f}" in strength.reason


def test_same_rng_same_strength():
    points, codes = states(4000), np.arange(4000) % 2
    before = points.copy()
    one, other = (_strength.choose(points, codes, np.random.default_rng(5)) for _ in range(2))
    assert one == other
    assert np.array_equal(points, before)


def test_evidence_ignores_units_and_axes():
    """A rotation and another unit of the components leave the evidence as it is."""
    points, codes = states(400), np.arange(400) % 2
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(10, 10)))[0]
    turned = (7 * points @ rotation).astype(np.float32)
    one, other = (_strength.coherence(p, codes, np.random.default_rng(0)) for p in (points, turned))
    assert other == pytest.approx(one, rel=0.01)


@pytest.mark.parametrize(
    "codes",
    [[0, 1], [0, 0, 0, 0, 0, 1], [0, 1, 2, 3, 4, 5], [0, 0, 1, 1, 1, 1]],
    ids=["two cells", "one against many", "all alone", "two against four"],
)
def test_few_cells_give_a_number(codes):
    strength = _strength.choose(states(len(codes)), np.array(codes), np.random.default_rng(0))
    assert np.isfinite(strength.evidence)
    assert 0 <= strength.value <= 1


def test_batches_far_apart_give_a_number():
    """Types that have nothing in common but the nearest of them."""
    points, codes = states(200), np.repeat([0, 1], 100)
    points[codes == 1] *= -1
    strength = _strength.choose(points, codes, np.random.default_rng(0))
    assert np.isfinite(strength.evidence)
    assert 0 <= strength.value <= 1


def test_one_cell_against_many_is_no_evidence():
    """All pairs share the one cell."""
    points, codes = states(100), np.zeros(100, dtype=int)
    codes[3] = 1
    points[3] += 5
    assert _strength.choose(points, codes, np.random.default_rng(0)).value == 0


@pytest.mark.parametrize("n_cells", [1, 50])
def test_copies_need_no_correction(n_cells):
    points = np.vstack([states(n_cells)] * 2)
    strength = _strength.choose(points, np.repeat([0, 1], n_cells), np.random.default_rng(0))
    assert strength.value == 0
    assert np.isfinite(strength.evidence)


def test_without_anchors_nothing_is_moved():
    """One batch alone: no evidence, strength 0, and a reason that says so."""
    strength = _strength.choose(states(50), np.zeros(50, dtype=int), np.random.default_rng(0))
    assert np.isnan(strength.evidence)
    assert strength.value == 0
    assert strength.reason
