"""What each part of the model is worth: variants of the estimator on the same data and seeds.

python -m benchmarks.ablation FILE.h5ad [FILE.h5ad ...]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from benchmarks import report
from benchmarks.options import add_columns, add_output
from benchmarks.scoring import METRICS, official_scores, prepare, require_scib

if TYPE_CHECKING:
    from anndata import AnnData

# Parameters of the estimator that differ from its defaults.
STEPS: dict[str, dict[str, Any]] = {
    "shared BatchNorm only": {"offsets": False, "anchor_weight": 0.0, "adversary_weight": 0.0},
    "+ offsets": {"anchor_weight": 0.0, "adversary_weight": 0.0},
    "+ anchors": {"adversary_weight": 0.0},
    "+ adversary = default": {},
    "default without offsets": {"offsets": False},
    "default without anchors": {"anchor_weight": 0.0},
    "default with 50 components": {"n_latent": 50},
}
NORMS = ("batch", "layer", "none")
MINIBATCHES = ("mixed", "shuffled", "single")
GRID: dict[str, dict[str, Any]] = {
    f"{norm} x {minibatches}": {"norm": norm, "minibatches": minibatches}
    for norm in NORMS
    for minibatches in MINIBATCHES
}
_DEFAULT_CELL = "batch x mixed"  # the same model as the last step: run once


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablation", description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.h5ad", help="counts in X")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each variant (default: 3)")
    parser.add_argument("--part", choices=("all", "steps", "grid"), default="all", help="which variants (default: all)")
    add_columns(parser)
    add_output(parser, "ablation.csv and ablation.md")
    return parser.parse_args(arguments)


def variants(part: str) -> dict[str, dict[str, Any]]:
    """Name of each variant to run -> parameters."""
    if part == "steps":
        return STEPS
    if part == "grid":
        return GRID
    return STEPS | {name: parameters for name, parameters in GRID.items() if name != _DEFAULT_CELL}


def embed(adata: AnnData, parameters: dict[str, Any], batch_key: str, seed: int) -> np.ndarray:
    """Embedding of one variant."""
    import scbatchnorm as sbn

    work = adata.copy()
    sbn.pp.integrate(work, batch_key, model=sbn.BatchNormAutoencoder(rng=seed, progress=False, **parameters))
    return np.asarray(work.obsm["X_scbatchnorm"])


def ablate_file(path: Path, options: argparse.Namespace, chosen: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Rows of one data set: every chosen variant and seed, and the data as they came."""
    adata = prepare(path, batch_key=options.batch_key)
    rows: list[dict[str, Any]] = [{"variant": "unintegrated", "seed": 0}]
    embeddings = {"0": np.asarray(adata.obsm["X_pca"])}
    for name, parameters in chosen.items():
        for seed in range(options.seeds):
            start = time.perf_counter()
            embeddings[str(len(rows))] = embed(adata, parameters, options.batch_key, seed)
            seconds = time.perf_counter() - start
            rows.append({"variant": name, "seed": seed, "seconds": seconds})
            print(f"{path.stem}, {name}, seed {seed}: {seconds:.1f} s", file=sys.stderr, flush=True)
    table = official_scores(adata, embeddings, label_key=options.label_key, batch_key=options.batch_key)
    scored = pd.concat([pd.DataFrame(rows), table.reset_index(drop=True)], axis=1)  # both in the order of the runs
    return scored.assign(dataset=path.stem).reindex(columns=["dataset", "variant", "seed", *METRICS, "seconds"])


def grid_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Normalisation x minibatches: mean total over data sets, its standard deviation over seeds."""
    table = pd.DataFrame(index=pd.Index(NORMS), columns=list(MINIBATCHES), dtype=object)
    means = report.totals_table(rows, "variant")["mean"]
    for name, parameters in GRID.items():
        key = name if name in means.index else list(STEPS)[3]
        table.loc[parameters["norm"], parameters["minibatches"]] = means[key]
    return table


def summary(rows: pd.DataFrame, options: argparse.Namespace) -> str:
    """Markdown of the parts that ran."""
    head = f"Mean ± sd over {options.seeds} seeds. {report.environment(['scib-metrics', 'torch', 'scbatchnorm'])}."
    parts = ["# Ablation", head]
    names = ["unintegrated", *variants(options.part)]
    for metric in ("Total", "Batch correction", "Bio conservation"):
        table = report.totals_table(rows, "variant", metric=metric).loc[names]
        parts += [f"## {metric}", report.markdown(table, index_name="variant")]
    if options.part != "steps":
        parts += [
            "## Normalisation x minibatches (total, mean of the data sets)",
            report.markdown(grid_table(rows), index_name="norm \\ minibatches"),
        ]
    return "\n\n".join(parts) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Run the ablation; written after every file, so that an interrupted run keeps what it has."""
    options = parse(arguments)
    require_scib()
    options.output.mkdir(parents=True, exist_ok=True)
    tables: list[pd.DataFrame] = []
    for path in options.files:
        tables.append(ablate_file(path, options, variants(options.part)))
        table = pd.concat(tables, ignore_index=True)
        table.to_csv(options.output / "ablation.csv", index=False, float_format="%.5f")
        text = summary(table, options)
        (options.output / "ablation.md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
