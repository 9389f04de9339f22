"""Mapping: each batch held out in turn and mapped onto the others; a cell type that the reference lacks; seconds.

python -m benchmarks.mapping FILE.h5ad [FILE.h5ad ...]
"""

from __future__ import annotations

import sys
import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scanpy as sc
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

import scbatchnorm as sbn
from benchmarks import report
from benchmarks.methods import harmony
from benchmarks.options import Parser, write
from benchmarks.scoring import official_scores, prepare

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from anndata import AnnData

PARTS = ("totals", "labels", "novelty", "seconds")
_N_TOP_GENES = 2000
# Types that are taken out of the reference: those with at least this share, and number, of the held-out cells.
_FREQUENT, _ENOUGH = 0.05, 20
_NEW_CELLS = 10_000


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = Parser("mapping", __doc__)
    parser.add_files(optional=True)
    parser.add_choice("--parts", PARTS, "what is measured")
    parser.add_argument("--held-out", nargs="+", metavar="BATCH", help="batches to hold out (default: each in turn)")
    parser.add_number("--seed", 0, "seed of everything random")
    parser.add_argument("--mode", choices=("frozen", "recalibrate"), default="frozen", help="of tl.map_query")
    parser.add_output("mapping")
    return parser.parse(arguments)


def integrated(adata: AnnData, rows: np.ndarray, options: argparse.Namespace) -> AnnData:
    """Reference of some of the cells, with variable genes chosen among these alone."""
    reference = adata[rows].copy()
    batch = reference.obs[options.batch_key].astype("category").cat.remove_unused_categories()
    reference.obs[options.batch_key] = batch
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`n_top_genes`")
        sc.pp.highly_variable_genes(reference, n_top_genes=_N_TOP_GENES, batch_key=options.batch_key)
    sbn.pp.integrate(reference, options.batch_key, rng=options.seed)
    return reference


def mapped(reference: AnnData, query: AnnData, options: argparse.Namespace) -> AnnData:
    """The held-out batch in the space of the reference."""
    query = query.copy()
    sbn.tl.map_query(query, reference, label_keys=options.label_key, mode=options.mode, rng=options.seed)
    return query


def totals(adata: AnnData, reference: AnnData, query: AnnData, options: argparse.Namespace) -> dict[str, float]:
    """Official totals of reference and mapped cells together, and of an integration of all with the same genes."""
    everything = adata.copy()
    everything.var["highly_variable"] = reference.var["highly_variable"]
    sbn.pp.integrate(everything, options.batch_key, rng=options.seed)
    together = pd.DataFrame(
        np.concatenate([reference.obsm["X_scbatchnorm"], query.obsm["X_scbatchnorm"]]),
        index=[*reference.obs_names, *query.obs_names],
    )
    embeddings = {"all": everything.obsm["X_scbatchnorm"], "mapped": together.loc[adata.obs_names].to_numpy()}
    scores = official_scores(adata, embeddings, label_key=options.label_key, batch_key=options.batch_key)
    total = scores["Total"].to_dict()
    return {
        "total, trained on all": total["all"],
        "total, mapped": total["mapped"],
        "difference": total["mapped"] - total["all"],
        **{f"{name}, {str(column).lower()}": of[name] for column, of in scores.to_dict().items() for name in total},
    }


def labels(adata: AnnData, reference: AnnData, query: AnnData, options: argparse.Namespace) -> dict[str, float]:
    """Share of right labels among cells of types that the reference has; ours also wrong where it says unknown."""
    key = options.label_key
    truth = query.obs[key].astype(str).to_numpy()
    asked = np.isin(truth, reference.obs[key].astype(str))
    ours = query.obs[f"{key}_mapped"].astype(str).to_numpy()
    given = ours != "unknown"
    corrected = pd.DataFrame(harmony(adata, options.batch_key, options.seed), index=adata.obs_names)
    neighbours = KNeighborsClassifier(15).fit(corrected.loc[reference.obs_names], reference.obs[key].astype(str))
    found = {
        "accuracy": ours,
        "accuracy, ingest": ingested(reference, query, key),
        "accuracy, harmony": neighbours.predict(corrected.loc[query.obs_names]),
    }
    return {
        **{name: float((values == truth)[asked].mean()) for name, values in found.items()},
        "accuracy where given": float((ours == truth)[asked & given].mean()),
        "unknown": float((~given)[asked].mean()),
        "called novel": float((query.obs["scbatchnorm_novelty"] > 1)[asked].mean()),
    }


