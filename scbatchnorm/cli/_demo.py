"""The demonstration behind `scbatchnorm demo`: real cells, planted batch effects, before and after."""

from __future__ import annotations

import time
import warnings
from typing import TYPE_CHECKING

import scanpy as sc
from matplotlib.figure import Figure

from scbatchnorm import datasets, metrics, pl, pp

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData

_UMAPS = {"before": ("X_pca", "X_umap_before"), "after": ("X_scbatchnorm", "X_umap")}


def integrate() -> tuple[AnnData, dict[str, float]]:
    """The cells with principal components, ComBat and ours in `obsm`, and the seconds that each took."""
    adata = datasets.pbmc_planted()
    seconds = {}
    for key, step in {"X_pca": sc.pp.pca, "X_pca_combat": _combat, "X_scbatchnorm": _scbatchnorm}.items():
        start = time.perf_counter()
        step(adata)
        seconds[key] = time.perf_counter() - start
    return adata, seconds


def evaluate(adata: AnnData) -> pd.DataFrame:
    """Scores of both methods, and the controls."""
    return metrics.evaluate(adata, ["X_scbatchnorm", "X_pca_combat"], batch_key="batch", label_key="cell_type")


def write(adata: AnnData, scores: pd.DataFrame, folder: Path) -> dict[Path, str]:
    """Write pictures, scores and data to `folder`, which is made if it is missing: file -> what it shows."""
    folder.mkdir(parents=True, exist_ok=True)
    for basis, key in _UMAPS.values():
        # Neighbours are kept apart by name, so that the last ones (after) are those that scanpy finds by default.
        sc.pp.neighbors(adata, use_rep=basis)
        sc.tl.umap(adata)
        adata.obsm[key] = adata.obsm["X_umap"].copy()
    files = {
        folder / "umap.png": "the cells before and after, by batch and by cell type",
        folder / "scores.png": "the scores as a picture",
        folder / "scores.csv": "the scores as a table",
        folder / "training.png": "losses of the training",
        folder / "pbmc_integrated.h5ad": "the cells with all embeddings",
    }
    umaps, picture, table, training, data = files
    draw_umaps(adata).savefig(umaps, dpi=150)
    pl.scores(scores).figure.savefig(picture, dpi=150)  # type: ignore[union-attr]
    scores.to_csv(table)
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
