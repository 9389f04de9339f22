"""Stores are opened without reading their expression, and it is noticed if files of them are gone."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import zarr
from scipy import sparse

from scbatchnorm._data.blocks import ROWS
from scbatchnorm._data.store_read import (
    StoreFiles,
    count_expression_bytes,
    has_row_blocks,
    is_current_format,
    open_lazily,
)
from tests.helpers.chunks import a_chunk

SUFFIXES = [".zarr", ".h5ad"]
N_CELLS = ROWS + 100


def write(adata, path):
    adata.write_zarr(path) if path.suffix == ".zarr" else adata.write_h5ad(path)
    return path


def open_root(path):
    return zarr.open_group(path, mode="r") if path.suffix == ".zarr" else h5py.File(path, "r")


@pytest.fixture(scope="module")
def cells():
    """A little more than one block."""
    rng = np.random.default_rng(0)
    adata = ad.AnnData(sparse.random(N_CELLS, 6, density=0.4, format="csr", dtype=np.float32, random_state=rng))
    adata.layers["dense"] = adata.X.toarray()
    adata.layers["by gene"] = adata.X.tocsc()
    adata.obs["batch"] = pd.Categorical(rng.choice(["a", "b"], N_CELLS))
    adata.obs["day"] = rng.integers(3, size=N_CELLS)
    adata.obs["word"] = np.where(adata.obs["day"] == 1, "x", "y")
    adata.var["highly_variable"] = np.arange(6) > 2
    adata.obsm["X_pca"] = rng.normal(size=(N_CELLS, 3))
    return adata


@pytest.fixture(scope="module")
def stores(cells, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    return {suffix: write(cells.copy(), folder / f"x{suffix}") for suffix in SUFFIXES}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_opened(cells, stores, suffix):
    found = open_lazily(stores[suffix], batch_keys=["word", "batch", "day"])
    assert list(found.obs) == ["word", "batch", "day"]
    for name in found.obs:
        np.testing.assert_array_equal(found.obs[name], cells.obs[name])
    assert isinstance(found.obs_names, pd.RangeIndex), "names of cells are not read"
    pd.testing.assert_frame_equal(found.var, cells.var)
    assert found.X.chunks == ((ROWS, 100), (6,))
    assert isinstance(found.X._meta, sparse.csr_matrix)
    assert not (found.X[ROWS - 5 :].compute() != cells.X[ROWS - 5 :]).nnz
    assert not found.layers
    assert not found.obsm


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_layer_or_a_representation_instead(cells, stores, suffix):
    found = open_lazily(stores[suffix], layer="dense")
    assert found.X is None
    assert found.shape == cells.shape
    assert found.layers["dense"].chunks == ((ROWS, 100), (6,))
    np.testing.assert_array_equal(found.layers["dense"].compute(), cells.layers["dense"])
    found = open_lazily(stores[suffix], use_rep="X_pca")
    assert found.X is None
    np.testing.assert_array_equal(found.obsm["X_pca"], cells.obsm["X_pca"])


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"batch_keys": ["donor"]},
            KeyError,
            "batch_key='donor' is not a column of adata.obs; columns: batch, day, word",
        ),
        ({"layer": "raw"}, KeyError, "layer='raw' is not a key of adata.layers; keys: by gene, dense"),
        ({"use_rep": "X"}, KeyError, "use_rep='X' is not a key of adata.obsm; keys: X_pca"),
        (
            {"layer": "by gene"},
            ValueError,
            r"layers\['by gene'\] of .* is stored gene by gene \(CSC\): cells cannot be read .* adata.X = adata.X.tocsr\(\), or .* --no-lazy",
        ),
    ],
    ids=["column", "layer", "representation", "CSC"],
)
def test_what_is_not_there(stores, suffix, options, error, message):
    with pytest.raises(error, match=message):
        open_lazily(stores[suffix], **options)


def test_no_expression(tmp_path):
    path = write(ad.AnnData(obs=pd.DataFrame(index=["a", "b"])), tmp_path / "x.h5ad")
    assert open_lazily(path).X is None


def test_without_dask(stores, monkeypatch):
    monkeypatch.setitem(sys.modules, "dask.array", None)
    with pytest.raises(ImportError, match=r"a store that is larger than memory needs Dask.*scbatchnorm\[scale\]"):
        open_lazily(stores[".zarr"])


@pytest.mark.parametrize("name", ["data", "indices", "indptr"])
def test_missing_chunks(cells, tmp_path, name):
    """zarr reads them as zeros."""
    path = write(cells.copy(), tmp_path / "x.zarr")
    a_chunk(path / "X" / name).unlink()
    with pytest.raises(OSError, match=rf"X of .*x\.zarr must be whole; 1 of \d+ chunks of its {name} are missing"):
        open_lazily(path)


def test_dense_chunks_of_zeros_are_not_written(tmp_path):
    X = np.zeros((20, 4), np.float32)
    X[0] = 1
    path = tmp_path / "x.zarr"
    ad.AnnData(X).write_zarr(path, chunks=(5, 4))
    np.testing.assert_array_equal(open_lazily(path).X.compute(), X)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_size_in_memory(cells, stores, suffix):
    root = open_root(stores[suffix])
    one = sum(array.nbytes for array in (cells.X.data, cells.X.indices, cells.X.indptr))
    other = cells.layers["by gene"]
    expected = one + cells.layers["dense"].nbytes + sum(a.nbytes for a in (other.data, other.indices, other.indptr))
    assert count_expression_bytes(root) == expected
    assert [has_row_blocks(root, layer) for layer in (None, "dense", "by gene", "none")] == [
        True,
        True,
        False,
        False,
    ]
    assert is_current_format(root)


def test_files_that_change(tmp_path):
    folder = tmp_path / "x.zarr"
    (folder / "X").mkdir(parents=True)
    for name in ("X/0.0", "X/0.1", ".zattrs"):
        (folder / name).write_text(name)
    files = StoreFiles.snapshot(folder)
    assert (sorted(files.states), files.n_bytes) == ([".zattrs", "X/0.0", "X/0.1"], 17)
    files.check_unchanged()
    (folder / "X/0.0").write_text("other")
    with pytest.raises(
        OSError, match=r"1 of 3 files of .*x\.zarr are gone or changed, the first \(changed\) is X/0\.0"
    ):
        files.check_unchanged()
    (folder / "X/0.0").unlink()
    (folder / "X/0.1").unlink()
    with pytest.raises(OSError, match=r"2 of 3 files of .* the first \(gone\) is X/0\.[01]"):
        files.check_unchanged()
    files = StoreFiles.snapshot(folder / ".zattrs")
    assert list(files.states) == [".zattrs"]
    (folder / ".zattrs").unlink()
    with pytest.raises(OSError, match=r"1 of 1 files of .*\.zattrs are gone or changed, the first \(gone\)"):
        files.check_unchanged()


def test_names_with_a_mask_of_what_is_missing(stores, tmp_path):
    """So anndata 0.13 writes those that pandas 3 infers."""
    path = Path(shutil.copy(stores[".h5ad"], tmp_path))
    with h5py.File(path, "a") as root, ad.settings.override(allow_write_nullable_strings=True):
        del root["obs/_index"]
        ad.io.write_elem(root["obs"], "_index", pd.array([f"cell{i}" for i in range(N_CELLS)], dtype="string"))
    assert open_lazily(path).n_obs == N_CELLS
