"""Corrected expression against the truth, on data where it is known: planted and simulated batch effects.

python -m benchmarks.correct
"""

from __future__ import annotations

import sys
import time
import warnings
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc

from benchmarks import report
from benchmarks.options import Parser, write

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from anndata import AnnData

_N_TOP_GENES = {"pbmc_planted": 400, "simulate_batches": 1000}
# Cells that a type needs, for correlations of genes within it, and in a batch, for its differences to other types.
_MIN_CELLS, _MIN_IN_BATCH = 50, 10
# Columns of the table: title, measure, digits; and whether small is good.
_COLUMNS = {
    "RMSE": "rmse",
    "RMSE by gene": "rmse_gene",
    "RMSE less constant": "rmse_free",
    "RMSE by gene less constant": "rmse_gene_free",
    "RMSE by cell less constant": "rmse_cell_free",
    "correlation by gene": "correlation_gene",
    "correlation by cell": "correlation_cell",
    "RMSE of type means": "type_means",
    "gene-gene correlation": "gene_gene",
    "gene-gene error": "gene_gene_error",
    "fold changes kept": "fold_changes",
    "least kept": "fold_changes_least",
    "s": "seconds",
}


def planted(strength: float, seed: int) -> AnnData:
    """Real blood cells with planted effects; X and truth are log-normalised as they come.

    What scVI takes for counts is `expm1` of X, rounded.
    """
    import scbatchnorm as sbn

    adata = sbn.datasets.pbmc_planted(batch_strength=strength, rng=seed)
    adata.layers["counts"] = adata.X.expm1().rint()
    return _with_genes(adata, "pbmc_planted")


def simulated(strength: float, seed: int) -> AnnData:
    """Simulated counts; measurement and truth normalised alike."""
    import scbatchnorm as sbn

    adata = sbn.datasets.simulate_batches(batch_strength=strength, rng=seed)
    adata.layers["counts"] = adata.X.copy()
    truth = ad.AnnData(adata.layers["truth"])
    for each in (adata, truth):
        sc.pp.normalize_total(each, target_sum=1e4)
        sc.pp.log1p(each)
    adata.layers["truth"] = truth.X
    return _with_genes(adata, "simulate_batches")


def _with_genes(adata: AnnData, name: str) -> AnnData:
    """Variable genes chosen: about half, so that the other half is corrected by extension only."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sc.pp.highly_variable_genes(adata, n_top_genes=_N_TOP_GENES[name], batch_key="batch")
    return adata


def uncorrected(adata: AnnData, seed: int) -> np.ndarray:
    """What was measured."""
    return adata.X.toarray()


def scbatchnorm(adata: AnnData, seed: int) -> np.ndarray:
    """Ours: integrate, then correct all genes; defaults."""
    import scbatchnorm as sbn

    sbn.pp.integrate(adata, "batch", rng=seed)
    sbn.tl.correct(adata)
    return np.asarray(adata.layers["scbatchnorm"])


def scbatchnorm_sparse(adata: AnnData, seed: int) -> np.ndarray:
    """Ours with a threshold of 0.1, so that the layer is sparse."""
    import scbatchnorm as sbn

    sbn.pp.integrate(adata, "batch", rng=seed)
    sbn.tl.correct(adata, threshold=0.1)
    return adata.layers["scbatchnorm"].toarray()


def combat(adata: AnnData, seed: int) -> np.ndarray:
    """ComBat (scanpy) on all genes that vary; negative values become 0, as in ours."""
    dense = adata.X.toarray()
    varies = dense.std(axis=0) > 0
    part = ad.AnnData(dense[:, varies], obs=adata.obs[["batch"]].copy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sc.pp.combat(part, "batch")
    dense[:, varies] = np.maximum(part.X, 0)
    return dense


def scvi(adata: AnnData, seed: int) -> np.ndarray:
    """Run scVI on the counts of all genes: normalised expression, mean over all batches, at each cell's own total."""
    import scvi as package

    package.settings.seed = seed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        package.model.SCVI.setup_anndata(adata, layer="counts", batch_key="batch")
        model = package.model.SCVI(adata, n_layers=2, n_latent=30, gene_likelihood="nb")
        model.train(enable_progress_bar=False)
        levels = list(adata.obs["batch"].cat.categories)
        rates = model.get_normalized_expression(transform_batch=levels, n_samples=10, return_numpy=True)
    total = np.asarray(adata.X.expm1().sum(axis=1)).reshape(-1, 1)
    return np.log1p(np.asarray(rates) * total).astype(np.float32)


DATASETS: dict[str, Callable[[float, int], AnnData]] = {"pbmc_planted": planted, "simulate_batches": simulated}
METHODS: dict[str, Callable[[AnnData, int], np.ndarray]] = {
    "uncorrected": uncorrected,
    "scbatchnorm": scbatchnorm,
    "scbatchnorm, threshold 0.1": scbatchnorm_sparse,
    "combat": combat,
    "scvi": scvi,
}


