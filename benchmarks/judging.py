"""Our metrics against those of scib-metrics: how far apart their values are, and how long each takes, in one run.

python -m benchmarks.judging FILE.h5ad [FILE.h5ad ...]
python -m benchmarks.judging --simulate 100000        # ours alone: seconds and memory
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from benchmarks import report
from benchmarks.methods import METHODS
from benchmarks.options import add_columns, add_output
from benchmarks.scoring import METRICS, official_scores, prepare, require_scib
from scbatchnorm import metrics
from scbatchnorm.metrics._catalogue import CATALOGUE

if TYPE_CHECKING:
    from anndata import AnnData

_KEYS = {"unintegrated": "X_pca", "harmony": "X_harmony", "scbatchnorm": "X_scbatchnorm"}
_TEN = [metric.name for metric in CATALOGUE if metric.in_total]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.judging", description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE.h5ad", help="counts in X")
    parser.add_argument("--simulate", type=int, metavar="CELLS", help="time ours on so many simulated cells instead")
    add_columns(parser)
    add_output(parser, "judging.csv and judging.md")
    options = parser.parse_args(arguments)
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
                adata, keys, metrics=_TEN, controls=False, n_bootstrap=0, flavor=flavor, progress=False, **columns
            )
            seconds[f"ours, {flavor}, {turn}"] = time.perf_counter() - start
            tables[f"ours, {flavor}"] = table.rename(columns={"kBET": "KBET"})
    start = time.perf_counter()
    metrics.evaluate(adata, keys, progress=False, **columns)
    seconds["ours, all defaults"] = time.perf_counter() - start
    values = pd.concat({name: table.loc[keys, list(METRICS)] for name, table in tables.items()}, names=["of"])
    return values.rename_axis(["of", "representation"]), seconds


def simulate(n_cells: int) -> dict[str, float]:
    """Seconds and memory of the default call on one representation of simulated cells and the unintegrated one."""
    from anndata import AnnData

    rng = np.random.default_rng(0)
    label, batch = rng.integers(15, size=n_cells), rng.integers(20, size=n_cells)
    within = rng.normal(size=(n_cells, 50)) + 4 * rng.normal(size=(15, 50))[label]
    before = within + 2 * rng.normal(size=(20, 50))[batch]
    adata = AnnData(
        obs=pd.DataFrame({"batch": batch.astype(str), "cell_type": label.astype(str)}, index=np.arange(n_cells).astype(str)),
        obsm={"X_pca": before.astype(np.float32), "X_scbatchnorm": within.astype(np.float32)},
    )  # fmt: skip
    held = _peak_mb()
    start = time.perf_counter()
    metrics.evaluate(adata, "X_scbatchnorm", batch_key="batch", label_key="cell_type", progress=False)
    return {"cells": n_cells, "seconds": time.perf_counter() - start, "peak_mb": _peak_mb(), "held_before_mb": held}


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


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
    options.output.mkdir(parents=True, exist_ok=True)
    if options.simulate:
        table = pd.DataFrame([simulate(options.simulate)])
        print(report.markdown(table.map("{:.0f}".format), index_name="run"))
        return 0
    require_scib()
    values, seconds = {}, {}
    for path in options.files:
        print(path.stem, file=sys.stderr, flush=True)
        values[path.stem], seconds[path.stem] = compare(path, options)
    table = pd.concat(values, names=["dataset"]).reorder_levels(["of", "dataset", "representation"])
    table.to_csv(options.output / "judging.csv", float_format="%.5f")
    text = summary(table, pd.DataFrame(seconds))
    (options.output / "judging.md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
