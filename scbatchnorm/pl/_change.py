"""What integration changed: neighbourhoods of states, and the genes with the largest shifts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.transforms import ScaledTranslation

from scbatchnorm._data.adata import Keys
from scbatchnorm.metrics._inputs import check_count
from scbatchnorm.pl._axes import add_legend_outside, count_legend_columns, fit_figure, new_panels, wrap_name
from scbatchnorm.pl._palette import default_colors

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_UNS, _PREFIX = "scbatchnorm_diagnose", "diagnose"
_WIDTH, _HEIGHT, _LINE, _GAP = 4.2, 2.4, 0.14, 0.1
# Dark enough on white for any colour vision; states with findings have marks as well.
_DEFAULT_COLOR, _FLAG_COLOR, _REPEAT_COLOR = "#3f90da", "#bd1f01", "0.25"
_FLAGS = (
    ("merged_with", "merged with another", "X"),
    ("pulled_onto", "pulled onto another", "P"),
    ("split", "split", "D"),
    ("lost", "neighbourhoods lost", "s"),
)


def change(adata: AnnData, key: str | None = None, *, n_genes: int = 15) -> Figure:
    """Plot what an integration changed: neighbourhoods of states, and the genes with the largest shifts.

    Draws the result of `tl.diagnose`. On the left, for each state, is the share of nearest neighbours within the batch
    that its cells keep; the black line is the share that a second measurement of the same cells would keep. States with
    a finding are red, with a mark for each kind of finding. On the right, for an integration of this package, are the
    genes with the largest shifts: what was added in each batch, relative to the mean over batches.

    Parameters
    ----------
    adata
        Annotated data after `tl.diagnose`.
    key
        The `key_added` of `tl.diagnose`; `None` is its own.
    n_genes
        Number of genes on the right.

    Returns
    -------
    The figure, which notebooks show; in scripts save it with its method `savefig`.

    Raises
    ------
    KeyError
        `tl.diagnose` did not run with this key.
    ValueError
        `n_genes` is not a positive integer.

    Examples
    --------
    >>> import scanpy as sc, scbatchnorm as sbn
    >>> adata = sbn.datasets.pbmc_planted()
    >>> sc.pp.pca(adata)
    >>> _ = sbn.tl.diagnose(adata, "batch", use_rep="X_pca")
    >>> figure = sbn.pl.change(adata)
    >>> [ax.get_title() for ax in figure.axes]
    ['nothing found']
    """
    n_genes = check_count(n_genes, name="n_genes")
    record = _read_record(adata, key)
    prefix = _PREFIX if key is None else key
    shift = _read_largest_shifts(adata, prefix, [str(name) for name in record["batches"]], n_genes)
    axes = new_panels(1, 1 if shift is None else 2, width=_WIDTH, height=_HEIGHT)
    height = _draw_states(axes[0, 0], record["states"])
    axes[0, 0].set_title(wrap_name(record["verdict"]))
    if shift is not None:
        genes_height = max(_HEIGHT, _draw_genes(axes[0, 1], shift))
        if height > genes_height:  # a long list of states does not stretch the panel of genes
            axes[0, 1].set_box_aspect(genes_height / _WIDTH)
            axes[0, 1].set_anchor("N")
        height = max(height, genes_height)
    fit_figure(axes, width=_WIDTH * axes.size, height=max(_HEIGHT, height))
    return axes[0, 0].figure


def _read_record(adata: AnnData, key: str | None) -> Mapping[str, Any]:
    """Read the record of `tl.diagnose` from `uns`."""
    slot = Keys.of(_UNS if key is None else key).uns
    record = adata.uns.get(slot)
    if not isinstance(record, Mapping) or not {"verdict", "states", "batches"} <= set(record):
        added = "" if key is None else f", key_added={key!r}"
        msg = (
            f"key={key!r} has no diagnosis in adata.uns[{slot!r}]; keys: {', '.join(map(str, adata.uns)) or 'none'}. "
            f"Run sbn.tl.diagnose(adata, batch_key{added}) first."
        )
        raise KeyError(msg)
    return record


def _read_largest_shifts(adata: AnnData, prefix: str, batches: list[str], n_genes: int) -> pd.DataFrame | None:
    """Read the shifts of the genes that moved most, genes x batches, the largest first; `None` if `tl.diagnose` stored none."""
    column = f"{prefix}_shift"
    if column not in adata.var or column not in adata.varm:
        return None
    size = adata.var[column].to_numpy(dtype=float)
    order = np.argsort(-size, kind="stable")[: min(n_genes, int(np.isfinite(size).sum()))]  # nan is last
    return pd.DataFrame(np.asarray(adata.varm[column])[order], index=adata.var_names[order], columns=batches)


def _draw_states(ax: Axes, states: pd.DataFrame) -> float:
    """Draw the share of neighbours that each state keeps; returns the height in inches that the names take."""
    y = np.arange(len(states))
    kept, kept_again = (states[name].to_numpy(dtype=float) for name in ("kept", "kept_again"))
    marks = [(text, mark, _is_flagged(states[name])) for name, text, mark in _FLAGS]
    flagged = np.any([is_marked for _, _, is_marked in marks], axis=0)
    ax.barh(y, np.nan_to_num(kept), height=0.62, color=np.where(flagged, _FLAG_COLOR, _DEFAULT_COLOR))
    ax.vlines(kept_again, y - 0.42, y + 0.42, color=_REPEAT_COLOR, linewidth=2, label="measured once more")
    x = np.nan_to_num(kept) + 0.03
    for text, mark, is_marked in marks:
        if is_marked.any():
            ax.plot(x[is_marked], y[is_marked], mark, color=_FLAG_COLOR, markersize=7, markeredgewidth=0, label=text)
            x = x + 0.05 * is_marked
    names = [
        wrap_name(name, f"({n_cells:,})")
        for name, n_cells in zip(states.index, states["n_cells"].to_numpy(dtype=int), strict=True)
    ]
    ax.set_yticks(y, names, fontsize="small")
    ax.set(xlim=(0, 1.15), ylim=(len(y) - 0.4, -0.6), xlabel="nearest neighbours in the batch kept")
    ax.set_xticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    ax.spines[["top", "right"]].set_visible(False)
    _add_legend_below(ax)
    return len(names) * (max(name.count("\n") + 1 for name in names) * _LINE + _GAP)


def _is_flagged(values: pd.Series) -> np.ndarray:
    """Whether each state has the finding: a column of booleans, or of the names of other states."""
    return values.astype(str).to_numpy() != "" if values.dtype.kind not in "b" else values.to_numpy(dtype=bool)


def _draw_genes(ax: Axes, shift: pd.DataFrame) -> float:
    """Draw what was added to each gene in each batch; returns the height in inches that the names take."""
    y = np.arange(len(shift))
    ax.axvline(0, color="0.6", linewidth=0.8)
    ax.hlines(y, shift.min(axis=1), shift.max(axis=1), color="0.8", linewidth=1.2, zorder=1)
    for name, color in zip(shift, default_colors(shift.shape[1]), strict=True):
        ax.plot(shift[name], y, "o", color=color, markersize=5, label=wrap_name(name))
    ax.set_yticks(y, [str(gene).replace("$", r"\$") for gene in shift.index], fontsize="small")
    ax.set(ylim=(len(y) - 0.4, -0.6), xlabel="added to log expression", title="genes moved most")
    ax.spines[["top", "right"]].set_visible(False)
    add_legend_outside(ax, columns=count_legend_columns([wrap_name(name) for name in shift]))
    return len(shift) * (_LINE + _GAP)


def _add_legend_below(ax: Axes) -> None:
    """Add a legend below the axes and their labels."""
    below = ax.transAxes + ScaledTranslation(0, -0.5, ax.figure.dpi_scale_trans)
    ax.legend(
        loc="upper left",
        bbox_to_anchor=(0, 0),
        bbox_transform=below,
        borderaxespad=0,
        frameon=False,
        fontsize="small",
        handletextpad=0.4,
    )
