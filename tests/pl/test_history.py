"""The training curves are those of the history, from wherever it comes."""

from __future__ import annotations

from types import SimpleNamespace

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from scbatchnorm import pl


@pytest.fixture
def frame() -> pd.DataFrame:
    step = np.arange(10, 110, 10)
    return pd.DataFrame(
        {
            "epoch": np.arange(10),
            "step": step,
            "refresh": np.repeat([0, 1], 5),
            "reconstruction": 5 / step,
            "anchors": 3 / step,
            "adversary": np.linspace(0.5, 1, 10),
            "learning_rate": 1e-3,
        }
    )


def curves(ax):
    return {line.get_label(): line for line in ax.get_lines() if not line.get_label().startswith("_")}


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_curves_are_the_losses(frame):
    ax = pl.history(frame)
    lines = curves(ax)
    assert list(lines) == ["reconstruction", "anchors", "adversary", "new anchors"]
    for name in ("reconstruction", "anchors", "adversary"):
        np.testing.assert_array_equal(lines[name].get_xdata(), frame["step"])
        np.testing.assert_array_equal(lines[name].get_ydata(), frame[name])
    assert legend(ax) == list(lines)


def test_new_anchors_are_marked_between_the_steps(frame):
    marks = [line for line in pl.history(frame).get_lines() if str(line.get_label()).startswith("_")]
    assert [list(mark.get_xdata()) for mark in marks] == [[50, 50]]  # type: ignore[arg-type]
    assert "new anchors" not in curves(pl.history(frame.drop(columns="refresh")))


@pytest.mark.parametrize("key", [None, "other"])
def test_annotated_data(frame, key):
    adata = ad.AnnData(np.zeros((2, 2)), uns={"scbatchnorm" if key is None else key: {"history": frame}})
    assert list(curves(pl.history(adata, key=key))) == list(curves(pl.history(frame)))


def test_estimator(frame):
    assert "anchors" in curves(pl.history(SimpleNamespace(history_=frame)))


def test_a_loss_that_was_left_out_is_not_drawn(frame):
    assert list(curves(pl.history(frame[["step", "anchors"]]))) == ["anchors"]


def test_no_training_is_said(frame):
    ax = pl.history(frame.iloc[:0])
    assert ax.get_title() == "not trained"


def test_given_axes_and_no_pyplot(frame):
    given = Figure().subplots()
    assert pl.history(frame, ax=given) is given
    pl.history(frame)
    assert plt.get_fignums() == []


def test_unknown_key(frame):
    adata = ad.AnnData(np.zeros((2, 2)), uns={"pca": {}, "scbatchnorm": {"history": frame}})
    message = r"key='foo' has no history in adata\.uns\['foo'\]; keys of adata\.uns: pca, scbatchnorm"
    with pytest.raises(KeyError, match=message):
        pl.history(adata, key="foo")
    with pytest.raises(KeyError, match="has no history"):
        pl.history(adata, key="pca")


def test_wrong_data(frame):
    with pytest.raises(
        ValueError, match="columns step and at least one of reconstruction, anchors, adversary; columns: a"
    ):
        pl.history(pd.DataFrame({"a": [1]}))
    with pytest.raises(ValueError, match="key must be None unless data is annotated data; got 'a' with DataFrame"):
        pl.history(frame, key="a")
    with pytest.raises(ValueError, match="got int without history_"):
        pl.history(3)


def test_notebooks_show_new_figures(frame, monkeypatch):
    monkeypatch.setattr("matplotlib.is_interactive", lambda: True)
    ax = pl.history(frame)
    shown = [plt.figure(number) for number in plt.get_fignums()]
    plt.close("all")
    assert shown == [ax.figure]
