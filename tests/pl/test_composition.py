"""The heatmap is the table of cells; what is absent, in one batch only or without label is marked."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from scbatchnorm import pl

# T in one batch only, B in no cells of batch "a".
COUNTS = {("b", "NK"): 6, ("b", "B"): 3, ("b", "T"): 3, ("a", "NK"): 4}


def cells(counts) -> ad.AnnData:
    batch, label = zip(*(pair for pair, n in counts.items() for _ in range(n)), strict=True)
    obs = pd.DataFrame({"batch": batch, "type": label}, index=[f"cell_{i}" for i in range(len(batch))])
    return ad.AnnData(obs=obs.sample(frac=1, random_state=0))


@pytest.fixture
def adata() -> ad.AnnData:
    adata = cells(COUNTS)
    adata.obs["batch"] = pd.Categorical(adata.obs["batch"], categories=["unused", "b", "a"])
    adata.obs["type"] = pd.Categorical(adata.obs["type"], categories=["T", "NK", "unused", "B"])
    return adata


def ticks(axis) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]


def shares(ax) -> np.ndarray:
    (image,) = ax.get_images()
    return np.ma.filled(image.get_array(), np.nan)


def numbers(ax) -> dict:
    """Numbers by (row, column)."""
    return {(int(y), int(x)): text.get_text() for text in ax.texts for x, y in [text.get_position()]}


def marks(ax, label) -> set:
    """Places (row, column) of a mark, and of a diamond the row; empty where it is not explained either."""
    handles, labels = (
        ([], []) if ax.get_legend() is None else (ax.get_lines(), [t.get_text() for t in ax.get_legend().texts])
    )
    lines = [line for line in handles if line.get_label() == label]
    assert len(lines) == labels.count(label)
    return {(int(y), float(x)) for line in lines for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)}


def test_colours_are_shares_of_the_batch_and_numbers_are_cells(adata):
    ax = pl.composition(adata, "batch", "type")
    assert ticks(ax.xaxis) == ["b (12)", "a (4)"]
    assert ticks(ax.yaxis) == ["T", "NK", "B"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("batch", "type")
    np.testing.assert_allclose(shares(ax), [[3 / 12, np.nan], [6 / 12, 1], [3 / 12, np.nan]])
    assert numbers(ax) == {(0, 0): "3", (1, 0): "6", (1, 1): "4", (2, 0): "3"}


def test_absent_and_private_types_are_marked(adata):
    adata.obs.loc[adata.obs_names[(adata.obs["type"] == "B").argmax()], "batch"] = "a"
    ax = pl.composition(adata, "batch", "type")
    assert marks(ax, "no cells") == {(0, 1)}
    assert marks(ax, "in one batch only") == {(0, 1.0)}
    (frame,) = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    assert frame.get_xy() == (-0.5, -0.5)


@pytest.mark.parametrize(
    "counts", [{("a", "T"): 2, ("b", "T"): 3}, {("a", "T"): 2, ("a", "B"): 3}], ids=["shared", "one"]
)
def test_nothing_is_marked_where_there_is_nothing(counts):
    ax = pl.composition(cells(counts), "batch", "type")
    assert ax.get_legend() is None
    assert not ax.patches
    assert not ax.get_lines()


def test_cells_without_label_have_a_row_of_their_own(adata):
    adata.obs.loc[adata.obs_names[adata.obs["type"] == "B"], "type"] = None
    ax = pl.composition(adata, "batch", "type")
    assert ticks(ax.yaxis) == ["T", "NK", "no label"]
    np.testing.assert_allclose(shares(ax)[:, 0], [3 / 12, 6 / 12, 3 / 12])
    assert marks(ax, "in one batch only") == {(0, 1.0)}


@pytest.mark.parametrize("kind", ["category", str, object])
def test_batches_and_labels_of_other_types(kind):
    adata = cells({("x2", "T"): 1, ("x10", "B"): 2})
    adata.obs["type"] = adata.obs["type"].astype(kind)
    before = adata.copy()
    ax = pl.composition(adata, "batch", "type")
    assert (ticks(ax.xaxis), ticks(ax.yaxis)) == (["x10 (2)", "x2 (1)"], ["B", "T"])
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    assert not adata.uns


def test_several_columns_make_the_batch(adata):
    adata.obs["day"] = np.where(adata.obs["type"] == "T", 10, 2)
    ax = pl.composition(adata, ["batch", "day"], "type")
    assert ticks(ax.xaxis) == ["b | 2 (9)", "b | 10 (3)", "a | 2 (4)"]
    assert ax.get_xlabel() == "batch | day"
    assert numbers(ax) == {(0, 1): "3", (1, 0): "6", (1, 2): "4", (2, 0): "3"}


def many(n_batches: int, n_types: int, *, length: int) -> ad.AnnData:
    name = "CD8-positive_ alpha-beta memory T cell of the lamina propria x"
    pairs = {
        (f"{b} {name}"[:length], f"{t} {name}"[:length]): 1 + (b * t) % 7
        for b in range(n_batches)
        for t in range(n_types)
        if b == 0 or (b + t) % 5
    }
    return cells(pairs)


@pytest.mark.parametrize("length", [5, 60])
@pytest.mark.parametrize("n_types", [5, 40])
@pytest.mark.parametrize("n_batches", [2, 30])
def test_a_figure_of_its_own_shows_everything(n_batches, n_types, length):
    """Names lie inside of the figure and not on each other, and numbers fit."""
    ax = pl.composition(many(n_batches, n_types, length=length), "batch", "type")
    figure = ax.figure
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    field = ax.get_window_extent()
    assert len(ax.texts) == np.isfinite(shares(ax)).sum()
    for text in ax.texts[:50]:
        assert text.get_window_extent().width < field.width / n_batches
    names = [label.get_window_extent() for label in ax.get_yticklabels()]
    assert all(upper.y0 > lower.y1 for upper, lower in zip(names, names[1:], strict=False))
    columns = ax.get_xticklabels()
    angle = columns[0].get_rotation()
    lines = max(name.get_text().count("\n") + 1 for name in columns)
    if angle:
        between = field.width / n_batches * np.sin(np.deg2rad(angle))
        assert between > lines * 1.2 * float(columns[0].get_fontsize()) * figure.dpi / 72
    else:
        boxes = [name.get_window_extent() for name in columns]
        assert all(left.x1 < right.x0 for left, right in zip(boxes, boxes[1:], strict=False))
    legend = ax.get_legend()
    assert legend is not None
    for box in [*names, *(item.get_window_extent() for item in (*ax.get_xticklabels(), legend))]:
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1


def test_numbers_that_do_not_fit_are_left_out(adata):
    for width, written in ((4, True), (0.1, False)):
        figure = Figure(figsize=(width, 4))
        ax = figure.subplots()
        assert pl.composition(adata, "batch", "type", ax=ax) is ax
        assert bool(ax.texts) is written
        assert tuple(figure.get_size_inches()) == (width, 4)


def test_errors(adata):
    with pytest.raises(KeyError, match=r"batch_key='donor' is not a column of adata\.obs; columns: batch, type"):
        pl.composition(adata, "donor", "type")
    with pytest.raises(KeyError, match=r"label_key='cell' is not a column of adata\.obs; columns: batch, type"):
        pl.composition(adata, "batch", "cell")
    with pytest.raises(TypeError, match="ax must be a matplotlib Axes or None; got int"):
        pl.composition(adata, "batch", "type", ax=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="adata must have cells; it has none"):
        pl.composition(adata[:0], "batch", "type")
    adata.obs["cluster"] = 1
    with pytest.raises(ValueError, match="label_key='cluster' must hold groups; .* numbers"):
        pl.composition(adata, "batch", "cluster")
    adata.obs.loc["cell_0", "batch"] = None
    with pytest.raises(ValueError, match="batch_key='batch' must give every cell a batch; 1 of 16"):
        pl.composition(adata, "batch", "type")
