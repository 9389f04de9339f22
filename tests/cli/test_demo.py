"""The demonstration runs without any data, and says what it shows."""

from __future__ import annotations

import anndata as ad
import matplotlib.pyplot as plt
import pandas as pd
import pytest

from tests.cli.conftest import run


@pytest.mark.slow
def test_demo(tmp_path, capsys):
    folder = tmp_path / "new" / "demo"
    assert run("demo", "-o", folder) == 0
    out = capsys.readouterr().out
    scores = pd.read_csv(folder / "scores.csv", index_col=0)
    ours, combat, before = (scores.loc[key] for key in ("X_scbatchnorm", "X_pca_combat", "X_pca"))
    assert before["kind"] == "unintegrated"
    assert ours["iLISI"] > combat["iLISI"] > before["iLISI"]
    assert ours["Total"] > combat["Total"] > before["Total"]
    assert ours["cLISI"] > before["cLISI"] - 0.02
    assert ours["Silhouette label"] > before["Silhouette label"] - 0.02
    assert f"{ours['Total']:.3f} ± " in out
    for name in ("umap.png", "scores.png", "scores.csv", "training.png", "pbmc_integrated.h5ad"):
        assert f"wrote {folder / name}: " in out
    for name, shape in {"umap.png": (1200, 1575, 4), "training.png": (570, 975, 4)}.items():
        picture = plt.imread(folder / name)
        assert picture.shape == shape
        assert picture.std() > 0.05
    adata = ad.read_h5ad(folder / "pbmc_integrated.h5ad")
    assert {"X_pca", "X_pca_combat", "X_scbatchnorm", "X_umap", "X_umap_before"} <= set(adata.obsm)
    assert plt.get_fignums() == []


def test_demo_refuses_a_file_as_folder(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run("demo", "-o", tmp_path / "file") == 2
    assert "-o/--output must be a folder" in capsys.readouterr().err
