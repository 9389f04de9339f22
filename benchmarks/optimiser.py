"""What batch normalisation is said to allow, tried on our model: learning rates, dropout, weight decay, shuffling.

python -m benchmarks.optimiser FILE.h5ad [FILE.h5ad ...]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.model_selection import ParameterGrid

from benchmarks import report
from benchmarks.options import add_columns, add_output
from benchmarks.scoring import METRICS, official_scores, prepare, require_scib
from scbatchnorm import BatchNormAutoencoder, pp
from scbatchnorm._method.training.minibatches import COMPOSITIONS, draw_minibatches

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData

_DEFAULTS: dict[str, Any] = BatchNormAutoencoder().get_params()
_NORMS = ("batch", "none")
# Values of the parameters of the estimator, every combination; Ioffe and Szegedy (2015), section 4.2.1.
GRIDS: dict[str, dict[str, Sequence[Any]]] = {
    "Learning rate": {
        "learning_rate": [factor * _DEFAULTS["learning_rate"] for factor in (0.25, 1, 4, 16)],
        "norm": _NORMS,
    },
    "Dropout": {"dropout": (0.0, 0.1, 0.3)},
    "Weight decay": {"weight_decay": (0.0, 1e-4, 1e-2, 1e-1)},
    # Without normalisation, too: minibatches of one batch also starve the losses between batches.
    "Order of the cells": {"minibatches": ("mixed", "shuffled"), "norm": _NORMS},
}
SIZES = (32, 128, 512)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.optimiser", description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.h5ad", help="counts in X")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each variant (default: 3)")
    add_columns(parser)
    add_output(parser, "optimiser.csv, variance.csv and optimiser.md")
    return parser.parse_args(arguments)


def named(grid: Mapping[str, Sequence[Any]]) -> dict[str, dict[str, Any]]:
    """Name of each variant of a grid -> its parameters, those with their default value left out of both."""
    changed = [
        {name: value for name, value in point.items() if value != _DEFAULTS[name]} for point in ParameterGrid(grid)
    ]
    return {", ".join(f"{name}={value}" for name, value in point.items()) or "default": point for point in changed}


def variants() -> dict[str, dict[str, Any]]:
    """Name of each variant to run -> parameters; what several grids have in common is there once."""
    return {name: parameters for grid in GRIDS.values() for name, parameters in named(grid).items()}


def prepare_sorted(path: Path, *, batch_key: str, label_key: str) -> AnnData:
    """Prepared data, the cells sorted by batch and type: the worst order for minibatches of consecutive cells."""
    adata = prepare(path, batch_key=batch_key)
    batch, label = (adata.obs[key].astype(str).to_numpy() for key in (batch_key, label_key))
    return adata[np.lexsort((label, batch))].copy()


def train(adata: AnnData, parameters: dict[str, Any], batch_key: str, seed: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Embedding of one variant, and how its training ended."""
    work = adata.copy()
    pp.integrate(work, batch_key, model=BatchNormAutoencoder(rng=seed, progress=False, **parameters))
    record = work.uns["scbatchnorm"]
    return np.asarray(work.obsm["X_scbatchnorm"]), {"stopped": record["stopped"], **ending(record["history"])}


def ending(history: pd.DataFrame) -> dict[str, float]:
    """Steps, and mean losses of the epochs since the last refresh of the anchors; missing where nothing was trained."""
    last = history[history["refresh"] == history["refresh"].max()]
    losses = last[["reconstruction", "anchors"]].mean()
    return {"steps": history["step"].max(), **losses.to_dict(), "loss": losses.sum(skipna=False)}


def score_file(adata: AnnData, dataset: str, options: argparse.Namespace) -> pd.DataFrame:
    """Rows of one data set: every variant and seed, and the data as they came."""
    rows: list[dict[str, Any]] = [{"variant": "unintegrated", "seed": 0}]
    embeddings = {"0": np.asarray(adata.obsm["X_pca"])}
    for name, parameters in variants().items():
        for seed in range(options.seeds):
            start = time.perf_counter()
            embedding, end = train(adata, parameters, options.batch_key, seed)
            seconds = time.perf_counter() - start
            embeddings[str(len(rows))] = embedding
            rows.append({"variant": name, "seed": seed, "seconds": seconds, **end})
            print(f"{dataset}, {name}, seed {seed}: {end['stopped']}, {seconds:.1f} s", file=sys.stderr, flush=True)
    table = official_scores(adata, embeddings, label_key=options.label_key, batch_key=options.batch_key)
    scored = pd.concat([pd.DataFrame(rows), table.reset_index(drop=True)], axis=1)  # both in the order of the runs
    columns = ["variant", "seed", *METRICS, "seconds", "stopped", "steps", "reconstruction", "anchors", "loss"]
    return scored.assign(dataset=dataset).reindex(columns=["dataset", *columns])


def variance_ratio(points: np.ndarray, minibatches: Sequence[np.ndarray]) -> float:
    """Biased variance inside minibatches over that of all cells: mean over cells, then over components."""
    inside = np.average(
        [points[cells].var(axis=0) for cells in minibatches], axis=0, weights=[len(cells) for cells in minibatches]
    )
    return float((inside / points.var(axis=0)).mean())


