"""Cells are drawn where they are, in their group's colour, in random order, without side effects but the palette."""

from __future__ import annotations

import io

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex, to_rgba_array
from matplotlib.figure import Figure

from scbatchnorm import pl
from scbatchnorm.pl import _coordinates
from scbatchnorm.pl._palette import MISSING_COLOR, default_colors


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


@pytest.fixture
def adata() -> ad.AnnData:
    rng = np.random.default_rng(0)
    obs = pd.DataFrame(
        {
            "batch": pd.Categorical(["b", "a", "b", "b"] * 10, categories=["b", "a", "unused"]),
            "donor": ["x", "y"] * 20,
            "sick": [True, False] * 20,
            "age": np.arange(40),
        },
        index=[f"cell_{i}" for i in range(40)],
    )
    return ad.AnnData(obs=obs, obsm={"X_umap": rng.normal(size=(40, 2)), "X_pca": rng.normal(size=(40, 5))})


def drawn(ax):
    """Points and colours, in the order in which they are drawn."""
    (points,) = ax.collections
    return np.asarray(points.get_offsets()), [to_hex(color) for color in points.get_facecolors()]


def test_every_cell_has_the_colour_of_its_group(adata):
    points, colors = drawn(pl.embedding(adata, color="batch"))
    assert len(points) == 40
    by_place = {tuple(point): color for point, color in zip(points, colors, strict=True)}
    for place, code in zip(adata.obsm["X_umap"], adata.obs["batch"].cat.codes, strict=True):
        assert by_place[tuple(place)] == adata.uns["batch_colors"][code]


def test_order_is_random_and_reproducible(adata):
    first, again = (drawn(pl.embedding(adata, color="batch"))[0] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, adata.obsm["X_umap"])
    assert not np.array_equal(first, drawn(pl.embedding(adata, color="batch", rng=1))[0])


@pytest.mark.parametrize("basis", ["pca", "X_pca"])
def test_dimensions_of_the_basis(adata, basis):
    ax = pl.embedding(adata, basis, color="batch", dimensions=(1, 4))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("PCA2", "PCA5")
    assert set(map(tuple, drawn(ax)[0])) == set(map(tuple, adata.obsm["X_pca"][:, [1, 4]]))


def test_umap_of_the_basis(adata, monkeypatch):
    seeds = []

    def compute(points, params):
        seeds.append(params["random_state"])
        return points[:, :2].astype(np.float32)

    monkeypatch.setattr(_coordinates, "_compute_umap", compute)
    ax = pl.embedding(adata, "pca", color="batch")
    assert ax.get_xlabel() == "PCA UMAP1"
    np.testing.assert_array_equal(adata.obsm["X_pca_umap"], adata.obsm["X_pca"][:, :2].astype(np.float32))
    pl.embedding(adata[:], "pca", color="batch", rng=1)
    assert len(seeds) == 1
    for rng in (0, 1):
        del adata.obsm["X_pca_umap"]
        pl.embedding(adata, "pca", color="batch", rng=rng)
    assert seeds[0] == seeds[1] != seeds[2]


def test_stored_palette_is_used_and_kept(adata):
    adata.uns["batch_colors"] = np.array(["red", "#00ff00", "blue"])
    _, colors = drawn(pl.embedding(adata, color="batch"))
    assert set(colors) == {"#ff0000", "#00ff00"}
    assert list(adata.uns["batch_colors"]) == ["red", "#00ff00", "blue"]


@pytest.mark.parametrize("stored", [["red"], ["red", "no colour", "blue"]], ids=["too few", "no colour"])
def test_stored_palette_that_does_not_fit_is_kept_with_a_warning(adata, stored):
    adata.uns["batch_colors"] = stored
    with pytest.warns(
        UserWarning, match=r"adata\.uns\['batch_colors'\] must hold a colour for each of the 3 categories"
    ):
        _, colors = drawn(pl.embedding(adata, color="batch"))
    assert set(colors) == set(default_colors(3)[:2])
    assert adata.uns["batch_colors"] == stored


