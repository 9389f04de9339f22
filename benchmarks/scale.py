"""Seconds and peak memory of the whole call on many simulated cells, in a process of its own.

python -m benchmarks.scale --cells 100000
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd

from benchmarks import report
from benchmarks.methods import METHODS
from benchmarks.options import add_output
from benchmarks.worker import run_isolated


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, nargs="+", default=[100_000], help="cells (default: 100000)")
    parser.add_argument("--genes", type=int, default=2000, help="genes, all of them used (default: 2000)")
    parser.add_argument("--batches", type=int, default=20, help="batches (default: 20)")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["scbatchnorm"], metavar="METHOD")
    parser.add_argument("--seed", type=int, default=0, help="seed of the method (default: 0)")
    parser.add_argument("--timeout", type=float, default=7200, help="seconds granted to one run (default: 7200)")
    parser.add_argument(
        "--scratch",
        type=Path,
        default=Path("benchmarks/scratch"),
        help="folder that keeps the simulated files between calls (default: benchmarks/scratch)",
    )
    add_output(parser, "scale.csv and scale.md")
    return parser.parse_args(arguments)


def simulated(scratch: Path, n_cells: int, n_genes: int, n_batches: int) -> Path:
    """Log-normalised simulated data as a file, made on the first call."""
    path = scratch / f"simulated_{n_cells}x{n_genes}_{n_batches}batches.h5ad"
    if path.exists():
        return path
    import scanpy as sc

    import scbatchnorm as sbn

    print(f"simulating {path.name}", file=sys.stderr, flush=True)
    adata = sbn.datasets.simulate_batches(n_cells, n_genes=n_genes, n_batches=n_batches)
    del adata.layers["truth"]
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    adata.var["highly_variable"] = True
    sc.pp.pca(adata, n_comps=min(50, n_genes - 1), random_state=0)  # for the methods that start from it
    scratch.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    adata.write_h5ad(unfinished)
    unfinished.replace(path)
    return path


def main(arguments: list[str] | None = None) -> int:
    """Measure; exit status 1 if a run failed."""
    options = parse(arguments)
    rows = []
    for n_cells in options.cells:
        path = simulated(options.scratch, n_cells, options.genes, options.batches)
        for method in options.methods:
            outcome = run_isolated(path, method, options.seed, batch_key="batch", timeout=options.timeout)
            row = {"cells": n_cells, "genes": options.genes, "batches": options.batches, "method": method}
            measured = ("seconds", "process_seconds", "peak_mb", "added_mb", "reason")
            rows.append(row | {key: getattr(outcome, key) for key in measured})
            print(f"{method}, {n_cells} cells: {outcome.reason or f'{outcome.seconds:.1f} s'}", file=sys.stderr)
    table = pd.DataFrame(rows)
    options.output.mkdir(parents=True, exist_ok=True)
    table.to_csv(options.output / "scale.csv", index=False, float_format="%.2f")
    text = summary(table)
    (options.output / "scale.md").write_text(text)
    print(text)
    return int((table["reason"] != "").any())


def summary(table: pd.DataFrame) -> str:
    """Markdown of the measurements."""
    cells = table.copy()
    for column in ("seconds", "process_seconds", "peak_mb", "added_mb"):
        cells[column] = [f"{value:.1f}" if column.endswith("seconds") else f"{value:.0f}" for value in table[column]]
    shown = report.markdown(cells.set_index("method"), index_name="method")
    return f"# Scale\n\n{report.environment(['torch', 'scbatchnorm'])}.\n\n{shown}\n"


if __name__ == "__main__":
    sys.exit(main())
