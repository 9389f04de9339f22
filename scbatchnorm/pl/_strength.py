"""Scores at each strength of the correction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from scbatchnorm._data.adata import Keys
from scbatchnorm.pl._axes import add_legend_outside, new_or_given_axes

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

_LINE = "#3f90da"
_CHOSEN = "#bd1f01"


def strength(adata: AnnData, *, key: str | None = None, ax: Axes | None = None) -> Axes:
    """Mixing of batches against preservation of neighbourhoods, at each strength of one fit.

    The vertical axis is the mixing of batches (iLISI), the horizontal one the share of each cell's neighbours within its batch that are kept. Where the
    line is steep, more strength improves mixing; where it is flat, more strength only loses structure. The strength that was used is marked.

    Parameters
    ----------
    adata
        Data integrated with several strengths: `pp.integrate(..., strength=[0, 0.25, 0.5, 0.75, 1])`.
    key
        The `key_added` of the integration; `None` is the package's own.
    ax
        Axes to draw on; `None` makes a new figure, which notebooks show; in scripts it is `.figure` of the returned axes.

    Returns
    -------
    The axes.

    Raises
    ------
    KeyError
        There is no integration under `key`, or it was made with one strength only.

    Examples
    --------
    >>> import scbatchnorm as sbn
    >>> adata = sbn.datasets.pbmc_planted()
    >>> sbn.pp.integrate(adata, "batch", strength=[0, 0.5, 1])
    >>> sbn.pl.strength(adata).get_ylabel()
    'batches mixed (iLISI)'
    """
    slot = Keys.of(key).uns
    record = adata.uns.get(slot)
    path = record.get("path") if hasattr(record, "get") else None
    if not isinstance(path, pd.DataFrame):
        available = ", ".join(map(str, adata.uns)) or "none"
        msg = (
            f"key={key!r} has no path of strengths in adata.uns[{slot!r}]; keys of adata.uns: {available}. "
            "Run sbn.pp.integrate with several strengths: strength=[0, 0.25, 0.5, 0.75, 1]."
        )
        raise KeyError(msg)
    ax = new_or_given_axes(ax, width=5.0, height=3.8)
    ax.plot(path["knn_preservation"], path["ilisi"], color=_LINE, marker="o", markersize=5, linewidth=1.4, zorder=2)
    used = path[path["chosen"].astype(bool)]
    ax.plot(
        used["knn_preservation"], used["ilisi"], color=_CHOSEN, marker="o", markersize=11, fillstyle="none",
        markeredgewidth=1.8, linestyle="none", zorder=3, label="used",
    )  # fmt: skip
    for row in path.itertuples():
        ax.annotate(
            f"{row.strength:g}",
            (row.knn_preservation, row.ilisi),
            xytext=(8, 6),
            textcoords="offset points",
            fontsize=9,
        )
    ax.set(xlabel="neighbours within batch kept", ylabel="batches mixed (iLISI)", title="strength of the correction")
    ax.spines[["top", "right"]].set_visible(False)
    ax.margins(0.15)
    add_legend_outside(ax)
    return ax