def test_palette_is_shared_with_scanpy(adata):
    import scanpy as sc

    pl.embedding(adata, color="batch")
    chosen = list(adata.uns["batch_colors"])
    sc.pl.umap(adata, color="batch", show=False)
    plt.close("all")
    assert list(adata.uns["batch_colors"]) == chosen


def test_view_is_not_written_to(adata):
    view = adata[:20]
    pl.embedding(view, color="batch")
    assert view.is_view
    assert not adata.uns


@pytest.mark.parametrize(
    ("color", "labels"), [("donor", ["x", "y"]), ("sick", ["False", "True"]), ("batch", ["b", "a"])]
)
def test_legend_names_the_groups_that_occur(adata, color, labels):
    before = adata.obs.copy()
    ax = pl.embedding(adata, color=color)
    assert legend(ax) == labels
    pd.testing.assert_frame_equal(adata.obs, before)


@pytest.mark.parametrize("column", [["x", None] * 20, pd.Categorical(["x", None] * 20)], ids=["object", "category"])
def test_missing_values_are_grey_and_behind(adata, column):
    adata.obs["donor"] = column
    ax = pl.embedding(adata, color="donor")
    _, colors = drawn(ax)
    assert set(colors[:20]) == {MISSING_COLOR}
    assert MISSING_COLOR not in colors[20:]
    assert legend(ax) == ["x", "missing"]


def test_draws_on_given_axes_and_without_legend(adata):
    given = Figure().subplots()
    ax = pl.embedding(adata, color="batch", ax=given, legend=False, title="after", size=3)
    assert ax is given
    assert ax.get_legend() is None
    assert ax.get_title() == "after"
    (points,) = ax.collections
    assert isinstance(points, PathCollection)
    assert points.get_sizes() == 3


def test_no_pyplot_and_no_global_settings(adata):
    settings = plt.rcParams.copy()
    ax = pl.embedding(adata, color="batch")
    assert plt.get_fignums() == []
    assert plt.rcParams == settings
    picture = io.BytesIO()
    assert isinstance(ax.figure, Figure)
    ax.figure.savefig(picture, format="png")
    picture.seek(0)
    assert plt.imread(picture).std() > 0.05


def test_notebooks_show_panels(adata, monkeypatch):
    monkeypatch.setattr("matplotlib.is_interactive", lambda: True)
    figure = pl.embedding(adata, color=["batch", "donor"])
    shown = [plt.figure(number) for number in plt.get_fignums()]
    plt.close("all")
    assert shown == [figure]


@pytest.mark.parametrize("n", [1, 7, 8, 12, 13, 25, 60, 150])
def test_default_palettes(n):
    colors = default_colors(n)
    assert len(colors) == n
    assert to_rgba_array(colors).shape == (n, 4)
    assert len(set(colors)) == min(n, 102)


def test_unknown_keys(adata):
    with pytest.raises(KeyError, match=r"basis='tsne' is not a key of adata\.obsm; keys: X_umap, X_pca"):
        pl.embedding(adata, "tsne", color="batch")
    with pytest.raises(KeyError, match=r"color='day' is not a column of adata\.obs; columns: batch, donor, sick, age"):
        pl.embedding(adata, color="day")


def test_wrong_values(adata):
    with pytest.raises(ValueError, match=r"color='age' must hold groups; .* numbers \(int64\).*astype\('category'\)"):
        pl.embedding(adata, color="age")
    adata.obsm["X_line"] = np.zeros((40, 1))
    with pytest.raises(ValueError, match=r"at least 2 dimensions; adata\.obsm\['X_line'\] has shape \(40, 1\)"):
        pl.embedding(adata, "line", color="batch")
    with pytest.raises(TypeError, match="ax must be a matplotlib Axes or None; got ndarray"):
        pl.embedding(adata, color="batch", ax=Figure().subplots(2))
    with pytest.raises(ValueError, match=r"ax must be None for several panels.*color=\['batch', 'donor'\]"):
        pl.embedding(adata, color=["batch", "donor"], ax=Figure().subplots())  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="color must be a name or a list of names; got an empty list"):
        pl.embedding(adata, color=[])
    with pytest.raises(ValueError, match=r"title must hold a text for each of the 2 bases; got \['before'\]"):
        pl.embedding(adata, ["umap", "pca"], color="batch", title=["before"])


