"""Seconds, memory of the process tree and scores of the whole call on many simulated cells, from stores or in memory.

python -m benchmarks.scale --cells 10000 100000 1000000 --store zarr
python -m benchmarks.scale --cells 100000 --fit-cells 5000 20000 all --seeds 3
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from benchmarks import report
from benchmarks.isolated import run_isolated
from benchmarks.methods import METHODS
from benchmarks.options import Parser, write
from benchmarks.simulated import SCORES, Job, Sample, draw, embed_store, log_normalised

if TYPE_CHECKING:
    from collections.abc import Iterator

_ALL, _DEFAULT = "all", "default"
_MEASURED = {"seconds": 1, "process_seconds": 1, "before_mb": 0, "peak_mb": 0}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = Parser("scale", __doc__)
    parser.add_argument("--cells", type=int, nargs="+", default=[100_000], help="cells (default: 100000)")
    parser.add_argument(
        "--store", choices=["zarr", "h5ad", "memory"], default="zarr",
        help="where expression is during the call: in a file that is read in blocks, or in memory (default: zarr)",
    )  # fmt: skip
    parser.add_choice("--methods", list(METHODS), "which", ["scbatchnorm"])
    parser.add_argument(
        "--fit-cells", type=_fit_cells, nargs="+", default=[_DEFAULT], metavar="N",
        help="cells that scbatchnorm learns from (max_cells_fit): numbers, or all (default: its default)",
    )  # fmt: skip
    parser.add_number("--seeds", 1, "runs of each")
    parser.add_number("--genes", 2000, "genes, all of them used")
    parser.add_number("--batches", 30, "batches")
    parser.add_number("--sample", 10_000, "cells that are scored, 0: none")
    parser.add_number("--timeout", 7200.0, "seconds granted to one run")
    text = "folder that keeps the simulated stores between calls (default: benchmarks/scratch)"
    parser.add_argument("--scratch", type=Path, default=Path("benchmarks/scratch"), help=text)
    parser.add_output("scale")
    options = parser.parse(arguments)
    if options.store != "memory" and (others := set(options.methods) - {"scbatchnorm"}):
        parser.error(f"only scbatchnorm reads from stores; for {', '.join(sorted(others))} give --store memory")
    return options


def _fit_cells(text: str) -> int | str:
    if text in {_ALL, _DEFAULT}:
        return text
    if not text.isdecimal() or int(text) < 1:
        msg = f"it must be a number of cells or {_ALL!r}; got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def jobs(path: Path, options: argparse.Namespace) -> Iterator[tuple[Job, dict[str, Any]]]:
    """What is run on a store, seed by seed, and its columns of the table."""
    for seed in range(options.seeds):
        for method in options.methods:
            for fit_cells in options.fit_cells if method == "scbatchnorm" else [_DEFAULT]:
                limit = {} if fit_cells == _DEFAULT else {"max_cells_fit": None if fit_cells == _ALL else fit_cells}
                job = Job(str(path), in_memory=options.store == "memory", method=method, seed=seed, parameters=limit)
                yield job, {"store": options.store, "method": method, "fit cells": str(fit_cells), "seed": seed}


def measure(job: Job, drawn: Sample, options: argparse.Namespace) -> dict[str, Any]:
    """Run a job and score it: the columns of a row."""
    outcome = run_isolated(embed_store, job, drawn.rows, timeout=options.timeout)
    row = outcome.measurements()
    if not outcome.reason and options.sample:
        row |= drawn.score(outcome.value)
    print(f"{job}: {outcome.reason or f'{outcome.seconds:.1f} s, {outcome.peak_mb:.0f} MB'}", file=sys.stderr)
    return row


def main(arguments: list[str] | None = None) -> int:
    """Measure; exit status 1 if a run failed."""
    options = parse(arguments)
    rows: list[dict[str, Any]] = []
    suffix = ".h5ad" if options.store == "h5ad" else ".zarr"
    for n_cells in options.cells:
        size = {"n_genes": options.genes, "n_batches": options.batches}
        path = log_normalised(options.scratch, n_cells, suffix=suffix, **size)
        drawn = draw(path, max(options.sample, 1))
        for job, columns in jobs(path, options):
            row = {"cells": n_cells, "genes": options.genes, "batches": options.batches}
            rows.append(row | columns | measure(job, drawn, options))
            table = pd.DataFrame(rows)
            text = summary(table)
            write(options, "scale", table, text)
    print(text)
    return int((table["reason"] != "").any())


def summary(table: pd.DataFrame) -> str:
    """Markdown of the measurements, mean ± sd over seeds, and of how memory grows with the cells."""
    rows: dict[int, dict[str, Any]] = {}
    for names, group in table.groupby(["cells", "store", "method", "fit cells"], sort=False):
        cells, store, method, fit_cells = names
        shown = {"cells": cells, "expression": store, "learned from": fit_cells}
        shown |= {column: report.mean_sd(group[column], digits=digits) for column, digits in _MEASURED.items()}
        shown |= {column: report.mean_sd(group[column]) for column in SCORES if column in group}
        reasons = "; ".join(sorted(set(group["reason"]) - {""}))
        rows[len(rows)] = {"method": method, **shown, "failed": reasons or "-"}
    shown_table = pd.DataFrame.from_dict(rows, orient="index").set_index("method")
    parts = ["# Scale", f"{report.environment(['torch', 'scbatchnorm'])}."]
    parts.append(report.markdown(shown_table, index_name="method"))
    return "\n\n".join([*parts, *growth(table)]) + "\n"


def growth(table: pd.DataFrame) -> list[str]:
    """How many bytes of peak memory each further cell takes, a line for each method."""
    lines = []
    for (method, store, _), rows in table[table["reason"] == ""].groupby(["method", "store", "fit cells"], sort=False):
        peaks = rows.groupby("cells")["peak_mb"].max()
        for (few, less), (many, more) in itertools.pairwise(zip(peaks.index.tolist(), peaks.tolist(), strict=True)):
            each = (more - less) * 2**20 / (many - few)
            lines.append(f"{method}, {store}: {each:.0f} bytes a cell from {few} to {many} cells.")
    return lines


if __name__ == "__main__":
    sys.exit(main())
