"""Cells of marked types in batches that shift every gene."""

from __future__ import annotations

import anndata as ad
import numpy as np
import scanpy as sc
from scipy import sparse


def simulated(n_cells: int = 720, n_genes: int = 200) -> ad.AnnData:
    """Log-normalised counts of four types, each with markers of its own, in three batches that shift every gene."""
    rng = np.random.default_rng(0)
    kind, batch = rng.integers(4, size=n_cells), np.arange(n_cells) * 3 // n_cells
    rate = np.tile(rng.gamma(2.0, 0.6, n_genes), (n_cells, 1))
    rate[np.arange(n_cells)[:, None], 20 * kind[:, None] + np.arange(20)] *= 5
    rate *= np.exp(rng.normal(0, 0.4, (3, n_genes)))[batch] * rng.uniform(0.7, 1.4, (n_cells, 1))
    adata = ad.AnnData(sparse.csr_matrix(rng.poisson(rate).astype(np.float32)))
    adata.obs["batch"] = np.array(["batch_0", "batch_1", "batch_2"])[batch]
    adata.obs["cell_type"] = np.array(["type_0", "type_1", "type_2", "type_3"])[kind]
    adata.var_names = [f"gene{i}" for i in range(n_genes)]
    adata.strings_to_categoricals()
    sc.pp.normalize_total(adata, target_sum=200)
    sc.pp.log1p(adata)
    return adata
