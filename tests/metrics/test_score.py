"""A score of some cells is the score that those cells had by themselves."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from scbatchnorm.metrics._inputs import encode_groups
from scbatchnorm.metrics._score import MetricScore, label_mean_score, mean_score, median_score, undefined_score

VALUES = arrays.arrays(np.float64, st.integers(1, 30), elements=st.floats(0, 1) | st.just(np.nan))
DEFINED = arrays.arrays(np.float64, st.integers(1, 30), elements=st.floats(0, 1))


def labels(codes):
    return encode_groups(codes, name="label", n_cells=len(codes))


@given(cells=VALUES.filter(lambda cells: not np.isnan(cells).all()))
def test_mean_is_over_the_judged(cells):
    assert mean_score(cells).value == pytest.approx(cells[~np.isnan(cells)].mean())


@given(cells=DEFINED)
def test_median(cells):
    ordered = np.sort(cells)
    middle = (ordered[(len(cells) - 1) // 2] + ordered[len(cells) // 2]) / 2
    assert median_score(cells).value == pytest.approx(middle)


@given(cells=VALUES.filter(lambda cells: not np.isnan(cells).all()), data=st.data())
def test_label_mean_gives_labels_the_same_weight(cells, data):
    codes = data.draw(arrays.arrays(np.int64, len(cells), elements=st.integers(0, 4)))
    expected = pd.Series(cells).groupby(codes).mean().mean()  # both leave out what is missing
    assert label_mean_score(cells, labels(codes)).value == pytest.approx(expected)


@given(cells=VALUES.filter(lambda cells: not np.isnan(cells).all()), data=st.data())
def test_part_of_a_mean_is_the_mean_of_the_part(cells, data):
    chosen = data.draw(arrays.arrays(np.bool_, len(cells)))
    judged = cells[chosen][~np.isnan(cells[chosen])]
    for score in (mean_score(cells), label_mean_score(cells, labels(np.zeros(len(cells))))):
        found = score.of_subset(chosen)
        assert math.isnan(found) if not len(judged) else found == pytest.approx(mean_score(judged).value)
        assert score.has_cells


@given(cells=DEFINED, data=st.data())
def test_part_of_a_median_is_the_median_of_the_part(cells, data):
    chosen = data.draw(arrays.arrays(np.bool_, len(cells)))
    found = median_score(cells).of_subset(chosen)
    assert math.isnan(found) if not chosen.any() else found == pytest.approx(median_score(cells[chosen]).value)


def test_all_cells_are_the_whole():
    cells = np.array([0.1, 0.2, np.nan, 0.9])
    assert mean_score(cells).of_subset(np.ones(4, dtype=bool)) == pytest.approx(mean_score(cells).value)


def test_what_cells_do_not_add_to_has_no_parts():
    score = MetricScore(0.5)
    assert math.isnan(score.of_subset(np.ones(3, dtype=bool)))
    assert not score.has_cells
    assert score.reason == ""


def test_undefined_has_a_reason():
    score = undefined_score("there is one batch only")
    assert math.isnan(score.value)
    assert math.isnan(score.of_subset(np.ones(3, dtype=bool)))
    assert (score.reason, score.cells, score.has_cells) == ("there is one batch only", None, True)
