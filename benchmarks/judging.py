"""Our metrics against those of scib-metrics: how far apart their values are, and how long each takes, in one run.

python -m benchmarks.judging FILE.h5ad [FILE.h5ad ...]
python -m benchmarks.judging --simulate 100000 1000000 --max-cells 20000        # ours alone: seconds and memory
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import pandas as pd

from benchmarks import report
from benchmarks.isolated import run_isolated
from benchmarks.methods import METHODS
from benchmarks.options import Parser, write
from benchmarks.scoring import METRICS, official_scores, prepare, require_scib
from benchmarks.simulated import evaluate_simulated
from scbatchnorm import metrics

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from anndata import AnnData

_KEYS = {"unintegrated": "X_pca", "harmony": "X_harmony", "scbatchnorm": "X_scbatchnorm"}
#: The ten metrics of scIB, by our names.
TEN = [
    "isolated_labels", "kmeans_nmi", "kmeans_ari", "silhouette_label", "clisi", "bras", "ilisi", "kbet", "graph_connectivity", "pcr_comparison",
]  # fmt: skip


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = Parser("judging", __doc__)
    parser.add_files(optional=True)
    text = "time ours on so many simulated cells instead"
    parser.add_argument("--simulate", type=int, nargs="+", default=[], metavar="CELLS", help=text)
    text = "sample that simulated cells are judged by, 0: all (default: that of metrics.evaluate)"
    parser.add_argument("--max-cells", type=int, default=100_000, help=text)
    parser.add_number("--timeout", 7200.0, "seconds granted to simulated cells")
    parser.add_output("judging")
    options = parser.parse(arguments)
    if bool(options.files) == bool(options.simulate):
        parser.error("give files, or --simulate CELLS")
    return options


def represent(path: Path, batch_key: str) -> AnnData:
    """The prepared data with three representations."""
    adata = prepare(path, batch_key=batch_key)
    for name, key in _KEYS.items():
        adata.obsm[key] = METHODS[name].embed(adata, batch_key, 0)
    return adata


def compare(path: Path, options: argparse.Namespace) -> tuple[pd.DataFrame, dict[str, float]]:
    """Values of both, a row for each representation and implementation; and seconds of each call."""
    adata = represent(path, options.batch_key)
    keys, columns = list(_KEYS.values()), {"batch_key": options.batch_key, "label_key": options.label_key}
    seconds: dict[str, float] = {}
    tables: dict[str, pd.DataFrame] = {}
    for turn in ("first call", "second call"):  # the first one compiles
        start = time.perf_counter()
        tables["scib-metrics"] = official_scores(adata, {key: adata.obsm[key] for key in keys}, **columns)
        seconds[f"scib-metrics, {turn}"] = time.perf_counter() - start
        for flavor in ("scib", "default"):
            start = time.perf_counter()
            table = metrics.evaluate(
                adata, keys, metrics=TEN, controls=False, n_bootstrap=0, flavor=flavor, progress=False, **columns
            )
            seconds[f"ours, {flavor}, {turn}"] = time.perf_counter() - start
            tables[f"ours, {flavor}"] = table.rename(columns={"kBET": "KBET"})
    start = time.perf_counter()
    metrics.evaluate(adata, keys, progress=False, **columns)
    seconds["ours, all defaults"] = time.perf_counter() - start
    values = pd.concat({name: table.loc[keys, list(METRICS)] for name, table in tables.items()}, names=["of"])
    return values.rename_axis(["of", "representation"]), seconds


def simulate(options: argparse.Namespace) -> pd.DataFrame:
    """Seconds, memory and scores of the default call on one representation of simulated cells, a row for each number of them."""
    rows = []
    for n_cells in options.simulate:
        outcome = run_isolated(evaluate_simulated, n_cells, options.max_cells or None, timeout=options.timeout)
        rows.append({"cells": n_cells, **outcome.measurements(), **(outcome.value or {})})
        print(f"{n_cells} cells: {outcome.reason or f'{outcome.seconds:.0f} s'}", file=sys.stderr, flush=True)
    return pd.DataFrame(rows)


def summary(values: pd.DataFrame, seconds: pd.DataFrame) -> str:
    """Markdown: the largest difference of each metric on each data set, then seconds."""
    ours = values.drop(index="scib-metrics", level="of")
    theirs = values.xs("scib-metrics", level="of")
    apart = ours.sub(theirs.reindex(ours.droplevel("of").index).to_numpy()).abs()
    apart = apart.groupby(level=["of", "dataset"], sort=False).max()
    apart.index = [f"{of}: {dataset}" for of, dataset in apart.index]
    parts = [
        f"{report.environment(['scib-metrics', 'scikit-learn', 'scbatchnorm'])}.",
        "Largest absolute difference from scib-metrics over the three representations:",
        report.markdown(apart.map("{:.4f}".format), index_name="data"),
        "Seconds for the ten metrics of the three representations; all defaults: with controls, CiLISI, kNN preservation and intervals.",
        report.markdown(seconds.map("{:.1f}".format), index_name="call"),
    ]
    return "\n\n".join(parts) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Compare, and write the tables."""
    options = parse(arguments)
    if options.simulate:
        table = simulate(options)
        text = report.markdown(table.set_index("cells").map(_number), index_name="cells") + "\n"
        write(options, "judging_simulated", table, text)
        print(text)
        return int((table["reason"] != "").any())
    require_scib()
    values, seconds = {}, {}
    for path in options.files:
        print(path.stem, file=sys.stderr, flush=True)
        values[path.stem], seconds[path.stem] = compare(path, options)
        table = pd.concat(values, names=["dataset"]).reorder_levels(["of", "dataset", "representation"])
        text = summary(table, pd.DataFrame(seconds))
        write(options, "judging", table, text)
    print(text)
    return 0


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
