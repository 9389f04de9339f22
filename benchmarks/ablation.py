"""What each part of the model is worth: variants of the estimator on the same data and seeds.

python -m benchmarks.ablation FILE.h5ad [FILE.h5ad ...]
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from benchmarks import report
from benchmarks.options import Parser, write
from benchmarks.scoring import METRICS, official_scores, prepare, require_scib
from scbatchnorm.nn.network import NORMS

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

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
LAYERS: dict[str, dict[str, Any]] = {
    "batch, mixed = default": {},
    "batch, per_batch": {"statistics": "per_batch"},
    **{norm: {"norm": norm} for norm in NORMS if norm != "batch"},
}
GRID_NORMS = ("batch", "layer", "none")
MINIBATCHES = ("mixed", "shuffled", "single")
GRID: dict[str, dict[str, Any]] = {
    f"{norm} x {minibatches}": {"norm": norm, "minibatches": minibatches}
    for norm in GRID_NORMS
    for minibatches in MINIBATCHES
}
PARTS = {"steps": STEPS, "layers": LAYERS, "grid": GRID}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = Parser("ablation", __doc__)
    parser.add_files()
    parser.add_number("--seeds", 3, "runs of each variant")
    parser.add_choice("--parts", list(PARTS), "variants", ["steps", "grid"])
    parser.add_output("ablation")
    return parser.parse(arguments)


def variants(parts: list[str]) -> dict[str, dict[str, Any]]:
    """Name of each variant to run -> parameters."""
    return {name: parameters for part in parts for name, parameters in PARTS[part].items()}


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
    table = pd.DataFrame(index=pd.Index(GRID_NORMS), columns=list(MINIBATCHES), dtype=object)
    means = report.totals_table(rows, "variant")["mean"]
    for name, parameters in GRID.items():
        table.loc[parameters["norm"], parameters["minibatches"]] = means[name]
    return table


def summary(rows: pd.DataFrame, options: argparse.Namespace) -> str:
    """Markdown of the parts that ran."""
    head = f"Mean ± sd over {options.seeds} seeds. {report.environment(['scib-metrics', 'torch', 'scbatchnorm'])}."
    parts = ["# Ablation", head]
    names = ["unintegrated", *variants(options.parts)]
    for metric in ("Total", "Batch correction", "Bio conservation"):
        table = report.totals_table(rows, "variant", metric=metric).loc[names]
        parts += [f"## {metric}", report.markdown(table, index_name="variant")]
    if "grid" in options.parts:
        parts += ["## Normalisation x minibatches (total, mean of the data sets)"]
        parts += [report.markdown(grid_table(rows), index_name="norm \\ minibatches")]
    return "\n\n".join(parts) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Run the ablation."""
    options = parse(arguments)
    require_scib()
    tables: list[pd.DataFrame] = []
    for path in options.files:
        tables.append(ablate_file(path, options, variants(options.parts)))
        table = pd.concat(tables, ignore_index=True)
        text = summary(table, options)
        write(options, "ablation", table, text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
