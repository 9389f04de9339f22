"""Cells that are simulated into a store are those that would be in memory, and memory does not grow with them."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import sparse

from scbatchnorm import pp
from scbatchnorm._data import store_write
from scbatchnorm.datasets import simulate_batches
from scbatchnorm.datasets._simulation import _BLOCK_CELLS as BLOCK

if TYPE_CHECKING:
    from pathlib import Path


def same(a: sparse.csr_matrix, b: sparse.csr_matrix) -> None:
    """To the bit, types included."""
    assert a.shape == b.shape
    for part in ("data", "indices", "indptr"):
        assert getattr(a, part).dtype == getattr(b, part).dtype
        np.testing.assert_array_equal(getattr(a, part), getattr(b, part))


@settings(max_examples=4)
@example(n_cells=BLOCK, n_genes=5, batch_strength=1.0, density=0.3, seed=0, truth=True)
@example(n_cells=2 * BLOCK + 1, n_genes=5, batch_strength=10.0, density=0.9, seed=0, truth=True)
@example(n_cells=BLOCK - 1, n_genes=5, batch_strength=1.0, density=1e-6, seed=0, truth=False)
@given(
    n_cells=st.integers(18, 3 * BLOCK),
    n_genes=st.integers(2, 30),
    batch_strength=st.floats(0, 3),
    density=st.floats(0.01, 0.9),
    seed=st.integers(0, 1000),
    truth=st.booleans(),
)
def test_a_store_holds_what_would_be_in_memory(
    tmp_path_factory, n_cells, n_genes, batch_strength, density, seed, truth
):
    parameters = {
        "n_cells": n_cells, "n_genes": n_genes, "batch_strength": batch_strength, "density": density, "rng": seed,
        "truth": truth,
    }  # fmt: skip
    path = tmp_path_factory.mktemp("store") / "x.h5ad"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_write, "_CHUNK_H5AD", 997)
        lazy = simulate_batches(**parameters, store=path)
    expected = simulate_batches(**parameters)
    for found in (ad.read_h5ad(path), lazy.to_memory()):
        same(found.X, expected.X)
        # In anndata 0.13 None is there too: X.
        named = [[name for name in of.layers if name is not None] for of in (found, expected)]
        assert named == [["truth"] if truth else []] * 2
        if truth:
            same(found.layers["truth"], expected.layers["truth"])
        pd.testing.assert_frame_equal(found.obs, expected.obs)
        pd.testing.assert_frame_equal(found.var, expected.var)
        assert found.uns["simulation"] == expected.uns["simulation"]


def test_without_truth_the_rest_is_the_same():
    with_truth, without = (simulate_batches(700, n_genes=50, truth=truth) for truth in (True, False))
    same(without.X, with_truth.X)
    assert not without.layers
    assert without.obs.equals(with_truth.obs)
    assert without.uns["simulation"] == with_truth.uns["simulation"]


def test_what_is_returned_is_lazy_and_can_be_integrated(tmp_path, brief):
    adata = simulate_batches(200, n_genes=40, n_types=2, store=tmp_path / "x.zarr")
    for matrix in (adata.X, adata.layers["truth"]):
        assert type(matrix).__module__.startswith("dask")
        assert matrix.dtype == np.float32
        assert isinstance(matrix.blocks[0, 0].compute(), sparse.csr_matrix)
    assert isinstance(adata.obs, pd.DataFrame)
    assert isinstance(adata.obs["batch"].dtype, pd.CategoricalDtype)
    del adata.layers["truth"]
    adata.X = adata.X.map_blocks(np.log1p, dtype=np.float32)
    pp.integrate(adata, "batch", model=brief())
    assert np.isfinite(adata.obsm["X_scbatchnorm"]).all()


def test_a_store_that_is_there_is_left_alone(tmp_path):
    path = tmp_path / "x.zarr"
    simulate_batches(20, n_genes=5, n_types=2, store=str(path))
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    with pytest.raises(FileExistsError, match=r"store exists already: .*x\.zarr\."):
        simulate_batches(30, n_genes=5, n_types=2, store=path)
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before


def test_memory_does_not_grow_with_expression(tmp_path, monkeypatch):
    monkeypatch.setattr(store_write, "_CHUNK_H5AD", 2**14)

    def peak(n_cells: int, store: Path | None) -> int:
        tracemalloc.start()
        simulate_batches(n_cells, n_genes=200, density=0.5, truth=False, store=store)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak(100, tmp_path / "first.h5ad")  # what is imported on the way
    few, many = (peak(n_cells, tmp_path / f"{n_cells}.h5ad") for n_cells in (2000, 8000))
    # Names, batches and types take about 200 bytes a cell; expression would take 4 times that.
    assert many - few < 6000 * 300
    assert peak(8000, None) - peak(2000, None) > 6000 * 700
