"""The heatmap and the lines show the numbers of the table, wherever it comes from."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from scbatchnorm import BatchNormAutoencoder, nn, pl, pp


@pytest.fixture
def table():
    rows = [
        (layer, position, batch)
        for layer, position in (("encoder.1", "before"), ("encoder.1", "after"), ("latent", "after"))
        for batch in ("b", "a")
    ]
    frame = pd.DataFrame(rows, columns=["layer", "position", "batch"])
    return frame.assign(mean_shift=np.arange(6) / 10, variance_shift=np.arange(6)[::-1] / 10, drift=0.5)


@pytest.fixture
def steps(table):
    return pd.concat([table.assign(step=s, mean_shift=table["mean_shift"] * (s + 1)) for s in (0, 10)])


def picture(ax) -> np.ndarray:
    (image,) = ax.get_images()
    return np.ma.filled(image.get_array(), np.nan)


def ticks(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


@pytest.mark.parametrize("value", ["mean_shift", "variance_shift"])
def test_heatmap_is_the_table(table, value):
    ax = pl.statistics(table, value=value)
    assert ticks(ax.yaxis) == ["encoder.1 before", "encoder.1 after", "latent"]
    assert ticks(ax.xaxis) == ["b", "a"]
    (image,) = ax.get_images()
    np.testing.assert_array_equal(picture(ax), table[value].to_numpy().reshape(3, 2))
    assert image.get_clim()[0] == 0
    assert [text.get_text() for text in ax.texts] == [f"{number:.2f}" for number in table[value]]


def test_heatmap_of_a_history_is_its_last_look(steps):
    np.testing.assert_allclose(picture(pl.statistics(steps)), 1.1 * np.arange(6).reshape(3, 2))


def test_missing_numbers_and_many_batches(table):
    table.loc[0, "mean_shift"] = np.nan
    assert np.isnan(picture(pl.statistics(table))[0, 0])
    many = pd.concat([table.assign(batch=str(b)) for b in range(20)])
    assert not pl.statistics(many).texts


@pytest.mark.parametrize("value", ["mean_shift", "drift"])
def test_lines_are_means_over_batches(steps, value):
    ax = pl.statistics(steps, over="training", value=value)
    lines = {line.get_label(): line for line in ax.get_lines()}
    assert list(lines) == ["encoder.1 before", "encoder.1 after", "latent"]
    for (layer, position), name in zip(
        [("encoder.1", "before"), ("encoder.1", "after"), ("latent", "after")], lines, strict=True
    ):
        rows = steps[(steps["layer"] == layer) & (steps["position"] == position)]
        np.testing.assert_array_equal(lines[name].get_xdata(), [0, 10])
        np.testing.assert_allclose(np.asarray(lines[name].get_ydata()), rows.groupby("step")[value].mean())


def test_pictures_can_have_the_same_scale(table, steps):
    (image,) = pl.statistics(table, vmax=2.0).get_images()
    assert image.get_clim() == (0, 2)
    assert pl.statistics(steps, over="training", vmax=2.0).get_ylim() == (0, 2)
    low, high = pl.statistics(steps, over="training").get_ylim()
    assert low == 0
    assert high > steps.groupby(["step", "layer"])["mean_shift"].mean().max()


def test_axes_are_those_given(table):
    ax = Figure().subplots()
    assert pl.statistics(table, ax=ax) is ax


@pytest.mark.parametrize("key", [None, "other"])
def test_annotated_data(adata, brief, key):
    pp.integrate(adata, "batch", model=brief(record_shift=True), key_added=key)
    model = BatchNormAutoencoder.from_anndata(adata, key=key or "scbatchnorm")
    before = adata.copy()
    shown = picture(pl.statistics(adata, key=key))
    expected = nn.covariate_shift(model, adata, key=key)
    np.testing.assert_allclose(shown.ravel(), expected["mean_shift"])
    pd.testing.assert_frame_equal(expected, nn.covariate_shift(model, adata.X, adata.obs["batch"]))
    lines = pl.statistics(adata, key=key, over="training", value="drift").get_lines()
    assert len(lines) == len(model.shift_history_.groupby(["layer", "position"]))
    assert adata.obs.equals(before.obs)
    assert adata.uns.keys() == before.uns.keys()


def test_annotated_data_tell_what_was_integrated(prepared, brief):
    """Layer, representation and several columns of batches are read from the record."""
    prepared.obs["day"] = np.where(np.arange(90) % 2, "x", "y")
    for layer, use_rep in (("log", None), (None, "X_pca")):
        pp.integrate(prepared, ["batch", "day"], model=brief(), layer=layer, use_rep=use_rep)
        model = BatchNormAutoencoder.from_anndata(prepared)
        table = nn.covariate_shift(model, prepared)
        assert set(table["batch"]) == {f"{b} | {d}" for b in "abc" for d in "xy"}
    prepared.X = None
    pp.integrate(prepared, "batch", model=brief(), layer="log")
    model = BatchNormAutoencoder.from_anndata(prepared)
    assert set(nn.covariate_shift(model, prepared[:, ::-1])["batch"]) == {"a", "b", "c"}


def test_data_that_are_not_those_of_the_model(adata, brief):
    pp.integrate(adata, "batch", model=brief())
    model = BatchNormAutoencoder.from_anndata(adata)
    with pytest.raises(KeyError, match="40 genes of the model; 30 are missing: gene10"):
        nn.covariate_shift(model, adata[:, :10])
    with pytest.raises(KeyError, match="batch_key='donor' is not a column"):
        nn.covariate_shift(model, adata, "donor")
    fresh = ad.AnnData(adata.X, obs=adata.obs, var=adata.var)
    with pytest.raises(KeyError, match="key=None has no integration in adata.uns"):
        nn.covariate_shift(model, fresh)
    pd.testing.assert_frame_equal(nn.covariate_shift(model, fresh, "batch"), nn.covariate_shift(model, adata))


def test_errors(table, adata, brief):
    with pytest.raises(ValueError, match="value must be one of 'mean_shift', 'variance_shift', 'drift'; got 'mean'"):
        pl.statistics(table, value="mean")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="over must be one of"):
        pl.statistics(table, over="steps")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="missing: layer"):
        pl.statistics(table.drop(columns="layer"))
    with pytest.raises(ValueError, match="missing: rows"):
        pl.statistics(table[:0])
    with pytest.raises(ValueError, match="missing: step"):
        pl.statistics(table, over="training")
    with pytest.raises(ValueError, match="key must be None"):
        pl.statistics(table, key="x")
    with pytest.raises(ValueError, match="data must be annotated data or a DataFrame; got ndarray"):
        pl.statistics(np.zeros(3))
    with pytest.raises(KeyError, match="Run pp.integrate first"):
        pl.statistics(adata)
    pp.integrate(adata, "batch", model=brief())
    with pytest.raises(ValueError, match="record_shift=True"):
        pl.statistics(adata, over="training")
    with pytest.raises(ValueError, match="missing: drift"):
        pl.statistics(adata, value="drift")
