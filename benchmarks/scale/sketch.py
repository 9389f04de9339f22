"""How the score depends on how many cells are trained on: `max_cells_fit` of several sizes against all cells.

python -m benchmarks.scale.sketch --cells 100000 --sizes 5000 10000 20000 50000 all --seeds 3
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from benchmarks import report
from benchmarks.options import add_output
from benchmarks.scale import scored, stores
from benchmarks.scale.__main__ import add_simulation, measure
from benchmarks.scale.isolated import Job
from scbatchnorm.pl._axes import new_or_given_axes
from scbatchnorm.pl._palette import default_colors

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ALL = "all"
#: How much worse than training on all cells a sketch may be.
_TOLERANCE = 0.01


def _size(text: str) -> int | str:
    if text == _ALL:
        return text
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        msg = f"a size must be a number of cells or {_ALL!r}; got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return number


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale.sketch", description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=100_000, help="cells (default: 100000)")
    parser.add_argument(
        "--sizes", type=_size, nargs="+", default=[5000, 10_000, 20_000, 50_000, _ALL], metavar="SIZE",
        help="cells to train on, or all (default: 5000 10000 20000 50000 all)",
    )  # fmt: skip
    parser.add_argument("--seeds", type=int, default=3, help="runs of each size (default: 3)")
    parser.add_argument("--store", choices=["zarr", "memory"], default="memory", help="see benchmarks.scale")
    add_simulation(parser)
    add_output(parser, "sketch.csv, sketch.md and sketch.png")
    options = parser.parse_args(arguments)
    if options.sample < 1:
        parser.error("--sample must be at least 1: the score is what this is about")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Measure and draw; exit status 1 if a run failed."""
    options = parse(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    path = stores.log_normalised(options.scratch, options.cells, n_genes=options.genes, n_batches=options.batches)
    drawn = scored.draw(path, options.sample)
    rows: list[dict[str, Any]] = []
    # Seed by seed, so that an interrupted call has all sizes.
    for seed in range(options.seeds):
        for size in options.sizes:
            parameters = {"max_cells_fit": None if size == _ALL else size}
            job = Job(str(path), in_memory=options.store == "memory", seed=seed, parameters=parameters)
            rows.append({"cells": options.cells, "size": size, "seed": seed} | measure(job, drawn, options))
            table = pd.DataFrame(rows)
            table.to_csv(options.output / "sketch.csv", index=False, float_format="%.5f")
    text = summary(table, options)
    (options.output / "sketch.md").write_text(text)
    print(text)
    if (table["reason"] == "").any():
        draw(table).savefig(options.output / "sketch.png", dpi=160)
    return int((table["reason"] != "").any())


def summary(table: pd.DataFrame, options: argparse.Namespace) -> str:
    """Markdown: a line for each size, mean and standard deviation over seeds, and how far from all cells it is."""
    shown = pd.DataFrame(index=pd.Index(list(dict.fromkeys(table["size"])), name="size"), dtype=object)
    groups = {size: table[table["size"] == size] for size in shown.index}
    columns = [column for column in scored.COLUMNS if column in table]
    for column in columns:
        shown[column] = [report.mean_sd(rows[column], digits=4) for rows in groups.values()]
    if _ALL in groups and columns:
        whole = groups[_ALL].set_index("seed")["Total"]
        shown["Total, difference from all"] = [
            report.mean_sd(rows.set_index("seed")["Total"] - whole, digits=4) for rows in groups.values()
        ]
    shown["seconds"] = [report.mean_sd(rows["seconds"], digits=1) for rows in groups.values()]
    shown["peak MB"] = [report.mean_sd(rows["peak_mb"], digits=0) for rows in groups.values()]
    failed = table.loc[table["reason"] != "", ["size", "seed", "reason"]].itertuples(index=False)
    parts = [
        f"{options.cells} simulated cells in {options.batches} batches, {options.genes} genes; scored on {options.sample} of them. "
        f"{report.environment(['torch', 'scbatchnorm'])}.",
        report.markdown(shown, index_name="cells trained on"),
        *(f"Failed: {size}, seed {seed}: {reason}" for size, seed, reason in failed),
    ]
    return "\n\n".join(parts) + "\n"


def draw(table: pd.DataFrame) -> Figure:
    """Totals against the cells that were trained on: every run, the means, and the tolerance around all cells."""
    table = table[table["reason"] == ""]
    n_cells = int(table["cells"].iloc[0])
    trained = table["size"].astype(str).replace(_ALL, str(n_cells)).astype(int)
    mean = table.groupby(trained)["Total"].mean()
    blue, orange = default_colors(2)
    ax = new_or_given_axes(None, width=6.0, height=3.8)
    ax.plot(mean.index, mean, color=blue, linewidth=1.6, marker="o", label="mean")
    ax.plot(trained, table["Total"], color=blue, linestyle="none", marker=".", alpha=0.6, label="one seed")
    whole = table.loc[table["size"].astype(str) == _ALL, "Total"]
    if len(whole):
        ax.axhspan(
            whole.mean() - _TOLERANCE, whole.mean() + _TOLERANCE, color=orange, alpha=0.2, linewidth=0,
            label=f"within {_TOLERANCE} of all cells",
        )  # fmt: skip
    ax.set(xscale="log", xlabel="cells trained on", ylabel="total score", title=f"{n_cells:,} simulated cells")
    sizes = np.asarray(mean.index)
    ax.set_xticks(sizes, [f"{size:,}" for size in sizes])
    ax.minorticks_off()
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize="small")
    return ax.figure


if __name__ == "__main__":
    sys.exit(main())
