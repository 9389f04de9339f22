"""The aggregates are those of scIB, of what is there and defined."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scbatchnorm.metrics._aggregate import aggregates
from scbatchnorm.metrics._catalogue import CATALOGUE

BY_NAME = {metric.name: metric for metric in CATALOGUE}
BIO = ["isolated_labels", "kmeans_nmi", "kmeans_ari", "silhouette_label", "clisi"]
BATCH = ["bras", "ilisi", "kbet", "graph_connectivity", "pcr_comparison"]


def of(**values):
    return aggregates({BY_NAME[name]: value for name, value in values.items()})


@given(values=st.lists(st.floats(-1, 1), min_size=len(CATALOGUE), max_size=len(CATALOGUE)))
def test_means_of_five_and_their_weights(values):
    scores = dict(zip(BY_NAME, values, strict=True))
    found = of(**scores)
    batch, bio = (sum(scores[name] for name in names) / 5 for names in (BATCH, BIO))
    assert list(found) == ["Batch correction", "Bio conservation", "Total"]
    assert found["Batch correction"] == pytest.approx(batch)
    assert found["Bio conservation"] == pytest.approx(bio)
    assert found["Total"] == pytest.approx(0.4 * batch + 0.6 * bio)


def test_what_is_not_defined_is_left_out():
    assert of(ilisi=0.4, kbet=math.nan, bras=0.8, clisi=1.0) == pytest.approx(
        {"Batch correction": 0.6, "Bio conservation": 1.0, "Total": 0.84}
    )


def test_nothing_defined_is_not_defined():
    found = of(ilisi=math.nan, kbet=math.nan, clisi=0.5)
    assert found["Bio conservation"] == 0.5
    assert math.isnan(found["Batch correction"])
    assert math.isnan(found["Total"])


def test_no_total_of_one_side():
    assert of(ilisi=0.4, cilisi=0.9, knn_preservation=0.1) == {"Batch correction": 0.4}
    assert of(clisi=0.4) == {"Bio conservation": 0.4}
    assert of(cilisi=0.4, knn_preservation=0.7, leiden_nmi=0.1) == {}
