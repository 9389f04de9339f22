"""Minibatches hold every cell once, every batch in proportion, and never a single row of one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scbatchnorm._method.training.minibatches import COMPOSITIONS, draw_minibatches, mixed_minibatches

# Batch sizes from a single cell to several minibatches, in one list: a few batches or more than fit into a minibatch.
BATCH_SIZES = st.lists(st.one_of(st.just(1), st.integers(1, 5), st.integers(1, 400)), min_size=1, max_size=30)
SIZES = st.sampled_from([4, 7, 16, 64, 128])
FEW = settings(max_examples=60)


def codes_of(batch_sizes, seed=0):
    """Codes of cells in random order."""
    codes = np.repeat(np.arange(len(batch_sizes)), batch_sizes)
    return np.random.default_rng(seed).permutation(codes)


def by_batch(codes, minibatches):
    """Rows of each batch in each minibatch, shape (minibatches, batches)."""
    return np.array([np.bincount(codes[m], minlength=codes.max() + 1) for m in minibatches])


def n_minibatches(codes, size):
    return max(1, round(len(codes) / size))


def test_every_batch_has_its_share_everywhere():
    codes = codes_of([640, 320, 64])
    minibatches = mixed_minibatches(codes, 128, np.random.default_rng(0))
    assert (by_batch(codes, minibatches) == [80, 40, 8]).all()
    assert np.array_equal(np.sort(np.concatenate(minibatches)), np.arange(1024))


@FEW
@given(BATCH_SIZES, SIZES, st.integers(0, 5))
def test_never_a_single_row_of_a_batch(batch_sizes, size, seed):
    codes = codes_of(batch_sizes, seed)
    rows = by_batch(codes, mixed_minibatches(codes, size, np.random.default_rng(seed)))
    assert not (rows == 1).any()


@FEW
@given(BATCH_SIZES, SIZES, st.integers(0, 5))
def test_every_cell_is_dealt_as_often_as_documented(batch_sizes, size, seed):
    """Once; where a batch has less than two cells a minibatch, floor or ceil of its rows per cell."""
    codes = codes_of(batch_sizes, seed)
    seen = np.bincount(
        np.concatenate(mixed_minibatches(codes, size, np.random.default_rng(seed))), minlength=len(codes)
    )
    everywhere = 2 * len(batch_sizes) <= size
    for level, n in enumerate(batch_sizes):
        rows = max(n, 2 * n_minibatches(codes, size)) if everywhere else max(n, 2)
        repeats = seen[codes == level]
        assert repeats.sum() == rows
        assert set(repeats) <= {math.floor(rows / n), math.ceil(rows / n)}


@FEW
@given(BATCH_SIZES, SIZES, st.integers(0, 5))
def test_rows_of_a_batch_are_within_one_of_its_quota(batch_sizes, size, seed):
    """floor or ceil of n / M; 2 where that is less; 0 is possible only if 2 of every batch do not fit."""
    codes = codes_of(batch_sizes, seed)
    minibatches = mixed_minibatches(codes, size, np.random.default_rng(seed))
    m = n_minibatches(codes, size)
    fits = 2 * len(batch_sizes) <= size
    if fits:
        assert len(minibatches) == m
    for n, rows in zip(batch_sizes, by_batch(codes, minibatches).T, strict=True):
        if n >= 2 * m:
            assert set(rows) <= {math.floor(n / m), math.ceil(n / m)}
        elif fits:
            assert (rows == 2).all()
        else:
            assert set(rows) <= {0, 2, 3}


@FEW
@given(BATCH_SIZES, SIZES, st.integers(0, 5))
def test_minibatches_are_about_equally_large(batch_sizes, size, seed):
    codes = codes_of(batch_sizes, seed)
    lengths = [len(m) for m in mixed_minibatches(codes, size, np.random.default_rng(seed))]
    # Pieces of two or three rows cannot be spread more evenly than to within one piece.
    assert np.ptp(lengths) <= (1 if 2 * len(batch_sizes) <= size else 3)


@settings(max_examples=20)
@given(st.lists(st.integers(1, 60), min_size=100, max_size=100), st.integers(0, 5))
def test_hundred_batches_take_turns(batch_sizes, seed):
    """100 batches do not fit twice into 128 rows: no row is alone, no cell is left out or repeated."""
    codes = codes_of(batch_sizes, seed)
    minibatches = mixed_minibatches(codes, 128, np.random.default_rng(seed))
    rows = by_batch(codes, minibatches)
    assert not (rows == 1).any()
    assert np.ptp(rows.sum(axis=1)) <= 3
    seen = np.bincount(np.concatenate(minibatches), minlength=len(codes))
    alone = np.array(batch_sizes)[codes] == 1
    assert (seen == np.where(alone, 2, 1)).all()


def test_fewer_cells_than_a_minibatch():
    codes = np.array([0, 0, 1, 1, 1])
    (only,) = mixed_minibatches(codes, 128, np.random.default_rng(0))
    assert sorted(only) == [0, 1, 2, 3, 4]


def test_batch_of_one_cell_enters_twice():
    (only,) = mixed_minibatches(np.array([0, 0, 0, 1]), 128, np.random.default_rng(0))
    assert sorted(only) == [0, 1, 2, 3, 3]


@FEW
@given(st.integers(2, 2000), st.sampled_from([4, 5, 32, 128]), st.integers(0, 5))
def test_shuffled_deals_every_cell_once(n_cells, size, seed):
    codes = np.random.default_rng(seed).integers(3, size=n_cells)
    minibatches = draw_minibatches(codes, size, np.random.default_rng(seed), composition="shuffled")
    lengths = [len(m) for m in minibatches]
    assert np.array_equal(np.sort(np.concatenate(minibatches)), np.arange(n_cells))
    assert np.ptp(lengths) <= 1
    assert min(lengths) >= 2
    assert len(minibatches) == n_minibatches(codes, size)


def test_shuffled_ignores_the_batches():
    """Sorted cells are mixed, and not by quota: the composition varies as in draws without replacement."""
    codes = np.repeat([0, 1], 6400)
    minibatches = draw_minibatches(codes, 128, np.random.default_rng(0), composition="shuffled")
    share = by_batch(codes, minibatches)[:, 0] / 128
    assert share.mean() == pytest.approx(0.5)
    assert share.std() == pytest.approx(math.sqrt(0.25 / 128), rel=0.3)


@FEW
@given(st.lists(st.integers(2, 300), min_size=1, max_size=10), SIZES, st.integers(0, 5))
def test_single_never_mixes_batches(batch_sizes, size, seed):
    codes = codes_of(batch_sizes, seed)
    minibatches = draw_minibatches(codes, size, np.random.default_rng(seed), composition="single")
    assert all(len(set(codes[m])) == 1 for m in minibatches)
    assert min(len(m) for m in minibatches) >= 2
    assert np.array_equal(np.sort(np.concatenate(minibatches)), np.arange(len(codes)))


def test_single_draws_batches_in_random_order():
    codes = np.repeat([0, 1], 1280)
    minibatches = draw_minibatches(codes, 128, np.random.default_rng(0), composition="single")
    assert len(minibatches) == 20
    order = [codes[m][0] for m in minibatches]
    assert 1 < np.abs(np.diff(order)).sum()


@pytest.mark.parametrize("composition", COMPOSITIONS)
def test_pure_function_of_codes_and_rng(composition):
    codes = codes_of([300, 200, 40, 3, 1])
    before = codes.copy()
    np_state = repr(np.random.get_state())  # noqa: NPY002

    def deal(seed):
        return draw_minibatches(codes, 64, np.random.default_rng(seed), composition=composition)

    first, again, other = deal(1), deal(1), deal(2)
    assert len(first) == len(again)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(np.concatenate(first), np.concatenate(other))
    assert np.array_equal(codes, before)
    assert repr(np.random.get_state()) == np_state  # noqa: NPY002


@pytest.mark.parametrize("composition", COMPOSITIONS)
def test_epochs_differ(composition):
    """A generator that goes on deals differently in each epoch."""
    codes, rng = codes_of([300, 200]), np.random.default_rng(0)
    first, second = (draw_minibatches(codes, 64, rng, composition=composition) for _ in range(2))
    assert not np.array_equal(np.concatenate(first), np.concatenate(second))


def test_codes_of_any_numbering():
    """Batches are told apart by their codes, whatever these are."""
    codes = codes_of([100, 30])
    plain = mixed_minibatches(codes, 32, np.random.default_rng(0))
    spread = mixed_minibatches(np.array([3, 17])[codes], 32, np.random.default_rng(0))
    assert all(np.array_equal(a, b) for a, b in zip(plain, spread, strict=True))
