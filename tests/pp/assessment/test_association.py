"""Confounding is what the rank of the design matrix says, and a few stray cells do not hide it."""

from __future__ import annotations

import numpy as np
import pytest

from scbatchnorm.pp._assessment.association import (
    _count_components,
    bin_numbers,
    classify_levels,
    classify_numbers,
    correlation_ratio,
    cramers_v,
)


def table(*rows) -> np.ndarray:
    return np.array(rows)


@pytest.mark.parametrize(
    ("counts", "status", "components"),
    [
        (table([50, 0], [0, 50]), "confounded", 2),
        (table([50, 0, 50, 0], [0, 50, 0, 50]), "confounded", 2),
        (table([50, 20], [30, 50]), "separable", 1),
        (table([50, 0, 30], [0, 50, 20]), "separable", 1),
        (table([50, 30, 0], [20, 0, 30], [0, 40, 0]), "separable", 1),
        (table([50, 0], [50, 0], [0, 50], [0, 50]), "nested in batches", 2),
        (table([50, 40, 0, 0], [50, 0, 0, 0], [0, 0, 50, 0], [0, 0, 0, 50]), "partly separable", 3),
        (table([50, 50]), "one level", 1),
        (table([50], [50]), "one batch", 1),
        (table([990, 5], [10, 995]), "nearly confounded", 2),
        (table([990, 0], [0, 995], [10, 0]), "nested in batches", 2),
        (table([900, 20], [0, 20]), "separable", 1),
    ],
)
def test_status(counts, status, components):
    confounding = classify_levels(counts)
    assert (confounding.status, confounding.n_components) == (status, components)
    assert confounding.confounded == ("confounded" in status)
    assert classify_levels(counts[::-1, ::-1]) == confounding


def test_strays_are_counted():
    assert classify_levels(table([990, 5], [10, 995])).n_strays == 15
    assert classify_levels(table([990, 0], [0, 995])).n_strays == 0


@pytest.mark.parametrize("seed", range(20))
def test_components_are_the_rank_of_the_design(seed):
    rng = np.random.default_rng(seed)
    counts = rng.integers(20, 60, (4, 5)) * (rng.random((4, 5)) < 0.35)
    counts = counts[counts.any(axis=1)][:, counts[counts.any(axis=1)].any(axis=0)]
    levels, batches = np.nonzero(counts)
    design = np.concatenate([np.eye(counts.shape[1])[batches], np.eye(counts.shape[0])[levels]], axis=1)
    assert _count_components(counts > 0) == sum(counts.shape) - np.linalg.matrix_rank(design)


def test_cramers_v():
    assert cramers_v(table([50, 0], [0, 50])) == pytest.approx(1, abs=0.02)
    assert cramers_v(table([50, 50], [50, 50])) == 0
    assert np.isnan(cramers_v(table([50, 50])))
    # Bergsma (2013): sqrt(max(0, phi2 - (k - 1)(r - 1) / (n - 1)) / (k' - 1)) with k' = k - (k - 1)^2 / (n - 1)
    phi = (60 * 40 - 20 * 30) ** 2 / (80 * 70 * 90 * 60)
    assert cramers_v(table([60, 20], [30, 40])) == pytest.approx(np.sqrt((phi - 1 / 149) / (1 - 1 / 149)))


def test_cramers_v_has_no_bias_from_many_levels():
    rng = np.random.default_rng(0)
    values = []
    for _ in range(50):
        counts = np.zeros((20, 5), dtype=int)
        np.add.at(counts, (rng.integers(20, size=200), rng.integers(5, size=200)), 1)
        values.append(cramers_v(counts))
    assert np.mean(values) < 0.06


def test_correlation_ratio():
    codes = np.repeat([0, 1, 2], 50)
    rng = np.random.default_rng(0)
    assert correlation_ratio(codes * 7.0, codes) == 1
    assert correlation_ratio(rng.normal(size=150), codes) < 0.25
    half = rng.normal(size=150) + np.repeat([-1.22, 0, 1.22], 50)
    assert correlation_ratio(half, codes) == pytest.approx(np.sqrt(0.5), abs=0.1)
    assert np.isnan(correlation_ratio(np.ones(150), codes))
    assert np.isnan(correlation_ratio(half, np.zeros(150, dtype=int)))


@pytest.mark.parametrize(("noise", "status"), [(0, "confounded"), (0.5, "nearly confounded"), (9, "separable")])
def test_numbers_need_variation_within_batches(noise, status):
    codes = np.repeat([0, 2, 5], 60)
    values = 4.0 * codes + noise * np.random.default_rng(0).normal(size=180)
    confounding = classify_numbers(values, codes)
    assert confounding.status == status
    assert confounding.confounded == ("confounded" in status)
    assert classify_numbers(np.ones(180), codes).status == "one level"
    assert classify_numbers(values, np.zeros(180, dtype=int)).status == "one batch"


def test_bins_are_named_by_what_they_hold():
    codes, names = bin_numbers(np.arange(100.0))
    assert names == ["0 to 19", "20 to 39", "40 to 59", "60 to 79", "80 to 99"]
    assert np.bincount(codes).tolist() == [20] * 5
    codes, names = bin_numbers(np.repeat([1.0, 2.0, 3.0], [90, 5, 5]))
    assert len(names) == codes.max() + 1
    assert bin_numbers(np.ones(3))[1] == ["1 to 1"]
