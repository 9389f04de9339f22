"""Our method and its peers side by side: scores, seconds, memory. One command.

python -m benchmarks.run FILE.h5ad [FILE.h5ad ...]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from benchmarks import report
from benchmarks.methods import METHODS
from benchmarks.options import add_columns, add_output
from benchmarks.scoring import METRICS, official_scores, prepare, require_scib
from benchmarks.worker import run_isolated

if TYPE_CHECKING:
    import numpy as np
    from anndata import AnnData

_EXAMPLE = Path(__file__).resolve().parents[1] / "data" / "simulated_3batches.h5ad"
_COLUMNS = ["dataset", "method", "seed", "status", "reason", *METRICS]
_COLUMNS += ["seconds", "process_seconds", "peak_mb", "added_mb", "version"]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE.h5ad", help="counts in X; default: the example")
    parser.add_argument("--methods", nargs="+", choices=METHODS, metavar="METHOD", help=f"of {', '.join(METHODS)}")
    parser.add_argument("--deep", action="store_true", help="also the methods that take minutes (scVI)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each stochastic method (default: 3)")
    parser.add_argument(
        "--n-comps", type=int, default=50, help="principal components that the peers start from (default: 50)"
    )
    add_columns(parser)
    parser.add_argument("--timeout", type=float, default=3600, help="seconds granted to one run (default: 3600)")
    add_output(parser, "scores.csv and scores.md")
    options = parser.parse_args(arguments)
    options.files = options.files or [_EXAMPLE]
    if absent := [str(path) for path in options.files if not path.is_file()]:
        parser.error(f"no such file: {', '.join(absent)}")
    if len({path.stem for path in options.files}) < len(options.files):
        parser.error("the files must have different names, for a data set is called after its file")
    options.methods = options.methods or [name for name, method in METHODS.items() if options.deep or not method.deep]
    return options


def run_methods(data: Path, options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[int, np.ndarray]]:
    """Run every method and seed on one prepared file: rows without scores, and embeddings by row number."""
    rows: list[dict[str, Any]] = []
    embeddings = {}
    for name in options.methods:
        method = METHODS[name]
        for seed in range(options.seeds if method.stochastic else 1):
            row: dict[str, Any] = {"method": name, "seed": seed, "version": method.installed_version()}
            if reason := method.missing():
                rows.append({**row, "status": "failed", "reason": reason})
                print(f"  {name}: {reason}", file=sys.stderr, flush=True)
                break
            outcome = run_isolated(data, name, seed, batch_key=options.batch_key, timeout=options.timeout)
            measured = {key: value for key, value in asdict(outcome).items() if key != "embedding"}
            if outcome.embedding is not None:
                embeddings[len(rows)] = outcome.embedding
            rows.append({**row, **measured, "status": "failed" if outcome.embedding is None else "ok"})
            print(f"  {name} seed {seed}: {outcome.reason or f'{outcome.seconds:.1f} s'}", file=sys.stderr, flush=True)
    return rows, embeddings


def score_rows(
    adata: AnnData, rows: list[dict[str, Any]], embeddings: dict[int, np.ndarray], options: argparse.Namespace
) -> None:
    """Add the scores to the rows, in place."""
    for number, embedding in embeddings.items():
        # One by one costs no more than together (compilations stay in the process), and a failure is one row's own.
        try:
            scores = official_scores(
                adata, {"run": embedding}, label_key=options.label_key, batch_key=options.batch_key
            )
        except Exception as error:  # noqa: BLE001 - whatever scib-metrics raises concerns this row only
            rows[number] |= {"status": "failed", "reason": f"scoring: {type(error).__name__}: {error}"}
        else:
            rows[number].update({metric: scores[metric].iloc[0] for metric in METRICS if metric in scores})


def benchmark_file(path: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """All rows of one data set."""
    print(path.stem, file=sys.stderr, flush=True)
    adata = prepare(path, batch_key=options.batch_key, n_comps=options.n_comps)
    if options.label_key not in adata.obs:
        msg = f"label_key={options.label_key!r} is not a column of `adata.obs`. Available: {list(adata.obs)}."
        raise KeyError(msg)
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder, "prepared.h5ad")
        adata.write_h5ad(prepared)
        rows, embeddings = run_methods(prepared, options)
    score_rows(adata, rows, embeddings, options)
    return [{"dataset": path.stem, **row} for row in rows]


def summary(rows: pd.DataFrame) -> str:
    """Markdown: totals, then every metric by data set, then what failed."""
    parts = [f"Totals (0.4 batch + 0.6 bio), mean ± sd over seeds. {report.environment(_distributions())}."]
    parts.append(report.markdown(report.totals_table(rows, "method"), index_name="method"))
    for dataset, group in rows.groupby("dataset", sort=False):
        parts += [f"## {dataset}", report.markdown(report.dataset_table(group), index_name="method")]
    failed = rows[rows["status"] == "failed"]
    if len(failed):
        parts.append("## Failed")
        groups = failed.groupby(["dataset", "method", "reason"], sort=False)["seed"]
        parts.append("\n".join(f"- {d}, {m}, seed {', '.join(map(str, s))}: {why}" for (d, m, why), s in groups))
    return "\n\n".join(parts) + "\n"


def _distributions() -> list[str]:
    return ["scib-metrics", "torch", *dict.fromkeys(method.distribution for method in METHODS.values())]


def main(arguments: list[str] | None = None) -> int:
    """Run the comparison; exit status 1 if no run gave a score."""
    options = parse(arguments)
    try:
        require_scib()
    except ImportError as error:
        print(error, file=sys.stderr)
        return 1
    options.output.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for path in options.files:
        rows += benchmark_file(path, options)
        # Written after every file: an interrupted run keeps what it has.
        table = pd.DataFrame(rows).reindex(columns=_COLUMNS)
        table.to_csv(options.output / "scores.csv", index=False, float_format="%.5f")
        text = summary(table)
        (options.output / "scores.md").write_text(text)
    print(text)
    return int(not (table["status"] == "ok").any())


if __name__ == "__main__":
    sys.exit(main())
