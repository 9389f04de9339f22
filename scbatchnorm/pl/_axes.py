"""Axes to draw on. Scripts get figures outside of pyplot: nothing is registered, so nothing has to be closed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.legend import Legend


def or_new(ax: Axes | None, *, width: float, height: float) -> Axes:
    """`ax`, or the axes of a new figure of the given size in inches.

    Raises
    ------
    TypeError
        `ax` is something else, for instance an array of axes.
    """
    if ax is None:
        return _new_figure(width, height).subplots()
    if not isinstance(ax, Axes):
        msg = f"ax must be a matplotlib Axes or None; got {type(ax).__name__}."
        raise TypeError(msg)
    return ax


def _new_figure(width: float, height: float) -> Figure:
    # Notebooks and interactive sessions show, and notebooks then close, what pyplot knows. A kernel announces its
    # backend in the environment before matplotlib is switched to it.
    if mpl.is_interactive() or "inline" in os.environ.get("MPLBACKEND", ""):
        from matplotlib import pyplot as plt

        return plt.figure(figsize=(width, height), layout="constrained")
    return Figure(figsize=(width, height), layout="constrained")


def legend_outside(ax: Axes, *, columns: int = 1) -> Legend:
    """Legend right of the axes, where it hides nothing."""
    return ax.legend(
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        frameon=False,
        ncols=columns,
        handletextpad=0.4,
        columnspacing=1.0,
        fontsize="small",
    )
