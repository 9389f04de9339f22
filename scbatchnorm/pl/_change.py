"""What integration changed: clusters that lost what they had, and the genes that moved most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.transforms import ScaledTranslation

from scbatchnorm._data.adata import Keys
from scbatchnorm.metrics import _inputs
from scbatchnorm.pl._axes import add_legend_outside, count_legend_columns, fit_figure, new_panels, wrap_name
from scbatchnorm.pl._palette import default_colors

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_UNS, _PREFIX = "scbatchnorm_diagnose", "diagnose"
_WIDTH, _HEIGHT, _LINE, _GAP = 4.2, 2.4, 0.14, 0.1
# Dark enough on white for any colour vision, and told apart by their marks as well.
_FINE, _FLAG, _AGAIN = "#3f90da", "#bd1f01", "0.25"
_FLAGS = (
    ("merged_with", "merged with another", "X"),
    ("pulled_onto", "pulled onto another", "P"),
    ("split", "split", "D"),
    ("lost", "neighbourhoods lost", "s"),
)


def change(adata: AnnData, key: str | None = None, *, n_genes: int = 15) -> Figure:
    """What integration changed: how much each state kept, and which genes were moved most.

    Draws what `tl.diagnose` found. Left is, for each state, the share of their nearest neighbours in the batch that
    its cells keep; the black line is what a second measurement of the same cells would keep. States with a finding
    are red, with a mark for each kind. Right, for an integration of this package, are the genes that it moved most:
    what was added in each batch, beyond the mean over batches.

    Parameters
    ----------
    adata
        Annotated data after `tl.diagnose`.
    key
        The `key_added` of `tl.diagnose`; `None` is its own.
    n_genes
        Genes at the right.

    Returns
    -------
    The figure: shown in notebooks, in scripts to be saved with its `savefig`.

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
    n_genes = _inputs.count(n_genes, name="n_genes")
    record = _record(adata, key)
    prefix = _PREFIX if key is None else key
    shift = _largest(adata, prefix, [str(name) for name in record["batches"]], n_genes)
    axes = new_panels(1, 1 if shift is None else 2, width=_WIDTH, height=_HEIGHT)
    height = _states(axes[0, 0], record["states"])
    axes[0, 0].set_title(wrap_name(record["verdict"]))
    if shift is not None:
        wanted = max(_HEIGHT, _genes(axes[0, 1], shift))
        if height > wanted:  # a long list of states is not to stretch the genes
            axes[0, 1].set_box_aspect(wanted / _WIDTH)
            axes[0, 1].set_anchor("N")
        height = max(height, wanted)
    fit_figure(axes, width=_WIDTH * axes.size, height=max(_HEIGHT, height))
    return axes[0, 0].figure


def _record(adata: AnnData, key: str | None) -> Mapping[str, Any]:
    """What `tl.diagnose` left in `uns`."""
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


def _largest(adata: AnnData, prefix: str, batches: list[str], n_genes: int) -> pd.DataFrame | None:
    """Shift of the genes that moved most, genes x batches, the largest first; `None` if genes have none."""
    column = f"{prefix}_shift"
    if column not in adata.var or column not in adata.varm:
        return None
    size = adata.var[column].to_numpy(dtype=float)
    order = np.argsort(-size, kind="stable")[: min(n_genes, int(np.isfinite(size).sum()))]  # nan is last
    return pd.DataFrame(np.asarray(adata.varm[column])[order], index=adata.var_names[order], columns=batches)


def _states(ax: Axes, states: pd.DataFrame) -> float:
    """Share of neighbours kept by state, in the order of the table; the height in inches that the names take."""
    y = np.arange(len(states))
    kept, again = (states[name].to_numpy(dtype=float) for name in ("kept", "kept_again"))
    marks = [(text, mark, _found(states[name])) for name, text, mark in _FLAGS]
    flagged = np.any([found for _, _, found in marks], axis=0)
    ax.barh(y, np.nan_to_num(kept), height=0.62, color=np.where(flagged, _FLAG, _FINE))
    ax.vlines(again, y - 0.42, y + 0.42, color=_AGAIN, linewidth=2, label="measured once more")
    place = np.nan_to_num(kept) + 0.03
    for text, mark, found in marks:
        if found.any():
            ax.plot(place[found], y[found], mark, color=_FLAG, markersize=7, markeredgewidth=0, label=text)
            place = place + 0.05 * found
    names = [
        wrap_name(name, f"({n_cells:,})")
        for name, n_cells in zip(states.index, states["n_cells"].to_numpy(dtype=int), strict=True)
    ]
    ax.set_yticks(y, names, fontsize="small")
    ax.set(xlim=(0, 1.15), ylim=(len(y) - 0.4, -0.6), xlabel="nearest neighbours in the batch kept")
    ax.set_xticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    ax.spines[["top", "right"]].set_visible(False)
    _below(ax)
    return len(names) * (max(name.count("\n") + 1 for name in names) * _LINE + _GAP)


def _found(values: pd.Series) -> np.ndarray:
    """Which states have a finding: partners in words, or True."""
    return values.astype(str).to_numpy() != "" if values.dtype.kind not in "b" else values.to_numpy(dtype=bool)


def _genes(ax: Axes, shift: pd.DataFrame) -> float:
    """What was added to each gene in each batch; the height in inches that the names take."""
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


def _below(ax: Axes) -> None:
    """Legend under the axes, below what is written there."""
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
