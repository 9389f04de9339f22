"""Figures of a report as PNG images that the page contains."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgba_array
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import PercentFormatter

from scbatchnorm.pl._axes import root_figure
from scbatchnorm.pl._change import change
from scbatchnorm.pl._composition import composition
from scbatchnorm.pl._coordinates import find_coordinates
from scbatchnorm.pl._embedding import scatter_cells
from scbatchnorm.pl._groups import read_groups
from scbatchnorm.pl._history import history
from scbatchnorm.pl._palette import MISSING_COLOR, category_colors
from scbatchnorm.pl._strength import strength

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

    from scbatchnorm._data.types import Codes, Floats
    from scbatchnorm.pl._coordinates import Coordinates
    from scbatchnorm.pl._report.compute import Findings
    from scbatchnorm.pl._report.inputs import Integration

_DPI = 130
_WIDTH, _HEIGHT = 4.6, 4.0
_SMALL_WIDTH, _SMALL_HEIGHT = 2.4, 2.1
# As many of the largest batches get a figure of their own.
_MAX_BATCHES = 12
_BACK, _FRONT = "#d0d0d0", "#1a1a1a"


@dataclass(frozen=True)
class LegendEntry:
    """A group of cells in the legend: its number in the figure (0: none), name, colour and number of cells."""

    number: int
    name: str
    color: str
    cells: int


@dataclass(frozen=True)
class Picture:
    """A figure as a data URI, with alternative text, caption, size in CSS pixels, and legend."""

    uri: str
    alt: str
    caption: str
    width: int
    height: int
    legend: list[LegendEntry] = field(default_factory=list)


def encode_figure(figure: Figure, alt: str, caption: str, legend: list[LegendEntry] | None = None) -> Picture:
    """Render the figure as a PNG of its own size."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    uri = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
    width, height = figure.get_size_inches() * 96
    return Picture(uri, alt, caption, round(width), round(height), legend or [])


@dataclass(frozen=True, eq=False)
class DrawnCells:
    """The cells that are drawn, their coordinates before and after the integration, and the random order of drawing."""

    adata: AnnData
    before: Coordinates
    after: Coordinates
    order: Codes

    @classmethod
    def sample(cls, integration: Integration, *, max_cells: int, seed: int) -> DrawnCells:
        """Take all cells, or a random sample of `max_cells`."""
        rng = np.random.default_rng(seed)
        adata = integration.adata
        if adata.n_obs > max_cells:
            adata = adata[np.sort(rng.permutation(adata.n_obs)[:max_cells])]
        before, after = find_coordinates(
            adata, [integration.unintegrated, integration.integrated], dimensions=None, seed=int(rng.integers(2**31))
        )
        return cls(adata, before, after, rng.permutation(adata.n_obs))


def draw_before_and_after(integration: Integration, drawn: DrawnCells) -> list[Picture]:
    """Scatter plots before and after the integration, coloured by batch and by type."""
    columns = {"batch": integration.batch_column}
    if integration.label_key not in {None, integration.batch_column}:
        columns["cell type"] = str(integration.label_key)
    return [
        _draw_cells(drawn, when, coordinates, what, column)
        for what, column in columns.items()
        for when, coordinates in (("Before", drawn.before), ("After", drawn.after))
    ]


def _draw_cells(drawn: DrawnCells, when: str, coordinates: Coordinates, what: str, column: str) -> Picture:
    groups = read_groups(drawn.adata, column, parameter="label_key")
    group_colors = [*category_colors(drawn.adata, column, len(groups.categories)), MISSING_COLOR]
    figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
    ax = figure.subplots()
    colors = to_rgba_array(group_colors)[groups.codes]
    scatter_cells(ax, coordinates, colors, order=drawn.order, behind=groups.codes < 0, size=None)
    legend = _legend_entries(groups, group_colors, numbered=what == "cell type")
    if what == "cell type":
        _write_numbers(ax, coordinates.points, groups.codes, legend)
    caption = f"{when}, by {what}"
    alt = f"Scatter plot of {drawn.adata.n_obs:,} cells {when.lower()} the integration, coloured by {what}."
    return encode_figure(figure, alt, caption, legend)


def _legend_entries(groups: pd.Categorical, group_colors: list[str], *, numbered: bool) -> list[LegendEntry]:
    """Groups that have cells, in the order of their colours."""
    sizes = np.bincount(np.where(groups.codes < 0, len(groups.categories), groups.codes), minlength=len(group_colors))
    names = [*map(str, groups.categories), "no value"]
    return [
        LegendEntry(code + 1 if numbered and code < len(groups.categories) else 0, name, color, int(size))
        for code, (name, color, size) in enumerate(zip(names, group_colors, sizes, strict=True))
        if size
    ]


