"""What two processes that train together give and take: the embedding and the time of one, and of another seed.

python -m benchmarks.processes FILE.h5ad [FILE.h5ad ...]
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd

from benchmarks import report
from benchmarks.determinism import difference, overlap
from benchmarks.options import add_columns, add_output
from benchmarks.scoring import official_scores, prepare, require_scib

if TYPE_CHECKING:
    from anndata import AnnData

_EXAMPLE = Path(__file__).resolve().parents[1] / "data" / "simulated_3batches.h5ad"
_EXPLAINED = (
    "`scbatchnorm integrate`, same seed, in 1 process and in {processes} that torch.distributed (gloo) joins, each with one thread: largest and "
    "median difference of a coordinate, in standard deviations of the embedding; overlap of the 30 nearest neighbours of a cell, mean; "
    "difference of the total score (scib-metrics). Beside it what another seed changes in one process: largest and median difference and "
    "overlap of seeds 0 and 1, standard deviation of the total over {seeds} seeds. Seconds of `pp.integrate`, "
    "median of {repeats} runs that take turns, on {cores} cores."
)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.processes", description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE.h5ad", help="counts in X; default: the example")
    parser.add_argument("--processes", type=int, default=2, help="processes to compare with 1 (default: 2)")
    parser.add_argument("--seeds", type=int, default=3, help="seeds for the spread of the total (default: 3)")
    parser.add_argument("--repeats", type=int, default=2, help="runs of which the seconds are taken (default: 2)")
    add_columns(parser)
    parser.add_argument("--timeout", type=float, default=3600, help="seconds granted to one run (default: 3600)")
    add_output(parser, "processes.csv and processes.md")
    options = parser.parse_args(arguments)
    options.files = options.files or [_EXAMPLE]
    if min(options.processes, options.seeds) < 2 or options.repeats < 1:
        parser.error("--processes and --seeds must be at least 2, --repeats at least 1")
    return options


def run(data: Path, n_processes: int, seed: int, options: argparse.Namespace) -> tuple[np.ndarray, float]:
    """Embedding of `data` by so many processes, and seconds of `pp.integrate`."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
        free.close()
        out = Path(folder, "out.h5ad")
        command = [sys.executable, "-m", "scbatchnorm", "integrate", str(data), "-o", str(out), "--device", "cpu", "-v"]
        command += ["--batch-key", options.batch_key, "--seed", str(seed)]
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(n_processes)}
        started = [
            subprocess.Popen(
                command,
                env={**os.environ, **address, "RANK": str(rank), "OMP_NUM_THREADS": "1"},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(n_processes)
        ]
        said = [each.communicate(timeout=options.timeout)[1] for each in started]
        if any(each.returncode for each in started):
            raise RuntimeError("\n".join(said))
        seconds = re.search(r"^added .* in ([\d.]+) s$", said[0], re.MULTILINE)
        return ad.read_h5ad(out).obsm["X_scbatchnorm"], float(seconds[1]) if seconds else np.nan


def fits(data: Path, options: argparse.Namespace) -> tuple[dict[str, np.ndarray], dict[int, list[float]]]:
    """Embeddings by name, and seconds by number of processes."""
    found: dict[str, np.ndarray] = {}
    seconds: dict[int, list[float]] = {1: [], options.processes: []}
    turns = [(n, 0) for _ in range(options.repeats) for n in (1, options.processes)]
    for n_processes, seed in [*turns, *((1, seed) for seed in range(1, options.seeds))]:
        name = "several" if n_processes > 1 else f"seed {seed}"
        embedding, taken = run(data, n_processes, seed, options)
        print(f"  {n_processes} processes, seed {seed}: {taken:.1f} s", file=sys.stderr, flush=True)
        if found.setdefault(name, embedding).tobytes() != embedding.tobytes():
            print(f"  {name}: another embedding than before", file=sys.stderr, flush=True)
        if seed == 0:
            seconds[n_processes].append(taken)
    return found, seconds


def compare(
    adata: AnnData,
    embeddings: dict[str, np.ndarray],
    seconds: dict[int, list[float]],
    options: argparse.Namespace,
) -> dict[str, Any]:
    """One row of the table: what the embeddings of `fits` have in common."""
    first, other = embeddings["seed 0"], difference(embeddings["seed 0"], embeddings["seed 1"])
    totals = official_scores(adata, embeddings, label_key=options.label_key, batch_key=options.batch_key)["Total"]
    seeds = [f"seed {seed}" for seed in range(options.seeds)]
    together = difference(first, embeddings["several"])
    return {
        "cells": adata.n_obs,
        **{name: together[name] for name in ("largest", "median", "neighbours")},
        "total": totals["several"] - totals["seed 0"],
        **{f"{name}, seeds": other[name] for name in ("largest", "median")},
        "neighbours, seeds": overlap(first, embeddings["seed 1"]),
        "total, seeds": totals[seeds].std(ddof=1),
        **{f"seconds, {n}": np.median(taken) for n, taken in seconds.items()},
    }


def summary(table: pd.DataFrame, options: argparse.Namespace) -> str:
    """Markdown of the rows."""
    shown = table.set_index("dataset").astype(object)
    digits = {"largest": "{:.1e}", "median": "{:.1e}", "neighbours": "{:.3f}", "total": "{:+.4f}", "seconds": "{:.1f}"}
    for column in shown.columns.drop("cells"):
        shown[column] = shown[column].map(digits[column.partition(",")[0]].format)
    explained = _EXPLAINED.format(**vars(options), cores=os.cpu_count())
    software = report.environment(["torch", "numpy", "scipy", "scib-metrics", "scbatchnorm"])
    return f"# Processes\n\n{explained} {software}.\n\n{report.markdown(shown, index_name='data set')}\n"


def main(arguments: list[str] | None = None) -> int:
    """Fit and compare."""
    options = parse(arguments)
    try:
        require_scib()
    except ImportError as error:
        print(error, file=sys.stderr)
        return 1
    options.output.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for path in options.files:
        print(path.stem, file=sys.stderr, flush=True)
        adata = prepare(path, batch_key=options.batch_key)
        with tempfile.TemporaryDirectory() as folder:
            prepared = Path(folder, "prepared.h5ad")
            adata.write_h5ad(prepared)
            embeddings, seconds = fits(prepared, options)
        rows.append({"dataset": path.stem, **compare(adata, embeddings, seconds, options)})
        # Written after every file: an interrupted run keeps what it has.
        table = pd.DataFrame(rows)
        table.to_csv(options.output / "processes.csv", index=False)
        text = summary(table, options)
        (options.output / "processes.md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
