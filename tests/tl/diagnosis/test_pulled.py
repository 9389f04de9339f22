"""States pulled onto those of another batch are found, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from scbatchnorm.tl._diagnosis.pulled import _compare_pairs
from scbatchnorm.tl._diagnosis.states import States
from tests.helpers.diagnosed import cells, compare, onto, types_of


def test_pulled():
    """B cells only in x, monocytes only in y: left apart nothing is said, put together the pair is named."""
    adata = cells(without=(("B cell", "y"), ("monocyte", "x")))
    assert not len(compare(adata, adata.obsm["X_good"]).pulled)
    findings = compare(adata, onto(adata, "B cell", "monocyte"))
    assert not len(findings.merged)
    assert types_of(adata, findings, findings.pulled) == [{"B cell", "monocyte"}]
    row = findings.pulled.iloc[0]
    assert row["support"] < 0.3 * row["usual_support"]
    assert row["distance"] > 2 * row["usual_distance"]


def test_nothing_is_pulled_where_nothing_moved():
    adata = cells(without=(("B cell", "y"), ("monocyte", "x")))
    adata.obsm["X_pca"] = onto(adata, "B cell", "monocyte")
    assert not len(compare(adata, adata.obsm["X_pca"]).pulled)


@pytest.mark.parametrize(("before", "pulled"), [(0.0, True), (0.95, False)])
def test_pulled_is_what_came_together_only(before, pulled):
    """Three states that both batches have, and one of each far apart and without counterpart, which are together now."""
    states = States(np.repeat(np.arange(8), 20), np.repeat([0, 1], 4))
    centre = np.array([[0.0, 0], [5, 0], [10, 0], [15, 0], [0, 1], [5, 1], [10, 1], [15, 9]])
    support = np.full((8, 2), 0.9)
    support[[3, 7]] = 0.1
    then, now = np.zeros((8, 8)), np.zeros((8, 8))
    for u, v in ((0, 4), (1, 5), (2, 6), (3, 7)):
        now[[u, v], [v, u]] = 1
    then[[3, 7], [7, 3]] = before
    rows = {row[:2]: row[-1] for row in _compare_pairs(0, 1, states, centre, support, then, now)}
    assert rows == {(0, 4): False, (1, 5): False, (2, 6): False, (3, 7): pulled}
