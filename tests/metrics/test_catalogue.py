"""Metrics by name: which are taken, and what they need."""

from __future__ import annotations

import pytest

from scbatchnorm.metrics import evaluate
from scbatchnorm.metrics._catalogue import CATALOGUE, choose_metrics

EVERYTHING = {"label": True, "before": True}


def names(metrics, **there):
    return [metric.name for metric in choose_metrics(metrics, **(EVERYTHING | there))]


def test_catalogue_is_in_the_order_of_the_table():
    assert [metric.title for metric in CATALOGUE] == [
        "Isolated labels", "KMeans NMI", "KMeans ARI", "Silhouette label", "cLISI",
        "kNN preservation", "Leiden NMI", "Leiden ARI", "Isolated labels F1",
        "BRAS", "iLISI", "kBET", "Graph connectivity", "PCR comparison", "CiLISI", "Silhouette batch",
    ]  # fmt: skip
    assert [metric.about for metric in CATALOGUE] == ["bio"] * 9 + ["batch"] * 7
    assert len({metric.name for metric in CATALOGUE}) == 16


def test_ten_are_in_the_total():
    members = [metric.title for metric in CATALOGUE if metric.in_total]
    assert members == [
        "Isolated labels", "KMeans NMI", "KMeans ARI", "Silhouette label", "cLISI",
        "BRAS", "iLISI", "kBET", "Graph connectivity", "PCR comparison",
    ]  # fmt: skip
    assert all(metric.default for metric in CATALOGUE if metric.in_total)


def test_default_and_all():
    assert set(names("all")) - set(names("default")) == {
        "leiden_nmi", "leiden_ari", "isolated_labels_f1", "silhouette_batch"
    }  # fmt: skip
    assert names("default", label=False) == names("all", label=False) == ["knn_preservation", "ilisi", "pcr_comparison"]
    assert set(names("all")) - set(names("all", before=False)) == {"knn_preservation", "pcr_comparison"}
    assert names("default", label=False, before=False) == ["ilisi"]


def test_names_are_taken_in_the_order_of_the_catalogue():
    assert names("kbet") == ["kbet"]
    assert names(["kbet", "clisi", "kbet"]) == ["clisi", "kbet"]
    assert names(("leiden_nmi",)) == ["leiden_nmi"]


@pytest.mark.parametrize("metrics", ["kBET", ["ilisi", "iLISI"], [], "", ["default"]])
def test_unknown_names(metrics):
    with pytest.raises(ValueError, match="metrics must be 'default', 'all' or names of metrics; got .* Names: isol"):
        names(metrics)


@pytest.mark.parametrize(
    ("name", "there", "lacking"),
    [
        ("kbet", {"label": False}, "label_key"),
        ("kbet", {"label": False, "before": False}, "label_key"),
        ("knn_preservation", {"before": False}, "unintegrated"),
        ("pcr_comparison", {"label": False, "before": False}, "unintegrated"),
    ],
)
def test_what_a_metric_needs(name, there, lacking):
    with pytest.raises(ValueError, match=f"metrics has {name!r}, which needs {lacking}; it is None"):
        names(name, **there)


def test_names_are_documented():
    text = evaluate.__doc__ or ""
    assert all(metric.name in text for metric in CATALOGUE)
