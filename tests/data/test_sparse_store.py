"""Stores that are written block by block are the AnnData they would be in one piece, or they are not there."""

from __future__ import annotations

import resource
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from scbatchnorm._data import store_write
from scbatchnorm._data.blocks import ROWS
from scbatchnorm._data.store_write import check_store_path, open_store, read_store, write_store
from scbatchnorm.datasets import simulate_batches
from tests.helpers.processes import run_python

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUFFIXES = list(store_write.SUFFIXES)
READERS = {".zarr": ad.read_zarr, ".h5ad": ad.read_h5ad}


def matrix(n_cells: int, n_genes: int = 7, *, density: float = 0.4, seed: int = 0) -> sparse.csr_matrix:
    rng = np.random.default_rng(seed)
    values = sparse.random(n_cells, n_genes, density, "csr", np.float32, rng=rng)
    return sparse.csr_matrix(values)


def annotation(n_cells: int, n_genes: int = 7) -> ad.AnnData:
    batch = np.array(["a", "b"])[np.arange(n_cells) % 2]
    obs = pd.DataFrame({"batch": pd.Categorical(batch, ["a", "b"])}, index=[f"cell_{i}" for i in range(n_cells)])
    return ad.AnnData(obs=obs, var=pd.DataFrame(index=[f"gene_{i}" for i in range(n_genes)]), uns={"word": "x"})


def blocks(X: sparse.csr_matrix, edges: list[int]) -> Iterator[dict[str, sparse.csr_matrix]]:
    for start, stop in zip([0, *edges], [*edges, X.shape[0]], strict=True):
        yield {"X": X[start:stop], "layers/twice": X[start:stop] * 2}


def same(found: sparse.csr_matrix, expected: sparse.csr_matrix) -> None:
    """To the bit, zeros that are stored and types included."""
    assert found.shape == expected.shape
    for part in ("data", "indices", "indptr"):
        a, b = getattr(found, part), getattr(expected, part)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@settings(max_examples=5)
@given(data=st.data())
def test_blocks_of_any_size_make_the_whole(tmp_path_factory, data):
    suffix = data.draw(st.sampled_from(SUFFIXES))
    n_cells = data.draw(st.integers(1, 40))
    X = matrix(n_cells, density=data.draw(st.sampled_from([0, 0.1, 0.8])))
    # Some edges twice: blocks without a cell.
    edges = sorted(data.draw(st.lists(st.integers(0, n_cells), max_size=5)))
    path = tmp_path_factory.mktemp("store") / f"x{suffix}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "scbatchnorm._runtime.atomic_files._synchronise", lambda path: None
        )  # seconds, for chunks are files
        chunk = data.draw(st.integers(5, 60))
        patch.setattr(store_write, "_CHUNK_ZARR", chunk)
        patch.setattr(store_write, "_CHUNK_H5AD", chunk)
        write_store(path, annotation(n_cells), blocks(X, edges))
        lazy = read_store(path)
    whole = READERS[suffix](path)
    for adata in (whole, lazy.to_memory()):
        same(adata.X, X)
        same(adata.layers["twice"], X * 2)
        pd.testing.assert_frame_equal(adata.obs, annotation(n_cells).obs)
        pd.testing.assert_frame_equal(adata.var, annotation(n_cells).var)
        assert adata.uns == {"word": "x"}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_it_is_what_anndata_writes(suffix, tmp_path):
    """The same groups and attributes, the same types of arrays: whatever reads the one reads the other."""
    X = matrix(30)
    write_store(tmp_path / f"ours{suffix}", annotation(30), blocks(X, [11]))
    theirs = annotation(30)
    theirs.X, theirs.layers["twice"] = X, X * 2
    (theirs.write_zarr if suffix == ".zarr" else theirs.write_h5ad)(tmp_path / f"theirs{suffix}")

    def content(name: str) -> dict[str, Any]:
        found: dict[str, Any] = {}

        def look(key: str, element: Any) -> None:
            attributes = {word: str(value) for word, value in element.attrs.items()}
            found[key] = (attributes, getattr(element, "dtype", None), getattr(element, "shape", None))

        with open_store(tmp_path / f"{name}{suffix}") as root:
            if suffix == ".zarr":
                assert root.metadata.consolidated_metadata is not None
                found["format"] = root.metadata.zarr_format
                for key, element in root.members(max_depth=None):
                    look(key, element)
            else:
                root.visititems(look)
        return found

    # That there is no `raw` says nothing. The shape is a tuple or a list, of integers of one kind or another.
    ours, expected = content("ours"), content("theirs")
    expected.pop("raw", None)
    for key in ("X", "layers/twice"):
        for found in (ours, expected):
            found[key][0]["shape"] = found[key][0]["shape"].strip("[]()").replace(",", "").split()
    assert ours == expected


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_anndata_reads_it_lazily(suffix, tmp_path):
    X = matrix(30)
    write_store(tmp_path / f"x{suffix}", annotation(30), blocks(X, [11]))
    same(ad.experimental.read_lazy(tmp_path / f"x{suffix}").to_memory().X, X)


