"""Every normalisation layer and every kind of statistics in our model: official scores, and what they do to null splits.

python -m benchmarks.norms FILE.h5ad [FILE.h5ad ...]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd

from benchmarks import ablation, null, report
from benchmarks.options import add_columns, add_output
from benchmarks.scoring import prepare_counts, require_scib
from scbatchnorm import BatchNormAutoencoder

# Parameters of the estimator that differ from its defaults.
VARIANTS: dict[str, dict[str, Any]] = {
    "batch, mixed = default": {},
    "batch, per_batch": {"statistics": "per_batch"},
    **{
        name: {"norm": name} for name in ("layer", "group", "instance", "switchable", "batch_layer", "whitened", "none")
    },
}
_BATCH = "random_split"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.norms", description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.h5ad", help="counts in X")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each variant (default: 3)")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="VARIANT")
    add_columns(parser)
    add_output(parser, "norms.csv, norms_null.csv and norms.md")
    return parser.parse_args(arguments)


def null_file(path: Path, options: argparse.Namespace) -> pd.DataFrame:
    """Rows of the largest batch of one data set, split at random in halves, for each split every variant at full strength."""
    counts = ad.read_h5ad(path)
    levels = counts.obs[options.batch_key].astype(str)
    counts = counts[(levels == levels.value_counts().idxmax()).to_numpy()].copy()
    n_latent = BatchNormAutoencoder().n_latent
    rows = []
    for seed in range(options.seeds):
        names = counts.obs[options.label_key].astype(str).to_numpy()
        kept, second = null.split(names, "50:50", seed)
        adata = counts[kept].copy()
        adata.obs[_BATCH] = pd.Categorical(np.where(second, "b", "a"))
        prepare_counts(adata, batch_key=_BATCH)
        # As many components as the corrected embedding has: fewer than 50 alone would lose neighbours.
        before = null.neighbours(adata.obsm["X_pca"][:, :n_latent])
        for name in options.variants:
            parameters = VARIANTS[name] | {"strength": 1.0}
            after = null.neighbours(ablation.embed(adata, parameters, _BATCH, seed))
            changes = {
                "kept": null.kept(before, after),
                "purity": null.purity(after, names) - null.purity(before, names),
            }
            rows.append({"dataset": path.stem, "variant": name, "seed": seed} | changes)
        print(f"{path.stem}, null split {seed} done", file=sys.stderr, flush=True)
    return pd.DataFrame(rows)


def summary(scores: pd.DataFrame, nulls: pd.DataFrame, options: argparse.Namespace) -> str:
    """Markdown: totals with their parts, time, and the null splits."""
    parts = [
        "# Normalisation layers and statistics",
        f"Mean ± sd over {options.seeds} seeds. {report.environment(['scib-metrics', 'torch', 'scbatchnorm'])}.",
    ]
    for metric in ("Total", "Batch correction", "Bio conservation"):
        parts += [
            f"## {metric}",
            report.markdown(report.totals_table(scores, "variant", metric=metric), index_name="norm"),
        ]
    own = scores[scores["variant"] != "unintegrated"]
    parts += [
        "## Seconds of the call",
        report.markdown(report.totals_table(own, "variant", metric="seconds"), index_name="norm"),
    ]
    parts += ["## Null splits at strength 1: neighbours kept"]
    parts += [report.markdown(report.totals_table(nulls, "variant", metric="kept"), index_name="norm")]
    parts += ["## Null splits at strength 1: change of label purity"]
    parts += [report.markdown(report.totals_table(nulls, "variant", metric="purity"), index_name="norm")]
    return "\n\n".join(parts) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Run; written after every file, so that an interrupted run keeps what it has."""
    options = parse(arguments)
    require_scib()
    options.output.mkdir(parents=True, exist_ok=True)
    chosen = {name: VARIANTS[name] for name in options.variants}
    scores: list[pd.DataFrame] = []
    nulls: list[pd.DataFrame] = []
    text = ""
    for path in options.files:
        nulls.append(null_file(path, options))
        scores.append(ablation.ablate_file(path, options, chosen))
        tables = pd.concat(scores, ignore_index=True), pd.concat(nulls, ignore_index=True)
        for table, name in zip(tables, ("norms", "norms_null"), strict=True):
            table.to_csv(options.output / f"{name}.csv", index=False, float_format="%.5f")
        text = summary(*tables, options)
        (options.output / "norms.md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