def errors(found: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Root mean squared error and correlation, over all, by gene and by cell, dense arrays (cells, genes).

    The average over batches has a level of its own for each gene: "free" errors allow a constant for each gene, the
    same for all cells.
    """
    error = found - truth
    free = error - error.mean(axis=0)
    return {
        "rmse": float(np.sqrt(np.mean(error**2))),
        "rmse_gene": float(np.sqrt(np.mean(error**2, axis=0)).mean()),
        "rmse_free": float(np.sqrt(np.mean(free**2))),
        "rmse_gene_free": float(np.sqrt(np.mean(free**2, axis=0)).mean()),
        "rmse_cell_free": float(np.sqrt(np.mean(free**2, axis=1)).mean()),
        "correlation_gene": float(np.nanmean(_correlations(found, truth))),
        "correlation_cell": float(np.nanmean(_correlations(found.T, truth.T))),
    }


def _correlations(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Correlation of each column of one array with that of another, nan where one is constant."""
    left, right = left - left.mean(axis=0), right - right.mean(axis=0)
    scale = np.sqrt((left**2).sum(axis=0) * (right**2).sum(axis=0))
    return np.divide((left * right).sum(axis=0), scale, out=np.full(left.shape[1], np.nan), where=scale > 1e-8)


def gene_gene(found: np.ndarray, truth: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Correlations between genes within each type, against those of the truth: how alike, and root mean squared error.

    Over genes that 20 cells of the type express in the truth.
    """
    alike, error = [], []
    for label in np.unique(labels):
        cells = labels == label
        genes = ((truth[cells] > 0).sum(axis=0) >= 20) & (found[cells].std(axis=0) > 1e-6)
        if cells.sum() < _MIN_CELLS or genes.sum() < 10:
            continue
        pairs = np.triu_indices(int(genes.sum()), 1)
        ours, real = (np.corrcoef(values[cells][:, genes].T)[pairs] for values in (found, truth))
        alike.append(np.corrcoef(ours, real)[0, 1])
        error.append(np.sqrt(np.mean((ours - real) ** 2)))
    return {"gene_gene": float(np.mean(alike)), "gene_gene_error": float(np.mean(error))}


def type_means(found: np.ndarray, truth: np.ndarray, groups: np.ndarray) -> float:
    """Root mean squared error of the mean profile of each type in each batch, less a constant for each gene.

    Noise of single cells is averaged out: this is fair to methods that return expectations, and it is the batch effect alone.
    """
    names, sizes = np.unique(groups, return_counts=True)
    large = names[sizes >= _MIN_IN_BATCH]
    error = np.stack([(found - truth)[groups == name].mean(axis=0) for name in large])
    return float(np.sqrt(np.mean((error - error.mean(axis=0)) ** 2)))


def fold_changes(adata: AnnData, found: np.ndarray) -> dict[str, float]:
    """Spearman correlation of log fold changes between types within a batch with the uncorrected ones: mean, least."""
    import scbatchnorm as sbn

    adata.layers["found"] = found
    table = sbn.tl.concordance(adata, "batch", "cell_type", corrected="found", min_cells=_MIN_IN_BATCH)
    return {"fold_changes": float(table["spearman"].mean()), "fold_changes_least": float(table["spearman"].min())}


def run_one(dataset: str, strength: float, seed: int, methods: list[str]) -> list[dict[str, Any]]:
    """Rows of one data set, one per method."""
    adata = DATASETS[dataset](strength, seed)
    truth, labels = adata.layers["truth"].toarray(), adata.obs["cell_type"].astype(str).to_numpy()
    groups = labels + " in " + adata.obs["batch"].astype(str).to_numpy()
    rows = []
    for method in methods:
        work = adata.copy()
        start = time.perf_counter()
        found = METHODS[method](work, seed)
        seconds = time.perf_counter() - start
        measures = errors(found, truth) | gene_gene(found, truth, labels) | fold_changes(work, found)
        measures |= {"type_means": type_means(found, truth, groups)}
        names = {"dataset": dataset, "effect": strength, "seed": seed, "method": method}
        rows.append(names | measures | {"seconds": seconds, "nonzero": float(np.mean(found > 0))})
        print(f"{dataset}, effect {strength:g}, seed {seed}: {method} done", file=sys.stderr, flush=True)
    return rows


def summary(table: pd.DataFrame) -> str:
    """Markdown: a table for each data set and effect, a row for each method."""
    parts = [f"# Corrected expression against the truth\n\n{report.environment(['torch', 'scbatchnorm', 'scanpy'])}."]
    for (dataset, effect), group in table.groupby(["dataset", "effect"], sort=False):
        rows = {
            method: {title: report.mean_sd(runs[column]) for title, column in _COLUMNS.items()}
            for method, runs in group.groupby("method", sort=False)
        }
        shown = report.markdown(pd.DataFrame.from_dict(rows, orient="index"), index_name="method")
        parts.append(f"## {dataset}, effect {effect:g}, {group['seed'].nunique()} seeds\n\n{shown}")
    return "\n\n".join(parts) + "\n"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = Parser("correct", __doc__)
    parser.add_choice("--datasets", list(DATASETS), "data")
    text = "strengths of the batch effect (default: 0.5 1 2)"
    parser.add_argument("--effects", nargs="+", type=float, default=[0.5, 1.0, 2.0], help=text)
    parser.add_number("--seeds", 3, "data sets of each kind")
    parser.add_choice("--methods", list(METHODS), "which", [method for method in METHODS if method != "scvi"])
    parser.add_output("correct")
    return parser.parse(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Correct, and compare with the truth."""
    options = parse(arguments)
    rows = []
    for dataset in options.datasets:
        for effect in options.effects:
            for seed in range(options.seeds):
                rows += run_one(dataset, effect, seed, options.methods)
    table = pd.DataFrame(rows)
    text = summary(table)
    write(options, "correct", table, text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
