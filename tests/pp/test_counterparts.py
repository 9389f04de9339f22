"""Cells meet those of other batches where there are some, and small clusters hold them."""

from __future__ import annotations

import numpy as np
import pytest

from scbatchnorm._method import anchors as _anchors
from scbatchnorm.pp._assessment import counterparts as _counterparts
from tests.helpers.assessment import annotated


def cells(sizes, **options):
    adata = annotated(sizes, **options)
    return adata.obsm["X_pca"], adata.obs["batch"].to_numpy(), adata.obs["type"].to_numpy()


def rng():
    return np.random.default_rng(0)


def test_batches_of_one_kind_share_all_and_mix():
    points, codes, _ = cells([200, 150, 100])
    found = _counterparts.as_they_are(points, codes, rng())
    each, elsewhere = found.shared(codes)
    assert found.mixing > 0.9
    assert (elsewhere > 0.95).all()
    assert np.isnan(each.diagonal()).all()
    assert each[~np.eye(3, dtype=bool)].min() > 0.8


def test_private_states_have_no_counterparts():
    points, codes, types = cells([400, 400], types="ABCD")
    kept = ~((codes == 0) & (types == "D"))
    points, codes, types = points[kept], codes[kept], types[kept]
    found = _counterparts.as_they_are(points, codes, rng())
    share = found.has[codes == 1, 0]
    assert share[types[codes == 1] == "D"].mean() < 0.2
    assert share[types[codes == 1] != "D"].mean() > 0.9
    clusters = _counterparts.clusters(found, codes, rng())
    assert (clusters[~found.has.any(axis=1)] == -1).all()
    assert (np.diff(np.bincount(clusters[clusters >= 0])) <= 0).all()


def test_batches_far_apart_meet_once_moved():
    points, codes, types = cells([300, 300], shift=40)
    apart = _counterparts.as_they_are(points, codes, rng())
    moved = _counterparts.moved(points, codes, rng())
    assert apart.mixing < 0.1
    assert moved.mixing > 0.9
    clusters = _counterparts.clusters(moved, codes, rng())
    for cluster in range(clusters.max() + 1):
        members = clusters == cluster
        assert len(set(types[members])) == 1
        assert len(set(codes[members])) == 2


@pytest.mark.parametrize("sizes", [(1, 1), (2, 1, 3), (30, 1)])
def test_few_cells(sizes):
    points, codes, _ = cells(sizes)
    for way in (_counterparts.as_they_are, _counterparts.moved):
        found = way(points, codes, rng())
        clusters = _counterparts.clusters(found, codes, rng())
        assert clusters.shape == codes.shape
        assert np.isfinite(found.points).all()


def test_pairs_of_batches_that_were_not_compared_are_unknown(monkeypatch):
    monkeypatch.setattr(_anchors, "_PAIRS_OF_BATCHES", 4)
    points, codes, _ = cells([20] * 5)
    each, elsewhere = _counterparts.as_they_are(points, codes, rng()).shared(codes)
    assert np.isnan(each[np.triu_indices(5, 1)]).sum() == 6
    assert (np.isnan(each) == np.isnan(each.T)).all()
    assert np.isfinite(elsewhere).all()


def test_where_and_how_large_does_not_matter():
    points, codes, _ = cells([80, 80])
    expected = _counterparts.as_they_are(points, codes, rng())
    found = _counterparts.as_they_are(7 * points + 100, codes, rng())
    assert (found.has == expected.has).mean() > 0.99
