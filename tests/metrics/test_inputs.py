"""Groups and coordinates are read alike, whatever they come as."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from scbatchnorm.metrics._inputs import check_count, check_embedding, cross_tabulate, encode_groups

VALUES: dict[str, Any] = {
    "str": np.array(["b", "a", "b", "c"]),
    "objects": np.array(["b", "a", "b", "c"], dtype=object),
    "int": [7, -3, 7, 0],
    "float": np.array([2.5, 0, 2.5, 9]),
    "Series": pd.Series(["b", "a", "b", "c"], index=[9, 8, 9, 7]),
    "string": pd.Series(["b", "a", "b", "c"], dtype="string"),
    "Int64": pd.Series([1, 0, 1, 5], dtype="Int64"),
    "Index": pd.Index(["b", "a", "b", "c"]),
    "unused categories": pd.Categorical(["b", "a", "b", "c"], categories=["c", "unused", "b", "a", "too"]),
    "types that look alike": ["1", 1, "1", "1.0"],
}


@pytest.mark.parametrize("kind", VALUES)
def test_groups_of_any_kind(kind):
    values = VALUES[kind]
    found = encode_groups(values, name="batch", n_cells=4)
    assert found.codes.tolist() == [0, 1, 0, 2]
    assert (found.n, found.sizes.tolist()) == (3, [2, 1, 1])
    assert found.names[found.codes].tolist() == list(values)
    assert found.members(0).tolist() == [0, 2]


def test_booleans_are_groups():
    assert encode_groups([True, False, True], name="batch", n_cells=3).codes.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    "missing", [None, np.nan, pd.NA, pd.NaT, float("nan")], ids=["None", "numpy", "NA", "NaT", "float"]
)
def test_missing_values_are_counted(missing):
    with pytest.raises(ValueError, match=r"batch must give every cell a value; 2 of 3 are missing\."):
        encode_groups(["a", missing, missing], name="batch", n_cells=3)
    with pytest.raises(ValueError, match="1 of 3 are missing"):
        encode_groups(pd.Categorical(["a", "a", None]), name="batch", n_cells=3)


@given(codes=st.lists(st.integers(0, 4), min_size=1, max_size=30), data=st.data())
def test_groups_of_some_cells(codes, data):
    found = encode_groups(np.array(list("zyxwv"))[codes], name="g", n_cells=len(codes))
    rows = np.array(data.draw(st.lists(st.integers(0, len(codes) - 1), min_size=1, max_size=30)))
    part = found.select(rows)
    assert part.names[part.codes].tolist() == found.names[found.codes[rows]].tolist()
    assert (part.sizes > 0).all()
    assert part.sizes.sum() == len(rows)


@given(codes=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_crossed_is_the_table_of_counts(codes):
    rows, columns = (np.array(side) for side in zip(*codes, strict=True))
    first, second = (encode_groups(side, name="g", n_cells=len(codes)) for side in (rows, columns))
    expected = pd.crosstab(rows, columns).loc[list(first.names), list(second.names)]
    np.testing.assert_array_equal(cross_tabulate(first, second), expected)


def test_order_is_that_of_the_names():
    found = encode_groups(["b", "c", "a", "c"], name="g", n_cells=4)
    assert found.names[found.sorted_codes].tolist() == ["a", "b", "c"]
    assert encode_groups([10, 9, 1], name="g", n_cells=3).sorted_codes == [2, 0, 1]  # as words, "1" < "10" < "9"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_are_not_copied(dtype):
    X = np.ones((3, 2), dtype=dtype)
    assert np.shares_memory(check_embedding(X), X)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_, np.float16])
def test_other_numbers_become_floats(dtype):
    found = check_embedding(np.ones((3, 2), dtype=dtype))
    assert found.dtype == np.float64
    assert (found == 1).all()


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros(5), r"where must have shape \(cells, dimensions\) with at least one of each; got shape \(5,\)"),
        (np.zeros((0, 5)), r"got shape \(0, 5\)"),
        (np.zeros((5, 0)), r"got shape \(5, 0\)"),
        (np.zeros((2, 2, 2)), r"got shape \(2, 2, 2\)"),
        (np.array([["a", "b"]]), "where must hold real numbers; got values of type <U1"),
        (np.array([[1j]]), "real numbers; got values of type complex128"),
        (np.array([[1.0], [np.nan], [np.inf]]), "2 of 3 cells have NaN or infinite coordinates, the first is cell 1"),
        (sparse.csr_matrix(np.eye(3)), r"where must be a dense array .* got csr_matrix: use its toarray\(\)"),
        (sparse.csr_array(np.eye(3)), r"where must be a dense array .* got csr_array"),
        (np.zeros((4, 2)), r"where must have a row for each of the 3 cells; got shape \(4, 2\)"),
    ],
    ids=["flat", "no cells", "no dimensions", "cube", "strings", "complex", "nan", "sparse", "sparse array", "rows"],
)
def test_wrong_embedding(X, message):
    with pytest.raises(ValueError, match=message):
        check_embedding(X, name="where", n_cells=3)


@pytest.mark.parametrize("value", [2.0, True, "3", None, -1, np.float64(5)])
def test_wrong_count(value):
    with pytest.raises(ValueError, match="n must be an integer of at least 0; got"):
        check_count(value, name="n", minimum=0)


@pytest.mark.parametrize("value", [3, np.int8(3), np.uint64(3)], ids=["int", "int8", "uint64"])
def test_count(value):
    found = check_count(value, name="n")
    assert (found, type(found)) == (3, int)
