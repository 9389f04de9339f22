"""Number of cells of each type in each batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap, PowerNorm
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter
from matplotlib.transforms import ScaledTranslation

from scbatchnorm._data.adata import read_batches
from scbatchnorm.pl._assessment import NO_ASSESSMENT, add_title, label_effects, read_assessment
from scbatchnorm.pl._axes import fit_figure, new_or_given_axes, wrap_name
from scbatchnorm.pl._groups import read_groups

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from matplotlib.axes import Axes

    from scbatchnorm.pl._assessment import AssessmentText

# Inches. The more columns, the narrower they are: first until numbers do not fit, then until names do not.
_WIDTH, _MOST_WIDTH, _COLUMN, _NARROW_COLUMN = 3.4, 16.0, 0.5, 0.2
_LOWEST, _BAR, _LINE, _GAP, _CHARACTER = 1.5, 4.0, 0.14, 0.1, 0.075


def composition(
    adata: AnnData,
    batch_key: str | Sequence[str],
    label_key: str,
    *,
    show_assessment: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Heatmap of cell types in batches: the share of each type in each batch, and types that a batch lacks.

    Look at it before an integration: types in one batch only cannot be aligned with cells of other batches, and must not
    be mixed with other types. Colours are shares of the batch, on a square-root scale that distinguishes rare types from
    absent ones; numbers are cells, written if they fit. A cross marks a type that the batch lacks, a frame and a diamond
    mark types in one batch only. Cells without a label are in the last row.

    After :func:`scbatchnorm.pp.assess` with the same `batch_key` the title is the verdict. With more than two batches
    the effect of each batch is written after its name; with the same `label_key` the effect of the batch within each type
    is written after the type. A star marks an effect beyond chance that is large enough to matter.

    Parameters
    ----------
    adata
        Annotated data; nothing is written to it.
    batch_key
        Column of `adata.obs` with the batch of each cell; several columns are combined.
    label_key
        Column of `adata.obs` with the type of each cell: categories, strings or booleans; it may have missing values.
    show_assessment
        Whether to show `adata.uns["scbatchnorm_assess"]`, if it exists and is about these batches.
    ax
        Axes to draw on; `None` makes a new figure of the size that names and numbers need, which notebooks show; in scripts
        it is `.figure` of the returned axes.

    Returns
    -------
    The axes.

    Raises
    ------
    KeyError
        `batch_key` or `label_key` is not in `adata.obs`.
    ValueError
        A cell has no batch, there are no cells, or `label_key` holds numbers.

    Examples
    --------
    >>> import scbatchnorm as sbn
    >>> adata = sbn.datasets.pbmc_planted()
    >>> ax = sbn.pl.composition(adata, "batch", "cell_type")
    >>> [label.get_text() for label in ax.get_xticklabels()]
    ['protocol A (237)', 'protocol B (205)', 'protocol C (258)']
    """
    counts, unlabelled = _count_cells(adata, batch_key, label_key)
    assessment = read_assessment(adata, batch_key, label_key) if show_assessment else NO_ASSESSMENT
    is_new = ax is None
    ax = new_or_given_axes(ax, width=_WIDTH, height=_WIDTH)
    share = counts.to_numpy() / counts.to_numpy().sum(axis=0)
    # The lightest colour differs from white, so that rare types differ from absent ones.
    blues = ListedColormap(mpl.colormaps["Blues"](np.linspace(0.12, 1, 256)))
    norm = PowerNorm(0.5, vmin=0, vmax=share.max())
    image = ax.imshow(np.ma.masked_equal(share, 0), cmap=blues, norm=norm, aspect="auto")
    width, height = _label_axes(ax, counts, assessment, is_new=is_new)
    ax.set(xlabel=batch_key if isinstance(batch_key, str) else " | ".join(batch_key), ylabel=label_key)
    label_effects(ax, assessment)
    shrink = min(1.0, _BAR / height) if is_new else 1.0
    percent = FuncFormatter(lambda share, _: f"{100 * share:g} %")
    ax.figure.colorbar(image, ax=ax, label="share of the batch", format=percent, shrink=shrink, pad=0.02)
    _mark_absent_types(ax, counts.to_numpy(), unlabelled=unlabelled)
    add_title(ax, assessment)
    if is_new:
        fit_figure(np.array([[ax]]), width=width, height=height)
    _write_counts(ax, counts.to_numpy(), norm(share) > 0.6)
    return ax


