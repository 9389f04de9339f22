"""Scatter plots of cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

import numpy as np
from matplotlib.colors import to_rgba_array

from scbatchnorm.pl._axes import add_legend_outside, check_axes, count_legend_columns, fit_figure, new_panels, wrap_name
from scbatchnorm.pl._coordinates import Coordinates, find_coordinates
from scbatchnorm.pl._groups import read_groups
from scbatchnorm.pl._palette import MISSING_COLOR, category_colors

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from scbatchnorm._data.types import Bools, Codes, Floats

_WIDTH, _HEIGHT = 4.0, 3.6


@overload
def embedding(
    adata: AnnData,
    basis: str = ...,
    *,
    color: str,
    dimensions: tuple[int, int] | None = ...,
    ax: Axes | None = ...,
    size: float | None = ...,
    title: str | None = ...,
    legend: bool = ...,
    rng: int | np.random.Generator | None = ...,
) -> Axes: ...


@overload
def embedding(
    adata: AnnData,
    basis: list[str],
    *,
    color: str | list[str],
    dimensions: tuple[int, int] | None = ...,
    ax: None = ...,
    size: float | None = ...,
    title: list[str] | None = ...,
    legend: bool = ...,
    rng: int | np.random.Generator | None = ...,
) -> Figure: ...


@overload
def embedding(
    adata: AnnData,
    basis: str = ...,
    *,
    color: list[str],
    dimensions: tuple[int, int] | None = ...,
    ax: None = ...,
    size: float | None = ...,
    title: str | None = ...,
    legend: bool = ...,
    rng: int | np.random.Generator | None = ...,
) -> Figure: ...


def embedding(
    adata: AnnData,
    basis: str | list[str] = "X_umap",
    *,
    color: str | list[str],
    dimensions: tuple[int, int] | None = None,
    ax: Axes | None = None,
    size: float | None = None,
    title: str | list[str] | None = None,
    legend: bool = True,
    rng: int | np.random.Generator | None = 0,
) -> Axes | Figure:
    """Scatter plot of cells, coloured by groups and drawn in random order; lists give a grid of panels.

    If cells are drawn in the order of the object, the last batch covers the others, so that batches look separated or
    mixed by accident. For genes and other numbers use :func:`scanpy.pl.embedding`.

    A basis with 2 dimensions is drawn as it is, one with more as its UMAP. If `adata.obsm[f"{key}_umap"]` is missing, the
    UMAP is computed with scanpy's defaults and stored there; `adata.uns[f"{key}_umap"]` records parameters and a checksum
    of each cell, and the UMAP is computed again if the values have changed since. A UMAP without such a record was made by
    another tool and is drawn as it is. Nothing is written to a view.

    Parameters
    ----------
    adata
        Annotated data.
    basis
        Key of `adata.obsm`, with or without `"X_"`; or a list: a column of panels for each.
    color
        Column of `adata.obs` with groups: categories, strings or booleans; or a list: a row of panels for each. Colours
        are those of `adata.uns[f"{color}_colors"]`; if it is missing, a palette that is safe for colour-blind readers
        (up to 12 groups) is chosen and stored there, as scanpy does. Missing values are grey and drawn first.
    dimensions
        Two dimensions of the basis itself to draw, counted from 0: `(0, 1)` for the leading principal components.
        `None`: the only two, or the UMAP.
    ax
        Axes to draw on, for a single panel; `None` makes a new figure, which notebooks show; in scripts it is `.figure` of
        the returned axes.
    size
        Area of a point in square points; `None` chooses it by the number of cells.
    title
        Title; `None` is `color`. With lists a text for each basis, followed by the colour; `None` is `basis`.
    legend
        Whether to add a legend right of the axes, or of each row.
    rng
        Seed or generator of the drawing order, which all panels share, and of UMAPs that have to be computed.

    Returns
    -------
    The axes; the figure if `basis` or `color` is a list.

    Raises
    ------
    KeyError
        `basis` or `color` name nothing in `adata`; the message lists what there is.
    ValueError
        `basis` has a single dimension, is not finite, or has fewer cells than a UMAP takes; `color` holds numbers; or
        `ax` is given for several panels.

    Examples
    --------
    >>> import scanpy as sc
    >>> import scbatchnorm as sbn
    >>> adata = sbn.datasets.pbmc_planted()
    >>> sc.pp.pca(adata)
    >>> ax = sbn.pl.embedding(adata, "pca", color="batch", dimensions=(0, 1))
    >>> ax.get_xlabel(), ax.get_title()
    ('PCA1', 'batch')
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['protocol A', 'protocol B', 'protocol C']

    Several panels; before and after an integration, `["X_pca", "X_scbatchnorm"]` with `title=["before", "after"]`:

    >>> figure = sbn.pl.embedding(adata, ["pca"], color=["batch", "cell_type"], dimensions=(0, 1))
    >>> [ax.get_title() for ax in figure.axes]
    ['pca: batch', 'pca: cell_type']
    """
    several = not (isinstance(basis, str) and isinstance(color, str))
    bases, columns = ([value] if isinstance(value, str) else list(value) for value in (basis, color))
    check_axes(ax)
    if several and ax is not None:
        msg = f"ax must be None for several panels, which get a figure of their own; got basis={basis!r}, color={color!r}."
        raise ValueError(msg)
    titles = _titles(bases, columns, title, several=several)
    groups = {
        column: read_groups(adata, column, parameter="color", otherwise="; else use sc.pl.embedding")
        for column in columns
    }
    generator = np.random.default_rng(rng)
    order, seed = generator.permutation(adata.n_obs), int(generator.integers(2**31))
    coordinates = find_coordinates(adata, bases, dimensions=dimensions, seed=seed)
    axes = np.array([[ax]]) if ax is not None else new_panels(len(columns), len(bases), width=_WIDTH, height=_HEIGHT)
    for column, row, texts in zip(columns, axes, titles, strict=True):
        colors = [*category_colors(adata, column, len(groups[column].categories)), MISSING_COLOR]
        for points, panel, text in zip(coordinates, row, texts, strict=True):
            codes = groups[column].codes
            scatter_cells(panel, points, to_rgba_array(colors)[codes], order=order, behind=codes < 0, size=size)
            panel.set_title(text)
        if legend:
            _add_group_legend(row[-1], groups[column], colors)
    if ax is None:
        fit_figure(axes, width=len(bases) * _WIDTH, height=len(columns) * _HEIGHT)
    return axes[0, 0].figure if several else axes[0, 0]


def _titles(bases: list[str], columns: list[str], title: str | list[str] | None, *, several: bool) -> list[list[str]]:
    """Title of each panel, a list for each row."""
    for name, values in (("basis", bases), ("color", columns)):
        if not values:
            msg = f"{name} must be a name or a list of names; got an empty list."
            raise ValueError(msg)
    if not several:
        return [[wrap_name(columns[0]) if title is None else str(title)]]
    texts = bases if title is None else [title] if isinstance(title, str) else list(title)
    if len(texts) != len(bases):
        msg = f"title must hold a text for each of the {len(bases)} bases; got {title!r}."
        raise ValueError(msg)
    return [[wrap_name(f"{text}: {column}") for text in texts] for column in columns]


def scatter_cells(
    ax: Axes, coordinates: Coordinates, colors: Floats, *, order: Codes, behind: Bools, size: float | None
) -> None:
    """Draw cells with `colors`, shape (cells, 4), in `order`; those that are `behind` are drawn first."""
    order = np.concatenate([order[behind[order]], order[~behind[order]]])
    size = float(np.clip(30_000 / max(len(order), 1), 1.5, 18)) if size is None else size
    x, y = coordinates.points[order].T
    # In a PDF a million points are rasterised.
    ax.scatter(x, y, c=colors[order], s=size, linewidths=0, alpha=0.9, rasterized=True)
    ax.set(xlabel=coordinates.names[0], ylabel=coordinates.names[1], xticks=[], yticks=[])
    ax.spines[["top", "right"]].set_visible(False)


def _add_group_legend(ax: Axes, groups: pd.Categorical, colors: list[str]) -> None:
    """Add a legend of the groups that occur, in the order of the categories."""
    present = np.unique(groups.codes[groups.codes >= 0])
    entries = [(wrap_name(groups.categories[code]), colors[code]) for code in present]
    if (groups.codes < 0).any():
        entries.append(("missing", MISSING_COLOR))
    for label, color in entries:
        # matplotlib leaves out labels that begin with an underscore.
        text = f" {label}" if label.startswith("_") else label
        ax.plot([], [], marker="o", markersize=6, linestyle="", markeredgewidth=0, color=color, label=text)
    add_legend_outside(ax, columns=count_legend_columns([label for label, _ in entries]))
