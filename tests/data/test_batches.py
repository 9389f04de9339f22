"""Batches as codes and names."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scbatchnorm._data.batches import Batches, encode_batches


def test_codes_follow_the_order_of_appearance():
    batches = Batches.from_values(["b", "a", "b"], 3)
    assert batches.codes.tolist() == [0, 1, 0]
    assert batches.codes.dtype == np.int64
    assert batches.levels.tolist() == ["b", "a"]
    assert batches.n_batches == 2
    assert batches.counts.tolist() == [2, 1]
    assert batches.names.tolist() == ["b", "a", "b"]


def test_one_batch_where_none_is_given():
    batches = Batches.from_values(None, 3)
    assert (batches.codes.tolist(), batches.levels.tolist()) == ([0, 0, 0], ["all"])


def test_batches_are_taken_as_they_are():
    batches = Batches.from_values([2, 1], 2)
    assert Batches.from_values(batches, 2) is batches


def test_a_selection_has_the_batches_that_occur_in_it():
    selected = Batches.from_values(list("abcab"), 5).select(np.array([2, 4, 1]))
    assert (selected.codes.tolist(), selected.levels.tolist()) == ([0, 1, 1], ["c", "b"])


def test_order_of_names():
    batches = Batches.from_values(list("cabca"), 5)
    assert batches.sorted_by_name().levels.tolist() == list("abc")
    assert batches.sorted_by_name().names.tolist() == list("cabca")
    pd.testing.assert_extension_array_equal(batches.as_categorical(), pd.Categorical(list("cabca")))


def test_values_with_the_same_name_stay_apart():
    assert Batches.from_column(pd.Series([1, "1", 1], dtype=object)).names.tolist() == ["1", "'1'", "1"]
    pairs = [Batches.from_values(["a | b", "a"], 2), Batches.from_values(["c", "b | c"], 2)]
    assert Batches.from_combinations(pairs).levels.tolist() == ["('a | b', 'c')", "('a', 'b | c')"]


def test_codes_among_known_batches():
    levels = np.array(["a", "1", "c"])
    assert encode_batches(["c", "a", "c"], levels, 3).tolist() == [2, 0, 2]
    assert encode_batches(np.array([1, "a"], dtype=object), levels, 2).tolist() == [1, 0]
    assert encode_batches(Batches.from_values(["c", "a"], 2), levels, 2).tolist() == [2, 0]
    assert encode_batches(None, levels[:1], 2).tolist() == [0, 0]
    with pytest.raises(ValueError, match=r"d, e was not among them: a, 1, c"):
        encode_batches(["a", "d", "e", "d"], levels, 4)
    with pytest.raises(ValueError, match="the model was fitted on a, 1, c"):
        encode_batches(None, levels, 2)
