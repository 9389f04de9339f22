"""`scbatchnorm demo`: an integration of real cells with planted batch effects, before and after."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    import pandas as pd
    from anndata import AnnData
    from matplotlib.figure import Figure

HELP = "real cells with planted batch effects: scores and pictures, in under a minute"
DESCRIPTION = "Integrate real cells with planted batch effects, and write scores and pictures, in under a minute."
# Representation and key of its UMAP.
_UMAPS = {"before": ("X_pca", "X_umap_before"), "after": ("X_scbatchnorm", "X_umap")}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Where files are written."""
    parser.add_argument("-o", "--output", type=Path, default=Path("demo-output"), help="folder (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Integrate the cells, print scores, and write scores, pictures and data."""
    if args.output.exists() and not args.output.is_dir():
        msg = f"-o/--output must be a folder; {args.output} is a file."
        raise ValueError(msg)
    start = time.perf_counter()
    print("700 blood cells, divided among three protocols with planted batch effects ...", flush=True)
    from scbatchnorm import metrics
    from scbatchnorm.cli._scores import format_scores

    adata, seconds = _integrate_cells()
    scores = metrics.evaluate(adata, ["X_scbatchnorm", "X_pca_combat"], batch_key="batch", label_key="cell_type")
    files = _write_files(adata, scores, args.output)
    strength = adata.uns["scbatchnorm"]["strength"]
    print(f"\n{format_scores(scores)}\n")
    print(f"seconds to compute: {', '.join(f'{key} {took:.1f}' for key, took in seconds.items())}")
    print(f"strength {strength['value']:.2f}: {strength['reason']}\n")
    for path, what in files.items():
        print(f"wrote {path}: {what}")
    print(f"\n{time.perf_counter() - start:.0f} s in all")
    return 0


def _integrate_cells() -> tuple[AnnData, dict[str, float]]:
    """Cells with principal components, ComBat and scbatchnorm in `obsm`, and the seconds that each took."""
    import scanpy as sc

    from scbatchnorm import datasets, pp

    adata = datasets.pbmc_planted()
    seconds = {}
    steps = {
        "X_pca": sc.pp.pca,
        "X_pca_combat": _add_combat,
        "X_scbatchnorm": lambda adata: pp.integrate(adata, "batch"),
    }
    for key, step in steps.items():
        start = time.perf_counter()
        step(adata)
        seconds[key] = time.perf_counter() - start
    return adata, seconds


def _add_combat(adata: AnnData) -> None:
    """Add the principal components of expression that ComBat corrected."""
    import scanpy as sc

    corrected = adata.copy()
    with warnings.catch_warnings():
        # Genes without variance in a batch make ComBat divide by 0; its result is finite all the same.
        warnings.simplefilter("ignore", RuntimeWarning)
        sc.pp.combat(corrected, key="batch")
    sc.pp.pca(corrected)
    adata.obsm["X_pca_combat"] = corrected.obsm["X_pca"]


def _write_files(adata: AnnData, scores: pd.DataFrame, folder: Path) -> dict[Path, str]:
    """Write pictures, scores and data to `folder`, which is created if it is missing: file -> what it shows."""
    import scanpy as sc
    from matplotlib.figure import Figure

    from scbatchnorm import pl

    folder.mkdir(parents=True, exist_ok=True)
    for basis, key in _UMAPS.values():
        # The neighbours of the last call, after the integration, stay in `adata` for other functions of scanpy.
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
    _draw_umaps(adata).savefig(umaps, dpi=150)
    pl.scores(scores).figure.savefig(picture, dpi=150)  # type: ignore[union-attr]
    scores.to_csv(table)
    figure = Figure(figsize=(6.5, 3.8), layout="constrained")
    pl.history(adata, ax=figure.subplots())
    figure.savefig(training, dpi=150)
    adata.write_h5ad(data)
    return files


def _draw_umaps(adata: AnnData) -> Figure:
    """UMAPs before and after, in columns, by batch and by cell type, in rows."""
    from matplotlib.figure import Figure

    from scbatchnorm import pl

    figure = Figure(figsize=(10.5, 8.0), layout="constrained")
    panels = figure.subplots(2, 2)
    for row, (color, what) in enumerate({"batch": "batch", "cell_type": "cell type"}.items()):
        for column, (when, (_, umap)) in enumerate(_UMAPS.items()):
            ax = pl.embedding(
                adata, umap, color=color, ax=panels[row, column], legend=column == 1, title=f"{when}: {what}"
            )
            ax.set(xlabel="UMAP1", ylabel="UMAP2")
    return figure
