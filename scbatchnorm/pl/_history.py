"""Losses of the training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData

from scbatchnorm._data.adata import Keys
from scbatchnorm.pl._axes import add_legend_outside, new_or_given_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from scbatchnorm._estimator import BatchNormAutoencoder

# Losses that are drawn, with colours that are safe for colour-blind readers and lines that differ in black and white.
_LOSSES = {
    "reconstruction": ("#3f90da", "-"),
    "anchors": ("#bd1f01", "--"),
    "adversary": ("#832db6", "-."),
}


def history(
    data: AnnData | BatchNormAutoencoder | pd.DataFrame, *, key: str | None = None, ax: Axes | None = None
) -> Axes:
    """Losses of the training against the step.

    `anchors`, the distance between shared states of different batches, should fall and level off. `reconstruction` starts
    near 0, where the model is still linear, rises as the batches move, and should level off low. `adversary` is the loss
    of the network that predicts the batch: it is low if the prediction is good, which in small data can be overfitting,
    so it says little about the result. Vertical lines mark where anchors were searched again.

    Parameters
    ----------
    data
        Integrated data, a fitted estimator, or the history itself.
    key
        Only for annotated data: the `key_added` of the integration; `None` is the package's own.
    ax
        Axes to draw on; `None` makes a new figure, which notebooks show; in scripts it is `.figure` of the returned axes.

    Returns
    -------
    The axes.

    Raises
    ------
    KeyError
        There is no integration under `key`.
    ValueError
        The history lacks the step or all losses, `key` is given for something else than annotated data, or the
        estimator is not fitted.

    Examples
    --------
    >>> import scbatchnorm as sbn
    >>> adata = sbn.datasets.pbmc_planted()
    >>> sbn.pp.integrate(adata, "batch")
    >>> ax = sbn.pl.history(adata)
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['reconstruction', 'anchors', 'adversary', 'new anchors']
    """
    frame = _read_history(data, key)
    losses = [name for name in _LOSSES if name in frame]
    if "step" not in frame or not losses:
        columns = ", ".join(map(str, frame.columns)) or "none"
        msg = f"data must have the columns step and at least one of {', '.join(_LOSSES)}; columns: {columns}."
        raise ValueError(msg)
    ax = new_or_given_axes(ax, width=6.0, height=3.6)
    step = frame["step"].to_numpy()
    refreshes = _find_refreshes(frame)
    for refresh in refreshes:
        ax.axvline(refresh, color="0.88", linewidth=0.8, zorder=0)
    for name in losses:
        color, style = _LOSSES[name]
        ax.plot(step, frame[name], color=color, linestyle=style, linewidth=1.6, label=name)
    ax.set(xlabel="step", ylabel="loss", title="training" if len(frame) else "not trained")
    ax.spines[["top", "right"]].set_visible(False)
    ax.margins(x=0.01)
    if len(frame):
        ax.set_ylim(bottom=0)
    if len(refreshes):
        ax.plot([], [], color="0.8", linewidth=0.8, label="new anchors")
    add_legend_outside(ax)
    return ax


def _read_history(data: AnnData | BatchNormAutoencoder | pd.DataFrame, key: str | None) -> pd.DataFrame:
    """Read the history from `data`."""
    if isinstance(data, AnnData):
        slot = Keys.of(key).uns
        record = data.uns.get(slot)
        if not hasattr(record, "get") or not isinstance(record.get("history"), pd.DataFrame):
            msg = (
                f"key={key!r} has no history in adata.uns[{slot!r}]; keys of adata.uns: "
                f"{', '.join(map(str, data.uns)) or 'none'}. Run sbn.pp.integrate first."
            )
            raise KeyError(msg)
        return record["history"]
    if key is not None:
        msg = f"key must be None unless data is annotated data; got {key!r} with {type(data).__name__}."
        raise ValueError(msg)
    if isinstance(data, pd.DataFrame):
        return data
    if not hasattr(data, "history_"):
        msg = f"data must be annotated data, a fitted estimator or a DataFrame; got {type(data).__name__} without history_."
        raise ValueError(msg)
    return data.history_


def _find_refreshes(frame: pd.DataFrame) -> np.ndarray:
    """Steps after which anchors were searched again; none if the history does not record it."""
    if "refresh" not in frame:
        return np.empty(0)
    last = np.flatnonzero(np.diff(frame["refresh"].to_numpy()) != 0)
    return frame["step"].to_numpy()[last]
