"""A Dask cluster of two processes: the same bits, blocks only, and a worker that dies costs time."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import dask.array as da
import numpy as np
import pytest

from scbatchnorm._data import dask_blocks as _lazy

distributed = pytest.importorskip("distributed")

pytestmark = pytest.mark.slow
N_CELLS, N_GENES = 30_000, 20


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def cells():
    """Two batches that differ in half of the genes."""

    # Functions of functions are sent as they are; workers cannot import the tests.
    def block(block_info=None):
        start, stop = block_info[None]["array-location"][0]
        values = np.random.default_rng(start).gamma(1.0, size=(stop - start, N_GENES)).astype(np.float32)
        values[start % 2 :: 2, : N_GENES // 2] += 1
        return values

    return da.map_blocks(block, chunks=((10_000,) * 3, N_GENES), dtype=np.float32, meta=np.empty((0, 0), np.float32))


def deadly(cells, folder, n_readings):
    """The cells, in blocks of which the reader dies, the first time that so many have been read."""

    def read(values):
        with Path(folder, "readings").open("a") as file:
            file.write("x")
        if Path(folder, "readings").stat().st_size == n_readings:
            os.kill(os.getpid(), signal.SIGKILL)
        return values

    return cells.map_blocks(read, dtype=np.float32, meta=np.empty((0, 0), np.float32))


@pytest.fixture(scope="module")
def model(brief):
    return brief(max_cells_fit=1000, progress=False)


def test_same_bits_also_where_workers_die(client, model, tmp_path):
    batch = np.arange(N_CELLS) % 2
    expected = model.fit_transform(cells().compute(), batch)
    np.testing.assert_array_equal(model.fit_transform(cells(), batch), expected)
    for n_readings in (2, 12):  # among the sums of the stem, and among the embedding
        folder = tmp_path / str(n_readings)
        folder.mkdir()
        found = model.fit_transform(deadly(cells(), str(folder), n_readings), batch)
        np.testing.assert_array_equal(found, expected)
        assert Path(folder, "readings").stat().st_size > n_readings


def test_wrong_values_are_named_by_the_worker(client, model):
    X = cells().map_blocks(lambda values: np.where(values == values.max(), np.nan, values), dtype=np.float32)
    with pytest.raises(ValueError, match=r"X, block 0 \(rows 0 to 8191\), must be finite; it has \d NaN"):
        model.fit(X, np.arange(N_CELLS) % 2)


def test_workers_without_the_package(client, model, monkeypatch):
    monkeypatch.setattr(_lazy, "_version_of_worker", lambda: lambda: None)
    with pytest.raises(
        ImportError, match=r"all workers of the Dask cluster must have scbatchnorm .*; 2 of 2 lack the package"
    ):
        model.fit(cells(), np.arange(N_CELLS) % 2)
    monkeypatch.setattr(_lazy, "_version_of_worker", lambda: lambda: "0.0.1")
    with pytest.raises(ImportError, match=r"2 of 2 have another version of it, 0.0.1"):
        model.fit(cells(), np.arange(N_CELLS) % 2)
