"""What matrices must hold, and the words for what is wrong."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import sparse

from scbatchnorm._data.checks import check_log_normalised, check_unique_genes, join_names

SHAPE = npst.array_shapes(min_dims=2, max_dims=2, max_side=6)
LOG = npst.arrays(np.float32, SHAPE, elements=st.floats(0, 12, width=32))
FORMS = st.sampled_from([np.asarray, sparse.csr_matrix])


def names_of(matrix):
    cells, genes = (pd.Index([f"{word}{i}" for i in range(n)]) for word, n in zip("cg", matrix.shape, strict=True))
    return {"where": "adata.X", "cells": cells, "genes": genes}


def whole(values) -> bool:
    return bool(values.max(initial=0) > 1 and (values == np.rint(values)).all())


@given(LOG.filter(lambda values: not whole(values)), FORMS)
def test_log_normalised_values_pass(values, form):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_log_normalised(form(values), **names_of(values))


@given(LOG, FORMS, st.sampled_from([np.nan, np.inf, -np.inf, -1.0, -1e-6]), st.data())
def test_first_wrong_value_is_located(values, form, wrong, data):
    places = data.draw(
        st.sets(
            st.tuples(st.integers(0, values.shape[0] - 1), st.integers(0, values.shape[1] - 1)), min_size=1, max_size=3
        )
    )
    for place in places:
        values[place] = wrong
    row, column = min(places)
    with pytest.raises(
        ValueError, match=rf"^adata\.X must be .*it has {len(places)} .* in cell 'c{row}', feature 'g{column}'\."
    ):
        check_log_normalised(form(values), **names_of(values))


@given(npst.arrays(np.float32, SHAPE, elements=st.integers(0, 50).map(float)).filter(whole), FORMS)
def test_counts_are_recognised(values, form):
    with pytest.raises(ValueError, match=rf"raw counts \(whole numbers up to {values.max():g}\)"):
        check_log_normalised(form(values), **names_of(values))


@pytest.mark.parametrize("values", [np.zeros((3, 4)), np.eye(3), np.empty((0, 3)), np.empty((3, 0))])
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
def test_zeros_and_ones_are_no_counts(values, form):
    check_log_normalised(form(values.astype(np.float32)), **names_of(values))


def test_values_that_no_logarithm_reaches_are_warned_of():
    values = np.array([[0.5, 31.0]], dtype=np.float32)
    with pytest.warns(UserWarning, match=r"values up to 31, .*sc\.pp\.log1p"):
        check_log_normalised(values, **names_of(values))


@given(st.lists(st.integers(), max_size=20), st.integers(1, 8))
def test_lists_are_cut(values, most):
    line = join_names(values, most)
    assert line.split(", ")[: min(most, len(values))] == ([str(v) for v in values[:most]] or [])
    assert (f"({len(values)} in all)" in line) == (len(values) > most)


def test_repeated_genes_are_named():
    check_unique_genes(np.array(["a", "b"]))
    with pytest.raises(ValueError, match=r"2 are repeated: b, a\. Run adata\.var_names_make_unique"):
        check_unique_genes(np.array(["a", "b", "b", "a"]))
