"""Corrected expression is nearer to the truth, is written where it is said, and comes from what is in the AnnData."""

from __future__ import annotations

from typing import Any

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

from scbatchnorm import BatchNormAutoencoder, datasets, pp, tl
from tests.helpers.compare import digest, written


@pytest.fixture(scope="module")
def integrated(annotated, brief):
    """Integrated by 30 of 40 genes; tests must not change it."""
    adata = annotated()
    adata.var["highly_variable"] = np.arange(40) % 4 > 0
    pp.integrate(adata, "batch", model=brief())
    return adata


@pytest.fixture
def adata(integrated):
    return integrated.copy()


def corrected(adata, **options):
    tl.correct(adata, **options)
    return np.asarray(adata.layers[options.get("key_added") or "scbatchnorm"])


@pytest.mark.slow
def test_nearer_to_the_truth():
    """Also genes that were not integrated; a threshold costs little."""
    adata = datasets.pbmc_planted()
    adata.var["highly_variable"] = np.arange(adata.n_vars) % 2 == 0
    pp.integrate(adata, "batch", model=BatchNormAutoencoder(strength=1.0, max_steps=150))
    layer, truth, uncorrected_layer = corrected(adata), adata.layers["truth"].toarray(), adata.X.toarray()
    tl.correct(adata, threshold=0.1, key_added="sparse")
    for genes in (adata.var["highly_variable"], ~adata.var["highly_variable"]):
        error, thresholded, uncorrected = (
            np.sqrt(np.mean((values - truth)[:, genes] ** 2))
            for values in (layer, adata.layers["sparse"].toarray(), uncorrected_layer)
        )
        assert error < 0.9 * uncorrected
        assert thresholded < 1.02 * error


def test_what_is_written(adata):
    before = digest(adata)
    assert tl.correct(adata) is None
    assert written(before, digest(adata)) == {"layers['scbatchnorm']", "uns['scbatchnorm_correct']"}
    layer = adata.layers["scbatchnorm"]
    assert isinstance(layer, np.ndarray)
    assert (layer.shape, layer.dtype) == (adata.shape, np.float32)
    assert layer.min() >= 0
    record = adata.uns["scbatchnorm_correct"]
    assert record["params"] == {"target": "average", "genes": "all", "key": "scbatchnorm"}
    assert record["fingerprint"] == adata.uns["scbatchnorm"]["fingerprint"]
    assert record["strength"] == {"value": 1.0, "reason": "set by the caller"}
    assert record["batches"].tolist() == ["a", "b", "c"]
    assert record["n_genes"] == 40
    assert "scbatchnorm" in record["versions"]


def test_cells_of_the_target_do_not_change(adata):
    layer = corrected(adata, target="b")
    in_target = (adata.obs["batch"] == "b").to_numpy()
    np.testing.assert_array_equal(layer[in_target], adata.X[in_target].toarray())
    assert not np.allclose(layer[~in_target], adata.X[~in_target].toarray(), atol=0.1)
    assert adata.uns["scbatchnorm_correct"]["batches"].tolist() == ["b"]


def test_shifted_batch_meets_the_others(adata):
    """Batch c has 4 more counts in two thirds of the genes; training for a moment leaves some of it in the components."""
    layer, before, shifted = corrected(adata, target="a"), adata.X.toarray(), np.arange(90) >= 60
    gap, gap_before = (
        np.abs(values[~shifted].mean(axis=0) - values[shifted].mean(axis=0)).mean() for values in (layer, before)
    )
    assert gap < 0.5 * gap_before


def test_only_genes_that_were_integrated(adata):
    layer, layer_of_all = corrected(adata, genes="hvg"), corrected(adata, key_added="all")
    integrated_genes = adata.var["highly_variable"].to_numpy()
    np.testing.assert_array_equal(layer[:, ~integrated_genes], adata.X.toarray()[:, ~integrated_genes])
    np.testing.assert_allclose(layer[:, integrated_genes], layer_of_all[:, integrated_genes], atol=1e-5)
    assert not np.allclose(layer_of_all[:, ~integrated_genes], adata.X.toarray()[:, ~integrated_genes], atol=0.05)
    assert adata.uns["scbatchnorm_correct"]["n_genes"] == 30


@pytest.mark.parametrize("genes", ["all", "hvg"])
def test_threshold_makes_it_sparse(adata, genes):
    dense = corrected(adata, genes=genes)
    tl.correct(adata, genes=genes, threshold=0.3)
    layer = adata.layers["scbatchnorm"]
    assert layer.format == "csr"
    assert layer.dtype == np.float32
    np.testing.assert_array_equal(layer.toarray(), np.where(dense < 0.3, 0, dense))
    assert layer.data.min() >= np.float32(0.3)
    assert adata.uns["scbatchnorm_correct"]["params"]["threshold"] == 0.3
    zero: Any = np.int64(0)
    tl.correct(adata, genes=genes, threshold=zero)
    np.testing.assert_array_equal(adata.layers["scbatchnorm"].toarray(), dense)


