"""Null calibration: one experiment split at random, where nothing should be corrected.

python -m benchmarks.null FILE.h5ad --keep LEVEL
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors

from benchmarks import report
from benchmarks.methods import METHODS
from benchmarks.options import add_columns, add_output
from benchmarks.scoring import prepare_counts

if TYPE_CHECKING:
    from anndata import AnnData

SPLITS = ("50:50", "85:15", "type removed", "a type removed from each")
N_NEIGHBORS = 30
_BATCH = "random_split"


def full_strength(adata: AnnData, batch_key: str, seed: int) -> np.ndarray:
    """Ours without the dial: what the network does to data that need nothing."""
    import scbatchnorm as sbn

    sbn.pp.integrate(adata, batch_key, model=sbn.BatchNormAutoencoder(strength=1.0, rng=seed))
    return np.asarray(adata.obsm["X_scbatchnorm"])


_CHOICES = {
    "scbatchnorm": METHODS["scbatchnorm"],
    "scbatchnorm, strength 1": replace(METHODS["scbatchnorm"], embed=full_strength),
    **{name: METHODS[name] for name in ("harmony", "scanorama", "combat", "scvi")},
}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    names = [name for name, method in _CHOICES.items() if not method.deep]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.null", description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, metavar="FILE.h5ad", help="counts in X")
    parser.add_argument("--keep", metavar="LEVEL", help="the batch whose cells are split (default: the largest)")
    parser.add_argument("--seeds", type=int, default=5, help="random splits of each kind (default: 5)")
    parser.add_argument("--methods", nargs="+", choices=_CHOICES, default=names, metavar="METHOD")
    add_columns(parser)
    add_output(parser, "null.csv and null.md")
    return parser.parse_args(arguments)


def one_experiment(options: argparse.Namespace) -> AnnData:
    """Counts of the one batch that is split."""
    adata = ad.read_h5ad(options.file)
    levels = adata.obs[options.batch_key].astype(str)
    level = options.keep or levels.value_counts().idxmax()
    if level not in set(levels):
        msg = f"--keep {level!r} is not a level of obs[{options.batch_key!r}]. Available: {sorted(set(levels))}."
        raise SystemExit(msg)
    return adata[(levels == level).to_numpy()].copy()


def split(labels: np.ndarray, kind: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows that stay and, for these, which of two made-up batches they are in.

    "type removed" takes a frequent type (another one for each seed) out of the second batch, "a type removed from each" also the
    next one out of the first.
    """
    rng = np.random.default_rng(seed)
    second = rng.random(labels.size) < (0.15 if kind == "85:15" else 0.5)
    if "removed" not in kind:
        return np.arange(labels.size), second
    names, counts = np.unique(labels, return_counts=True)
    frequent = names[counts >= 0.05 * labels.size]
    gone = second & (labels == frequent[seed % frequent.size])
    if kind == "a type removed from each":
        gone |= ~second & (labels == frequent[(seed + 1) % frequent.size])
    return np.flatnonzero(~gone), second[~gone]


def neighbours(embedding: np.ndarray) -> np.ndarray:
    """Indices of the nearest cells, each cell itself left out; shape (cells, N_NEIGHBORS)."""
    return NearestNeighbors(n_neighbors=N_NEIGHBORS).fit(embedding).kneighbors(return_distance=False)


def kept(before: np.ndarray, after: np.ndarray) -> float:
    """Share of each cell's neighbours that it keeps, mean over cells."""
    return float(np.mean([np.isin(b, a).mean() for b, a in zip(before, after, strict=True)]))


def purity(indices: np.ndarray, labels: np.ndarray) -> float:
    """Share of neighbours with the cell's own label."""
    return float((labels[indices] == labels[:, None]).mean())


def run_split(counts: AnnData, kind: str, seed: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of one split, one per method."""
    rows, second = split(counts.obs[options.label_key].astype(str).to_numpy(), kind, seed)
    adata = counts[rows].copy()
    adata.obs[_BATCH] = pd.Categorical(np.where(second, "b", "a"))
    prepare_counts(adata, batch_key=_BATCH)
    labels = adata.obs[options.label_key].astype(str).to_numpy()
    before = neighbours(adata.obsm["X_pca"])
    results = []
    for method in options.methods:
        work = adata.copy()
        after = neighbours(_CHOICES[method].embed(work, _BATCH, seed))
        results.append(
            {
                "split": kind,
                "seed": seed,
                "method": method,
                "kept": kept(before, after),
                "purity_before": purity(before, labels),
                "purity_after": purity(after, labels),
                "strength": strength_used(work) if method.startswith("scbatchnorm") else float("nan"),
            }
        )
    return results


def strength_used(adata: AnnData) -> float:
    """Strength that our method chose."""
    return float(adata.uns["scbatchnorm"]["strength"]["value"])


def summary(table: pd.DataFrame, name: str) -> str:
    """Markdown: one row per split and method."""
    rows = {}
    for (kind, method), group in table.groupby(["split", "method"], sort=False):
        rows[f"{kind}, {method}"] = {
            "neighbours kept": report.mean_sd(group["kept"]),
            "least kept": f"{group['kept'].min():.3f}",
            "purity before": report.mean_sd(group["purity_before"]),
            "purity after": report.mean_sd(group["purity_after"]),
            "strength": report.mean_sd(group["strength"]),
            "largest strength": f"{group['strength'].max():.3f}" if group["strength"].notna().any() else "-",
        }
    shown = report.markdown(pd.DataFrame.from_dict(rows, orient="index"), index_name="split, method")
    return f"# Null calibration: {name}\n\n{report.environment(['torch', 'scbatchnorm'])}.\n\n{shown}\n"


def main(arguments: list[str] | None = None) -> int:
    """Split, correct, compare neighbours with those before."""
    options = parse(arguments)
    if missing := "; ".join(filter(None, (_CHOICES[name].missing() for name in options.methods))):
        print(missing, file=sys.stderr)
        return 1
    counts = one_experiment(options)
    rows = []
    for kind in SPLITS:
        for seed in range(options.seeds):
            rows += run_split(counts, kind, seed, options)
            print(f"{kind}, seed {seed} done", file=sys.stderr, flush=True)
    table = pd.DataFrame(rows)
    options.output.mkdir(parents=True, exist_ok=True)
    table.to_csv(options.output / "null.csv", index=False, float_format="%.5f")
    text = summary(table, options.file.stem)
    (options.output / "null.md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
