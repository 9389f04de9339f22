"""Anchors are mutual neighbours; offsets and partners follow from them as documented."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from scbatchnorm._method import anchors as _anchors
from scbatchnorm._method.anchors import (
    AnchorPartners,
    Anchors,
    cells_per_batch,
    clean_anchors,
    find_anchors,
    find_nearest,
    l2_normalise,
    offsets_in_rounds,
    sketch_batches,
    solve_offsets,
)


def pairs_of(anchors):
    return set(zip(anchors.left.tolist(), anchors.right.tolist(), strict=True))


def mutual_neighbours(points, codes, k):
    """All pairs of cells that are among each other's k most similar cells of the other batch, with their batches."""
    unit = points.astype(np.float64) / np.linalg.norm(points.astype(np.float64), axis=1, keepdims=True)
    similarity = unit @ unit.T
    n = len(points)
    near = {}
    for i in range(n):
        for b in set(codes.tolist()) - {codes[i]}:
            others = [j for j in range(n) if codes[j] == b]
            near[i, b] = sorted(others, key=lambda j: -similarity[i, j])[:k]
    return {
        (i, j): (codes[i], codes[j])
        for i in range(n)
        for j in range(n)
        if codes[i] < codes[j] and j in near[i, codes[j]] and i in near[j, codes[i]]
    }


def paired(base, shifts):
    """Shifted copies of `base`, one a batch; every cell is an anchor of each of its copies."""
    n, n_batches = len(base), len(shifts)
    points = np.concatenate([base + shift for shift in shifts]).astype(np.float32)
    left, right, group = [], [], []
    for u, v in combinations(range(n_batches), 2):
        left.append(u * n + np.arange(n))
        right.append(v * n + np.arange(n))
        group.append(np.full(n, u * n_batches + v))
    anchors = Anchors(np.concatenate(left), np.concatenate(right), np.concatenate(group))
    return points, np.repeat(np.arange(n_batches), n), anchors


@settings(max_examples=25)
@given(st.lists(st.integers(1, 15), min_size=2, max_size=4), st.integers(1, 20), st.integers(0, 9))
def test_find_is_brute_force(batch_sizes, k, seed):
    """Also for batches smaller than k; `left` is in the batch with the lower code, `group` numbers the pair of batches."""
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.repeat(np.arange(len(batch_sizes)), batch_sizes))
    points = rng.normal(size=(len(codes), 3)).astype(np.float32)
    found, expected = find_anchors(points, codes, k), mutual_neighbours(points, codes, k)
    assert len(found) == len(expected)
    assert pairs_of(found) == set(expected)
    numbers: dict[int, tuple[int, int]] = {}
    for i, j, g in zip(found.left, found.right, found.group, strict=True):
        assert numbers.setdefault(g, expected[i, j]) == expected[i, j]
    assert len(numbers) == len(set(expected.values()))


def test_find_ignores_the_length_of_cells():
    rng = np.random.default_rng(0)
    points, codes = rng.normal(size=(60, 4)).astype(np.float32), np.arange(60) % 3
    scaled = points * rng.uniform(0.1, 10, (60, 1)).astype(np.float32)
    assert pairs_of(find_anchors(points, codes, 5)) == pairs_of(find_anchors(scaled, codes, 5))


def test_find_pairs_copies_with_each_other():
    points, codes, _ = paired(np.random.default_rng(0).normal(size=(40, 5)), np.zeros((3, 5)))
    found = find_anchors(points, codes, 1)
    assert pairs_of(found) == {(u * 40 + i, v * 40 + i) for i in range(40) for u, v in combinations(range(3), 2)}


def test_find_in_one_batch_is_empty():
    found = find_anchors(np.ones((5, 2), np.float32), np.zeros(5, dtype=int), 5)
    assert len(found) == 0
    assert list(found.groups()) == []


def test_groups_are_the_pairs_of_batches():
    rng = np.random.default_rng(0)
    anchors = Anchors(np.arange(50), np.arange(50), rng.integers(4, size=50) * 3)
    parts = list(anchors.groups())
    assert [set(anchors.group[p]) for p in parts] == [{0}, {3}, {6}, {9}]
    assert sorted(np.concatenate(parts)) == list(range(50))


