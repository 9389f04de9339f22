"""Copies of stores hold everything, and what was added; they are whole or not there."""

from __future__ import annotations

import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any, cast

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import zarr
from anndata.tests.helpers import assert_equal
from packaging.version import Version
from scipy import sparse

from scbatchnorm._data import store_copy
from scbatchnorm._data.store_copy import check_disk_space, copy_store
from scbatchnorm._data.store_read import StoreFiles
from tests.data.test_sparse_store import files_of_at_most
from tests.helpers.chunks import a_chunk

SUFFIXES = [".zarr", ".h5ad"]
ANNDATA_12 = Version(version("anndata")) < Version("0.13")
ADDED: dict[str, dict[str, Any]] = {
    "obsm": {"X_new": np.arange(120, dtype=np.float32).reshape(60, 2), "X_pca": np.ones((60, 1))},
    "varm": {"new": np.ones((20, 2), np.float32)},
    "uns": {"new": {"table": pd.DataFrame({"a": [1.0]}, index=["x"]), "word": "w"}},
    "obs": {"new": pd.Categorical(["u", "v"] * 30), "number": np.arange(60.0)},
}


@pytest.fixture(scope="module")
def cells():
    """Something of everything that AnnData has."""
    rng = np.random.default_rng(0)
    adata = ad.AnnData(sparse.random(60, 20, density=0.3, format="csr", dtype=np.float32, random_state=rng))
    adata.raw = adata
    adata.layers["dense"], adata.layers["by gene"] = adata.X.toarray(), adata.X.tocsc()
    adata.obs["batch"] = pd.Categorical(rng.choice(["a", "b"], 60))
    adata.obs["number"], adata.obs["yes"] = np.arange(60), np.arange(60) > 9
    adata.obs["missing"] = pd.array([None] * 30 + [1] * 30, dtype="Int64")
    adata.obsm["X_pca"], adata.obsm["table"] = rng.normal(size=(60, 3)), pd.DataFrame({"a": 1.5}, index=adata.obs_names)
    adata.obsp["near"] = sparse.random(60, 60, density=0.1, format="csr", random_state=rng)
    adata.uns["words"] = {"a": np.array(["x", "y"]), "b": "text", "c": {}, "d": np.float32(3), "e": True, "f": [1, 2]}
    adata.uns["empty"] = np.zeros((0, 3))
    return adata


def write(adata, path):
    adata.write_zarr(path) if path.suffix == ".zarr" else adata.write_h5ad(path)
    return path


def announced():
    """What anndata 0.12 says when it writes version 3 of zarr; 0.13 says nothing: a warning would be an error."""
    if ANNDATA_12:
        return pytest.warns(UserWarning, match="zarr v3 autosharding|Consolidated metadata")
    return nullcontext()


def read(path):
    return ad.read_zarr(path) if path.suffix == ".zarr" else ad.read_h5ad(path)


def expected(source):
    adata = read(source)
    for slot, elements in ADDED.items():
        for name, element in elements.items():
            getattr(adata, slot)[name] = element
    return adata


