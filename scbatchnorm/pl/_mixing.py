"""Mixing of batches around each cell, in the embedding and by type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

import matplotlib as mpl
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import to_rgba

from scbatchnorm._data.adata import read_batches
from scbatchnorm.pl._axes import fit_figure, new_panels, wrap_name
from scbatchnorm.pl._coordinates import Coordinates, find_coordinates
from scbatchnorm.pl._embedding import scatter_cells
from scbatchnorm.pl._groups import read_groups
from scbatchnorm.pl._palette import MISSING_COLOR

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from scbatchnorm._data.types import Floats

Value = Literal["ilisi", "cilisi", "clisi", "knn_preservation"]
_VALUES: tuple[str, ...] = get_args(Value)
_WORDS = {
    "ilisi": ("iLISI", "mixing of batches"),
    "cilisi": ("CiLISI", "mixing of batches within the type"),
    "clisi": ("cLISI", "separation of types"),
    "knn_preservation": ("kNN preservation", "neighbours kept"),
}
# Parameters of `tl.mixing` that some values require.
_REQUIRED = {"cilisi": "label_key", "clisi": "label_key", "knn_preservation": "unintegrated"}
# Both ends are visible with any colour vision, and the lightness ascends.
_CMAP = "viridis"
_WIDTH, _HEIGHT, _LINE, _GAP = 4.0, 3.6, 0.14, 0.1
_BOX = "#a9c9e8"


def mixing(
    adata: AnnData,
    key: str | None = None,
    *,
    value: Value = "ilisi",
    basis: str | None = None,
    groupby: str | None = None,
    rng: int | np.random.Generator | None = 0,
) -> Figure:
    """Mixing of batches around each cell, in the embedding and by type.

    Draws the values of `tl.mixing`; 1 is best. On the left each cell has the colour of its value. On the right is the
    distribution in each type, the best median on top: the mark is the median, the box the middle half of the cells, the
    line the range from 5 to 95 % of them. It shows types that are mixed badly or that are in one batch only, which a mean
    over all cells hides. Cells without a defined value are grey, and left out of the distributions.

    Parameters
    ----------
    adata
        Annotated data after `tl.mixing`.
    key
        The `key_added` of `tl.mixing`; `None` is its own.
    value
        `"ilisi"`, effective number of batches in the neighbourhood; `"cilisi"`, the same among cells of the type;
        `"clisi"`, purity of types; `"knn_preservation"`, share of the neighbours before integration that are still ones.
    basis
        Key of `adata.obsm` to draw, with or without `"X_"`; of more than 2 dimensions the UMAP, as in `pl.embedding`,
        which says where it is stored. `None`: the representation given to `tl.mixing`.
    groupby
        Column of `adata.obs` with the groups on the right; `None`: the `label_key` of `tl.mixing`, or else its
        `batch_key`.
    rng
        Seed or generator of the drawing order, and of a UMAP that has to be computed.

    Returns
    -------
    The figure, which notebooks show; in scripts save it with its method `savefig`.

    Raises
    ------
    KeyError
        `tl.mixing` did not run, or without what `value` needs; or `basis` or `groupby` are not in `adata`.
    ValueError
        `value` is another word, `groupby` holds numbers, or `basis` cannot be drawn.

    Examples
    --------
    >>> import scanpy as sc
    >>> import scbatchnorm as sbn
    >>> adata = sbn.datasets.pbmc_planted()
    >>> sc.pp.pca(adata, n_comps=2)
    >>> sbn.tl.mixing(adata, "batch", use_rep="X_pca", label_key="cell_type", unintegrated=None)
    >>> figure = sbn.pl.mixing(adata)
    >>> [ax.get_title() for ax in figure.axes]
    ['iLISI: mixing of batches', 'by cell_type']
    """
    if value not in _VALUES:
        msg = f"value must be one of {', '.join(map(repr, _VALUES))}; got {value!r}."
        raise ValueError(msg)
    slot = "mixing" if key is None else key
    params, values = _read_values(adata, slot, value)
    name, groups = _read_grouping(adata, params, groupby)
    generator = np.random.default_rng(rng)
    order, seed = generator.permutation(adata.n_obs), int(generator.integers(2**31))
    basis = str(params["use_rep"]) if basis is None else basis
    (coordinates,) = find_coordinates(adata, [basis], dimensions=None, seed=seed)
    axes = new_panels(1, 2, width=_WIDTH, height=_HEIGHT)
    left, right = axes[0]
    _draw_map(left, coordinates, values, value, order)
    height = max(_HEIGHT, _draw_distributions(right, values, groups))
    if height > _HEIGHT:  # a long list of types does not stretch the embedding
        left.set_box_aspect(_HEIGHT / _WIDTH)
        left.set_anchor("N")
    n_undefined = int(np.isnan(values).sum())
    note = f"\nleft out: {n_undefined:,} cells, not defined" if n_undefined else ""
    right.set(xlabel=f"{_WORDS[value][0]}: median, middle half, 5 to 95 %{note}", title=f"by {name}")
    fit_figure(axes, width=2 * _WIDTH, height=height)
    return left.figure


def _read_values(adata: AnnData, slot: str, value: str) -> tuple[Mapping[str, Any], Floats]:
    """Read the parameters of `tl.mixing`, and the values of the cells, shape (cells,)."""
    added = "" if slot == "mixing" else f", key_added={slot!r}"
    record = adata.uns.get(slot)
    params = record.get("params") if isinstance(record, Mapping) else None
    if not isinstance(params, Mapping) or not {"use_rep", "batch_key"} <= set(params):
        msg = (
            f"key={slot!r} has no record in adata.uns; keys: {', '.join(map(str, adata.uns)) or 'none'}. "
            f"Run sbn.tl.mixing(adata, batch_key{added}) first."
        )
        raise KeyError(msg)
    column = f"{slot}_{value}"
    if column not in adata.obs:
        required = f", {_REQUIRED[value]}=..." if value in _REQUIRED else ""
        present = [other for other in _VALUES if f"{slot}_{other}" in adata.obs]
        msg = (
            f"value={value!r} is not in adata.obs as {column!r}; values there: {', '.join(present) or 'none'}. "
            f"Run sbn.tl.mixing(adata, batch_key{required}{added}) first."
        )
        raise KeyError(msg)
    return params, adata.obs[column].to_numpy(dtype=float)


def _read_grouping(adata: AnnData, params: Mapping[str, Any], groupby: str | None) -> tuple[str, pd.Categorical[Any]]:
    """Read the groups of the cells and their name."""
    column = groupby or params.get("label_key") or params["batch_key"]
    if isinstance(column, str):
        return column, read_groups(adata, column, parameter="groupby")
    columns = [str(part) for part in column]
    return " | ".join(columns), read_batches(adata, columns).as_categorical()


def _draw_map(ax: Axes, coordinates: Coordinates, values: Floats, value: str, order: np.ndarray) -> None:
    """Draw cells in the colours of their values, and a colour bar."""
    missing = np.isnan(values)
    colors = mpl.colormaps[_CMAP](np.where(missing, 0, values))
    colors[missing] = to_rgba(MISSING_COLOR)
    scatter_cells(ax, coordinates, colors, order=order, behind=missing, size=None)
    word, meaning = _WORDS[value]
    ax.set_title(f"{word}: {meaning}")
    bar = ax.inset_axes((1.03, 0.0, 0.04, 1.0))
    ax.figure.colorbar(ScalarMappable(mpl.colors.Normalize(0, 1), _CMAP), cax=bar, label=f"{word} (1 is best)")
    if missing.any():
        (grey,) = ax.plot([], [], marker="o", linestyle="", markeredgewidth=0, color=MISSING_COLOR)
        text = f"not defined: {int(missing.sum()):,} of {len(values):,} cells"
        ax.legend(
            [grey],
            [text],
            loc="upper left",
            bbox_to_anchor=(0, -0.05),
            frameon=False,
            fontsize="small",
            handletextpad=0.1,
        )


def _draw_distributions(ax: Axes, values: Floats, groups: pd.Categorical[Any]) -> float:
    """Draw median, quartiles and 5 to 95 % of each group, best on top; returns the height in inches that the names take."""
    names = [*map(str, groups.categories), "no label"]
    codes = np.where(groups.codes < 0, len(groups.categories), groups.codes)
    members = [(names[code], values[codes == code]) for code in np.unique(codes)]
    quantiles = np.array([_quantiles(cells) for _, cells in members])
    order = np.argsort(-quantiles[:, 2], kind="stable")  # nan is last
    y = np.arange(len(order))
    low, left, middle, right, high = quantiles[order].T
    ax.hlines(y, low, high, color="0.4", linewidth=1)
    ax.barh(y, right - left, left=left, height=0.6, color=_BOX, edgecolor="0.4", linewidth=0.8)
    ax.vlines(middle, y - 0.36, y + 0.36, color="black", linewidth=2)
    for row in np.flatnonzero(np.isnan(middle)).tolist():
        ax.text(0.02, row, "not defined", va="center", fontsize="small", color="0.4")
    labels = [wrap_name(name, f"({_format_count(cells)})") for name, cells in (members[i] for i in order)]
    ax.set_yticks(y, labels, fontsize="small")
    ax.set(xlim=(-0.02, 1.02), ylim=(len(y) - 0.4, -0.6))
    ax.spines[["top", "right"]].set_visible(False)
    return len(labels) * (max(label.count("\n") + 1 for label in labels) * _LINE + _GAP)


def _quantiles(cells: Floats) -> Floats:
    """5, 25, 50, 75 and 95 % quantiles, shape (5,); nan if no cell has a defined value."""
    defined = cells[~np.isnan(cells)]
    return np.quantile(defined, [0.05, 0.25, 0.5, 0.75, 0.95]) if len(defined) else np.full(5, np.nan)


def _format_count(cells: Floats) -> str:
    """Format the number of cells, and of those with a defined value."""
    defined = int((~np.isnan(cells)).sum())
    return f"{len(cells):,}" if defined == len(cells) else f"{defined:,} of {len(cells):,}"
