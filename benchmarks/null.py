"""Null calibration: one experiment split at random, where nothing should be corrected.

python -m benchmarks.null FILE.h5ad [FILE.h5ad ...]
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors

from benchmarks import report
from benchmarks.methods import METHODS
from benchmarks.options import Parser, write
from benchmarks.scoring import prepare_counts

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from anndata import AnnData

SPLITS = ("50:50", "85:15", "type removed", "a type removed from each")
N_NEIGHBORS = 30
HALF = "random_split"


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
    parser = Parser("null", __doc__)
    parser.add_files()
    add_keep(parser)
    parser.add_number("--seeds", 5, "random splits of each kind")
    parser.add_choice("--methods", list(_CHOICES), "which", [name for name in _CHOICES if not _CHOICES[name].deep])
    parser.add_output("null")
    return parser.parse(arguments)


def add_keep(parser: Parser) -> None:
    """Option for the experiment that is split."""
    parser.add_argument("--keep", metavar="LEVEL", help="the batch whose cells are split (default: the largest)")


def one_experiment(path: Path, options: argparse.Namespace) -> AnnData:
    """Counts of the one batch that is split."""
    adata = ad.read_h5ad(path)
    levels = adata.obs[options.batch_key].astype(str)
    level = options.keep or levels.value_counts().idxmax()
    if level not in set(levels):
        msg = f"--keep {level!r} is not a level of obs[{options.batch_key!r}]. Available: {sorted(set(levels))}."
        raise SystemExit(msg)
    return adata[(levels == level).to_numpy()].copy()


def two_halves(counts: AnnData, kind: str, seed: int, label_key: str) -> AnnData:
    """The experiment in two made-up batches, `obs[HALF]`, prepared."""
    rows, second = split(counts.obs[label_key].astype(str).to_numpy(), kind, seed)
    adata = counts[rows].copy()
    adata.obs[HALF] = pd.Categorical(np.where(second, "b", "a"))
    return prepare_counts(adata, batch_key=HALF)


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
    adata = two_halves(counts, kind, seed, options.label_key)
    labels = adata.obs[options.label_key].astype(str).to_numpy()
    before = neighbours(adata.obsm["X_pca"])
    results = []
    for method in options.methods:
        work = adata.copy()
        after = neighbours(_CHOICES[method].embed(work, HALF, seed))
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


def summary(table: pd.DataFrame) -> str:
    """Markdown: one row per data set, split and method."""
    rows = {}
    for (dataset, kind, method), group in table.groupby(["dataset", "split", "method"], sort=False):
        rows[f"{dataset}, {kind}, {method}"] = {
            "neighbours kept": report.mean_sd(group["kept"]),
            "least kept": f"{group['kept'].min():.3f}",
            "purity before": report.mean_sd(group["purity_before"]),
            "purity after": report.mean_sd(group["purity_after"]),
            "strength": report.mean_sd(group["strength"]),
            "largest strength": f"{group['strength'].max():.3f}" if group["strength"].notna().any() else "-",
        }
    shown = report.markdown(pd.DataFrame.from_dict(rows, orient="index"), index_name="data, split, method")
    return f"# Null calibration\n\n{report.environment(['torch', 'scbatchnorm'])}.\n\n{shown}\n"


def main(arguments: list[str] | None = None) -> int:
    """Split, correct, compare neighbours with those before."""
    options = parse(arguments)
    if missing := "; ".join(filter(None, (_CHOICES[name].missing() for name in options.methods))):
        print(missing, file=sys.stderr)
        return 1
    rows: list[dict[str, Any]] = []
    for path in options.files:
        counts = one_experiment(path, options)
        for kind in SPLITS:
            for seed in range(options.seeds):
                rows += [{"dataset": path.stem, **row} for row in run_split(counts, kind, seed, options)]
                print(f"{path.stem}, {kind}, seed {seed} done", file=sys.stderr, flush=True)
        table = pd.DataFrame(rows)
        text = summary(table)
        write(options, "null", table, text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
