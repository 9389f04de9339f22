"""Stores are integrated without having their expression in memory: the same result, whole or not there."""

from __future__ import annotations

import shutil
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pytest
from anndata.tests.helpers import assert_equal
from scipy import sparse

from scbatchnorm import BatchNormAutoencoder, pp
from scbatchnorm._data.blocks import ROWS
from scbatchnorm._data.store_read import count_expression_bytes
from scbatchnorm._method.training.trainer import Trainer
from scbatchnorm._persistence import checkpoint as _checkpoint
from scbatchnorm._persistence.container import write_container
from scbatchnorm.cli import _source
from tests.cli.conftest import run
from tests.helpers.chunks import a_chunk

SUFFIXES = ["h5ad", "zarr"]


def read(path):
    return ad.read_zarr(path) if path.suffix == ".zarr" else ad.read_h5ad(path)


@pytest.fixture
def briefly(monkeypatch):
    """A small network that is trained for a moment, instead of `quick`: here are many runs."""
    integrate = pp.integrate

    def few_steps(adata, batch_key, *, model=None, layer=None, use_rep=None, key_added=None, **params):
        model = model or BatchNormAutoencoder(**params)
        model.set_params(max_steps=30, n_refreshes=2, n_components=8, n_latent=8, n_hidden=16)
        integrate(adata, batch_key, model=model, layer=layer, use_rep=use_rep, key_added=key_added)

    monkeypatch.setattr(pp, "integrate", few_steps)


@pytest.fixture(scope="module")
def stores(source, tmp_path_factory):
    """The same cells in both formats."""
    folder = tmp_path_factory.mktemp("stores")
    adata = ad.read_h5ad(source)
    del adata.layers["truth"]
    adata.layers["dense"] = adata.X.toarray()
    adata.layers["by gene"] = adata.X.tocsc()
    adata.write_h5ad(folder / "x.h5ad")
    adata.write_zarr(folder / "x.zarr")
    return {suffix: folder / f"x.{suffix}" for suffix in SUFFIXES}


@pytest.fixture
def store(stores, tmp_path):
    """A zarr store that tests may spoil."""
    return shutil.copytree(stores["zarr"], tmp_path / "x.zarr")


def integrate(source, target, *options):
    return run("integrate", source, "-o", target, "--batch-key", "batch", *options)


