"""What is read from the data, and the parts of it that are drawn and shuffled."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scbatchnorm.metrics._comparison import read_comparison
from scbatchnorm.metrics._inputs import cross_tabulate
from tests.metrics.cells import annotated


def read(adata, use_rep="X_new", **options):
    keys = {"batch_key": "batch", "label_key": "cell_type", "unintegrated": "X_pca"} | options
    return read_comparison(adata, use_rep, **keys)


def counts(comparison, batches=None):
    return cross_tabulate(comparison.labels, comparison.batches if batches is None else batches)


def test_what_is_read():
    adata = annotated(n=50)
    comparison = read(adata, ["X_new", "X_new"])
    assert (comparison.names, comparison.unintegrated, comparison.labelled, comparison.n_left_out) == (
        ["X_new"],
        "X_pca",
        True,
        0,
    )
    np.testing.assert_array_equal(comparison.points["X_new"], adata.obsm["X_new"])
    np.testing.assert_array_equal(comparison.points["X_pca"], adata.obsm["X_pca"])
    assert comparison.batches.names[comparison.batches.codes].tolist() == adata.obs["batch"].tolist()
    assert comparison.labels.names[comparison.labels.codes].tolist() == adata.obs["cell_type"].tolist()


def test_without_labels_all_are_one():
    comparison = read(annotated(n=50), label_key=None, unintegrated=None)
    assert (comparison.labels.n, comparison.labelled, set(comparison.points)) == (1, False, {"X_new"})


def test_cells_without_label_are_left_out():
    adata = annotated(n=50)
    adata.obs["cell_type"] = adata.obs["cell_type"].where(np.arange(50) % 10 != 3)
    with pytest.warns(UserWarning, match="label_key='cell_type' has no value for 5 of 50 cells: they are left out"):
        comparison = read(adata)
    kept = np.arange(50) % 10 != 3
    assert comparison.n_left_out == 5
    np.testing.assert_array_equal(comparison.cells, np.flatnonzero(kept))
    np.testing.assert_array_equal(comparison.points["X_new"], adata.obsm["X_new"][kept])
    assert comparison.batches.names[comparison.batches.codes].tolist() == adata.obs["batch"][kept].tolist()
    expanded = comparison.expand(np.arange(45.0))
    np.testing.assert_array_equal(expanded[kept], np.arange(45))
    assert np.isnan(expanded[~kept]).all()
    assert np.isnan(comparison.expand(None)).all()


def test_numbers_are_labels():
    adata = annotated(n=50)
    adata.obs["cell_type"] = pd.array([1, 2, None, 4, 5] * 10, dtype="Int64")
    with pytest.warns(UserWarning, match="10 of 50 cells"):
        assert read(adata).labels.n == 4


def test_confounded():
    adata = annotated(n=60)
    assert read(adata).confounded == ""
    adata.obs["same"] = adata.obs["cell_type"]
    reason = "every label is in one batch only, so mixing of batches cannot be told from mixing of labels"
    assert read(adata, batch_key="same").confounded == reason
    assert read(adata, batch_key=["same", "batch"]).confounded == ""
    assert read(adata, batch_key="same", label_key=None).confounded == ""
    adata.obs["one"] = 1
    assert read(adata, batch_key="one").confounded == "there is one batch only"


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_shuffling_keeps_the_composition_of_every_label(seed):
    comparison = read(annotated(seed=seed, n=80))
    found = comparison.shuffle_batches(seed)
    np.testing.assert_array_equal(counts(comparison, found), counts(comparison))
    assert (found.codes != comparison.batches.codes).any()
    np.testing.assert_array_equal(found.codes, comparison.shuffle_batches(seed).codes)
    assert (found.codes != comparison.shuffle_batches(seed + 1).codes).any()


@pytest.mark.parametrize(("most", "share"), [(1000, 0.5), (60, 0.15)], ids=["half", "at most"])
def test_drawn_keeps_shares_and_has_all(most, share):
    comparison = read(annotated(n=400))
    sizes = counts(comparison)
    generator = np.random.default_rng(0)
    for _ in range(10):
        rows = comparison.draw_subsample(most, generator)
        assert len(set(rows)) == len(rows)
        assert (np.diff(rows) > 0).all()
        part = comparison.select(rows)
        np.testing.assert_array_equal(
            [part.points["X_new"][0], part.points["X_pca"][-1]],
            [comparison.points["X_new"][rows[0]], comparison.points["X_pca"][rows[-1]]],
        )
        assert (part.batches.n, part.labels.n) == (3, 3)
        found = np.array(
            [
                [((comparison.labels.codes[rows] == a) & (comparison.batches.codes[rows] == b)).sum() for b in range(3)]
                for a in range(3)
            ]
        )
        assert (np.abs(found - share * sizes) < 1).all()


def test_every_cell_is_drawn_as_often():
    comparison = read(annotated(n=60))
    generator = np.random.default_rng(0)
    often = np.zeros(60)
    for _ in range(2000):
        often[comparison.draw_subsample(1000, generator)] += 1
    np.testing.assert_allclose(often / 2000, 0.5, atol=0.06)


def test_single_cells_of_a_batch_and_label_stay():
    adata = annotated(n=60)
    adata.obs["cell_type"] = adata.obs["cell_type"].cat.add_categories("rare")
    adata.obs.loc["cell7", "cell_type"] = "rare"
    comparison = read(adata)
    generator = np.random.default_rng(0)
    assert all(7 in comparison.draw_subsample(1000, generator) for _ in range(20))
