"""Cells in two dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scbatchnorm.pl import _axes, _palette

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

    from scbatchnorm._typing import Floats


def embedding(
    adata: AnnData,
    basis: str = "X_umap",
    *,
    color: str,
    ax: Axes | None = None,
    size: float | None = None,
    title: str | None = None,
    legend: bool = True,
    rng: int | np.random.Generator | None = 0,
) -> Axes:
    """Scatter plot of cells, coloured by groups, in random order.

    Drawn in the order of the object, as elsewhere, the last batch covers the others and batches look apart, or
    mixed, by accident. For genes and other numbers use :func:`scanpy.pl.embedding`.

    Parameters
    ----------
    adata
        Annotated data.
    basis
        Key of `adata.obsm`, with or without `"X_"`; its first two dimensions are drawn.
    color
        Column of `adata.obs` with groups: categories, strings or booleans. Colours are those of
        `adata.uns[f"{color}_colors"]`; where there are none, a palette that is safe for colour-blind readers (up to
        12 groups) is chosen and stored there, as scanpy does. Missing values are grey and behind all others.
    ax
        Axes to draw on; `None` makes a new figure: shown in notebooks, in scripts `.figure` of what is returned.
    size
        Area of a point in square points; `None` chooses it by the number of cells.
    title
        Text above; `None` is `color`.
    legend
        Whether to explain the colours, right of the axes.
    rng
        Seed or generator of the drawing order.

    Returns
    -------
    The axes.

    Raises
    ------
    KeyError
        `basis` or `color` name nothing in `adata`; the message lists what there is.
    ValueError
        `basis` has a single dimension, or `color` holds numbers.

    Examples
    --------
    >>> import scanpy as sc
    >>> import scbatchnorm as sbn
    >>> adata = sbn.datasets.pbmc_planted()
    >>> sc.pp.pca(adata)
    >>> ax = sbn.pl.embedding(adata, "pca", color="batch")
    >>> ax.get_xlabel(), ax.get_title()
    ('PCA1', 'batch')
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['protocol A', 'protocol B', 'protocol C']
    """
    points, name = _coordinates(adata, basis)
    groups = _groups(adata, color)
    colors = np.array([*_palette.colors(adata, color, len(groups.categories)), _palette.MISSING], dtype=object)
    ax = _axes.or_new(ax, width=6.0 if legend else 4.5, height=4.2)
    order = np.random.default_rng(rng).permutation(len(points))
    order = np.concatenate([order[groups.codes[order] < 0], order[groups.codes[order] >= 0]])
    size = float(np.clip(30_000 / max(len(points), 1), 1.5, 18)) if size is None else size
    # rasterized: a million points in a PDF stay a picture.
    x, y = points[order].T
    ax.scatter(x, y, c=colors[groups.codes[order]], s=size, linewidths=0, alpha=0.9, rasterized=True)
    ax.set(xlabel=f"{name}1", ylabel=f"{name}2", xticks=[], yticks=[], title=color if title is None else title)
    ax.spines[["top", "right"]].set_visible(False)
    if legend:
        _explain(ax, groups, colors)
    return ax


def _coordinates(adata: AnnData, basis: str) -> tuple[Floats, str]:
    """First two dimensions of `basis`, shape (cells, 2), and its name for the axes."""
    key = next((key for key in (basis, f"X_{basis}") if key in adata.obsm), None)
    if key is None:
        msg = f"basis={basis!r} is not a key of adata.obsm; keys: {', '.join(map(str, adata.obsm.keys())) or 'none'}."
        raise KeyError(msg)
    points = np.asarray(adata.obsm[key], dtype=float)
    if points.ndim != 2 or points.shape[1] < 2:
        msg = f"basis={basis!r} must have at least 2 dimensions; adata.obsm[{key!r}] has shape {points.shape}."
        raise ValueError(msg)
    name = key.removeprefix("X_")
    return points[:, :2], {"umap": "UMAP", "pca": "PCA", "tsne": "tSNE"}.get(name, f"{name} ")


def _groups(adata: AnnData, color: str) -> pd.Categorical:
    """Group of each cell; the column itself stays as it is."""
    if color not in adata.obs:
        columns = ", ".join(map(str, adata.obs.columns)) or "none"
        msg = f"color={color!r} is not a column of adata.obs; columns: {columns}."
        raise KeyError(msg)
    values = adata.obs[color]
    if isinstance(values.dtype, pd.CategoricalDtype):
        return values.array
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        msg = (
            f"color={color!r} must hold groups; adata.obs[{color!r}] holds numbers ({values.dtype}). If they name "
            f"groups: adata.obs[{color!r}] = adata.obs[{color!r}].astype('category'); else use sc.pl.embedding."
        )
        raise ValueError(msg)
    return pd.Categorical(values.astype(str).where(values.notna()))


def _explain(ax: Axes, groups: pd.Categorical, colors: np.ndarray) -> None:
    """Legend of the groups that occur, in the order of the categories."""
    present = np.unique(groups.codes[groups.codes >= 0])
    entries = [(str(groups.categories[code]), colors[code]) for code in present]
    if (groups.codes < 0).any():
        entries.append(("missing", _palette.MISSING))
    for label, tint in entries:
        ax.plot([], [], marker="o", markersize=6, linestyle="", markeredgewidth=0, color=tint, label=label)
    _axes.legend_outside(ax, columns=1 + (len(entries) - 1) // 16)
