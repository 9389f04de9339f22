"""Seconds and memory of our metrics on many cells, and how far a sample's values are from those of all cells.

python -m benchmarks.metrics_scale --cells 100000 1000000
python -m benchmarks.metrics_scale --cells 300000 --max-cells 20000 50000 100000 none --metrics ilisi,silhouette_label
python -m benchmarks.metrics_scale --cells 1000000 --mixing
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from benchmarks import report
from benchmarks.options import add_output
from benchmarks.worker import _memory_mb, _start_peak

if TYPE_CHECKING:
    from anndata import AnnData


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.metrics_scale", description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, nargs="+", default=[100_000], help="cells (default: 100000)")
    parser.add_argument("--max-cells", nargs="+", default=["100000"], help="sizes of the sample, or none")
    parser.add_argument("--metrics", default="default", help="default, all, or names with commas (default: default)")
    parser.add_argument("--mixing", action="store_true", help="tl.mixing instead, values of each cell")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    add_output(parser, "metrics_scale.csv")
    return parser.parse_args(arguments)


def simulated(n_cells: int) -> AnnData:
    """30 dimensions of falling variance, 30 batches, 10 types of unequal size."""
    from anndata import AnnData

    rng = np.random.default_rng(0)
    sizes = np.arange(1, 11)
    label, batch = rng.choice(10, n_cells, p=sizes / sizes.sum()), rng.integers(30, size=n_cells)
    scale = np.exp(-np.arange(30) / 8).astype(np.float32)
    noise = (
        rng.standard_normal((n_cells, 30), dtype=np.float32) + 1.2 * rng.normal(size=(10, 30)).astype(np.float32)[label]
    )
    apart = rng.normal(size=(30, 30)).astype(np.float32)[batch]
    return AnnData(
        obs=pd.DataFrame({"batch": batch.astype(str), "cell_type": label.astype(str)}, index=np.arange(n_cells).astype(str)),
        obsm={"X_pca": (noise + 0.7 * apart) * scale, "X_new": (noise + 0.2 * apart) * scale},
    )  # fmt: skip


def measure(n_cells: int, max_cells: str, metrics: str, *, mixing: bool) -> dict[str, Any]:
    """One call in this process."""
    import scbatchnorm as sbn

    adata = simulated(n_cells)
    sbn.metrics.evaluate(
        adata[:2000].copy(), "X_new", batch_key="batch", label_key="cell_type", n_bootstrap=2, progress=False
    )  # loads what is loaded late
    held = _start_peak()
    start = time.perf_counter()
    found: dict[str, Any] = {}
    if mixing:
        sbn.tl.mixing(adata, "batch", use_rep="X_new", label_key="cell_type")
        found = {name: float(values.mean()) for name, values in adata.obs.filter(like="mixing_").items()}
    else:
        table = sbn.metrics.evaluate(
            adata, "X_new", batch_key="batch", label_key="cell_type", progress=False,
            metrics=metrics if metrics in {"default", "all"} else metrics.split(","),
            max_cells=None if max_cells == "none" else int(max_cells),
        )  # fmt: skip
        found = table.loc["X_new"].to_dict()
    seconds = time.perf_counter() - start
    peak = _memory_mb("VmHWM")
    row = {"cells": n_cells, "max_cells": max_cells, "seconds": seconds, "peak_mb": peak, "added_mb": peak - held}
    return row | found


def main(arguments: list[str] | None = None) -> int:
    """Each call in a process of its own; write the table."""
    options = parse(arguments)
    if options.one:
        print(json.dumps(measure(options.cells[0], options.max_cells[0], options.metrics, mixing=options.mixing)))
        return 0
    rows = []
    for n_cells in options.cells:
        for max_cells in options.max_cells:
            command = [sys.executable, "-m", "benchmarks.metrics_scale", "--one", "--cells", str(n_cells)]
            command += ["--max-cells", max_cells, "--metrics", options.metrics, *["--mixing"] * options.mixing]
            done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            print(n_cells, max_cells, f"{rows[-1]['seconds']:.0f} s", file=sys.stderr, flush=True)
    table = pd.DataFrame(rows)
    options.output.mkdir(parents=True, exist_ok=True)
    table.to_csv(options.output / "metrics_scale.csv", index=False)
    numbers = table.drop(columns=[name for name in ("kind", "notes") if name in table])
    numbers = numbers[[name for name in numbers if not name.endswith((" low", " high"))]]
    print(
        report.markdown(
            numbers.map(lambda value: value if isinstance(value, str) else f"{value:.4g}"), index_name="call"
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