def _write_numbers(ax: Axes, points: Floats, codes: Codes, legend: list[LegendEntry]) -> None:
    """Write the number of each group at its cells, so that the figure can be read without colours."""
    for entry in legend:
        if entry.number:
            x, y = _central_point(points[codes == entry.number - 1])
            ax.text(
                x, y, str(entry.number), ha="center", va="center", fontsize=9, fontweight="bold", color="black",
                path_effects=[withStroke(linewidth=2.6, foreground="white")],
            )  # fmt: skip


def _central_point(points: Floats) -> Floats:
    """The point nearest to the median of `points`, shape (cells, 2)."""
    return points[np.square(points - np.median(points, axis=0)).sum(axis=1).argmin()]


def draw_batches(integration: Integration, drawn: DrawnCells) -> list[Picture]:
    """Each of the largest batches after the integration, in black on the other cells in grey."""
    column = drawn.adata.obs[integration.batch_column].astype(str).to_numpy()
    points = drawn.after.points
    pictures = []
    for name, n_cells in integration.batches.head(_MAX_BATCHES).items():
        inside = column == name
        figure = Figure(figsize=(_SMALL_WIDTH, _SMALL_HEIGHT), layout="constrained")
        ax = figure.subplots()
        size = float(np.clip(9_000 / len(points), 0.4, 6))
        for rows, color in ((~inside, _BACK), (inside, _FRONT)):
            ax.scatter(points[rows, 0], points[rows, 1], color=color, s=size, linewidths=0)
        ax.set_axis_off()
        alt = f"The cells of batch {name} in black on all others in grey, after the integration."
        pictures.append(encode_figure(figure, alt, f"{name} ({n_cells:,} cells)"))
    return pictures


def draw_composition(integration: Integration) -> list[Picture]:
    """Heatmap of the cells of each type in each batch."""
    if integration.label_key is None or integration.label_key == integration.batch_column:
        return []
    ax = composition(integration.adata, integration.batch_key, integration.label_key)
    text = "Heatmap of the share of each cell type in each batch. The numbers are in the table below."
    return [encode_figure(root_figure(ax), text, "Cells of each type in each batch")]


def draw_training(integration: Integration) -> list[Picture]:
    """Losses of the training, and scores at each strength if several were computed."""
    pictures = []
    if integration.record is not None and len(integration.record["history"]):
        ax = history(integration.adata, key=integration.key)
        pictures.append(encode_figure(root_figure(ax), "Losses against steps of training.", "Training"))
    if integration.record is not None and isinstance(integration.record.get("path"), pd.DataFrame):
        ax = strength(integration.adata, key=integration.key)
        alt = "Mixing of batches against neighbourhoods kept, at each strength of the correction."
        pictures.append(encode_figure(root_figure(ax), alt, "What each strength mixes and keeps"))
    return pictures


def draw_change(integration: Integration, findings: Findings, drawn: DrawnCells) -> list[Picture]:
    """What the integration changed, by state and gene, and by cell."""
    if findings.diagnosis is None:
        return []
    alt = "Share of their nearest neighbours that states keep, and the genes that moved most. Both are in the tables below."
    return [encode_figure(change(integration.adata), alt, "What changed, by state and by gene"), _draw_kept(drawn)]


def _draw_kept(drawn: DrawnCells) -> Picture:
    """Share of neighbours that each cell keeps; cells that keep few are dark and drawn last."""
    kept = drawn.adata.obs["diagnose_kept"].to_numpy(dtype=float)
    order = np.argsort(-np.nan_to_num(kept, nan=1.0), kind="stable")
    figure = Figure(figsize=(_WIDTH + 0.8, _HEIGHT), layout="constrained")
    ax = figure.subplots()
    size = float(np.clip(30_000 / len(kept), 1.5, 18))
    x, y = drawn.after.points[order].T
    points = ax.scatter(x, y, c=kept[order], s=size, cmap="viridis", vmin=0, vmax=1, linewidths=0)
    figure.colorbar(points, ax=ax, label="neighbours in the batch kept", format=PercentFormatter(1.0))
    ax.set(xlabel=drawn.after.names[0], ylabel=drawn.after.names[1], xticks=[], yticks=[])
    ax.spines[["top", "right"]].set_visible(False)
    alt = "Scatter plot of the cells after the integration, coloured by the share of their nearest neighbours that they keep."
    return encode_figure(figure, alt, "What changed, by cell: dark cells have new neighbours")
