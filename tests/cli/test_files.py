"""Files are read as far as they are needed, and replaced as a whole or not at all."""

from __future__ import annotations

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scbatchnorm.cli import _files


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_read_cells(adata, tmp_path, suffix):
    adata.obs["number"] = np.arange(adata.n_obs) / 7
    adata.obs["text"] = pd.array([None, *map(str, range(1, adata.n_obs))], dtype="string")
    adata.obsm["dense"] = np.arange(2.0 * adata.n_obs, dtype=np.float32).reshape(-1, 2)
    adata.obsm["sparse"] = sparse.csr_matrix(adata.obsm["dense"])
    adata.obsm["frame"] = pd.DataFrame({"a": 1.5}, index=adata.obs_names)
    adata.obsm["other"] = adata.obsm["dense"]
    path = tmp_path / f"in.{suffix}"
    with ad.settings.override(allow_write_nullable_strings=True):
        adata.write_h5ad(path) if suffix == "h5ad" else adata.write_zarr(path)
    found = _files.read_cells(path, dict.fromkeys(("dense", "sparse", "frame"), ""))
    pd.testing.assert_frame_equal(found.obs, _files.read_anndata(path).obs)
    assert list(found.obsm) == ["dense", "sparse", "frame"]
    np.testing.assert_array_equal(found.obsm["dense"], adata.obsm["dense"])
    np.testing.assert_array_equal(found.obsm["sparse"].toarray(), adata.obsm["dense"])
    pd.testing.assert_frame_equal(found.obsm["frame"], adata.obsm["frame"])
    assert found.X is None


@pytest.mark.filterwarnings("ignore::anndata.OldFormatWarning")
def test_read_cells_of_a_very_old_file(tmp_path):
    """Then `obs` was a table of HDF5 itself, and categories were elsewhere."""
    path = tmp_path / "old.h5ad"
    with h5py.File(path, "w") as file:
        file["X"] = np.ones((2, 1), np.float32)
        file["obs"] = np.array([(b"c1", 0), (b"c2", 1)], dtype=[("index", "S2"), ("batch", "i1")])
        file["var"] = np.array([(b"g1",)], dtype=[("index", "S2")])
        file["obsm"] = np.array([([1, 2],), ([3, 4],)], dtype=[("X_pca", "f4", (2,))])
        file["uns/batch_categories"] = np.array([b"x", b"y"])
    found = _files.read_cells(path, {"X_pca": ""})
    assert list(found.obs["batch"]) == ["x", "y"]
    np.testing.assert_array_equal(found.obsm["X_pca"], [[1, 2], [3, 4]])


def test_missing_representations_are_called_as_the_user_called_them(adata, tmp_path):
    adata.write_h5ad(tmp_path / "in.h5ad")
    with pytest.raises(KeyError, match="--rep X is not a key of obsm; keys: none"):
        _files.read_cells(tmp_path / "in.h5ad", {"X": "--rep X"})


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
@pytest.mark.parametrize("read", [_files.read_anndata, lambda path: _files.read_cells(path, {})], ids=["all", "cells"])
def test_what_is_no_anndata(tmp_path, read, suffix):
    import zarr

    path = tmp_path / f"in.{suffix}"
    path.write_text("text")
    with pytest.raises(OSError, match=f"input cannot be read: .*in.{suffix} "):
        read(path)
    path.unlink()
    with h5py.File(path, "w") if suffix == "h5ad" else zarr.open_group(path, mode="w").store:
        pass
    with pytest.raises(OSError, match=rf"input cannot be read: .*in.{suffix} \(it holds no AnnData\)"):
        read(path)


def test_check_target(tmp_path, monkeypatch):
    folder = tmp_path / "out.h5ad"
    folder.mkdir()
    with pytest.raises(IsADirectoryError, match="-o must be a file; .*out.h5ad is a folder"):
        _files.check_target("-o", folder, _files.ANNDATA_SUFFIXES, overwrite=True)
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(PermissionError, match=f"the folder of -o cannot be written to: {tmp_path}"):
        _files.check_target("-o", tmp_path / "new.h5ad", _files.ANNDATA_SUFFIXES, overwrite=True)
