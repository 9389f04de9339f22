"""Many simulated cells, in stores that are made once, and what is done with them in processes of their own."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from scipy import sparse

from benchmarks.isolated import Timed, timed
from benchmarks.methods import check_embedding, embed_timed
from scbatchnorm import BatchNormAutoencoder, datasets, metrics, pp
from scbatchnorm._data.store_write import read_store, write_store

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Columns of the scores.
SCORES = ("Batch correction", "Bio conservation", "Total")
_KEYS: dict[str, Any] = {"batch_key": "batch", "label_key": "cell_type"}


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
    write_store(path, annotation, ({"X": block} for block in _normalised(simulated)))
    return path


def _normalised(simulated: ad.AnnData) -> Iterator[sparse.csr_matrix]:
    """Blocks of log-normalised values of counts that are in a store."""
    for block in simulated.X.blocks:
        part = ad.AnnData(block.compute(scheduler="synchronous"))
        sc.pp.normalize_total(part, target_sum=1e4)
        sc.pp.log1p(part)
        yield part.X


@dataclass(frozen=True)
class Job:
    """What is called, on what."""

    data: str  # store with log-normalised values
    in_memory: bool  # read before the clock starts, otherwise X is lazy
    method: str = "scbatchnorm"
    seed: int = 0
    parameters: dict[str, Any] = field(default_factory=dict)  # of BatchNormAutoencoder


def embed_store(job: Job, rows: np.ndarray) -> Timed:
    """Embedding of some of the cells of a store; all of them are integrated while the clock runs."""
    path = Path(job.data)
    if not job.in_memory:
        adata = read_store(path)
    else:
        adata = ad.read_zarr(path) if path.suffix == ".zarr" else ad.read_h5ad(path)
        adata.var["highly_variable"] = True
    if job.method != "scbatchnorm":  # the others start from components
        sc.pp.pca(adata, n_comps=min(50, adata.n_vars - 1), random_state=0)
    if job.parameters:
        model = BatchNormAutoencoder(rng=job.seed, **job.parameters)
        found = timed(pp.integrate, adata, "batch", model=model)
        embedding = check_embedding(job.method, adata.obsm["X_scbatchnorm"], adata.n_obs)
    else:
        found = embed_timed(job.method, adata, "batch", job.seed)
        embedding = found.value
    return replace(found, value=np.asarray(embedding)[rows])


@dataclass(frozen=True)
class Sample:
    """Cells that are scored where the types are known: all of millions would take hours."""

    rows: np.ndarray  # ascending
    cells: ad.AnnData  # with `obsm["X_pca"]`, the components of these cells before integration

    def score(self, embedding: np.ndarray) -> dict[str, float]:
        """The totals of `metrics.evaluate` for the embedding of these cells, without intervals and controls."""
        judged = ad.AnnData(obs=self.cells.obs, obsm={"X_pca": self.cells.obsm["X_pca"], "X_scored": embedding})
        table = metrics.evaluate(judged, "X_scored", controls=False, n_bootstrap=0, progress=False, **_KEYS)
        return {column: float(table[column].iloc[0]) for column in SCORES}


def draw(store: Path, n_cells: int) -> Sample:
    """About `n_cells` cells, the same share of each type of each batch and at least one; always the same ones."""
    adata = read_store(store)
    strata = adata.obs["batch"].astype(str) + " | " + adata.obs["cell_type"].astype(str)
    rows = draw_rows(strata, n_cells, np.random.default_rng(0))
    cells = ad.AnnData(_in_memory(adata, rows), obs=adata.obs.iloc[rows].copy(), var=adata.var.copy())
    sc.pp.pca(cells, n_comps=min(50, cells.n_obs - 1, cells.n_vars - 1), random_state=0)
    return Sample(rows, cells)


def draw_rows(strata: pd.Series, n_cells: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of about `n_cells` cells, the same share of every stratum, at least one of each."""
    share = n_cells / len(strata)
    chosen = []
    for rows in strata.reset_index(drop=True).groupby(strata.to_numpy()).groups.values():
        size = max(1, int(len(rows) * share + rng.random()))
        chosen.append(rng.choice(np.asarray(rows), min(size, len(rows)), replace=False))
    return np.sort(np.concatenate(chosen))


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


def evaluate_simulated(n_cells: int, max_cells: int | None) -> Timed:
    """Scores of one representation of simulated cells in 30 batches, 10 types of unequal size; and what that takes."""
    rng = np.random.default_rng(0)
    sizes = np.arange(1, 11)
    label, batch = rng.choice(10, n_cells, p=sizes / sizes.sum()), rng.integers(30, size=n_cells)
    scale = np.exp(-np.arange(30) / 8).astype(np.float32)
    within = rng.standard_normal((n_cells, 30), dtype=np.float32)
    within += 1.2 * rng.normal(size=(10, 30)).astype(np.float32)[label]
    apart = rng.normal(size=(30, 30)).astype(np.float32)[batch]
    adata = ad.AnnData(
        obs=pd.DataFrame({"batch": batch.astype(str), "cell_type": label.astype(str)}, np.arange(n_cells).astype(str)),
        obsm={"X_pca": (within + 0.7 * apart) * scale, "X_new": (within + 0.2 * apart) * scale},
    )
    few = adata[:2000].copy()
    metrics.evaluate(few, "X_new", n_bootstrap=2, progress=False, **_KEYS)  # loads what is loaded late
    found = timed(metrics.evaluate, adata, "X_new", max_cells=max_cells, progress=False, **_KEYS)
    return replace(found, value=found.value.loc["X_new", list(SCORES)].to_dict())