@pytest.fixture(scope="module", params=["h5ad", "zarr 2", "zarr 3"])
def source(request, cells, tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / f"x.{request.param.split()[0]}"
    with ad.settings.override(zarr_write_format=int(request.param[-1]) if path.suffix == ".zarr" else 2):
        if request.param == "zarr 3":
            with announced():
                return write(cells.copy(), path)
        return write(cells.copy(), path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_everything_and_what_was_added(source, tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(store_copy, "_PIECE", 4096)
    files, target = StoreFiles.snapshot(source), tmp_path / f"new{suffix}"
    copy_store(files, target, ADDED, progress=False)
    files.check_unchanged()
    found = read(target)
    assert_equal(found, expected(source), exact=True)
    assert_equal(found.raw.X, expected(source).raw.X, exact=True)
    assert list(found.obs) == list(expected(source).obs)
    assert [path.name for path in tmp_path.iterdir()] == [target.name]
    if suffix == ".zarr":
        root = zarr.open_consolidated(target)
        assert "obsm/X_new" in root, "what is said of all elements in one place is renewed"
        new = 2 if ANNDATA_12 else 3
        assert root.metadata.zarr_format == (
            zarr.open(source).metadata.zarr_format if source.suffix == ".zarr" else new
        )


def test_threads_of_zarr_never_wait_for_h5py(tmp_path):
    """Objects of h5py that garbage collection finds in them need its lock: whoever waits for them must not hold it."""
    free = []

    class Attributes(dict):
        def __setitem__(self, name, value):
            with ThreadPoolExecutor(1) as other:
                free.append(other.submit(h5py._objects.phil.acquire, blocking=False).result())
                if free[-1]:
                    other.submit(h5py._objects.phil.release).result()

    with h5py.File(tmp_path / "x.h5", "w") as root:
        root.attrs["a"], root.attrs["b"] = 1, 2
        store_copy._copy_attributes(root, SimpleNamespace(attrs=Attributes()))
    assert free == [True, True]


def test_in_place_of_the_source(source, tmp_path):
    """The old one is there until the new one is whole."""
    path = tmp_path / f"x{source.suffix}"
    shutil.copytree(source, path) if source.is_dir() else shutil.copy(source, path)
    before = StoreFiles.snapshot(path)
    with pytest.raises(AttributeError):
        copy_store(before, path, {"obsm": cast("Any", None)}, progress=False)
    before.check_unchanged()
    copy_store(StoreFiles.snapshot(path), path, ADDED, progress=False)
    assert_equal(read(path), expected(source), exact=True)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_leaves_nothing(cells, tmp_path, suffix):
    source = write(cells[:, :0].copy(), tmp_path / "x.zarr")
    large = {"obsm": {"X_new": np.random.default_rng(0).normal(size=(60, 9000))}}
    with files_of_at_most(100_000), pytest.raises(OSError, match=r"File too large|cannot be written|write failed"):
        copy_store(StoreFiles.snapshot(source), tmp_path / f"new{suffix}", large, progress=False)
    assert [file.name for file in tmp_path.iterdir()] == ["x.zarr"]


def test_a_source_that_disappears(cells, tmp_path, monkeypatch):
    path = write(ad.AnnData(cells.layers["dense"]), tmp_path / "x.zarr")
    files, chunk, add = StoreFiles.snapshot(path), a_chunk(path / "X"), store_copy._add_elements
    said = rf"1 of \d+ files of .* the first \(gone\) is {re.escape(str(chunk.relative_to(path)))}"

    def gone(*args):
        chunk.unlink()
        add(*args)

    with monkeypatch.context() as patched:
        patched.setattr(store_copy, "_add_elements", gone)
        with pytest.raises(OSError, match=said):
            copy_store(files, tmp_path / "new.h5ad", {"obsm": {}}, progress=False)
    with pytest.raises(OSError, match=said):
        copy_store(files, tmp_path / "new.zarr", ADDED, progress=False)
    assert [file.name for file in tmp_path.iterdir()] == ["x.zarr"]


def test_room(source, tmp_path, monkeypatch):
    free = 10**9
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    for suffix in SUFFIXES:
        check_disk_space(StoreFiles.snapshot(source), tmp_path / f"new{suffix}", name="-o", more=10**6)
        with pytest.raises(
            OSError, match=r"the disk of -o must have room for a copy of the input, about 1\.0 GB; it has 1\.0 GB free"
        ):
            check_disk_space(StoreFiles.snapshot(source), tmp_path / f"new{suffix}", name="-o", more=10**9)
    same = tmp_path / f"new{source.suffix}"
    free = StoreFiles.snapshot(source).n_bytes
    check_disk_space(StoreFiles.snapshot(source), same, name="-o", more=0)
    free -= 1
    with pytest.raises(OSError, match="must have room"):
        check_disk_space(StoreFiles.snapshot(source), same, name="-o", more=0)