def _count_cells(adata: AnnData, batch_key: str | Sequence[str], label_key: str) -> tuple[pd.DataFrame, bool]:
    """Number of cells of each type (rows) in each batch (columns), and whether the last row is of cells without label."""
    batches = read_batches(adata, batch_key).as_categorical()
    labels = read_groups(adata, label_key, parameter="label_key")
    if not adata.n_obs:
        msg = "adata must have cells; it has none."
        raise ValueError(msg)
    codes = np.where(labels.codes < 0, len(labels.categories), labels.codes)
    table = np.zeros((len(labels.categories) + 1, len(batches.categories)), dtype=int)
    np.add.at(table, (codes, batches.codes), 1)
    frame = pd.DataFrame(table, index=[*map(str, labels.categories), "no label"], columns=batches.categories)
    kept = np.flatnonzero(table.any(axis=1))
    return frame.iloc[kept][_order_batches(adata, batch_key, batches)], bool(table[-1].any())


def _order_batches(adata: AnnData, batch_key: str | Sequence[str], batches: pd.Categorical[Any]) -> list[str]:
    """Names of the batches in the order of the categories of their columns."""
    keys = [batch_key] if isinstance(batch_key, str) else list(batch_key)
    codes = pd.DataFrame({i: adata.obs[key].astype("category").cat.codes.to_numpy() for i, key in enumerate(keys)})
    return list(codes.assign(name=batches).drop_duplicates().sort_values(list(codes.columns))["name"])


def _label_axes(ax: Axes, counts: pd.DataFrame, assessment: AssessmentText, *, is_new: bool) -> tuple[float, float]:
    """Label batches, with their numbers of cells, and types; returns width and height in inches that show the names."""
    rows = [wrap_name(name, assessment.types.get(str(name), "")) for name in counts.index]
    columns = [
        wrap_name(name, assessment.batches.get(str(name), "({:,})").format(size)) for name, size in counts.sum().items()
    ]
    width = max(_WIDTH, len(columns) * float(np.clip(_MOST_WIDTH / len(columns), _NARROW_COLUMN, _COLUMN)))
    column = (width if is_new else ax.get_window_extent().width / ax.figure.dpi) / len(columns)
    longest = max(len(line) for name in columns for line in name.split("\n"))
    angle = 0 if longest * _CHARACTER < column else 45 if column > _COLUMN - 0.1 else 90
    ax.set_xticks(range(len(columns)), columns, fontsize="small", rotation=angle, rotation_mode="anchor")
    for label in ax.get_xticklabels() if angle else []:
        label.set(ha="right", va="center" if angle == 90 else "top")
    ax.set_yticks(range(len(rows)), rows, fontsize="small")
    lines = max(name.count("\n") + 1 for name in rows)
    return width, max(_LOWEST, len(rows) * (lines * _LINE + _GAP))


def _mark_absent_types(ax: Axes, counts: np.ndarray, *, unlabelled: bool) -> None:
    """Draw crosses where a batch lacks a type, a frame and a diamond for types in one batch only, and their legend."""
    n_types, n_batches = counts.shape
    handles = []
    rows, columns = np.nonzero(counts == 0)
    if len(rows):
        handles += ax.plot(columns, rows, marker="x", color="0.6", markersize=4, linestyle="", label="no cells")
    labelled = counts[: n_types - unlabelled]
    private = np.flatnonzero((labelled > 0).sum(axis=1) == 1)
    if n_batches > 1 and len(private):
        for row in private:
            corner = (np.argmax(labelled[row]) - 0.5, row - 0.5)
            ax.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="black", linewidth=1.6, zorder=3))
        beside = ax.get_yaxis_transform() + ScaledTranslation(0.1, 0, ax.figure.dpi_scale_trans)
        marks = ax.plot(
            np.ones(len(private)), private, "D", color="black", markersize=5, transform=beside, clip_on=False
        )
        marks[0].set_label("in one batch only")
        handles += marks
    if unlabelled:
        ax.axhline(n_types - 1.5, color="black", linewidth=1)
    ax.set(xlim=(-0.5, n_batches - 0.5), ylim=(n_types - 0.5, -0.5))
    if handles:
        ax.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize="small")


def _write_counts(ax: Axes, counts: np.ndarray, dark: np.ndarray) -> None:
    """Write the numbers of cells, unless the longest does not fit."""
    style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": "x-small"}
    probe = ax.text(0, 0, "0" * len(str(counts.max())), **style)
    text_box, axes_box = probe.get_window_extent(), ax.get_window_extent()
    probe.remove()
    if text_box.width > 0.95 * axes_box.width / counts.shape[1] or text_box.height > axes_box.height / counts.shape[0]:
        return
    for row, column in zip(*np.nonzero(counts), strict=True):
        color = "white" if dark[row, column] else "black"
        ax.text(column, row, str(counts[row, column]), color=color, **style)
