"""Pictures of a report, inside the page."""

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
    from scbatchnorm.pl._report.inputs import Subject

_DPI = 130
_WIDTH, _HEIGHT = 4.6, 4.0
_SMALL_WIDTH, _SMALL_HEIGHT = 2.4, 2.1
# Batches that get a picture of their own; the largest.
_MOST_APART = 12
_BACK, _FRONT = "#d0d0d0", "#1a1a1a"


@dataclass(frozen=True)
class Entry:
    """A group in a legend: the number that stands in the picture (0: none), its name, colour and cells."""

    number: int
    name: str
    color: str
    cells: int


@dataclass(frozen=True)
class Picture:
    """A PNG as the address of an image, what it shows in words, and what its colours are."""

    uri: str
    alt: str
    caption: str
    width: int
    height: int
    legend: list[Entry] = field(default_factory=list)


def encode(figure: Figure, alt: str, caption: str, legend: list[Entry] | None = None) -> Picture:
    """The figure as a picture of its own size."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    uri = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
    width, height = figure.get_size_inches() * 96
    return Picture(uri, alt, caption, round(width), round(height), legend or [])


@dataclass(frozen=True, eq=False)
class Drawn:
    """The cells that are drawn, in random order, and their places before and after."""

    adata: AnnData
    before: Coordinates
    after: Coordinates
    order: Codes

    @classmethod
    def of(cls, subject: Subject, *, max_cells: int, seed: int) -> Drawn:
        """All cells, or as many as `max_cells`, drawn at random."""
        rng = np.random.default_rng(seed)
        adata = subject.adata
        if adata.n_obs > max_cells:
            adata = adata[np.sort(rng.permutation(adata.n_obs)[:max_cells])]
        before, after = find_coordinates(
            adata, [subject.unintegrated, subject.integrated], dimensions=None, seed=int(rng.integers(2**31))
        )
        return cls(adata, before, after, rng.permutation(adata.n_obs))


def before_and_after(subject: Subject, drawn: Drawn) -> list[Picture]:
    """Cells before and after, by batch and by type, one picture each."""
    columns = {"batch": subject.batch_column}
    if subject.label_key not in {None, subject.batch_column}:
        columns["cell type"] = str(subject.label_key)
    return [
        _panel(drawn, when, place, what, column)
        for what, column in columns.items()
        for when, place in (("Before", drawn.before), ("After", drawn.after))
    ]


def _panel(drawn: Drawn, when: str, place: Coordinates, what: str, column: str) -> Picture:
    found = read_groups(drawn.adata, column, parameter="label_key")
    tints = [*category_colors(drawn.adata, column, len(found.categories)), MISSING_COLOR]
    figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
    ax = figure.subplots()
    colors = to_rgba_array(tints)[found.codes]
    scatter_cells(ax, place, colors, order=drawn.order, behind=found.codes < 0, size=None)
    legend = _legend(found, tints, numbered=what == "cell type")
    if what == "cell type":
        _number(ax, place.points, found.codes, legend)
    caption = f"{when}, by {what}"
    alt = f"Scatter plot of {drawn.adata.n_obs:,} cells {when.lower()} the integration, coloured by {what}."
    return encode(figure, alt, caption, legend)


def _legend(found: pd.Categorical, tints: list[str], *, numbered: bool) -> list[Entry]:
    """Groups that have cells, in the order of their colours."""
    sizes = np.bincount(np.where(found.codes < 0, len(found.categories), found.codes), minlength=len(tints))
    names = [*map(str, found.categories), "no value"]
    return [
        Entry(place + 1 if numbered and place < len(found.categories) else 0, name, tint, int(size))
        for place, (name, tint, size) in enumerate(zip(names, tints, sizes, strict=True))
        if size
    ]


def _number(ax: Axes, points: Floats, codes: Codes, legend: list[Entry]) -> None:
    """Write the number of each group where its cells are: readable without colours."""
    for entry in legend:
        if entry.number:
            x, y = _middle(points[codes == entry.number - 1])
            ax.text(
                x, y, str(entry.number), ha="center", va="center", fontsize=9, fontweight="bold", color="black",
                path_effects=[withStroke(linewidth=2.6, foreground="white")],
            )  # fmt: skip


def _middle(points: Floats) -> Floats:
    """The one of `points` that is nearest to their median."""
    return points[np.square(points - np.median(points, axis=0)).sum(axis=1).argmin()]


def batches_apart(subject: Subject, drawn: Drawn) -> list[Picture]:
    """Each of the largest batches in black on all cells, after the integration."""
    column = drawn.adata.obs[subject.batch_column].astype(str).to_numpy()
    points = drawn.after.points
    pictures = []
    for name, n_cells in subject.batches.head(_MOST_APART).items():
        inside = column == name
        figure = Figure(figsize=(_SMALL_WIDTH, _SMALL_HEIGHT), layout="constrained")
        ax = figure.subplots()
        size = float(np.clip(9_000 / len(points), 0.4, 6))
        for rows, color in ((~inside, _BACK), (inside, _FRONT)):
            ax.scatter(points[rows, 0], points[rows, 1], color=color, s=size, linewidths=0)
        ax.set_axis_off()
        alt = f"The cells of batch {name} in black on all others in grey, after the integration."
        pictures.append(encode(figure, alt, f"{name} ({n_cells:,} cells)"))
    return pictures


def draw_composition(subject: Subject) -> list[Picture]:
    """Cells of each type in each batch."""
    if subject.label_key is None or subject.label_key == subject.batch_column:
        return []
    ax = composition(subject.adata, subject.batch_key, subject.label_key)
    text = "Heatmap of the share of each cell type in each batch. The numbers are in the table below."
    return [encode(root_figure(ax), text, "Cells of each type in each batch")]


def draw_training(subject: Subject) -> list[Picture]:
    """Losses, and the path of strengths if there is one."""
    pictures = []
    if subject.record is not None and len(subject.record["history"]):
        ax = history(subject.adata, key=subject.key)
        pictures.append(encode(root_figure(ax), "Losses against steps of training.", "Training"))
    if subject.record is not None and isinstance(subject.record.get("path"), pd.DataFrame):
        ax = strength(subject.adata, key=subject.key)
        alt = "Mixing of batches against neighbourhoods kept, at each strength of the correction."
        pictures.append(encode(root_figure(ax), alt, "What each strength mixes and keeps"))
    return pictures


def draw_change(subject: Subject, findings: Findings, drawn: Drawn) -> list[Picture]:
    """What the integration changed: by state and gene, and by cell."""
    if findings.diagnosis is None:
        return []
    alt = "Share of their nearest neighbours that states keep, and the genes that moved most. Both are in the tables below."
    return [encode(change(subject.adata), alt, "What changed, by state and by gene"), _kept(drawn)]


def _kept(drawn: Drawn) -> Picture:
    """Which cells keep their neighbours; those that keep few are dark, and on top."""
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
    return encode(figure, alt, "What changed, by cell: dark cells have new neighbours")
