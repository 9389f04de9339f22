"""Simulated cells as stores that are made once: counts, and from them log-normalised values, both block by block."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import anndata as ad
import scanpy as sc

from scbatchnorm import datasets
from scbatchnorm._data.store_write import read_store, write_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scipy import sparse


def log_normalised(scratch: Path, n_cells: int, *, n_genes: int, n_batches: int, suffix: str = ".zarr") -> Path:
    """Store of `normalize_total(1e4)` and `log1p` of simulated counts; it lies in `scratch` after the first call."""
    name = f"{n_cells}x{n_genes}_{n_batches}batches{suffix}"
    path, counts = scratch / f"log_{name}", scratch / f"counts_{name}"
    if path.exists():
        return path
    scratch.mkdir(parents=True, exist_ok=True)
    if counts.exists():
        simulated = read_store(counts)
    else:
        print(f"simulating {counts.name}", file=sys.stderr, flush=True)
        simulated = datasets.simulate_batches(n_cells, n_genes=n_genes, n_batches=n_batches, truth=False, store=counts)
    print(f"normalising {path.name}", file=sys.stderr, flush=True)
    annotation = ad.AnnData(obs=simulated.obs, var=simulated.var, uns=simulated.uns)
    write_store(path, annotation, _normalised(simulated))
    return path


def _normalised(simulated: ad.AnnData) -> Iterator[dict[str, sparse.csr_matrix]]:
    """Blocks of log-normalised values of counts that are in a store."""
    for block in simulated.X.blocks:
        part = ad.AnnData(block.compute(scheduler="synchronous"))
        sc.pp.normalize_total(part, target_sum=1e4)
        sc.pp.log1p(part)
        yield {"X": part.X}