def ingested(reference: AnnData, query: AnnData, key: str) -> np.ndarray:
    """Labels as scanpy's ingest gives them, of the same genes, by an exact search.

    The principal axes of the reference, cells centred by their own mean, most frequent label of 15 neighbours. Called itself,
    ingest of scanpy 1.11 fails with pynndescent 0.7.
    """
    genes = reference.var_names[reference.var["highly_variable"]]
    known, new = (adata[:, genes].X.toarray() for adata in (reference, query))
    known -= known.mean(axis=0)
    axes = PCA(min(50, min(known.shape) - 1), random_state=0).fit(known).components_.T
    classifier = KNeighborsClassifier(15).fit(known @ axes, reference.obs[key].astype(str))
    return classifier.predict((new - new.mean(axis=0)) @ axes)


def novelty(adata: AnnData, held_out: np.ndarray, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each frequent type of the held-out batch, taken out of the reference."""
    label = adata.obs[options.label_key].astype(str).to_numpy()
    names, counts = np.unique(label[held_out], return_counts=True)
    rows = []
    for name in names[(counts >= _FREQUENT * held_out.sum()) & (counts >= _ENOUGH)]:
        kept = ~held_out & (label != name)
        if kept.sum() == (~held_out).sum():
            continue
        reference = integrated(adata, kept, options)
        query = mapped(reference, adata[held_out & (np.isin(label, label[kept]) | (label == name))], options)
        new = (query.obs[options.label_key].astype(str) == name).to_numpy()
        score = query.obs["scbatchnorm_novelty"].to_numpy()
        rows.append(
            {
                "removed": name,
                "AUC": roc_auc_score(new, score),
                "called novel": float((score[new] > 1).mean()),
                "others called novel": float((score[~new] > 1).mean()),
                "labelled unknown": float((query.obs[f"{options.label_key}_mapped"] == "unknown")[new].mean()),
            }
        )
    return rows


def seconds(options: argparse.Namespace) -> float:
    """Time to map 10 000 simulated cells of a new batch onto a reference of two batches of as many each."""
    adata = sbn.datasets.simulate_batches(3 * _NEW_CELLS, n_batches=3, private_type=False)
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    new = (adata.obs["batch"] == "batch_2").to_numpy()
    reference, query = adata[~new].copy(), adata[new].copy()
    sbn.pp.integrate(reference, "batch", rng=options.seed)
    start = time.perf_counter()
    sbn.tl.map_query(query, reference, label_keys="cell_type", mode=options.mode, rng=options.seed)
    return time.perf_counter() - start


def run(path: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of one file."""
    adata = prepare(path, batch_key=options.batch_key)
    batch = adata.obs[options.batch_key].astype(str).to_numpy()
    rows: list[dict[str, Any]] = []
    for level in options.held_out or np.unique(batch):
        where = {"data": path.stem, "held out": level}
        held_out = batch == level
        if set(options.parts) & {"totals", "labels"}:
            reference = integrated(adata, ~held_out, options)
            query = mapped(reference, adata[held_out], options)
            row: dict[str, Any] = {**where, "cells": int(held_out.sum())}
            row |= totals(adata, reference, query, options) if "totals" in options.parts else {}
            row |= labels(adata, reference, query, options) if "labels" in options.parts else {}
            rows.append(row)
        if "novelty" in options.parts:
            rows += [where | row for row in novelty(adata, held_out, options)]
        print(f"{path.stem}, {level} done", file=sys.stderr, flush=True)
    return rows


def tables(table: pd.DataFrame) -> str:
    """Markdown: held-out batches, and types taken out of the reference."""
    removed = table["removed"].notna() if "removed" in table else pd.Series(False, index=table.index)  # noqa: FBT003
    text = []
    for title, part in (("Held out and mapped", table[~removed]), ("A type the reference lacks", table[removed])):
        if len(part):
            shown = part.dropna(axis=1, how="all")
            shown = shown[[c for c in shown if not str(c).startswith(("all, ", "mapped, "))]]
            shown = shown.set_index("data").map(lambda v: f"{v:.3f}" if isinstance(v, float) else str(v))
            text.append(f"## {title}\n\n{report.markdown(shown, index_name='data')}\n")
    return "\n".join(text)


def main(arguments: list[str] | None = None) -> int:
    """Hold out, map, compare."""
    options = parse(arguments)
    environment = report.environment(["torch", "scanpy", "harmonypy", "scib-metrics", "scbatchnorm"])
    speed = (
        f"\n{_NEW_CELLS} simulated cells mapped in {seconds(options):.1f} s.\n" if "seconds" in options.parts else ""
    )
    rows: list[dict[str, Any]] = []
    for path in options.files:
        rows += run(path, options)
        table = pd.DataFrame(rows)
        text = f"# Mapping\n\n{environment}.\n\n{tables(table)}{speed}"
        if rows:
            write(options, "mapping", table, text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
