"""The official scores: one preparation for every method, then scib-metrics' ``Benchmarker`` with its defaults.

The numbers depend on the version of scib-metrics (LISI and kBET changed between releases): :data:`SCIB_VERSION` is what the
published tables use, another one warns. The first call of a process compiles for about a minute, later ones take
seconds; the environment variable ``JAX_COMPILATION_CACHE_DIR`` saves a part of it.
"""

from __future__ import annotations

import gc
import logging
import os
import warnings
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from anndata import AnnData

SCIB_VERSION = "0.5.10"
BIO = ("Isolated labels", "KMeans NMI", "KMeans ARI", "Silhouette label", "cLISI")
BATCH = ("BRAS", "iLISI", "KBET", "Graph connectivity", "PCR comparison")
AGGREGATES = ("Batch correction", "Bio conservation", "Total")
METRICS = (*BIO, *BATCH, *AGGREGATES)


def prepare(path: str | Path, *, batch_key: str = "batch", n_top_genes: int = 2000, n_comps: int = 50) -> AnnData:
    """Read counts and prepare them identically for every method.

    Parameters
    ----------
    path
        An h5ad file with counts in ``X``.
    batch_key
        Column of ``adata.obs`` with the experimental batch.
    n_top_genes
        Highly variable genes, chosen per batch and merged (scanpy's default flavour); all genes where there are fewer.
    n_comps
        Principal components.

    Returns
    -------
    AnnData with log-normalised ``X``, ``layers["counts"]``, ``var["highly_variable"]`` and ``obsm["X_pca"]``.
    """
    return prepare_counts(ad.read_h5ad(path), batch_key=batch_key, n_top_genes=n_top_genes, n_comps=n_comps)


def prepare_counts(adata: AnnData, *, batch_key: str = "batch", n_top_genes: int = 2000, n_comps: int = 50) -> AnnData:
    """:func:`prepare` for counts that are in memory already; works in place and returns its argument."""
    if batch_key not in adata.obs:
        msg = f"batch_key={batch_key!r} is not a column of `adata.obs`. Available: {list(adata.obs)}."
        raise KeyError(msg)
    adata.obs[batch_key] = adata.obs[batch_key].astype("category").cat.remove_unused_categories()
    sc.pp.filter_genes(adata, min_cells=5)
    adata.layers["counts"] = adata.X.copy()
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    with warnings.catch_warnings():
        # Data sets with fewer genes than asked for simply use all of them.
        warnings.filterwarnings("ignore", message="`n_top_genes`")
        sc.pp.highly_variable_genes(adata, n_top_genes=n_top_genes, batch_key=batch_key)
    n_comps = min(n_comps, adata.n_obs - 1, int(adata.var["highly_variable"].sum()) - 1)
    sc.pp.pca(adata, n_comps=n_comps, random_state=0)
    return adata


def official_scores(
    adata: AnnData,
    embeddings: Mapping[str, np.ndarray],
    *,
    label_key: str = "cell_type",
    batch_key: str = "batch",
    n_jobs: int = 2,
) -> pd.DataFrame:
    """Score embeddings with scib-metrics as its ``Benchmarker`` does by default, unscaled.

    Parameters
    ----------
    adata
        The prepared data: ``obs`` and ``obsm["X_pca"]`` (the embedding before integration) are used.
    embeddings
        Name of the method -> array of cells x dimensions. Scoring several in one call shares the compilation.
    label_key, batch_key
        Columns of ``adata.obs``.
    n_jobs
        Threads of the neighbour search.

    Returns
    -------
    DataFrame, one row per name, columns :data:`METRICS` (as far as scib-metrics could compute them).
    """
    require_scib()
    benchmarker_class = _benchmarker_class()
    # obs and obsm are all that is scored: without X nothing large is copied about.
    bare = ad.AnnData(obs=adata.obs[[label_key, batch_key]].copy(), obsm={"X_pca": np.asarray(adata.obsm["X_pca"])})
    keys = {name: f"emb_{i}" for i, name in enumerate(embeddings)}
    for name, key in keys.items():
        bare.obsm[key] = np.array(embeddings[name], dtype=np.float32)  # a copy: it is changed in place
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        benchmarker = benchmarker_class(
            bare,
            batch_key=batch_key,
            label_key=label_key,
            embedding_obsm_keys=list(keys.values()),
            pre_integrated_embedding_obsm_key="X_pca",
            n_jobs=n_jobs,
            progress_bar=False,
        )
        # The Benchmarker collects garbage before every metric; with jax loaded that is 0.4 s each, unless frozen.
        gc.freeze()
        try:
            benchmarker.benchmark()
        finally:
            gc.unfreeze()
        table = benchmarker.get_results(min_max_scale=False)
    table = table.loc[list(keys.values()), [m for m in METRICS if m in table]].astype(float)
    table.index = pd.Index(list(keys), name="method")
    table.columns.name = None
    return table


def require_scib() -> None:
    """End the program where scib-metrics is missing, warn where its scores are not comparable."""
    try:
        installed = version("scib-metrics")
    except PackageNotFoundError as error:
        msg = "Scoring needs scib-metrics: pip install 'scbatchnorm[bench]'"
        raise SystemExit(msg) from error
    if installed != SCIB_VERSION:
        msg = f"scib-metrics {installed} is installed; its scores are not comparable with those of {SCIB_VERSION}."
        warnings.warn(msg, stacklevel=2)


def _benchmarker_class() -> type:
    """Import scib-metrics quietly; the import alone takes seconds."""
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        # Keep all compilations between processes, not only those that took over a second.
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    logging.getLogger("jax").setLevel(logging.ERROR)
    from scib_metrics.benchmark import Benchmarker

    logging.getLogger("scib_metrics").setLevel(logging.WARNING)
    return Benchmarker
