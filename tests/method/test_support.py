"""Support and counterparts: shared states count alike in both batches, private states count nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scbatchnorm._method import support as _support
from scbatchnorm._method.anchors import Anchors, find_anchors
from scbatchnorm._method.support import knn_mixing, neighbourhood_overlap, neighbours_within_batch, pair_weights

EMPTY = Anchors(*(np.empty(0, dtype=np.intp) for _ in range(3)))


def looked_at(points, codes, k):
    anchors, near = find_anchors(points, codes, k), neighbours_within_batch(points, codes)
    share = neighbourhood_overlap(anchors, near, codes)
    return anchors, near, share, pair_weights(anchors, share, near, codes)


def two_states(sizes, spread=0.3, seed=0):
    """Cells of two far states in two batches; `sizes[batch][state]` of each."""
    rng = np.random.default_rng(seed)
    centre = 10 * np.array([[1, 0, 0, 0, 0], [0.6, 0.8, 0, 0, 0]])
    kind = np.concatenate([np.repeat([0, 1], inside) for inside in sizes])
    codes = np.repeat([0, 1], [sum(inside) for inside in sizes])
    return (centre[kind] + spread * rng.normal(size=(len(kind), 5))).astype(np.float32), codes, kind


@settings(max_examples=25)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=4), st.integers(0, 5))
def test_neighbours_are_the_nearest_of_the_batch(sizes, seed):
    codes = np.repeat(np.arange(len(sizes)), sizes)
    points = np.random.default_rng(seed).normal(size=(len(codes), 3)).astype(np.float32)
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    near = neighbours_within_batch(points, codes)
    assert near.shape == (len(codes), 15)
    for i in range(len(codes)):
        distance = np.where(codes == codes[i], np.linalg.norm(unit - unit[i], axis=1), np.inf)
        n = min(15, sizes[codes[i]])
        assert (codes[near[i]] == codes[i]).all()
        np.testing.assert_allclose(np.sort(distance[near[i][:n]]), np.sort(distance)[:n], atol=2e-3)
        np.testing.assert_array_equal(near[i], np.resize(near[i][:n], 15))


def test_support_is_the_share_of_anchored_neighbours():
    rng = np.random.default_rng(0)
    points, codes = rng.normal(size=(90, 3)).astype(np.float32), np.arange(90) % 3
    anchors, near, share, _ = looked_at(points, codes, 1)
    for i in range(90):
        for level in range(3):
            partners = {
                *anchors.left[codes[anchors.right] == level].tolist(),
                *anchors.right[codes[anchors.left] == level].tolist(),
            }
            expected = np.mean([j in partners for j in near[i].tolist()]) if level != codes[i] else 0
            assert share[i, level] == pytest.approx(expected, abs=1e-6)
    assert 0.2 < share.max(axis=1).mean() < 0.9


def test_support_tells_shared_from_private_cells():
    """Batch 0 has a cluster that batch 1 has not; its cells look at the nearest cluster, which looks elsewhere."""
    points, codes, kind = two_states([(100, 60), (100, 0)], spread=1.0)
    _, _, share, weight = looked_at(points, codes, 10)
    assert share[kind == 0].max(axis=1).mean() > 0.85
    assert share[kind == 1].max() < 0.1
    assert weight[kind == 1].sum() < 0.01 * weight.sum()


def test_counterparts_balance_unequal_composition():
    """One batch has three times the cells of a state: what both weigh in it is nevertheless about the same."""
    points, codes, kind = two_states([(90, 30), (30, 90)])
    _, _, share, weight = looked_at(points, codes, 5)
    for state, more in ((0, 0), (1, 1)):
        many = (kind == state) & (codes == more)
        few = (kind == state) & (codes != more)
        assert weight[many].sum() / weight[few].sum() == pytest.approx(1, abs=0.25)
        assert share[many].sum() / share[few].sum() > 1.5  # which support alone would not do


@settings(max_examples=25)
@given(st.lists(st.integers(2, 30), min_size=2, max_size=4), st.integers(0, 5))
def test_counterparts_are_scaled_to_the_support(sizes, seed):
    codes = np.repeat(np.arange(len(sizes)), sizes)
    points = np.random.default_rng(seed).normal(size=(len(codes), 3)).astype(np.float32)
    _, _, share, weight = looked_at(points, codes, 3)
    assert (weight >= 0).all()
    assert (weight[np.arange(len(codes)), codes] == 0).all()
    assert weight.sum(axis=1).mean() == pytest.approx(np.square(share.max(axis=1)).mean(), rel=1e-4)


def test_counterparts_is_the_formula():
    """Anchors of the neighbours, each by the support of both ends, up to one factor."""
    rng = np.random.default_rng(3)
    points, codes = rng.normal(size=(60, 3)).astype(np.float32), np.arange(60) % 3
    anchors, near, share, weight = looked_at(points, codes, 2)
    expected = np.zeros((60, 3))
    for i in range(60):
        for j in near[i]:
            for left, right in zip(anchors.left, anchors.right, strict=True):
                quality = share[left, codes[right]] * share[right, codes[left]]
                expected[i, codes[right]] += quality * (left == j)
                expected[i, codes[left]] += quality * (right == j)
    np.testing.assert_allclose(weight / weight.sum(), expected / expected.sum(), atol=1e-6)


def test_small_batches_and_no_anchors():
    points, codes = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32), np.array([0, 0, 0, 0, 0, 1])
    _, near, share, weight = looked_at(points, codes, 5)
    np.testing.assert_allclose(share, np.eye(2)[1 - codes])
    np.testing.assert_allclose(weight.sum(axis=1), [0.6] * 5 + [3.0], rtol=1e-5)
    nothing = neighbourhood_overlap(EMPTY, near, codes)
    np.testing.assert_array_equal(nothing, 0)
    np.testing.assert_array_equal(pair_weights(EMPTY, nothing, near, codes), 0)


def mixing(points, codes, weight):
    return knn_mixing(points, codes, weight, np.random.default_rng(1))


@pytest.mark.parametrize("asked", [2000, 200])
def test_mixing_is_1_by_chance_and_0_apart(monkeypatch, asked):
    monkeypatch.setattr(_support, "_ASKED", asked)
    rng = np.random.default_rng(0)
    points, codes = rng.normal(size=(600, 5)).astype(np.float32), rng.integers(3, size=600)
    everywhere = np.ones(600, dtype=np.float32)
    assert mixing(points, codes, everywhere) == pytest.approx(1, abs=0.05)
    apart = points + 50 * np.eye(3, 5, dtype=np.float32)[codes]
    assert mixing(apart, codes, everywhere) == 0
    # only cells that count do
    half = np.where(np.arange(600)[:, None] < 300, points, apart)
    assert mixing(half, codes, (np.arange(600) >= 300).astype(np.float32)) < 0.1
    assert mixing(half, codes, np.zeros(600, dtype=np.float32)) == 1
