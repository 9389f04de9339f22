"""Seconds, memory of the process tree and scores of the whole call on many simulated cells, from stores or in memory.

python -m benchmarks.scale --cells 10000 100000 1000000 --store zarr
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import report
from benchmarks.methods import METHODS
from benchmarks.options import add_output
from benchmarks.scale import scored, stores
from benchmarks.scale.isolated import Job, run

_MEASURED = ["seconds", "process_seconds", "before_mb", "peak_mb"]


def add_simulation(parser: argparse.ArgumentParser) -> None:
    """Options for the simulated cells."""
    parser.add_argument("--genes", type=int, default=2000, help="genes, all of them used (default: 2000)")
    parser.add_argument("--batches", type=int, default=30, help="batches (default: 30)")
    parser.add_argument("--sample", type=int, default=10_000, help="cells that are scored, 0: none (default: 10000)")
    parser.add_argument("--timeout", type=float, default=7200, help="seconds granted to one run (default: 7200)")
    text = "folder that keeps the simulated stores between calls (default: benchmarks/scratch)"
    parser.add_argument("--scratch", type=Path, default=Path("benchmarks/scratch"), help=text)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, nargs="+", default=[100_000], help="cells (default: 100000)")
    parser.add_argument(
        "--store", choices=["zarr", "h5ad", "memory"], default="zarr",
        help="where expression is during the call: in a file that is read in blocks, or in memory (default: zarr)",
    )  # fmt: skip
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["scbatchnorm"], metavar="METHOD")
    parser.add_argument("--seed", type=int, default=0, help="seed of the method (default: 0)")
    add_simulation(parser)
    add_output(parser, "scale.csv and scale.md")
    options = parser.parse_args(arguments)
    if options.store != "memory" and (others := set(options.methods) - {"scbatchnorm"}):
        parser.error(f"only scbatchnorm reads from stores; for {', '.join(sorted(others))} give --store memory")
    return options


def measure(job: Job, drawn: scored.Sample, options: argparse.Namespace) -> dict[str, Any]:
    """Run a job and score it: the columns of a row."""
    measured = run(job, drawn.rows, timeout=options.timeout)
    row = {key: value for key, value in asdict(measured).items() if key != "embedding"}
    if measured.embedding is not None and options.sample:
        row |= scored.scores(drawn.cells, measured.embedding)
    print(f"{job}: {measured.reason or f'{measured.seconds:.1f} s, {measured.peak_mb:.0f} MB'}", file=sys.stderr)
    return row


def main(arguments: list[str] | None = None) -> int:
    """Measure; exit status 1 if a run failed."""
    options = parse(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    suffix = ".h5ad" if options.store == "h5ad" else ".zarr"
    for n_cells in options.cells:
        size = {"n_genes": options.genes, "n_batches": options.batches}
        path = stores.log_normalised(options.scratch, n_cells, suffix=suffix, **size)
        drawn = scored.draw(path, max(options.sample, 1))
        for method in options.methods:
            job = Job(str(path), in_memory=options.store == "memory", method=method, seed=options.seed)
            row = {"cells": n_cells, "genes": options.genes, "batches": options.batches, "store": options.store}
            rows.append(row | {"method": method, "seed": options.seed} | measure(job, drawn, options))
            # Written after every run: an interrupted call keeps what it has.
            table = pd.DataFrame(rows)
            table.to_csv(options.output / "scale.csv", index=False, float_format="%.4f")
            text = summary(table)
            (options.output / "scale.md").write_text(text)
    print(text)
    return int((table["reason"] != "").any())


def summary(table: pd.DataFrame) -> str:
    """Markdown of the measurements, and of how memory grows with the cells."""
    shown = table.drop(columns="seed")
    for column in _MEASURED:
        shown[column] = [f"{value:.1f}" if column.endswith("seconds") else f"{value:.0f}" for value in table[column]]
    for column in [name for name in scored.COLUMNS if name in table]:
        shown[column] = table[column].map("{:.3f}".format)
    parts = ["# Scale", f"{report.environment(['torch', 'scbatchnorm'])}."]
    parts.append(report.markdown(shown.set_index("method"), index_name="method"))
    return "\n\n".join([*parts, *growth(table)]) + "\n"


def growth(table: pd.DataFrame) -> list[str]:
    """How many bytes of peak memory each further cell takes, a line for each method."""
    lines = []
    for (method, store), rows in table[table["reason"] == ""].groupby(["method", "store"], sort=False):
        rows = rows.sort_values("cells")
        cells, peaks = rows["cells"].to_numpy(), rows["peak_mb"].to_numpy()
        for i in range(1, len(rows)):
            more = (peaks[i] - peaks[i - 1]) * 2**20 / (cells[i] - cells[i - 1])
            lines.append(f"{method}, {store}: {more:.0f} bytes a cell from {cells[i - 1]} to {cells[i]} cells.")
    return lines


if __name__ == "__main__":
    sys.exit(main())
