"""The demonstration behind `scbatchnorm demo`: real cells, planted batch effects, before and after."""

from __future__ import annotations

import time
import warnings
from typing import TYPE_CHECKING

import pandas as pd
import scanpy as sc
from matplotlib.figure import Figure

from scbatchnorm import datasets, metrics, pl, pp

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

BASES = {"PCA (uncorrected)": "X_pca", "ComBat": "X_pca_combat", "scbatchnorm": "X_scbatchnorm"}
_UMAPS = {"before": ("X_pca", "X_umap_before"), "after": ("X_scbatchnorm", "X_umap")}


def integrate() -> tuple[AnnData, pd.DataFrame]:
    """The cells with one embedding per method in `obsm`, and the scores: a row per method, 1 is best."""
    adata = datasets.pbmc_planted()
    seconds = {}
    for name, step in {"PCA (uncorrected)": sc.pp.pca, "ComBat": _combat, "scbatchnorm": _scbatchnorm}.items():
        start = time.perf_counter()
        step(adata)
        seconds[name] = time.perf_counter() - start
    rows = {name: {**_scores(adata, basis), "seconds": seconds[name]} for name, basis in BASES.items()}
    return adata, pd.DataFrame.from_dict(rows, orient="index")


def write(adata: AnnData, folder: Path) -> dict[Path, str]:
    """Write pictures and data to `folder`, which is made if it is missing: file -> what it shows."""
    folder.mkdir(parents=True, exist_ok=True)
    for basis, key in _UMAPS.values():
        # Neighbours are kept apart by name, so that the last ones (after) are those that scanpy finds by default.
        sc.pp.neighbors(adata, use_rep=basis)
        sc.tl.umap(adata)
        adata.obsm[key] = adata.obsm["X_umap"].copy()
    files = {
        folder / "umap.png": "the cells before and after, by batch and by cell type",
        folder / "training.png": "losses of the training",
        folder / "pbmc_integrated.h5ad": "the cells with all embeddings",
    }
    umaps, training, data = files
    draw_umaps(adata).savefig(umaps, dpi=150)
    figure = Figure(figsize=(6.5, 3.8), layout="constrained")
    pl.history(adata, ax=figure.subplots())
    figure.savefig(training, dpi=150)
    adata.write_h5ad(data)
    return files


def draw_umaps(adata: AnnData) -> Figure:
    """Two rows, batch and cell type; two columns, before and after."""
    figure = Figure(figsize=(10.5, 8.0), layout="constrained")
    panels = figure.subplots(2, 2)
    for row, (color, what) in enumerate({"batch": "batch", "cell_type": "cell type"}.items()):
        for column, (when, (_, umap)) in enumerate(_UMAPS.items()):
            ax = pl.embedding(
                adata, umap, color=color, ax=panels[row, column], legend=column == 1, title=f"{when}: {what}"
            )
            ax.set(xlabel="UMAP1", ylabel="UMAP2")
    return figure


def _combat(adata: AnnData) -> None:
    """PCA of the expression that ComBat corrected."""
    work = adata.copy()
    with warnings.catch_warnings():
        # Genes without variance in a batch make it divide by 0, and its result is still finite.
        warnings.simplefilter("ignore", RuntimeWarning)
        sc.pp.combat(work, key="batch")
    sc.pp.pca(work)
    adata.obsm["X_pca_combat"] = work.obsm["X_pca"]


def _scbatchnorm(adata: AnnData) -> None:
    pp.integrate(adata, "batch")


def _scores(adata: AnnData, basis: str) -> dict[str, float]:
    X, batch, label = adata.obsm[basis], adata.obs["batch"], adata.obs["cell_type"]
    neighbors = metrics.Neighbors.from_embedding(X)
    return {
        "iLISI": metrics.ilisi(neighbors, batch),
        "batch silhouette": metrics.silhouette_batch(X, label, batch),
        "cLISI": metrics.clisi(neighbors, label),
        "label silhouette": metrics.silhouette_label(X, label),
    }
