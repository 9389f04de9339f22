"""Draw wall time and memory against the number of cells: measured, extrapolated and, for other tools, as published.

python -m benchmarks.scale.picture benchmarks/results/scale.csv -o scale.png
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter, NullFormatter
from scipy.optimize import nnls

from scbatchnorm.pl._axes import new_panels
from scbatchnorm.pl._palette import default_colors

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PUBLISHED = Path(__file__).with_name("published.csv")
_STORES = {"memory": "in memory", "zarr": "from zarr", "h5ad": "from h5ad"}
# Column, title, unit, and how much of the unit one of the column is.
_PANELS = (("seconds", "wall time", "minutes", 1 / 60), ("peak_mb", "peak memory", "GB", 2**20 / 1e9))
_THEIRS = {"seconds": ("seconds", 1 / 60), "peak_mb": ("gigabytes", 1)}
_MARKERS = "osD^vP*X"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale.picture", description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="CSV", help="scale.csv of one or several calls")
    parser.add_argument("-o", "--output", type=Path, default=Path("scale.png"), help="picture (default: scale.png)")
    parser.add_argument(
        "--published", type=Path, default=_PUBLISHED,
        help="figures of other tools: tool, cells, seconds, gigabytes, hardware, source; a figure that is not published stays empty",
    )  # fmt: skip
    parser.add_argument("--to", type=float, default=1e8, help="cells to extrapolate to (default: 1e8)")
    parser.add_argument(
        "--times-cores", type=float, metavar="N",
        help="also what N times the measured cores would take, were what grows with the cells divided evenly",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    if absent := [str(path) for path in [*options.files, options.published] if not path.is_file()]:
        parser.error(f"no such file: {', '.join(absent)}")
    return options


def trend(cells: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """What is fixed and what each cell adds, neither negative, by the least relative errors.

    Of the measurements from a tenth of the largest on, at least two: below, training is not yet on a sketch.
    """
    order = np.argsort(cells)
    cells, values = cells[order].astype(float), values[order]
    first = min(int(np.searchsorted(cells, cells[-1] / 10)), max(len(cells) - 2, 0))
    cells, values = cells[first:], values[first:]
    shares = np.column_stack([np.ones_like(cells), cells / cells[-1]])
    (fixed, slope), _ = nnls(shares / values[:, None], np.ones_like(cells))
    return float(fixed), float(slope / cells[-1])


def draw(table: pd.DataFrame, published: pd.DataFrame, *, to: float, times_cores: float | None = None) -> Figure:
    """Both panels; `table` as `benchmarks.scale` writes it, `published` as in `published.csv`."""
    table = table[table["reason"].isna() | (table["reason"] == "")]
    series = list(table.groupby(["method", "store"], sort=False))
    tools = list(dict.fromkeys(published["tool"]))
    colours = default_colors(max(len(series) + len(tools), 1))
    axes = new_panels(1, 2, width=5.2, height=4.2)
    for ax, (column, title, unit, factor) in zip(axes[0], _PANELS, strict=True):
        for number, ((method, store), rows) in enumerate(series):
            rows = rows.groupby("cells")[column].mean()
            cells, values = rows.index.to_numpy(), rows.to_numpy() * factor
            name = f"{method}, {_STORES.get(store, store)}"
            look = {"color": colours[number], "marker": _MARKERS[number % len(_MARKERS)]}
            ax.plot(cells, values, **look, linewidth=1.6, label=f"{name}: measured")
            if store != "memory" and len(cells) > 1:
                _extrapolate(ax, cells, values, colours[number], to, times_cores if column == "seconds" else None)
        for number, tool in enumerate(tools, len(series)):
            rows, (their, their_factor) = published[published["tool"] == tool], _THEIRS[column]
            for hardware, part in rows.dropna(subset=["cells", their]).groupby("hardware", sort=False):
                ax.plot(
                    part["cells"], part[their] * their_factor, color=colours[number], linestyle=":",
                    marker=_MARKERS[number % len(_MARKERS)], markersize=7, label=f"{tool}: published, {hardware}",
                )  # fmt: skip
        ax.set(xscale="log", yscale="log", xlabel="cells", ylabel=f"{title} [{unit}]", title=title)
        ax.xaxis.set_major_formatter(FuncFormatter(_count))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.grid(color="#e4e4e4", linewidth=0.6)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
    _legend(axes[0])
    return axes[0, 0].figure


def _extrapolate(
    ax: Axes, cells: np.ndarray, values: np.ndarray, colour: str, to: float, times_cores: float | None
) -> None:
    fixed, slope = trend(cells, values)
    beyond = np.geomspace(cells.max(), max(to, cells.max()), 50)
    ax.plot(
        beyond, fixed + slope * beyond, color=colour, linestyle="--", linewidth=1.4,
        label="extrapolated, not measured: fixed + a share for each cell",
    )  # fmt: skip
    if times_cores:
        ax.plot(
            beyond, fixed + slope * beyond / times_cores, color=colour, linestyle=(0, (2, 2)), linewidth=1.0,
            label=f"extrapolated, not measured: {times_cores:g} times the cores, shares divided evenly",
        )  # fmt: skip


def _legend(axes: np.ndarray) -> None:
    """One legend below both panels."""
    entries: dict[str, Artist] = {}
    for ax in axes:
        handles, labels = ax.get_legend_handles_labels()
        entries |= {label: handle for handle, label in zip(handles, labels, strict=True) if label not in entries}
    axes[0].figure.legend(
        entries.values(), entries, loc="outside lower left", ncols=2 if len(entries) > 3 else 1, frameon=False,
        fontsize="small",
    )  # fmt: skip


def _count(value: float, _: object) -> str:
    """Thousands and millions in words."""
    for factor, unit in ((1e6, " million"), (1e3, " 000")):
        if value >= factor:
            return f"{value / factor:g}{unit}"
    return f"{value:g}"


def main(arguments: list[str] | None = None) -> int:
    """Read, draw, write."""
    options = parse(arguments)
    table = pd.concat([pd.read_csv(path) for path in options.files], ignore_index=True)
    figure = draw(table, pd.read_csv(options.published), to=options.to, times_cores=options.times_cores)
    figure.savefig(options.output, dpi=160)
    print(options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
