"""Covariate shift between batches in the layers of a network, and during the training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import pandas as pd
from anndata import AnnData

from scbatchnorm._data.adata import Keys
from scbatchnorm._estimator import BatchNormAutoencoder
from scbatchnorm.nn.inspection import covariate_shift
from scbatchnorm.pl._axes import add_legend_outside, new_or_given_axes
from scbatchnorm.pl._palette import default_colors

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Value = Literal["mean_shift", "variance_shift", "drift"]
_VALUES: tuple[str, ...] = get_args(Value)
_WORDS = {
    "mean_shift": "shift of the mean (sd)",
    "variance_shift": "shift of the log-variance",
    "drift": "drift of the mean since the last look (sd)",
}
# Most batches for which numbers are legible in the heatmap.
_MAX_WRITTEN = 12
_PLACES = ("layer", "position", "batch")


def statistics(
    data: AnnData | pd.DataFrame,
    *,
    value: Value = "mean_shift",
    over: Literal["layers", "training"] = "layers",
    key: str | None = None,
    vmax: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Covariate shift of each batch before and after each normalisation, or during the training.

    Rows of the heatmap follow the data through the model: components before and after the offsets of the batches are subtracted, input and output of
    each normalisation of encoder and decoder, and between them the corrected components (`latent`). Mixed statistics transform all batches alike and keep
    a shift; statistics per batch remove it. The decoder restores the differences between batches, so shifts in it are intended.

    Parameters
    ----------
    data
        Integrated data; or a table of `nn.covariate_shift`, or a model's `shift_history_`.
    value
        `"mean_shift"` or `"variance_shift"`, see `nn.covariate_shift`; over the training also `"drift"`, the internal covariate shift: how far
        the mean over all cells moved between two recordings.
    over
        `"layers"`: a heatmap, of the last recording if `data` has several. `"training"`: lines, means over batches, from a model with `record_shift=True`.
    key
        Only for annotated data: the `key_added` of the integration; `None` is the package's own.
    vmax
        Upper end of the colours, or of the vertical axis, to compare pictures; `None`: by the data.
    ax
        Axes to draw on; `None` makes a new figure, which notebooks show; in scripts it is `.figure` of the returned axes.

    Returns
    -------
    The axes.

    Raises
    ------
    KeyError
        There is no integration under `key`, or its data are no longer in `data`.
    ValueError
        Nothing was corrected or recorded, the table lacks columns, or a parameter is out of its range.

    Examples
    --------
    >>> import scbatchnorm as sbn
    >>> adata = sbn.datasets.pbmc_planted()
    >>> sbn.pp.integrate(adata, "batch")
    >>> ax = sbn.pl.statistics(adata)
    >>> [label.get_text() for label in ax.get_yticklabels()][:4]
    ['offsets before', 'offsets after', 'encoder.1 before', 'encoder.1 after']
    """
    for name, word, words in (("value", value, _VALUES), ("over", over, ("layers", "training"))):
        if word not in words:
            msg = f"{name} must be one of {', '.join(map(repr, words))}; got {word!r}."
            raise ValueError(msg)
    table = _read_shifts(data, key, over)
    needed = [*_PLACES, value, *(["step"] if over == "training" else [])]
    missing = [column for column in needed if column not in table]
    if missing or not len(table):
        msg = f"data must have rows and the columns {', '.join(needed)}; missing: {', '.join(missing) or 'rows'}."
        raise ValueError(msg)
    return _draw_lines(table, value, vmax, ax) if over == "training" else _draw_heatmap(table, value, vmax, ax)


def _read_shifts(data: AnnData | pd.DataFrame, key: str | None, over: str) -> pd.DataFrame:
    """Read or compute the table of shifts of `data`."""
    if isinstance(data, pd.DataFrame):
        if key is not None:
            msg = f"key must be None unless data is annotated data; got {key!r}."
            raise ValueError(msg)
        return data
    if not isinstance(data, AnnData):
        msg = f"data must be annotated data or a DataFrame; got {type(data).__name__}."
        raise ValueError(msg)
    slot = Keys.of(key).uns
    model = BatchNormAutoencoder.from_anndata(data, key=slot)
    if over == "layers":
        return covariate_shift(model, data, key=key)
    if not len(model.shift_history_):
        msg = (
            f"over='training' needs a model that recorded it, and adata.uns[{slot!r}] has no shift_history: integrate with "
            "model=BatchNormAutoencoder(record_shift=True)."
        )
        raise ValueError(msg)
    return model.shift_history_


def _draw_heatmap(table: pd.DataFrame, value: str, vmax: float | None, ax: Axes | None) -> Axes:
    """Heatmap of places x batches."""
    if "step" in table:
        table = table[table["step"] == table["step"].max()]
    places = _place_names(table)
    wide = table.assign(place=places).pivot_table(
        index="place", columns="batch", values=value, sort=False, dropna=False
    )
    n_places, n_batches = wide.shape
    ax = new_or_given_axes(ax, width=2.6 + 0.62 * n_batches, height=1.0 + 0.27 * n_places)
    image = ax.imshow(wide.to_numpy(), cmap="Blues", vmin=0, vmax=vmax, aspect="auto")
    ax.set_xticks(range(n_batches), [str(name) for name in wide.columns], rotation=45, ha="right")
    ax.set_yticks(range(n_places), list(wide.index))
    ax.set_xlabel("batch")
    if n_batches <= _MAX_WRITTEN:
        middle = image.get_clim()[1] / 2
        for (row, column), number in np.ndenumerate(wide.to_numpy()):
            color = "white" if number > middle else "black"
            ax.text(column, row, f"{number:.2f}", ha="center", va="center", color=color, fontsize="x-small")
    ax.figure.colorbar(image, ax=ax, label=_WORDS[value], shrink=0.8)
    return ax


def _draw_lines(table: pd.DataFrame, value: str, vmax: float | None, ax: Axes | None) -> Axes:
    """Mean over batches against the step, a line for each place."""
    wide = table.assign(place=_place_names(table)).pivot_table(index="step", columns="place", values=value, sort=False)
    ax = new_or_given_axes(ax, width=6.4, height=3.8)
    colors = default_colors(wide.shape[1])
    for (place, course), color in zip(wide.items(), colors, strict=True):
        style = "--" if str(place).endswith("before") else "-"
        ax.plot(wide.index, course, color=color, linestyle=style, linewidth=1.5, label=str(place))
    ax.set(xlabel="step", ylabel=_WORDS[value])
    ax.set_ylim(0, vmax)
    ax.spines[["top", "right"]].set_visible(False)
    add_legend_outside(ax)
    return ax


def _place_names(table: pd.DataFrame) -> pd.Series:
    """Name of layer and position in each row; `latent`, which is no layer, has one position only."""
    place = table["layer"] + " " + table["position"]
    return place.where(table["layer"] != "latent", "latent")
