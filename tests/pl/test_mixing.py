"""Cells have the colours of their values; distributions are those of the groups, undefined values left out."""

from __future__ import annotations

import anndata as ad
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from scbatchnorm import pl
from scbatchnorm.pl import _coordinates
from scbatchnorm.pl._palette import MISSING_COLOR

VALUES = {"T": [0.1, 0.2, 0.3, np.nan], "B": [0.8, 0.9], "NK": [np.nan], "DC": [0.5]}


@pytest.fixture
def adata() -> ad.AnnData:
    """As `tl.mixing` leaves it."""
    label = [name for name, values in VALUES.items() for _ in values]
    obs = pd.DataFrame(
        {
            "batch": list("xyxyxyxy"),
            "day": list("aaaabbbb"),
            "type": pd.Categorical(label, categories=["NK", "T", "B", "DC", "unused"]),
            "mixing_ilisi": np.concatenate(list(VALUES.values())),
            "mixing_cilisi": np.linspace(0, 1, 8),
        },
        index=[f"cell_{i}" for i in range(8)],
    )
    adata = ad.AnnData(obs=obs, obsm={"X_rep": np.random.default_rng(0).normal(size=(8, 2))})
    adata.obsm["X_other"] = adata.obsm["X_rep"] + 10
    record(adata)
    return adata


def record(adata, *, key="mixing", batch_key="batch", label_key="type"):
    params = {"use_rep": "X_rep", "batch_key": batch_key, "label_key": label_key, "unintegrated": ""}
    adata.uns[key] = {"params": params}


def drawn(figure):
    """Colour of the cell at each place, in the order in which they are drawn."""
    (points,) = figure.axes[0].collections
    places = map(tuple, np.asarray(points.get_offsets()))
    return dict(zip(places, map(to_hex, points.get_facecolors()), strict=True))


def sides(figure):
    return figure.axes


def names(figure):
    return [label.get_text() for label in figure.axes[1].get_yticklabels()]


def medians(figure):
    """Height and place of the marks that are drawn."""
    marks = figure.axes[1].collections[1].get_segments()
    return {round(float(np.mean(mark[:, 1]))): float(mark[0, 0]) for mark in marks if len(mark)}


def test_cells_have_the_colours_of_their_values_and_undefined_ones_are_grey_behind(adata):
    figure = pl.mixing(adata)
    assert isinstance(figure, Figure)
    colors = drawn(figure)
    for place, value in zip(adata.obsm["X_rep"], adata.obs["mixing_ilisi"], strict=True):
        expected = MISSING_COLOR if np.isnan(value) else to_hex(mpl.colormaps["viridis"](value))
        assert colors[tuple(place)] == expected
    assert [color == MISSING_COLOR for color in colors.values()] == [True] * 2 + [False] * 6
    left, _ = sides(figure)
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["not defined: 2 of 8 cells"]
    (bar,) = left.child_axes
    assert bar.get_ylim() == (0, 1)
    assert left.get_title() == "iLISI: mixing of batches"


def test_distributions_are_those_of_the_types_best_above(adata):
    figure = pl.mixing(adata)
    assert names(figure) == ["B (2)", "DC (1)", "T (3 of 4)", "NK (0 of 1)"]
    _, right = sides(figure)
    assert right.yaxis_inverted()
    assert medians(figure) == pytest.approx({0: 0.85, 1: 0.5, 2: 0.2})
    boxes = {round(box.get_y() + box.get_height() / 2): (box.get_x(), box.get_width()) for box in right.patches}
    assert boxes[0] == pytest.approx((0.825, 0.05))
    assert boxes[2] == pytest.approx((0.15, 0.1))
    np.testing.assert_allclose(right.collections[0].get_segments()[2], [[0.11, 2], [0.29, 2]])
    assert [(text.get_text(), text.get_position()[1]) for text in right.texts] == [("not defined", 3)]
    assert right.get_title() == "by type"
    assert right.get_xlabel().endswith("left out: 2 cells, not defined")
    low, high = right.get_xlim()
    assert low <= 0 < 1 <= high


def test_where_all_is_defined_nothing_is_said(adata):
    figure = pl.mixing(adata, value="cilisi")
    assert figure.axes[0].get_legend() is None
    assert "left out" not in figure.axes[1].get_xlabel()
    assert figure.axes[0].get_title() == "CiLISI: mixing of batches within the type"
    assert "NK (1)" in names(figure)


def test_nothing_is_defined(adata):
    adata.obs["mixing_ilisi"] = np.nan
    figure = pl.mixing(adata)
    assert set(drawn(figure).values()) == {MISSING_COLOR}
    assert names(figure) == ["NK (0 of 1)", "T (0 of 4)", "B (0 of 2)", "DC (0 of 1)"]
    assert not medians(figure)