def minibatches_of(composition: str, codes: np.ndarray, size: int, seed: int) -> list[np.ndarray]:
    """One epoch of minibatches: of a composition of the estimator, or of cells that follow each other, unshuffled."""
    if composition == "consecutive":
        return np.array_split(np.arange(len(codes)), max(1, round(len(codes) / size)))
    return draw_minibatches(codes, size, np.random.default_rng(seed), composition=composition)  # type: ignore[arg-type]


def variance_file(adata: AnnData, dataset: str, options: argparse.Namespace) -> pd.DataFrame:
    """Rows of one data set: what each composition and size of minibatches leaves of the variance, one epoch per seed."""
    points = np.asarray(adata.obsm["X_pca"], dtype=np.float64)[:, : _DEFAULTS["n_latent"]]
    codes = pd.factorize(adata.obs[options.batch_key])[0]
    rows = []
    for composition in (*COMPOSITIONS, "consecutive"):
        for size in SIZES:
            for seed in range(options.seeds):
                ratio = variance_ratio(points, minibatches_of(composition, codes, size, seed))
                rows.append({"minibatches": composition, "size": size, "seed": seed, "ratio": ratio})
    table = pd.DataFrame(rows)
    table.insert(0, "dataset", dataset)
    return table.assign(perfect=1 - 1 / table["size"])


def ends(runs: pd.DataFrame) -> str:
    """How often training ended in which way, and after how many steps."""
    parts = []
    for stopped, group in runs.groupby("stopped"):
        low, high = group["steps"].min(), group["steps"].max()
        after = "" if np.isnan(low) else f" at {low:.0f}" if low == high else f" at {low:.0f} to {high:.0f}"
        parts.append(f"{len(group)} {stopped}{after}")
    return ", ".join(parts)


def grid_table(scores: pd.DataFrame, grid: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    """One row per variant of a grid, in its order: totals, means of their parts, final losses, and how training ended."""
    rows = scores[scores["variant"].isin(list(named(grid)))]
    table = report.totals_table(rows, "variant").rename(columns={"mean": "mean total"})
    for metric in ("Batch correction", "Bio conservation"):
        table[metric] = report.totals_table(rows, "variant", metric=metric)["mean"]
    losses = report.totals_table(rows, "variant", metric="loss").drop(columns="mean")
    table = table.join(losses.add_prefix("loss "))
    table["ended"] = [ends(rows[rows["variant"] == name]) for name in table.index]
    return table.loc[list(named(grid))]


def variance_table(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per composition and size: the ratio in each data set."""
    by = rows.assign(row=rows["minibatches"] + ", " + rows["size"].astype(str))
    names = list(dict.fromkeys(by["row"]))
    table = report.totals_table(by, "row", metric="ratio").drop(columns="mean").loc[names]
    perfect = by.groupby("row")["perfect"].first()[names]
    return table.assign(**{"1 - 1/m": [f"{value:.3f}" for value in perfect]})


def summary(scores: pd.DataFrame, variances: pd.DataFrame, options: argparse.Namespace) -> str:
    """Markdown: one table for each grid, and that of the variances."""
    plain = scores[scores["variant"] == "unintegrated"]
    defaults = ", ".join(f"{name}={_DEFAULTS[name]}" for grid in GRIDS.values() for name in grid if name != "norm")
    parts = [
        "# Optimiser",
        f"Mean ± sd over {options.seeds} seeds. {report.environment(['scib-metrics', 'torch', 'scbatchnorm'])}.",
        f"Default: norm={_DEFAULTS['norm']}, {defaults}. Total of the data as they came: "
        + ", ".join(f"{name} {total:.3f}" for name, total in zip(plain["dataset"], plain["Total"], strict=True))
        + ".",
    ]
    for title, grid in GRIDS.items():
        parts += [f"## {title}", report.markdown(grid_table(scores, grid), index_name="variant")]
    parts += ["## Variance inside minibatches, as a share of that over all cells"]
    parts += [report.markdown(variance_table(variances), index_name="minibatches, cells m")]
    return "\n\n".join(parts) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Run; written after every file, so that an interrupted run keeps what it has."""
    options = parse(arguments)
    require_scib()
    options.output.mkdir(parents=True, exist_ok=True)
    scores: list[pd.DataFrame] = []
    variances: list[pd.DataFrame] = []
    text = ""
    for path in options.files:
        adata = prepare_sorted(path, batch_key=options.batch_key, label_key=options.label_key)
        variances.append(variance_file(adata, path.stem, options))
        scores.append(score_file(adata, path.stem, options))
        tables = pd.concat(scores, ignore_index=True), pd.concat(variances, ignore_index=True)
        for table, name in zip(tables, ("optimiser", "variance"), strict=True):
            table.to_csv(options.output / f"{name}.csv", index=False, float_format="%.5f")
        text = summary(*tables, options)
        (options.output / "optimiser.md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