@pytest.mark.usefixtures("briefly")
@pytest.mark.parametrize(
    ("suffix", "other", "options"),
    [
        ("zarr", "h5ad", ("--seed", "3", "--max-cells-fit", "1000")),
        ("h5ad", "h5ad", ("--layer", "dense", "--key-added", "new")),
        ("zarr", "h5ad", ("--use-rep", "X_pca", "--batch-key", "day")),
        ("h5ad", "zarr", ()),
    ],
    ids=["sketch", "layer", "representation", "to zarr"],
)
def test_lazily_and_in_memory(stores, tmp_path, capsys, suffix, other, options):
    lazily, plain = tmp_path / f"lazily.{other}", tmp_path / "plain.h5ad"
    assert integrate(stores[suffix], lazily, "--lazy", *options) == 0
    assert integrate(stores[suffix], plain, "--no-lazy", *options) == 0
    assert_equal(read(lazily), read(plain))
    for key, embedding in read(plain).obsm.items():
        np.testing.assert_array_equal(read(lazily).obsm[key], embedding)
    outputs = capsys.readouterr().out.splitlines()
    assert outputs[0] == outputs[len(outputs) // 2]
    assert f"wrote {lazily}: obsm[" in outputs[1]


@pytest.mark.usefixtures("briefly")
def test_lazily_where_memory_is_short(stores, tmp_path, capsys, monkeypatch):
    with h5py.File(stores["h5ad"]) as root:
        size = count_expression_bytes(root)
    for available, lazily in [(4 * size, False), (4 * size - 1, True), (None, False)]:
        monkeypatch.setattr(_source, "available_memory", lambda available=available: available)
        assert integrate(stores["h5ad"], tmp_path / "out.h5ad", "-v", "--overwrite", "--strength", "0") == 0
        assert ("expression stays in" in capsys.readouterr().err) is lazily
    # What can only be had as a whole may take all of it.
    options = ("--layer", "by gene", "-v", "--overwrite", "--strength", "0")
    monkeypatch.setattr(_source, "available_memory", lambda: size)
    assert integrate(stores["h5ad"], tmp_path / "out.h5ad", *options) == 0
    assert "expression stays in" not in capsys.readouterr().err
    monkeypatch.setattr(_source, "available_memory", lambda: size - 1)
    assert integrate(stores["h5ad"], tmp_path / "out.h5ad", *options) == 2
    assert "is stored gene by gene (CSC): cells cannot be read from it block by block" in capsys.readouterr().err


@pytest.mark.usefixtures("briefly")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_over_the_input(stores, tmp_path, capsys, suffix):
    path = tmp_path / f"x.{suffix}"
    (shutil.copytree if suffix == "zarr" else shutil.copy)(stores[suffix], path)
    assert integrate(path, path, "--lazy") == 2
    assert "-o/--output exists already" in capsys.readouterr().err
    assert integrate(path, path, "--lazy", "--overwrite", "--strength", "0") == 0
    found = read(path)
    assert "X_scbatchnorm" in found.obsm
    assert not (found.X != read(stores[suffix]).X).nnz
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--batch-key", "donor"), "batch_key='donor' is not a column of adata.obs; columns: batch, cell_type, day."),
        (("--layer", "raw"), "layer='raw' is not a key of adata.layers; keys: by gene, counts, dense."),
        (("--layer", "counts"), "looks like raw counts"),
        (("--use-rep", "X_x"), "use_rep='X_x' is not a key of adata.obsm; keys: X_pca."),
        (("--layer", "by gene"), "Store it once as a CSR matrix"),
        (("--normalize", "--layer", "counts"), "sc.pp.normalize_total(adata, target_sum=1e4); sc.pp.log1p(adata);"),
        (("--no-lazy", "--scheduler", "tcp://x:1"), "--scheduler and --no-lazy exclude each other"),
        (("--strength", "0,1", "--max-cells-fit", "9"), "--max-cells-fit needs a single --strength"),
        (("--max-cells-fit", "0"), "The 'max_cells_fit' parameter"),
    ],
    ids=["batch key", "layer", "counts", "use rep", "CSC", "normalize", "scheduler", "strengths", "cells to fit"],
)
def test_mistakes(stores, tmp_path, capsys, options, message):
    assert integrate(stores["h5ad"], tmp_path / "out.zarr", "--lazy", *options) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_one_in_the_other(store, capsys):
    for source, target in [(store, store / "out.zarr"), (store / "in.h5ad", store)]:
        if source != store:
            source.touch()
        assert integrate(source, target, "--overwrite") == 2
        assert "-o/--output and the input must not lie in each other" in capsys.readouterr().err


def test_blocks_with_nan(tmp_path, capsys):
    rng = np.random.default_rng(0)
    X = sparse.random(ROWS + 50, 5, density=0.5, format="csr", dtype=np.float32, random_state=rng)
    X.data[X.indptr[ROWS + 7]] = np.nan
    adata = ad.AnnData(X, obs={"batch": np.repeat(["a", "b"], [900, X.shape[0] - 900])})
    adata.write_zarr(tmp_path / "x.zarr")
    assert integrate(tmp_path / "x.zarr", tmp_path / "out.zarr", "--lazy") == 2
    err = capsys.readouterr().err
    assert f"adata.X, block 1 (rows {ROWS} to {ROWS + 49})," in err
    assert f"row {ROWS + 7}" in err
    assert [file.name for file in tmp_path.iterdir()] == ["x.zarr"]


@pytest.mark.usefixtures("briefly")
@pytest.mark.parametrize("layer", [(), ("--layer", "dense")], ids=["CSR", "dense"])
@pytest.mark.parametrize("gone", ["all", "chunk"])
def test_a_store_that_disappears(store, tmp_path, capsys, monkeypatch, layer, gone):
    """What is gone reads as zeros, and nobody would notice."""
    part = store / ("layers/dense" if layer else "X/data")

    def disappearing(adata, *args, **params):
        shutil.rmtree(store) if gone == "all" else a_chunk(part).unlink()
        adata.obsm["X_scbatchnorm"] = np.zeros((240, 2))
        adata.varm["scbatchnorm"] = np.zeros((150, 2))
        adata.uns["scbatchnorm"] = {"stopped": "completed"}

    monkeypatch.setattr(pp, "integrate", disappearing)
    assert integrate(store, tmp_path / "out.zarr", "--lazy", *layer) == 2
    err = capsys.readouterr().err
    assert "input must stay as it is while it is read" in err
    assert "Nothing was written" in err
    assert {file.name for file in tmp_path.iterdir()} <= {"x.zarr"}


