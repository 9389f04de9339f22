"""Scores of an embedding where the types are known, on a sample of the cells: all of millions would take hours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import scanpy as sc
from scipy import sparse

from benchmarks.intervals import sample
from scbatchnorm import metrics
from scbatchnorm._data.store_write import read_store

if TYPE_CHECKING:
    from pathlib import Path

#: Columns of the tables.
COLUMNS = ("Batch correction", "Bio conservation", "Total")


@dataclass(frozen=True)
class Sample:
    """Cells that are scored."""

    rows: np.ndarray  # ascending
    cells: ad.AnnData  # with `obsm["X_pca"]`, the components of these cells before integration


def draw(store: Path, n_cells: int) -> Sample:
    """About `n_cells` cells, the same share of each type of each batch and at least one; always the same ones."""
    adata = read_store(store)
    strata = adata.obs["batch"].astype(str) + " | " + adata.obs["cell_type"].astype(str)
    rows = sample(strata, n_cells, np.random.default_rng(0))
    cells = ad.AnnData(_in_memory(adata, rows), obs=adata.obs.iloc[rows].copy(), var=adata.var.copy())
    sc.pp.pca(cells, n_comps=min(50, cells.n_obs - 1, cells.n_vars - 1), random_state=0)
    return Sample(rows, cells)


def _in_memory(adata: ad.AnnData, rows: np.ndarray) -> sparse.csr_matrix:
    """Expression of some cells, read block by block."""
    parts, start = [], 0
    for block in adata.X.blocks:
        stop = start + block.shape[0]
        first, last = np.searchsorted(rows, [start, stop])
        if last > first:
            parts.append(block.compute(scheduler="synchronous")[rows[first:last] - start])
        start = stop
    return sparse.vstack(parts, format="csr")


def scores(cells: ad.AnnData, embedding: np.ndarray) -> dict[str, float]:
    """The totals of `metrics.evaluate` for the embedding of the sampled cells, without intervals and controls."""
    judged = ad.AnnData(obs=cells.obs, obsm={"X_pca": cells.obsm["X_pca"], "X_scored": embedding})
    table = metrics.evaluate(
        judged, "X_scored", batch_key="batch", label_key="cell_type", controls=False, n_bootstrap=0, progress=False
    )
    return {column: float(table[column].iloc[0]) for column in COLUMNS}
