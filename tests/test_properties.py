"""What holds for any matrix and any labels of batches; `python -m benchmarks.properties` tries thousands."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("benchmarks", reason="benchmarks/ is in the repository, not in the package")

from benchmarks.properties import cases, claims, outcomes
from benchmarks.properties.claims import CLAIMS


@pytest.mark.parametrize("claim", CLAIMS)
def test_claim(claim):
    check, inputs = CLAIMS[claim]

    @settings(max_examples=4, deadline=None, derandomize=True)
    @given(st.fixed_dictionaries(inputs))
    def holds(given_inputs):
        try:
            check(**given_inputs)
        except outcomes.Refused:
            pass

    holds()


@pytest.mark.parametrize("names", cases.NAMES)
def test_names_of_batches(names):
    """Every kind of name, in an order that is not that of the words, in some form."""
    form = list(cases.FORMS)[len(names) % len(cases.FORMS)]
    codes = np.array([2, 0, 1] * 12)
    case = cases.Case(cases.matrix(36, 9, 0, []), codes, "words", "objects")
    claims.ignores_names(case, names, form, strength=1.0)
