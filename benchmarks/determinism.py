"""How far the embedding of the same seed differs in another process and with another number of threads.

python -m benchmarks.determinism FILE.h5ad [FILE.h5ad ...]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors

from benchmarks import report
from benchmarks.isolated import run_isolated
from benchmarks.methods import embed_file
from benchmarks.options import EXAMPLE, Parser, write
from benchmarks.scoring import official_scores, prepare, require_scib

if TYPE_CHECKING:
    import argparse

    from anndata import AnnData

_NEIGHBORS = 30
_EXPLAINED = (
    "Same seed in fresh processes. `again`: bitwise the same a second time, with as many threads. Then 1 thread against {threads}: "
    "bitwise the same; largest and median difference of a coordinate, in standard deviations of the embedding; overlap of "
    f"the {_NEIGHBORS} nearest neighbours of a cell, mean; difference of the total score (scib-metrics). Beside it what another seed changes: "
    "overlap of seeds 0 and 1, standard deviation of the total over {seeds} seeds."
)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = Parser("determinism", __doc__)
    parser.add_files(default=[EXAMPLE])
    parser.add_number("--threads", 2, "threads to compare with 1")
    parser.add_number("--seeds", 3, "seeds for the spread of the total")
    parser.add_number("--timeout", 3600.0, "seconds granted to one run")
    parser.add_output("determinism")
    options = parser.parse(arguments)
    if min(options.threads, options.seeds) < 2:
        parser.error("--threads and --seeds must be at least 2: there is nothing to compare otherwise")
    return options


def difference(one: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    """How far two embeddings (cells, dimensions) of the same cells are apart."""
    if one.shape != other.shape:
        return {"equal": False, "largest": np.inf, "median": np.inf, "neighbours": overlap(one, other)}
    apart = np.abs(one.astype(float) - other) / one.std(axis=0, dtype=float).mean()
    return {
        "equal": one.tobytes() == other.tobytes(),
        "largest": apart.max(),
        "median": np.median(apart),
        "neighbours": overlap(one, other),
    }


def overlap(one: np.ndarray, other: np.ndarray, k: int = _NEIGHBORS) -> float:
    """Share of the `k` nearest neighbours of a cell in one embedding that are so in the other, mean over cells."""
    k = min(k, len(one) - 1)
    near = [NearestNeighbors(n_neighbors=k).fit(points).kneighbors(return_distance=False) for points in (one, other)]
    return float(np.mean([len(np.intersect1d(a, b)) / k for a, b in zip(*near, strict=True)]))


def fits(data: Path, options: argparse.Namespace) -> dict[tuple[int, int, int], np.ndarray]:
    """Embeddings by (threads, seed, turn)."""
    wanted = [(threads, 0, turn) for threads in (1, options.threads) for turn in (0, 1)]
    wanted += [(1, seed, 0) for seed in range(1, options.seeds)]
    found = {}
    for threads, seed, turn in wanted:
        arguments = (embed_file, data, "scbatchnorm", seed, options.batch_key)
        outcome = run_isolated(*arguments, timeout=options.timeout, threads=threads)
        if outcome.reason:
            raise RuntimeError(outcome.reason)
        print(f"  threads {threads}, seed {seed}: {outcome.seconds:.1f} s", file=sys.stderr, flush=True)
        found[threads, seed, turn] = outcome.value
    return found


def compare(
    adata: AnnData, embeddings: dict[tuple[int, int, int], np.ndarray], options: argparse.Namespace
) -> dict[str, Any]:
    """One row of the table: what the embeddings of `fits` have in common."""
    many = options.threads
    first = embeddings[1, 0, 0]
    runs = {f"seed {seed}": embeddings[1, seed, 0] for seed in range(options.seeds)}
    keys = {"label_key": options.label_key, "batch_key": options.batch_key}
    row = {
        "cells": adata.n_obs,
        "again, 1 thread": difference(first, embeddings[1, 0, 1])["equal"],
        f"again, {many} threads": difference(embeddings[many, 0, 0], embeddings[many, 0, 1])["equal"],
        **difference(first, embeddings[many, 0, 0]),
        "neighbours, seeds": overlap(first, embeddings[1, 1, 0]),
    }
    totals = official_scores(adata, runs | {"many": embeddings[many, 0, 0]}, **keys)["Total"]
    difference_of_totals = totals["many"] - totals["seed 0"]
    return row | {"total": difference_of_totals, "total, seeds": totals[list(runs)].std(ddof=1)}


def summary(table: pd.DataFrame, options: argparse.Namespace) -> str:
    """Markdown of the rows."""
    shown = table.set_index("dataset").astype(object)
    for column in ("again, 1 thread", f"again, {options.threads} threads", "equal"):
        shown[column] = shown[column].map({True: "yes", False: "no"})
    for column in ("largest", "median"):
        shown[column] = shown[column].map("{:.1e}".format)
    for column in ("neighbours", "neighbours, seeds"):
        shown[column] = shown[column].map("{:.3f}".format)
    shown["total"] = shown["total"].map("{:+.4f}".format)
    shown["total, seeds"] = shown["total, seeds"].map("{:.4f}".format)
    explained = _EXPLAINED.format(threads=options.threads, seeds=options.seeds)
    software = report.environment(["torch", "numpy", "scipy", "scib-metrics", "scbatchnorm"])
    return f"# Determinism\n\n{explained} {software}.\n\n{report.markdown(shown, index_name='data set')}\n"


def main(arguments: list[str] | None = None) -> int:
    """Fit and compare; exit status 1 if the same seed with the same threads gave something else."""
    options = parse(arguments)
    require_scib()
    rows: list[dict[str, Any]] = []
    for path in options.files:
        print(path.stem, file=sys.stderr, flush=True)
        adata = prepare(path, batch_key=options.batch_key)
        with tempfile.TemporaryDirectory() as folder:
            prepared = Path(folder, "prepared.h5ad")
            adata.write_h5ad(prepared)
            embeddings = fits(prepared, options)
        rows.append({"dataset": path.stem, **compare(adata, embeddings, options)})
        table = pd.DataFrame(rows)
        text = summary(table, options)
        write(options, "determinism", table, text)
    print(text)
    again = table[["again, 1 thread", f"again, {options.threads} threads"]]
    return int(not again.to_numpy(dtype=bool).all())


if __name__ == "__main__":
    sys.exit(main())
