from __future__ import annotations

import threading

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone

from scbatchnorm._data.blocks import ROWS, InMemory, Notes, map_in_order
from scbatchnorm._method import pca as _principal
from scbatchnorm._persistence import checkpoint as _checkpoint


@pytest.fixture
def matrix():
    rng = np.random.default_rng(0)
    return sparse.random(2 * ROWS + 100, 6, density=0.4, format="csr", dtype=np.float32, random_state=rng)


def test_blocks_are_those_of_fixed_rows_in_their_order(matrix):
    found = list(InMemory(matrix).map(lambda block, start: (start, block.shape[0], block.sum()), what=""))
    assert [(start, n) for start, n, _ in found] == [(0, ROWS), (ROWS, ROWS), (2 * ROWS, 100)]
    np.testing.assert_allclose(sum(total for *_, total in found), matrix.sum(), rtol=1e-5)


def test_sums_of_features_are_those_of_float64(matrix):
    expected = matrix.toarray().astype(np.float64).sum(axis=0)
    np.testing.assert_allclose(InMemory(matrix).feature_sums(), expected, rtol=1e-12)
    np.testing.assert_allclose(InMemory(matrix.toarray()).feature_sums(), expected, rtol=1e-12)


def test_products_are_those_of_the_matrix(matrix):
    axes = np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32)
    found = InMemory(matrix).product(axes, what="")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, matrix @ axes)


def test_a_sum_goes_on_where_it_was_noted(matrix):
    class Remembering(Notes):
        def __init__(self):
            self.noted = {}

        def recall(self, what):
            return self.noted.get(what, (0, []))

        def note(self, what, n_done, sums, *, last):
            self.noted[what] = (n_done, sums)
            assert last == (n_done == 3)

    def sums(block, start):
        looked_at.append(start)
        if start == 2 * ROWS and failing:
            raise KeyboardInterrupt
        return [np.array([block.sum(dtype=np.float64)]), np.array([1.0])]

    blocks, failing = InMemory(matrix), True
    looked_at: list[int] = []
    blocks.notes = notes = Remembering()
    with pytest.raises(KeyboardInterrupt):
        blocks.total(sums, what="sums")
    assert notes.noted["sums"][0] in {1, 2}
    n_done, failing = notes.noted["sums"][0], False
    looked_at.clear()
    total, count = blocks.total(sums, what="sums")
    assert sorted(looked_at) == list(blocks.starts[n_done:])
    assert count == [3]
    np.testing.assert_allclose(total, matrix.sum(dtype=np.float64), rtol=1e-6)


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_results_come_in_order_and_threads_are_not_far_ahead(n_threads):
    lock, taken, given = threading.Lock(), [], 0

    def task(i):
        with lock:
            taken.append(i)
            assert i <= given + n_threads + 1
        return i

    for i in map_in_order(task, range(40), n_threads):
        assert i == given
        given += 1
    assert sorted(taken) == list(range(40))


def test_an_error_in_a_block_reaches_the_caller():
    def task(i):
        if i == 3:
            msg = "block 3"
            raise ValueError(msg)
        return i

    with pytest.raises(ValueError, match="block 3"):
        list(map_in_order(task, range(10), 2))


@pytest.mark.parametrize("strength", [1.0, 0.0])
def test_sums_over_blocks_are_not_added_up_again(brief, annotated, tmp_path, monkeypatch, caplog, strength):
    """A fit that is killed in its second sum goes on in it, and ends with the same bits."""
    adata = annotated(20_000, 20)
    batch = adata.obs["batch"].to_numpy()
    model = brief(strength=strength, max_cells_fit=1000, checkpoint=tmp_path / "run.checkpoint")
    expected = clone(model).set_params(checkpoint=None).fit(adata.X, batch).fingerprint()
    monkeypatch.setattr(_checkpoint, "_OFTEN", 0.0)
    add_up, killed_at = _principal._Products.__call__, [2 * ROWS]

    def dying(products, block, start):
        if start in killed_at and block.shape[0] > 1000:  # of all cells, not of the sketch
            raise SystemExit
        return add_up(products, block, start)

    monkeypatch.setattr(_principal._Products, "__call__", dying)
    with pytest.raises(SystemExit):
        clone(model).fit(adata.X, batch)
    killed_at[:] = [0]  # done already
    with caplog.at_level("INFO", logger="scbatchnorm"):
        assert clone(model).fit(adata.X, batch).fingerprint() == expected
    assert "going on with means at block 3" in caplog.text
    assert "going on with products at block" in caplog.text
    assert (tmp_path / "run.checkpoint").exists() == (strength > 0)