@pytest.mark.parametrize("name", ["X/data", "X/indptr"])
def test_a_store_whose_files_are_missing(store, tmp_path, capsys, name):
    a_chunk(store / name).unlink()
    assert integrate(store, tmp_path / "out.zarr", "--lazy") == 2
    assert f"input cannot be read: {store} (X of " in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["x.zarr"]


@pytest.mark.parametrize("lazy", ["--lazy", "--no-lazy"])
def test_damaged_files(stores, store, tmp_path, capsys, lazy):
    truncated = tmp_path / "x.h5ad"
    truncated.write_bytes(stores["h5ad"].read_bytes()[:-3000])
    chunk = a_chunk(store / "X/data")
    chunk.write_bytes(chunk.read_bytes()[:-300])
    for path in (truncated, store):
        assert integrate(path, tmp_path / "out.zarr", lazy) == 2
        assert "cannot be read" in capsys.readouterr().err
    assert not (tmp_path / "out.zarr").exists()


def test_no_room(stores, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    assert integrate(stores["zarr"], tmp_path / "out.zarr", "--lazy") == 2
    assert "the disk of -o/--output must have room for a copy of the input" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


class Killed(BaseException):
    """Nobody handles it."""


@pytest.mark.slow
@pytest.mark.usefixtures("briefly")
@pytest.mark.parametrize("when", ["sums", "training", "writing"])
def test_killed_runs_go_on(stores, tmp_path, monkeypatch, caplog, when):
    """And end as they would have; after the fit they do not train again."""
    options = ("--lazy", "--strength", "1", "--checkpoint", tmp_path / "checkpoint")
    with monkeypatch.context() as patched:
        write = write_container
        n_notes = {"sums": 2, "training": 3, "writing": 10**6}[when]

        def killing(path, *args):
            nonlocal n_notes
            write(path, *args)
            n_notes -= 1
            if n_notes == 0:
                raise Killed

        def killed(*args):
            raise Killed

        patched.setattr("scbatchnorm._persistence.checkpoint.write_container", killing)
        patched.setattr(_checkpoint, "_OFTEN", 0.0)
        if when == "writing":
            patched.setattr("scbatchnorm._data.store_copy._add_elements", killed)
        with pytest.raises(Killed):
            integrate(stores["h5ad"], tmp_path / "out.h5ad", *options)
        assert not (tmp_path / "out.h5ad").exists()
    steps: list[int] = []
    step = Trainer.step

    def counted(trainer, *args):
        steps.append(trainer.step_number)
        return step(trainer, *args)

    monkeypatch.setattr(Trainer, "step", counted)
    assert integrate(stores["h5ad"], tmp_path / "out.h5ad", *options, "-v") == 0
    resumed = len(steps)
    assert integrate(stores["h5ad"], tmp_path / "plain.h5ad", "--lazy", "--strength", "1") == 0
    assert 0 < len(steps) - resumed
    expected = {"sums": len(steps) - resumed, "writing": 0}.get(when)
    assert resumed == expected if expected is not None else 0 < resumed < len(steps) - resumed
    found, plain = read(tmp_path / "out.h5ad"), read(tmp_path / "plain.h5ad")
    np.testing.assert_array_equal(found.obsm["X_scbatchnorm"], plain.obsm["X_scbatchnorm"])


@pytest.mark.slow
@pytest.mark.usefixtures("briefly")
def test_scheduler(stores, tmp_path, capsys):
    from distributed import LocalCluster, default_client

    with LocalCluster(n_workers=1, processes=False, dashboard_address=":0") as cluster:
        address = cluster.scheduler_address
        assert integrate(stores["h5ad"], tmp_path / "out.h5ad", "--scheduler", address, "-v", "--strength", "0") == 0
        assert f"blocks are read by the workers of {address}" in capsys.readouterr().err
        with pytest.raises(ValueError, match="No clients"):
            default_client()
    assert integrate(stores["h5ad"], tmp_path / "plain.h5ad", "--strength", "0") == 0
    expected = read(tmp_path / "plain.h5ad").obsm["X_scbatchnorm"]
    np.testing.assert_array_equal(read(tmp_path / "out.h5ad").obsm["X_scbatchnorm"], expected)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nowhere"])
def test_no_scheduler(stores, tmp_path, capsys, monkeypatch, address):
    monkeypatch.setattr(_source, "_TIMEOUT", 0.2)
    assert integrate(stores["h5ad"], tmp_path / "out.zarr", "--scheduler", address) == 2
    assert (
        f"--scheduler must be the address of a Dask scheduler, such as tcp://host:8786; {address} does not answer"
        in capsys.readouterr().err
    )
    assert not list(Path(tmp_path).iterdir())
