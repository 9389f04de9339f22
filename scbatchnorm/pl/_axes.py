"""Axes, names and legends. In scripts figures are not registered with pyplot, so that nothing has to be closed."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.legend import Legend

# Most characters in a line of a name, and most lines in a column of a legend of fewer than three columns.
_NAME_WIDTH = 34
_COLUMN_LINES = 20


def new_or_given_axes(ax: Axes | None, *, width: float, height: float) -> Axes:
    """Return `ax`, or the axes of a new figure of the given size in inches.

    Raises
    ------
    TypeError
        `ax` is something else, for instance an array of axes.
    """
    check_axes(ax)
    return _new_figure(width, height).subplots() if ax is None else ax


def check_axes(ax: Axes | None) -> None:
    """Raise TypeError unless `ax` is axes or `None`."""
    if ax is not None and not isinstance(ax, Axes):
        msg = f"ax must be a matplotlib Axes or None; got {type(ax).__name__}."
        raise TypeError(msg)


def root_figure(ax: Axes) -> Figure:
    """The figure that `ax` is in; of axes in a subfigure the whole one."""
    figure = ax.figure
    return figure if isinstance(figure, Figure) else figure.figure


def _new_figure(width: float, height: float) -> Figure:
    # Notebooks and interactive sessions show figures that pyplot knows, and notebooks then close them. A kernel sets
    # the environment variable before matplotlib is switched to the backend.
    if mpl.is_interactive() or "inline" in os.environ.get("MPLBACKEND", ""):
        from matplotlib import pyplot as plt

        return plt.figure(figsize=(width, height), layout="constrained")
    return Figure(figsize=(width, height), layout="constrained")


def new_panels(rows: int, columns: int, *, width: float, height: float) -> np.ndarray:
    """Return the axes of a new figure, shape (rows, columns); width and height are those of a panel, in inches."""
    figure = _new_figure(columns * width, rows * height)
    figure.set_layout_engine("constrained", w_pad=0.08, h_pad=0.08)
    return figure.subplots(rows, columns, squeeze=False)


def fit_figure(axes: np.ndarray, *, width: float, height: float) -> None:
    """Resize a new figure so that its axes, shape (rows, columns), have this size together, in inches.

    Legends and names around the axes get as much room as they need.
    """
    figure = axes[0, 0].figure
    engine = figure.get_layout_engine()
    # The layout fails if names and legends are larger than the figure: start with a figure that is large enough.
    around = figure.get_tightbbox()
    size = np.array([width + around.width, height + around.height]) * 2
    for _ in range(2):  # colour bars grow with their axes
        figure.set_size_inches(*size)
        engine.execute(figure)
        across = sum(ax.get_position(original=True).width for ax in axes[0]) * size[0]
        down = sum(ax.get_position(original=True).height for ax in axes[:, 0]) * size[1]
        size = size + [width - across, height - down]
    figure.set_size_inches(*size)


def wrap_name(name: object, tail: str = "") -> str:
    """Break `name` into lines of limited length, followed by `tail` in one piece; "$" starts no formula."""
    pieces = re.findall(rf"[^\s_-]{{1,{_NAME_WIDTH}}}[\s_-]*|[\s_-]+", str(name))
    lines = [""]
    for piece in [*pieces, f" {tail}"] if tail else pieces:
        if lines[-1] and len(lines[-1] + piece.rstrip()) > _NAME_WIDTH:
            lines.append("")
            piece = piece.lstrip()
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines).replace("$", r"\$")


def count_legend_columns(names: Sequence[str]) -> int:
    """Number of columns of a legend about as high as a picture; at most three, as columns of long names are wide."""
    lines = sum(name.count("\n") + 1 for name in names)
    return int(np.clip(-(-lines // _COLUMN_LINES), 1, 3))


def add_legend_outside(ax: Axes, *, columns: int = 1) -> Legend:
    """Add a legend right of the axes, where it hides nothing."""
    return ax.legend(
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        frameon=False,
        ncols=columns,
        handletextpad=0.4,
        columnspacing=1.0,
        fontsize="small",
    )
