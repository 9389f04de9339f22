"""Bars are the shares kept, states with a finding stand out, genes are those that moved most."""

from __future__ import annotations

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from scbatchnorm import pl
from scbatchnorm.pl import _change


@pytest.fixture
def adata() -> ad.AnnData:
    """As `tl.diagnose` leaves it."""
    states = pd.DataFrame(
        {
            "n_cells": [1200, 30, 20],
            "kept": [0.8, 0.4, np.nan],
            "kept_again": [0.5, 0.6, np.nan],
            "merged_with": ["", "x: B", ""],
            "pulled_onto": ["", "", ""],
            "split": [False, True, False],
            "lost": [False, False, False],
        },
        index=["x: T", "x: B", "y: $odd$"],
    )
    adata = ad.AnnData(np.zeros((1, 4)), var=pd.DataFrame(index=["a", "b", "c", "d"]))
    adata.var["diagnose_shift"] = [0.5, np.nan, 2.0, 1.0]
    adata.varm["diagnose_shift"] = np.array([[0.5, -0.5], [np.nan, np.nan], [2.0, -2.0], [1.0, -1.0]])
    adata.uns["scbatchnorm_diagnose"] = {"verdict": "1 pair of states merged", "states": states, "batches": ["x", "y"]}
    return adata


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_states(adata):
    left = pl.change(adata).axes[0]
    assert [bar.get_width() for bar in left.patches] == [0.8, 0.4, 0.0]  # type: ignore[attr-defined]
    assert [to_hex(bar.get_facecolor()) for bar in left.patches] == [
        _change._DEFAULT_COLOR,
        _change._FLAG_COLOR,
        _change._DEFAULT_COLOR,
    ]
    assert [label.get_text() for label in left.get_yticklabels()] == ["x: T (1,200)", "x: B (30)", r"y: \$odd\$ (20)"]
    assert left.get_title() == "1 pair of states merged"
    assert legend(left) == ["measured once more", "merged with another", "split"]
    merged, split = (np.asarray(line.get_xydata()) for line in left.lines)
    assert merged[0, 1] == split[0, 1] == 1
    assert split[0, 0] > merged[0, 0] > 0.4


def test_genes_that_moved_most(adata):
    right = pl.change(adata, n_genes=2).axes[1]
    assert [label.get_text() for label in right.get_yticklabels()] == ["c", "d"]
    assert legend(right) == ["x", "y"]
    points = {str(line.get_label()): np.asarray(line.get_xdata()).tolist() for line in right.lines}
    points = {name: places for name, places in points.items() if name in {"x", "y"}}
    assert points == {"x": [2, 1], "y": [-2, -1]}
    assert len(pl.change(adata).axes[1].get_yticklabels()) == 3, "genes without a shift are left out"


def test_without_genes(adata):
    del adata.varm["diagnose_shift"]
    assert len(pl.change(adata).axes) == 1


def test_other_key(adata):
    adata.uns["other"] = adata.uns.pop("scbatchnorm_diagnose")
    assert len(pl.change(adata, "other").axes) == 1


def test_findings_survive_files(adata, tmp_path):
    expected = pl.change(adata).axes[0]
    adata.uns["scbatchnorm_diagnose"]["batches"] = np.array(["x", "y"])
    adata.write_h5ad(tmp_path / "a.h5ad")
    found = pl.change(ad.read_h5ad(tmp_path / "a.h5ad")).axes[0]
    assert [b.get_facecolor() for b in found.patches] == [b.get_facecolor() for b in expected.patches]


def test_many_states_with_long_names(adata):
    record = adata.uns["scbatchnorm_diagnose"]
    states = pd.concat([record["states"].iloc[:1]] * 30)
    states.index = [f"a batch with a long name {i}: CD8-positive, alpha-beta cytotoxic T cell" for i in range(30)]
    record["states"] = states
    figure = pl.change(adata)
    left, right = figure.axes
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in left.get_yticklabels()]
    assert all(not a.overlaps(b) for a, b in zip(boxes, boxes[1:], strict=False))
    assert min(box.x0 for box in boxes) >= 0
    assert right.get_window_extent().height < left.get_window_extent().height / 2


def test_nothing_is_left_behind(adata):
    assert isinstance(pl.change(adata), Figure)
    assert plt.get_fignums() == []


def test_wrong_input(adata):
    with pytest.raises(KeyError, match=r"key='a' has no diagnosis in adata.uns\['a'\]; keys: scbatchnorm_diagnose"):
        pl.change(adata, "a")
    with pytest.raises(ValueError, match="n_genes must be an integer of at least 1; got 0"):
        pl.change(adata, n_genes=0)
    del adata.uns["scbatchnorm_diagnose"]
    with pytest.raises(KeyError, match=r"Run sbn.tl.diagnose\(adata, batch_key\) first"):
        pl.change(adata)
