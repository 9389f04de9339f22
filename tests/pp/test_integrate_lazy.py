"""`pp.integrate` on expression in Dask arrays: the same result as in memory, and what is wrong is said with its place."""

from __future__ import annotations

import tracemalloc

import anndata as ad
import dask.array as da
import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone

import scbatchnorm as sbn
from scbatchnorm._data.blocks import ROWS
from tests.helpers.chunks import chunks

N_CELLS = 20_000


@pytest.fixture(scope="module")
def in_memory(annotated):
    return annotated(N_CELLS, 30)


@pytest.fixture(scope="module")
def model(brief):
    return brief(max_cells_fit=1200, rng=3)


@pytest.fixture(scope="module")
def expected(in_memory, model):
    return sbn.pp.integrate(in_memory, "batch", model=model, copy=True)


def lazily(adata, chunks=(7000, 30), kind=sparse.csr_matrix):
    X = da.from_array(adata.X.toarray(), chunks=chunks)
    X = X if kind is None else X.map_blocks(kind, dtype=np.float32)
    return ad.AnnData(X, obs=adata.obs.copy(), var=adata.var.copy())


@pytest.mark.parametrize(
    ("chunks", "kind"),
    [
        ((7000, 30), sparse.csr_matrix),
        ((N_CELLS, 13), sparse.csr_array),
        ((3000, 30), sparse.csc_matrix),
        ((999, 7), None),
    ],
    ids=["csr", "split genes", "csc", "dense"],
)
def test_same_bits_as_in_memory(in_memory, expected, model, chunks, kind):
    adata = lazily(in_memory, chunks, kind)
    sbn.pp.integrate(adata, "batch", model=model)
    found = adata.obsm["X_scbatchnorm"]
    assert type(found) is np.ndarray
    assert found.dtype == np.float32
    assert found.base is None  # nothing larger is kept alive
    np.testing.assert_array_equal(found, expected.obsm["X_scbatchnorm"])
    np.testing.assert_array_equal(adata.varm["scbatchnorm"], expected.varm["scbatchnorm"])
    assert adata.uns["scbatchnorm"]["fingerprint"] == expected.uns["scbatchnorm"]["fingerprint"]


@pytest.mark.parametrize("suffix", [".zarr", ".h5ad"])
def test_files_read_lazily(in_memory, expected, model, tmp_path, suffix):
    path = tmp_path / f"cells{suffix}"
    (in_memory.write_zarr if suffix == ".zarr" else in_memory.write_h5ad)(path)
    adata = ad.experimental.read_lazy(path)
    sbn.pp.integrate(adata, "batch", model=model)
    np.testing.assert_array_equal(adata.obsm["X_scbatchnorm"], expected.obsm["X_scbatchnorm"])


def test_genes_and_layers_are_chosen_alike(in_memory, model):
    chosen = np.arange(30) % 3 > 0
    inside, outside = in_memory.copy(), lazily(in_memory)
    for adata in (inside, outside):
        adata.layers["lognorm"], adata.var["some"] = adata.X, chosen
        adata.X = adata.X * 2
        sbn.pp.integrate(adata, "batch", model=model, layer="lognorm", mask_var="some")
    np.testing.assert_array_equal(inside.obsm["X_scbatchnorm"], outside.obsm["X_scbatchnorm"])
    assert not outside.varm["scbatchnorm"][~chosen].any()


def test_few_cells_are_learned_from_all(annotated, brief):
    inside = annotated(300, 30)
    outside = lazily(inside, (70, 30))
    for adata in (inside, outside):
        sbn.pp.integrate(adata, "batch", model=brief())
    np.testing.assert_array_equal(inside.obsm["X_scbatchnorm"], outside.obsm["X_scbatchnorm"])


