"""Matrices in any container: what is computed with depends on the values alone, and the user's arrays stay as they are."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import sparse

from scbatchnorm._data.matrix import as_array, as_csr, as_points
from tests.helpers import containers
from tests.helpers.results import bare

ALL = containers.NUMBERS | {"COO": sparse.coo_matrix, "COO array": sparse.coo_array}
pytestmark = pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")


def bits(matrix):
    """Everything that computations depend on."""
    if sparse.issparse(matrix):
        return matrix.format, *(bits(array) for array in (matrix.data, matrix.indices, matrix.indptr))
    return type(matrix), matrix.dtype, matrix.shape, matrix.flags.c_contiguous, matrix.tobytes()


@settings(max_examples=25)
@given(
    npst.arrays(np.float32, npst.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=6),
        elements=st.sampled_from([0, 0, 0.125, 1, 3.5, -2, 100]), fill=st.nothing()),
)  # fmt: skip
def test_all_containers_of_the_same_values_give_the_same_bits(values):
    for name, make in ALL.items():
        if ("zeros" in name and values.all()) or ("duplicates" in name and not values.any()):
            continue
        made = make(values)
        before = bare(made)
        matrix, array = as_csr(made, where="X"), as_array(made, where="X")
        assert bits(matrix) == bits(as_csr(values, where="X"))
        assert bits(array) == bits(values)
        assert bare(made) == before
        np.testing.assert_array_equal(matrix.toarray(), values)
        assert matrix.has_canonical_format
        assert matrix.data.all()


@pytest.mark.parametrize("name", [name for name in containers.NUMBERS if not name.startswith("CS")])
def test_points_are_the_same_bits(name):
    values = np.arange(12, dtype=np.float32).reshape(4, 3) / 8
    assert bits(as_points(containers.NUMBERS[name](values), where="X")) == bits(values)


def test_points_that_float32_does_not_hold_stay_as_they_are():
    values = np.array([[0.1, 2], [1e300, 4]])
    np.testing.assert_array_equal(as_points(np.asfortranarray(values), where="X"), values)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (3, 4)])
def test_nothing_but_zeros(shape):
    values = np.zeros(shape)
    assert bits(as_csr(values, where="X")) == bits(as_csr(sparse.csc_matrix(values), where="X"))


def test_what_is_in_order_is_not_copied(adata):
    thin = sparse.csr_matrix(adata.X.multiply(adata.X > 1))
    assert np.shares_memory(as_csr(thin, where="X").data, thin.data)
    dense = adata.X.toarray()
    assert np.shares_memory(as_array(dense, where="X"), dense)


def test_notes_of_scipy_are_not_believed():
    """Who sorts indices anew leaves a matrix that says that it is in order."""
    matrix = sparse.csr_matrix(np.array([[1.0, 2, 0, 0, 0], [0, 0, 0, 0, 3]], np.float32))
    expected = bits(as_csr(matrix.copy(), where="X"))
    assert matrix.has_canonical_format
    matrix.indices[:2], matrix.data[:2] = [1, 0], [2, 1]
    assert bits(as_csr(matrix, where="X")) == expected
    assert matrix.has_canonical_format, "nothing is noted on it either"


def test_what_is_mostly_zero_is_never_dense(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError

    matrix = containers.duplicated(containers.with_zeros(sparse.csc_array(np.eye(6, dtype=np.float64))))
    for kind in (sparse.csr_matrix, sparse.csc_matrix, sparse.csc_array, sparse.csr_array):
        monkeypatch.setattr(kind, "toarray", refuse)
    assert as_csr(matrix, where="X").nnz == 6


def test_tables_of_numbers():
    frame = pd.DataFrame({"a": pd.array([1, None], "Int64"), "b": [True, False], "c": [0.5, 2]})
    np.testing.assert_array_equal(as_array(frame, where="X"), np.array([[1, 1, 0.5], [np.nan, 0, 2]], np.float32))
    with pytest.raises(ValueError, match="X must hold real numbers; got values of type object"):
        as_csr(frame.assign(d="word"), where="X")


def test_too_large_for_float32_is_infinite():
    assert np.isinf(as_array(np.array([[1e300, 1]]), where="X")[0, 0])


@pytest.mark.parametrize("name", containers.REFUSED)
def test_refused(name):
    make, message = containers.REFUSED[name]
    with pytest.raises(ValueError, match=f"^here {message}"):
        as_csr(make(np.ones((4, 3), np.float32)), where="here")