@pytest.mark.parametrize("k", [1, 7, 500])
def test_nearest_is_that_of_sklearn(k):
    """Nearest first; more queries than are compared at once; k above the number of references is cut to it."""
    rng = np.random.default_rng(0)
    query = rng.normal(size=(_anchors._ROWS + 10, 4)).astype(np.float32)
    reference = rng.normal(size=(90, 4)).astype(np.float32)
    found = find_nearest(query, reference, k)
    distances, expected = NearestNeighbors(n_neighbors=min(k, 90)).fit(reference).kneighbors(query)
    assert found.shape == expected.shape
    # Positions may be swapped where distances are equal to within single precision.
    own = np.linalg.norm(query[:, None] - reference[found], axis=2)
    np.testing.assert_allclose(own, distances, atol=1e-4)
    assert (found == expected).mean() > 0.999


def test_unit_has_length_one_and_keeps_zeros():
    unit = l2_normalise(np.array([[3, 4], [0, 0], [1e-3, 0]], dtype=np.float32))
    np.testing.assert_allclose(unit, np.array([[0.6, 0.8], [0, 0], [1, 0]]), rtol=1e-6)


@given(st.integers(1, 1000))
def test_cells_per_batch_are_bounded(n_batches):
    """At least enough to find anchors among, and else not more in all than pairs can be formed of."""
    n = cells_per_batch(n_batches)
    assert _anchors._AT_LEAST <= n <= _anchors._PER_BATCH
    assert n == _anchors._AT_LEAST or n * n_batches <= _anchors._IN_ALL
    assert n >= cells_per_batch(n_batches + 1)


@settings(max_examples=30)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=6), st.integers(1, 70), st.integers(0, 3))
def test_sketch_takes_up_to_so_many_of_each_batch(batch_sizes, limit, seed):
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.repeat(np.arange(len(batch_sizes)), batch_sizes))
    rows = sketch_batches(codes, limit, np.random.default_rng(seed))
    assert (np.diff(rows) > 0).all()
    assert np.bincount(codes[rows]).tolist() == [min(n, limit) for n in batch_sizes]
    assert np.array_equal(rows, sketch_batches(codes, limit, np.random.default_rng(seed)))


def test_sketch_is_drawn_uniformly():
    rng, codes = np.random.default_rng(0), np.repeat([0, 1], [50, 5])
    drawn = np.bincount(np.concatenate([sketch_batches(codes, 10, rng) for _ in range(2000)]), minlength=55) / 2000
    np.testing.assert_allclose(drawn, np.where(codes == 0, 0.2, 1), atol=0.05)


@pytest.mark.parametrize("displaced, dissimilar", [(0.0, 0.0), (0.2, 0.0), (0.0, 0.15), (0.3, 0.25)])
def test_clean_drops_the_share_asked_for_in_each_pair_of_batches(displaced, dissimilar):
    rng = np.random.default_rng(0)
    points, codes = rng.normal(size=(300, 5)).astype(np.float32), np.repeat([0, 1, 2], [150, 100, 50])
    anchors = find_anchors(points, codes, 5)
    kept = clean_anchors(anchors, points, displaced=displaced, dissimilar=dissimilar)
    assert pairs_of(kept) <= pairs_of(anchors)
    for g in np.unique(anchors.group):
        n = int((anchors.group == g).sum())
        n -= int(displaced * n)
        n -= int(dissimilar * n)
        assert (kept.group == g).sum() == n


def test_clean_drops_the_least_similar():
    rng = np.random.default_rng(0)
    points, codes = rng.normal(size=(200, 5)).astype(np.float32), np.arange(200) % 2
    anchors = find_anchors(points, codes, 5)
    cosine = (l2_normalise(points)[anchors.left] * l2_normalise(points)[anchors.right]).sum(axis=1)
    kept = clean_anchors(anchors, points, displaced=0, dissimilar=0.25)
    highest = np.argsort(-cosine)[: len(kept)]
    assert pairs_of(kept) == pairs_of(anchors[highest])


