"""Our method and its peers side by side: scores, seconds, memory. One command.

python -m benchmarks.run FILE.h5ad [FILE.h5ad ...]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from benchmarks import report
from benchmarks.isolated import run_isolated
from benchmarks.methods import METHODS, embed_file
from benchmarks.options import EXAMPLE, Parser, write
from benchmarks.scoring import METRICS, official_scores, prepare, require_scib

if TYPE_CHECKING:
    import argparse

    import numpy as np
    from anndata import AnnData

_COLUMNS = ["dataset", "method", "seed", "status", "reason", *METRICS]
_COLUMNS += ["seconds", "process_seconds", "before_mb", "peak_mb", "version"]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = Parser("run", __doc__)
    parser.add_files(default=[EXAMPLE])
    parser.add_choice(
        "--methods", list(METHODS), "which", [name for name, method in METHODS.items() if not method.deep]
    )
    parser.add_number("--seeds", 3, "runs of each stochastic method")
    parser.add_number("--n-comps", 50, "principal components that the peers start from")
    parser.add_number("--timeout", 3600.0, "seconds granted to one run")
    parser.add_output("scores")
    return parser.parse(arguments)


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
            outcome = run_isolated(embed_file, data, name, seed, options.batch_key, timeout=options.timeout)
            if not outcome.reason:
                embeddings[len(rows)] = outcome.value
            rows.append({**row, **outcome.measurements(), "status": "failed" if outcome.reason else "ok"})
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
    """Rows of one data set."""
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
    distributions = dict.fromkeys(method.distribution for method in METHODS.values())
    environment = report.environment(["scib-metrics", "torch", *distributions])
    parts = [f"Totals (0.4 batch + 0.6 bio), mean ± sd over seeds. {environment}."]
    parts.append(report.markdown(report.totals_table(rows, "method"), index_name="method"))
    for dataset, group in rows.groupby("dataset", sort=False):
        parts += [f"## {dataset}", report.markdown(report.dataset_table(group), index_name="method")]
    failed = rows[rows["status"] == "failed"]
    if len(failed):
        parts.append("## Failed")
        groups = failed.groupby(["dataset", "method", "reason"], sort=False)["seed"]
        parts.append("\n".join(f"- {d}, {m}, seed {', '.join(map(str, s))}: {why}" for (d, m, why), s in groups))
    return "\n\n".join(parts) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Run the comparison; exit status 1 if no run gave a score."""
    options = parse(arguments)
    require_scib()
    rows: list[dict[str, Any]] = []
    for path in options.files:
        rows += benchmark_file(path, options)
        table = pd.DataFrame(rows).reindex(columns=_COLUMNS)
        text = summary(table)
        write(options, "scores", table, text)
    print(text)
    return int(not (table["status"] == "ok").any())


if __name__ == "__main__":
    sys.exit(main())
