"""Effects are unbiased shares of the variance, and p-values are valid."""

from __future__ import annotations

import numpy as np
import pytest

from scbatchnorm.pp._assessment import effect as module
from scbatchnorm.pp._assessment.effect import _batch_means, adjust_p_values, measure_deviations, measure_effect


def draw(sizes, shifts=0.0, *, n_components=10, seed=0):
    """Batches whose means differ by `shifts` in the first component; variance 1 in each component."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(len(sizes)), sizes)
    points = rng.normal(size=(len(codes), n_components))
    points[:, 0] += np.broadcast_to(shifts, len(sizes))[codes]
    return points, codes


def measured(sizes, shifts=0.0, *, n_permutations=199, seed=0):
    points, codes = draw(sizes, shifts, seed=seed)
    found = measure_effect(points, codes, n_permutations, np.random.default_rng(seed))
    assert found is not None
    return found


@pytest.mark.parametrize("sizes", [(900, 900), (1500, 60), (900, 900, 900)])
def test_effect_is_the_share_between_batches_whatever_their_sizes(sizes):
    shifts = np.linspace(0, 2, len(sizes))
    expected = np.var(shifts, ddof=1) / (np.var(shifts, ddof=1) + 10)
    assert np.mean([measured(sizes, shifts, n_permutations=1, seed=seed).value for seed in range(10)]) == pytest.approx(
        expected, rel=0.1
    )


@pytest.mark.parametrize("sizes", [(30, 30), (100, 8), (20, 20, 5, 50)])
def test_no_effect_is_0_on_average(sizes):
    values = [measured(sizes, n_permutations=1, seed=seed).value for seed in range(200)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(200)
    found = measured(sizes, n_permutations=999)
    assert abs(found.null.mean()) < 4 * found.null.std() / np.sqrt(999)
    assert (abs(found.per_batch_null.mean(axis=0)) < 4 * found.per_batch_null.std(axis=0) / np.sqrt(999)).all()


def test_p_values_of_no_effect_are_uniform():
    p_values = np.sort([measured((25, 40), n_permutations=99, seed=seed).p_value for seed in range(300)])
    assert p_values.min() >= 0.01
    assert abs(p_values - np.arange(1, 301) / 300).max() < 0.1
    assert 3 <= (p_values <= 0.05).sum() <= 27


def test_effects_of_batches_make_that_of_all():
    """The variance of the means is the mean over batches of their squared distance from the others, suitably scaled."""
    found = measured((80, 50, 120), (0, 0, 3))
    ratio = found.value / (1 - found.value)
    assert np.mean(found.per_batch / (1 - found.per_batch)) == pytest.approx(ratio)
    assert found.per_batch.argmax() == 2


def test_batches_with_few_cells_are_left_out():
    found = measured((30, 4, 30), (0, 50, 0))
    assert found.batches.tolist() == [0, 2]
    assert (found.n_cells, found.sizes.tolist()) == (60, [30, 30])
    assert found.value < 0.1
    points, codes = draw((30, 4))
    assert measure_effect(points, codes, 99, np.random.default_rng(0)) is None


def test_constant_cells_have_no_effect():
    found = measure_effect(np.ones((20, 3)), np.arange(20) % 2, 99, np.random.default_rng(0))
    assert found is not None
    assert (found.value, found.p_value) == (0, 1)
    assert adjust_p_values([found]) == [1]


def test_means_are_those_of_the_batches():
    points, codes = draw((7, 5), 2.0)
    found = _batch_means(points.astype(np.float32), np.arange(12)[None], np.array([7, 5]))
    np.testing.assert_allclose(found[0], [points[:7].mean(axis=0), points[7:].mean(axis=0)], rtol=1e-5)


def test_memory_is_bounded_without_changing_what_is_drawn(monkeypatch):
    whole = measured((20, 20))
    monkeypatch.setattr(module, "_ENTRIES", 40 * 7)
    np.testing.assert_allclose(measured((20, 20)).null, whole.null)


def test_deviation_finds_the_batch():
    groups = [measured((40, 40, 40, 40), (0, 0, 2, 0), seed=1), measured((40, 40, 40, 2), (0, 0, 2, 0), seed=2)]
    found = measure_deviations(groups, 5)
    assert found[4] is None
    values = [deviation.value for deviation in found[:4] if deviation is not None]
    assert len(values) == 4
    assert np.argmax(values) == 2
    weighted = (40 * groups[0].per_batch[2] + 40 * groups[1].per_batch[2]) / 80
    assert values[2] == pytest.approx(weighted)
    assert found[3] is not None
    assert found[3].value == pytest.approx(groups[0].per_batch[3])
    adjusted = adjust_p_values([deviation for deviation in found if deviation is not None])
    assert adjusted[2] == 1 / 200


def test_adjusted_p_values_are_those_of_the_most_striking():
    clear, none = measured((60, 60), (0, 3)), [measured((60, 60), seed=seed) for seed in range(1, 30)]
    adjusted = adjust_p_values([clear, *none])
    assert adjusted[0] == 1 / 200, "however many there are"
    single = np.array([each.p_value for each in none])
    assert (adjusted[1:] >= single).all()
    assert single.min() < 0.1 < adjusted[1:].min()
    assert len(adjust_p_values([])) == 0


def test_few_of_many_families_have_a_small_p_value():
    """One of 20 families of tests without effect at most, on average, has one below .05."""
    smallest = [
        adjust_p_values([measured((15, 15), n_permutations=99, seed=10 * family + i) for i in range(8)]).min()
        for family in range(80)
    ]
    assert np.mean(np.array(smallest) <= 0.05) <= 0.125