def test_clean_drops_wrong_pairs_first():
    """Pairs that are not displaced as those around them, be it by more or by less."""
    rng = np.random.default_rng(0)
    base = rng.normal(0, 1, (200, 4)) * [0, 1, 1, 1] + np.array([10, 0, 0, 0])
    points, _, anchors = paired(base, [np.zeros(4), [0, 1, 0, 0]])
    wrong = rng.choice(200, 10, replace=False)
    points[200 + wrong] += np.array([[0, -1, 0, 0], [0, 0, 1, -1]], dtype=np.float32)[np.arange(10) % 2]
    kept = clean_anchors(anchors, points, displaced=0.05, dissimilar=0)
    assert sorted(kept.left) == sorted(set(range(200)) - set(wrong))


def test_clean_without_anchors():
    empty = np.empty(0, dtype=np.intp)
    assert (
        len(clean_anchors(Anchors(empty, empty, empty), np.ones((3, 2), np.float32), displaced=0.2, dissimilar=0.1))
        == 0
    )


@pytest.mark.parametrize("n_batches", [2, 5])
def test_offsets_recover_shifts(n_batches):
    """Of copies without noise exactly, counted from their mean."""
    rng = np.random.default_rng(0)
    shifts = rng.normal(size=(n_batches, 4))
    points, _, anchors = paired(rng.normal(size=(30, 4)), shifts)
    np.testing.assert_allclose(
        solve_offsets(anchors, points, n_batches), shifts - shifts.mean(axis=0), rtol=1e-4, atol=1e-5
    )


def test_offsets_pass_over_a_batch_between():
    """Batches 0 and 2 have no anchors with each other, but both have with 1."""
    shifts = np.array([[0.0, 0], [1, -1], [5, 2]])
    points, _, anchors = paired(np.random.default_rng(0).normal(size=(30, 2)), shifts)
    chain = anchors[np.flatnonzero(anchors.group != 2)]
    np.testing.assert_allclose(solve_offsets(chain, points, 3), shifts - shifts.mean(axis=0), atol=1e-5)


def test_offsets_are_not_moved_by_a_minority_of_wrong_anchors():
    shifts = np.array([[0.0, 0, 0], [1, 2, 3]])
    points, _, anchors = paired(np.random.default_rng(0).normal(0, 0.1, (51, 3)), shifts)
    points[51:71] += 100
    difference = np.diff(solve_offsets(anchors, points, 2), axis=0)[0]
    np.testing.assert_allclose(difference, shifts[1], atol=0.5)


def test_offsets_weigh_pairs_of_batches_by_the_root_of_their_anchors():
    """Where three pairs contradict each other, the solution has gradient 0 of sum sqrt(n_uv) |o_u - o_v - m_uv|^2."""
    rng = np.random.default_rng(0)
    points, _, anchors = paired(rng.normal(size=(100, 3)), rng.normal(size=(3, 3)))
    points = points + rng.normal(size=points.shape).astype(np.float32)
    n = {1: 100, 2: 4, 5: 25}
    kept = anchors[np.concatenate([np.flatnonzero(anchors.group == g)[:m] for g, m in n.items()])]
    found = solve_offsets(kept, points, 3)
    gradient = np.zeros((3, 3))
    for g, m in n.items():
        u, v = divmod(g, 3)
        members = kept.group == g
        median = np.median(points[kept.left[members]] - points[kept.right[members]], axis=0)
        pull = np.sqrt(m) * (found[u] - found[v] - median)
        gradient[u] += pull
        gradient[v] -= pull
    assert np.abs(found).max() > 0.1
    np.testing.assert_allclose(gradient, 0, atol=1e-4)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-5)