def test_without_effect_all_components_are_given(in_memory, brief):
    inside, outside = in_memory.copy(), lazily(in_memory)
    for adata in (inside, outside):
        sbn.pp.integrate(adata, "batch", model=brief(strength=0.0, n_latent=4, max_cells_fit=1200))
    assert outside.obsm["X_scbatchnorm"].shape == (N_CELLS, 8)
    np.testing.assert_array_equal(inside.obsm["X_scbatchnorm"], outside.obsm["X_scbatchnorm"])


def test_estimator_on_dask_arrays(in_memory, expected, model):
    X, batch = lazily(in_memory).X, in_memory.obs["batch"]
    fitted = sbn.BatchNormAutoencoder.from_anndata(expected)
    np.testing.assert_array_equal(fitted.transform(X, batch), expected.obsm["X_scbatchnorm"])
    with pytest.raises(ValueError, match="30 features"):
        fitted.transform(X[:, :20], batch)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.nan, r"NaN or infinite values, the first \(nan\)"),
        (-1.0, r"negative values, the first \(-1\)"),
        (1e13, r"values beyond, the first \(1e\+13\)"),
    ],
)
def test_wrong_values_are_named_with_block_and_row(in_memory, model, value, words):
    wrong = in_memory.copy()
    X = wrong.X.toarray()
    X[12_345, 7] = value
    wrong.X = sparse.csr_matrix(X)
    adata = lazily(wrong)
    with pytest.raises(
        ValueError, match=rf"adata.X, block 1 \(rows 8192 to 16383\), .*{words} in cell 'row 12345', feature 'gene7'"
    ):
        sbn.pp.integrate(adata, "batch", model=model)
    assert not list(adata.obsm) and not list(adata.uns) and not list(adata.varm)


def test_counts_are_refused(in_memory, model):
    counts = lazily(in_memory, kind=None)
    counts.X = da.ceil(counts.X)
    with pytest.raises(ValueError, match=r"adata.X must be log-normalised expression, but looks like raw counts"):
        sbn.pp.integrate(counts, "batch", model=model)


def test_sizes_must_be_known(in_memory, model):
    adata = lazily(in_memory, kind=None)
    X = adata.X[da.from_array(np.arange(N_CELLS) % 2 == 0)]
    with pytest.raises(
        ValueError, match=r"X must be a Dask array that knows its size; run X.compute_chunk_sizes\(\) first"
    ):
        clone(model).fit(X, adata.obs["batch"][::2])


def test_too_many_genes_are_refused(brief):
    X = da.zeros((500, 4100), chunks=(100, 4100), dtype=np.float32)
    with pytest.raises(ValueError, match=r"more than 4000 genes .* got 4100. Choose variable ones"):
        brief().fit(X, np.arange(500) % 2)


def test_a_store_whose_files_are_gone(in_memory, model, tmp_path):
    path = tmp_path / "cells.zarr"
    in_memory.write_zarr(path)
    adata = ad.experimental.read_lazy(path)
    for part in ("data", "indices"):
        for file in chunks(path / "X" / part):
            file.unlink()
    with pytest.raises(OSError, match=r"block 0 .* files of a store are missing"):
        sbn.pp.integrate(adata, "batch", model=model)
    assert not list(adata.obsm)


@pytest.mark.slow
def test_expression_is_never_there_as_a_whole(model):
    n_cells, n_genes = 20 * ROWS, 60

    def block(block_info=None):
        start, stop = block_info[None]["array-location"][0]
        rng = np.random.default_rng(start)
        return rng.gamma(1.0, size=(stop - start, n_genes)).astype(np.float32)

    X = da.map_blocks(block, chunks=((4096,) * 40, n_genes), dtype=np.float32, meta=np.empty((0, 0), np.float32))
    batch = np.arange(n_cells) % 2
    clone(model).fit(X[:4096], batch[:4096])  # what the first fit of a process loads is not expression
    tracemalloc.start()
    try:
        clone(model).fit(X, batch)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < n_cells * n_genes * 4