@pytest.mark.parametrize(
    ("params", "groupby", "title", "expected"),
    [
        ({"label_key": ""}, None, "by batch", {"x (3 of 4)", "y (3 of 4)"}),
        ({"label_key": "", "batch_key": np.array(["day", "batch"])}, None, "by day | batch",
         {"a | x (2)", "a | y (1 of 2)", "b | x (1 of 2)", "b | y (2)"}),
        ({}, "day", "by day", {"a (3 of 4)", "b (3 of 4)"}),
    ],
    ids=["batch", "batches", "given"],
)  # fmt: skip
def test_groups(adata, params, groupby, title, expected):
    record(adata, **params)
    figure = pl.mixing(adata, groupby=groupby)
    assert figure.axes[1].get_title() == title
    assert set(names(figure)) == expected


def test_cells_without_label_are_a_group(adata):
    adata.obs.loc["cell_7", "type"] = None
    assert "no label (1)" in names(pl.mixing(adata))


def test_basis_is_the_representation_or_the_one_given(adata, monkeypatch):
    figure = pl.mixing(adata, basis="other")
    assert set(drawn(figure)) == set(map(tuple, adata.obsm["X_other"]))
    monkeypatch.setattr(_coordinates, "_compute_umap", lambda points, params: points[:, :2].astype(np.float32))
    adata.obsm["X_rep"] = np.random.default_rng(0).normal(size=(8, 3))
    figure = pl.mixing(adata)
    assert figure.axes[0].get_xlabel() == "rep UMAP1"
    assert "X_rep_umap" in adata.obsm


def test_key_and_file(adata, tmp_path):
    adata.obs["other_ilisi"] = 0.5
    record(adata, key="other", batch_key=np.array(["batch", "day"]), label_key="")
    adata.write_h5ad(tmp_path / "cells.h5ad")
    figure = pl.mixing(ad.read_h5ad(tmp_path / "cells.h5ad"), "other")
    assert len(names(figure)) == 4
    assert set(medians(figure).values()) == {0.5}


def test_order_is_random_and_nothing_is_left_behind(adata):
    before = adata.copy()
    first, again, other = (list(drawn(pl.mixing(adata, rng=rng))) for rng in (0, 0, 1))
    assert first == again != other
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    assert set(adata.uns) == {"mixing"}
    assert plt.get_fignums() == []


def test_many_types_with_long_names_are_shown_beside_an_embedding_that_keeps_its_shape():
    n = 400
    long = [f"{i} CD8-positive_ alpha-beta memory T cell of the lamina propria"[:60] for i in range(40)]
    obs = pd.DataFrame({"batch": "x", "type": np.array(long)[np.arange(n) % 40]}, index=np.arange(n).astype(str))
    obs["mixing_ilisi"] = np.linspace(0, 1, n)
    adata = ad.AnnData(obs=obs, obsm={"X_rep": np.random.default_rng(0).normal(size=(n, 2))})
    record(adata)
    figure = pl.mixing(adata)
    figure.draw_without_rendering()
    left, right = sides(figure)
    assert left.get_window_extent().height < 1.1 * left.get_window_extent().width
    labels = [label.get_window_extent() for label in right.get_yticklabels()]
    assert len(labels) == 40
    assert all(upper.y0 > lower.y1 for upper, lower in zip(labels, labels[1:], strict=False))
    (bar,) = left.child_axes
    assert bar.get_tightbbox().x1 < min(box.x0 for box in labels)
    assert right.get_tightbbox().x1 <= figure.bbox.x1


def test_mixing_has_not_run(adata):
    with pytest.raises(KeyError, match=r"key='run' has no record .*keys: mixing.*key_added='run'\) first"):
        pl.mixing(adata, "run")
    with pytest.raises(
        KeyError, match=r"'clisi' .*there: ilisi, cilisi\. .*tl\.mixing\(adata, batch_key, label_key=\.\.\.\)"
    ):
        pl.mixing(adata, value="clisi")
    with pytest.raises(KeyError, match=r"'knn_preservation' .*batch_key, unintegrated=\.\.\.\)"):
        pl.mixing(adata, value="knn_preservation")
    del adata.uns["mixing"]
    with pytest.raises(KeyError, match=r"key='mixing' .*keys: none\. Run sbn\.tl\.mixing\(adata, batch_key\) first"):
        pl.mixing(adata)


def test_wrong_words(adata):
    with pytest.raises(ValueError, match="value must be one of 'ilisi', .*; got 'lisi'"):
        pl.mixing(adata, value="lisi")  # type: ignore[arg-type]
    with pytest.raises(KeyError, match=r"groupby='cell' is not a column of adata\.obs"):
        pl.mixing(adata, groupby="cell")
    with pytest.raises(KeyError, match=r"basis='umap' is not a key of adata\.obsm"):
        pl.mixing(adata, basis="umap")
