"""Cells have counterparts where another batch has similar cells; clusters hold cells of several batches."""

from __future__ import annotations

import numpy as np
import pytest

from scbatchnorm._method import anchors as _anchors
from scbatchnorm.pp._assessment.counterparts import cluster_cells, find_counterparts
from tests.helpers.assessment import annotated


def cells(sizes, **options):
    adata = annotated(sizes, **options)
    return adata.obsm["X_pca"], adata.obs["batch"].to_numpy(), adata.obs["type"].to_numpy()


def rng():
    return np.random.default_rng(0)


def test_batches_of_one_kind_share_all_and_mix():
    points, codes, _ = cells([200, 150, 100])
    counterparts = find_counterparts(points, codes, rng(), align=False)
    pairwise, shared = counterparts.shared_by_batch(codes)
    assert counterparts.mixing > 0.9
    assert (shared > 0.95).all()
    assert np.isnan(pairwise.diagonal()).all()
    assert pairwise[~np.eye(3, dtype=bool)].min() > 0.8


def test_private_states_have_no_counterparts():
    points, codes, types = cells([400, 400], types="ABCD")
    kept = ~((codes == 0) & (types == "D"))
    points, codes, types = points[kept], codes[kept], types[kept]
    counterparts = find_counterparts(points, codes, rng(), align=False)
    share = counterparts.has_counterpart[codes == 1, 0]
    assert share[types[codes == 1] == "D"].mean() < 0.2
    assert share[types[codes == 1] != "D"].mean() > 0.9
    clusters = cluster_cells(counterparts, codes, rng())
    assert (clusters[~counterparts.has_counterpart.any(axis=1)] == -1).all()
    assert (np.diff(np.bincount(clusters[clusters >= 0])) <= 0).all()


def test_batches_far_apart_have_common_clusters_once_aligned():
    points, codes, types = cells([300, 300], shift=40)
    apart = find_counterparts(points, codes, rng(), align=False)
    aligned = find_counterparts(points, codes, rng(), align=True)
    assert apart.mixing < 0.1
    assert aligned.mixing > 0.9
    clusters = cluster_cells(aligned, codes, rng())
    for cluster in range(clusters.max() + 1):
        members = clusters == cluster
        assert len(set(types[members])) == 1
        assert len(set(codes[members])) == 2


@pytest.mark.parametrize("sizes", [(1, 1), (2, 1, 3), (30, 1)])
def test_few_cells(sizes):
    points, codes, _ = cells(sizes)
    for align in (False, True):
        counterparts = find_counterparts(points, codes, rng(), align=align)
        clusters = cluster_cells(counterparts, codes, rng())
        assert clusters.shape == codes.shape
        assert np.isfinite(counterparts.points).all()


def test_pairs_of_batches_that_were_not_compared_are_unknown(monkeypatch):
    monkeypatch.setattr(_anchors, "_PAIRS_OF_BATCHES", 4)
    points, codes, _ = cells([20] * 5)
    pairwise, shared = find_counterparts(points, codes, rng(), align=False).shared_by_batch(codes)
    assert np.isnan(pairwise[np.triu_indices(5, 1)]).sum() == 6
    assert (np.isnan(pairwise) == np.isnan(pairwise.T)).all()
    assert np.isfinite(shared).all()


def test_where_and_how_large_does_not_matter():
    points, codes, _ = cells([80, 80])
    expected = find_counterparts(points, codes, rng(), align=False)
    counterparts = find_counterparts(7 * points + 100, codes, rng(), align=False)
    assert (counterparts.has_counterpart == expected.has_counterpart).mean() > 0.99