@pytest.mark.skipif(not hasattr(ad.settings, "auto_shard_zarr_v3"), reason="this anndata has no such setting")
@pytest.mark.filterwarnings("ignore:Consolidated metadata:UserWarning")  # anndata, when the test reads
def test_version_3_of_zarr_where_anndata_is_told_to_write_it(tmp_path):
    X = matrix(30)
    with ad.settings.override(zarr_write_format=3, auto_shard_zarr_v3=False):
        write_store(tmp_path / "x.zarr", annotation(30), blocks(X, [11]))
    assert zarr.open_group(tmp_path / "x.zarr", mode="r").metadata.zarr_format == 3
    same(ad.read_zarr(tmp_path / "x.zarr").X, X)


def test_more_values_than_32_bits_count(tmp_path):
    """The first values are not written: zarr takes for 0 what is not there."""
    root: Any = zarr.open_group(tmp_path / "x.zarr", mode="w", zarr_format=2)
    last = sparse.csr_matrix(np.array([[0, 5, 0, 6]], dtype=np.float32))
    writer = store_write._MatrixWriter(root, "X")
    writer.append(last)
    writer._write()
    for name in ("data", "indices"):
        root["X"][name].resize((2**31,))
    root["X/indptr"][1] = 2**31
    writer.append(last)
    writer.close()
    assert root["X"]["indptr"].dtype == np.int64
    assert root["X"]["indptr"][:].tolist() == [0, 2**31, 2**31 + 2]
    np.testing.assert_array_equal(ad.io.sparse_dataset(root["X"])[1:2].toarray(), last.toarray())


def test_blocks_of_dask_fit_blocks_of_the_package(tmp_path, monkeypatch):
    n_cells = ROWS + 100
    X = matrix(n_cells, 2)
    write_store(tmp_path / "x.zarr", annotation(n_cells, 2), [{"X": X}])
    assert read_store(tmp_path / "x.zarr").X.chunks == ((ROWS, 100), (2,))
    monkeypatch.setattr(store_write, "_CHUNK_ZARR", X.nnz // 20)
    rows = read_store(tmp_path / "x.zarr").X.chunks[0]
    assert set(rows[:-1]) == {512}  # dividing 8192; with less than twice the values of a chunk, where 1024 has more


def test_zeros_are_written(tmp_path):
    """What zarr does not find it takes for zeros: readers that look for missing files find all of them."""
    write_store(tmp_path / "x.zarr", annotation(3), [{"X": sparse.csr_matrix((3, 7), dtype=np.float32)}])
    indptr: Any = zarr.open_group(tmp_path / "x.zarr", mode="r")["X/indptr"]
    assert indptr.nchunks_initialized == indptr.nchunks == 1


class Failure(Exception):
    pass


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_fails_leaves_nothing(suffix, tmp_path):
    def failing() -> Iterator[dict[str, sparse.csr_matrix]]:
        yield {"X": matrix(10)}
        raise Failure

    with pytest.raises(Failure):
        write_store(tmp_path / f"x{suffix}", annotation(20), failing())
    assert not list(tmp_path.iterdir())


@contextmanager
def files_of_at_most(n_bytes: int) -> Iterator[None]:
    """Writing more is an error, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


# Where annotation is written, where blocks are, and at the very end.
_FULL = """
import resource, signal, sys
from pathlib import Path

import h5py
from scbatchnorm.datasets import simulate_batches

folder = Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for suffix, n_bytes in ((".zarr", 8000), *((".h5ad", n) for n in (0, 5000, 40_000, 80_000))):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        simulate_batches(400, n_genes=60, n_types=2, density=0.5, store=folder / f"x{suffix}")
    except OSError as error:
        said = str(error)
    else:
        said = "nothing"
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    # Files that HDF5 cannot write to stay open, and crash the process later.
    held = h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE)
    print("File too large" in said, held, len(list(folder.iterdir())))
"""


@pytest.mark.slow
def test_a_full_disk_leaves_nothing(tmp_path):
    """In a process of its own: HDF5 may crash it."""
    done = run_python("-c", _FULL, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["True 0 0"] * 5


def test_targets(tmp_path):
    def check(path: Any) -> Path:
        return check_store_path("store", path)

    assert check(str(tmp_path / "x.zarr")) == tmp_path / "x.zarr"
    with pytest.raises(TypeError, match=r"store must be a path or None; got int\."):
        check(3)
    with pytest.raises(ValueError, match=r"store must end in \.zarr or \.h5ad; got x\.csv\."):
        check("x.csv")
    with pytest.raises(FileNotFoundError, match="the folder of store does not exist: .*nowhere"):
        check(tmp_path / "nowhere" / "x.h5ad")
    (tmp_path / "folder.zarr").mkdir()
    (tmp_path / "file.h5ad").touch()
    (tmp_path / "link.zarr").symlink_to("gone")
    for name in ("folder.zarr", "file.h5ad", "link.zarr"):
        with pytest.raises(
            FileExistsError, match=rf"store exists already: .*{name}\. Remove it, or give another path\."
        ):
            check(tmp_path / name)


def test_without_dask(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "dask.array", None)
    with pytest.raises(ImportError, match=r"store needs Dask.*: pip install 'scbatchnorm\[scale\]'\."):
        simulate_batches(60, n_genes=20, store=tmp_path / "x.zarr")
    assert not list(tmp_path.iterdir())
    simulate_batches(60, n_genes=20)