def test_strength_0_copies(annotated, brief):
    adata = annotated()
    pp.integrate(adata, "batch", model=brief(strength=0.0))
    np.testing.assert_array_equal(corrected(adata), adata.X.toarray())
    assert adata.uns["scbatchnorm_correct"]["n_genes"] == 0
    assert adata.uns["scbatchnorm_correct"]["strength"]["value"] == 0
    tl.correct(adata, threshold=1.0)
    assert adata.layers["scbatchnorm"].data.min() >= 1


def test_chunks_make_no_difference(adata, monkeypatch):
    whole = corrected(adata)
    monkeypatch.setattr("scbatchnorm.tl._correction.regression._CHUNK", 13)
    np.testing.assert_allclose(corrected(adata), whole, atol=1e-4)


@pytest.mark.parametrize(
    "form",
    [sparse.csc_matrix, sparse.csr_array, lambda X: X.toarray(), lambda X: X.astype(float)],
    ids=["csc", "array", "dense", "float64"],
)
def test_storage_makes_no_difference(adata, form):
    expected = corrected(adata)
    del adata.layers["scbatchnorm"]
    adata.X = form(adata.X)
    before = digest(adata)
    np.testing.assert_allclose(corrected(adata, key_added="again"), expected, atol=1e-4)
    assert written(before, digest(adata)) == {"layers['again']", "uns['again_correct']"}


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_after_writing_and_reading(adata, tmp_path, suffix):
    tl.correct(adata, threshold=0.1, key_added="x")
    expected, path = adata.layers["x"].toarray(), tmp_path / f"a.{suffix}"
    (adata.write_h5ad if suffix == "h5ad" else adata.write_zarr)(path)
    again = ad.read_h5ad(path) if suffix == "h5ad" else ad.read_zarr(path)
    assert again.uns["x_correct"]["batches"].tolist() == ["a", "b", "c"]
    tl.correct(again, threshold=0.1, key_added="x")
    np.testing.assert_array_equal(again.layers["x"].toarray(), expected)


def test_backed(adata, tmp_path):
    expected = corrected(adata)
    del adata.layers["scbatchnorm"], adata.uns["scbatchnorm_correct"]
    adata.write_h5ad(tmp_path / "a.h5ad")
    backed = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
    copied = tl.correct(backed, copy=True)
    assert copied is not None
    assert not copied.isbacked
    np.testing.assert_array_equal(copied.layers["scbatchnorm"], expected)
    backed.file.close()


def test_copy_and_view(adata):
    before = digest(adata)
    copied = tl.correct(adata, copy=True)
    assert copied is not None
    assert "scbatchnorm" in copied.layers
    assert digest(adata) == before
    view = adata[10:80, ::-1]
    tl.correct(view)
    assert view.layers["scbatchnorm"].shape == (70, 40)
    assert digest(adata) == before


def test_average_is_over_batches_with_cells(adata):
    part = adata[adata.obs["batch"] != "a"].copy()
    tl.correct(part)
    assert part.uns["scbatchnorm_correct"]["batches"].tolist() == ["b", "c"]


def test_other_integration_of_a_layer_and_two_columns(annotated, brief):
    adata = annotated()
    adata.layers["log"], adata.X = adata.X.copy(), None
    adata.obs["batch"] = adata.obs["batch"].cat.add_categories("unused")
    adata.obs["day"] = np.arange(90) % 2
    pp.integrate(adata, ["batch", "day"], model=brief(), layer="log", key_added="mine")
    tl.correct(adata, key="mine", target="c | 1", key_added="mine")
    params = adata.uns["mine_correct"]["params"]
    assert params == {"target": "c | 1", "genes": "all", "key": "mine", "layer": "log"}
    assert "weights" in adata.uns["mine"]
    in_target = (adata.obs["batch"] == "c") & (adata.obs["day"] == 1)
    np.testing.assert_array_equal(adata.layers["mine"][in_target], adata.layers["log"][in_target.to_numpy()].toarray())


def test_again_replaces(adata):
    corrected(adata, target="a")
    np.testing.assert_array_equal(corrected(adata, target="b"), corrected(adata, target="b", key_added="fresh"))
    assert adata.uns["scbatchnorm_correct"]["params"]["target"] == "b"
