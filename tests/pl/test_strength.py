"""The picture of a path of strengths."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.figure import Figure

from scbatchnorm import pl


@pytest.fixture
def adata():
    path = pd.DataFrame(
        {
            "strength": [0.0, 0.5, 1.0],
            "ilisi": [0.1, 0.4, 0.42],
            "knn_preservation": [1.0, 0.9, 0.7],
            "chosen": [False, True, False],
        }
    )
    return AnnData(np.ones((2, 2), np.float32), uns={"scbatchnorm": {"path": path}, "other": {"path": path.iloc[::2]}})


def test_each_strength_is_a_point_with_its_number(adata):
    ax = pl.strength(adata)
    line = ax.lines[0]
    np.testing.assert_array_equal(line.get_xdata(), [1.0, 0.9, 0.7])
    np.testing.assert_array_equal(line.get_ydata(), [0.1, 0.4, 0.42])
    assert [text.get_text() for text in ax.texts] == ["0", "0.5", "1"]


def test_the_used_strength_is_marked(adata):
    ax = pl.strength(adata)
    np.testing.assert_array_equal(ax.lines[1].get_xydata(), [[0.9, 0.4]])
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["used"]


def test_axes_and_key(adata):
    ax = Figure().subplots()
    assert pl.strength(adata, key="other", ax=ax) is ax
    assert len(np.asarray(ax.lines[0].get_xdata())) == 2


@pytest.mark.parametrize(("key", "slot"), [("missing", "missing"), (None, "scbatchnorm")])
def test_without_a_path(adata, key, slot):
    adata.uns["scbatchnorm"] = {"history": 1}
    with pytest.raises(KeyError, match=f"no path of strengths in adata.uns\\['{slot}'\\].*strength=\\[0, 0.25"):
        pl.strength(adata, key=key)