def test_offsets_of_batches_without_anchors():
    """A batch without any gets the mean, which is 0; two islands are solved each on their own; none is all zeros."""
    shifts = np.array([[0.0, 1], [2, 3], [100, 100]])
    points, _, anchors = paired(np.random.default_rng(0).normal(size=(20, 2)), shifts)
    two = anchors[np.flatnonzero(anchors.group == 1)]
    np.testing.assert_allclose(solve_offsets(two, points, 3), [[-1, -1], [1, 1], [0, 0]], atol=1e-4)
    shifts = np.array([[0.0], [2], [0], [10]])
    points, _, anchors = paired(np.random.default_rng(0).normal(size=(20, 1)), shifts)
    islands = anchors[np.flatnonzero((anchors.group == 1) | (anchors.group == 11))]
    np.testing.assert_allclose(solve_offsets(islands, points, 4)[:, 0], [-1, 1, -5, 5], atol=1e-4)
    empty = np.empty(0, dtype=np.intp)
    np.testing.assert_allclose(solve_offsets(Anchors(empty, empty, empty), points, 4), 0, atol=1e-12)


def unequal(seed=0):
    """Two batches of two types, 80:20 and 20:80, the second one shifted."""
    rng = np.random.default_rng(seed)
    types = np.concatenate([np.arange(300) % 5 == 0, np.arange(300) % 5 != 0]).astype(int)
    codes = np.repeat([0, 1], 300)
    centre = 3 * np.array([[1, 1, 0, 0, 1, 0], [-1, 0, 1, 1, 0, -1]])
    shift = np.array([0.8, -0.8, 0.8, 0, 0, 0.8])
    points = centre[types] + rng.normal(0, 0.5, (600, 6)) + codes[:, None] * shift
    return points.astype(np.float32), codes, shift


def test_align_finds_the_shift_of_unequal_batches():
    """Shared states decide: means of the batches would take composition for a batch effect."""
    points, codes, shift = unequal()
    scores = np.concatenate([(p - p.mean(axis=0)) / p.std(axis=0) for p in (points[:300], points[300:])])
    found = offsets_in_rounds(points, scores, codes, 5, np.random.default_rng(0))
    error = np.abs(found[1] - found[0] - shift).max()
    by_mean = np.abs(points[300:].mean(axis=0) - points[:300].mean(axis=0) - shift).max()
    np.testing.assert_allclose(found.sum(axis=0), 0, atol=1e-4)
    assert found.dtype == np.float32
    assert error < 0.4
    assert by_mean > 1.5


def test_align_is_reproducible():
    points, codes, _ = unequal()
    one, other = (offsets_in_rounds(points, points, codes, 5, np.random.default_rng(4)) for _ in range(2))
    assert np.array_equal(one, other)


def test_align_of_one_cell_against_many():
    points = np.random.default_rng(0).normal(size=(31, 3)).astype(np.float32)
    found = offsets_in_rounds(points, points, np.arange(31) // 30, 5, np.random.default_rng(0))
    assert np.isfinite(found).all()


@settings(max_examples=25)
@given(st.sets(st.tuples(st.integers(0, 9), st.integers(10, 19)), max_size=30), st.integers(0, 5))
def test_partners_are_drawn_from_the_anchors(pairs, seed):
    left, right = (np.array([p[side] for p in sorted(pairs)], dtype=np.intp) for side in (0, 1))
    partners = AnchorPartners(Anchors(left, right, np.zeros(len(left), dtype=np.intp)), 25)
    cells = np.random.default_rng(seed).integers(25, size=40)
    anchored, drawn = partners.draw(cells, np.random.default_rng(seed))
    assert anchored.tolist() == np.isin(cells, [*left, *right]).tolist()
    assert len(drawn) == anchored.sum()
    both = pairs | {(j, i) for i, j in pairs}
    assert set(zip(cells[anchored].tolist(), drawn.tolist(), strict=True)) <= both
    assert np.array_equal(drawn, partners.draw(cells, np.random.default_rng(seed))[1])


@pytest.mark.parametrize("cell, shares", [(0, [0, 0, 1 / 3, 1 / 3, 1 / 3]), (4, [0.5, 0.5, 0, 0, 0])])
def test_partners_of_a_cell_are_equally_likely(cell, shares):
    partners = AnchorPartners(Anchors(np.array([0, 0, 0, 1]), np.array([2, 3, 4, 4]), np.zeros(4, dtype=int)), 5)
    drawn = partners.draw(np.full(6000, cell), np.random.default_rng(0))[1]
    np.testing.assert_allclose(np.bincount(drawn, minlength=5) / 6000, shares, atol=0.03)