def test_nothing_is_written_on_an_error(adata, monkeypatch):
    monkeypatch.setattr(_coordinates, "_compute_umap", lambda points, params: points[:, :2])
    for basis, color in ((["pca", "nowhere"], ["batch"]), (["pca"], ["batch", "age"]), (["pca"], ["batch", "day"])):
        with pytest.raises((KeyError, ValueError)):
            pl.embedding(adata, basis, color=color)
        assert (set(adata.obsm), dict(adata.uns)) == ({"X_umap", "X_pca"}, {})


def panels(figure):
    return [(ax.get_title(), ax.get_legend() is not None) for ax in figure.axes]


def test_panels_are_colours_by_bases(adata):
    figure = pl.embedding(adata, ["umap", "X_pca"], color=["batch", "donor"], dimensions=(0, 1))
    assert isinstance(figure, Figure)
    assert panels(figure) == [
        ("umap: batch", False),
        ("X_pca: batch", True),
        ("umap: donor", False),
        ("X_pca: donor", True),
    ]
    points, colors = zip(*map(drawn, figure.axes), strict=True)
    np.testing.assert_array_equal(points[0], points[2])
    assert colors[0] == colors[1]
    assert colors[0] != colors[2]
    order = [np.flatnonzero((adata.obsm["X_umap"] == point).all(axis=1)).item() for point in points[0]]
    np.testing.assert_array_equal(points[1], adata.obsm["X_pca"][order, :2])
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("basis", "color", "title", "expected"),
    [
        (["umap"], "batch", None, [("umap: batch", True)]),
        ("umap", ["batch"], "all", [("all: batch", True)]),
        (["umap", "pca"], "batch", ["before", "after"], [("before: batch", False), ("after: batch", True)]),
        ("pca", ["batch", "sick"], None, [("pca: batch", True), ("pca: sick", True)]),
    ],
)
def test_a_list_makes_a_figure(adata, basis, color, title, expected):
    figure = pl.embedding(adata, basis, color=color, title=title, dimensions=(0, 1))
    assert panels(figure) == expected
    bare = pl.embedding(adata, basis, color=color, title=title, dimensions=(0, 1), legend=False)
    assert panels(bare) == [(text, False) for text, _ in expected]


NAMES = [f"{i} {'CD8-positive, alpha-beta memory_T_cell of the lamina propria'[: 20 + i]}" for i in range(40)]


@pytest.mark.parametrize("n_colors", [1, 2])
def test_legend_takes_no_room_from_the_axes_and_is_not_cut_off(adata, n_colors):
    adata.obs["type"] = pd.Categorical(NAMES)
    figure = pl.embedding(adata, ["umap", "umap"], color=["type"] * n_colors)
    figure.draw_without_rendering()
    for ax in figure.axes:
        box = ax.get_window_extent()
        assert box.width / figure.dpi == pytest.approx(4.0, rel=0.05)
        assert box.height / figure.dpi == pytest.approx(3.6, rel=0.05)
    for ax in figure.axes[1::2]:
        explained = ax.get_legend()
        assert explained is not None
        box = explained.get_window_extent()
        assert box.width / figure.dpi < 9
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1
        assert {"".join(name.split()) for name in legend(ax)} == {"".join(name.split()) for name in NAMES}


def test_names_are_shown_as_they_are(adata):
    """Also those that are formulas or hidden labels to matplotlib."""
    names = ["_hidden", "a$b$c", r"$\frac{$"]
    adata.obs["type"] = pd.Categorical(np.array(names)[np.arange(40) % 3], categories=names)
    figure = pl.embedding(adata, color=["type"])
    (ax,) = figure.axes
    assert [name.strip().replace(r"\$", "$") for name in legend(ax)] == names
    figure.draw_without_rendering()
