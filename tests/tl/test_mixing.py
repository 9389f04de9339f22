"""Values of single cells are those that the metrics average, and are written where it is said."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest

from scbatchnorm import metrics, tl
from tests.helpers.compare import digest, written
from tests.metrics.cells import annotated

COLUMNS = ["ilisi", "cilisi", "clisi", "knn_preservation"]


def test_values_make_the_metrics():
    adata = annotated()
    assert tl.mixing(adata, "batch", use_rep="X_new", label_key="cell_type") is None
    X, batch, label = adata.obsm["X_new"], adata.obs["batch"], adata.obs["cell_type"]
    found = adata.obs[[f"mixing_{name}" for name in COLUMNS]]
    assert found["mixing_ilisi"].median() == pytest.approx(metrics.ilisi(X, batch))
    assert found["mixing_clisi"].median() == pytest.approx(metrics.clisi(X, label))
    assert found["mixing_cilisi"].mean() == pytest.approx(metrics.cilisi(X, batch=batch, label=label))
    kept = metrics.knn_preservation(X, X_pre=adata.obsm["X_pca"], batch=batch)
    assert found["mixing_knn_preservation"].mean() == pytest.approx(kept)
    assert found.min(axis=None) >= 0
    assert found.max(axis=None) <= 1


def test_what_is_written():
    adata = annotated()
    before, columns = digest(adata), list(adata.obs)
    tl.mixing(adata, "batch", use_rep="X_new", label_key="cell_type", key_added="other")
    assert list(adata.obs) == [
        *columns,
        *(f"other_{name}" for name in ("clisi", "knn_preservation", "ilisi", "cilisi")),
    ]
    after = digest(adata)
    del before["obs"], after["obs"]
    assert written(before, after) == {"uns['other']"}
    assert adata.uns["other"]["params"] == {
        "use_rep": "X_new", "batch_key": "batch", "label_key": "cell_type", "unintegrated": "X_pca"
    }  # fmt: skip


def test_only_what_is_known():
    adata = annotated()
    tl.mixing(adata, "batch", use_rep="X_new", unintegrated=None)
    assert [column for column in adata.obs if column.startswith("mixing")] == ["mixing_ilisi"]
    assert adata.uns["mixing"]["params"]["label_key"] == adata.uns["mixing"]["params"]["unintegrated"] == ""


def test_again_without_labels_leaves_nothing_old():
    adata = annotated()
    tl.mixing(adata, "batch", use_rep="X_new", label_key="cell_type")
    tl.mixing(adata, "batch", use_rep="X_new", unintegrated=None)
    assert [column for column in adata.obs if column.startswith("mixing")] == ["mixing_ilisi"]


def test_survives_writing(tmp_path):
    adata = annotated()
    adata.obs["day"] = np.tile(["mon", "tue"], 150)
    tl.mixing(adata, ["batch", "day"], use_rep="X_new")
    adata.write_h5ad(tmp_path / "a.h5ad")
    again = ad.read_h5ad(tmp_path / "a.h5ad")
    assert again.uns["mixing"]["params"]["batch_key"].tolist() == ["batch", "day"]
    np.testing.assert_array_equal(again.obs["mixing_ilisi"], adata.obs["mixing_ilisi"])


def test_copy_and_view():
    adata = annotated()
    before = digest(adata)
    copied = tl.mixing(adata, "batch", use_rep="X_new", copy=True)
    assert copied is not None
    assert "mixing_ilisi" in copied.obs
    assert digest(adata) == before
    view = adata[:200]
    tl.mixing(view, "batch", use_rep="X_new")
    assert "mixing_ilisi" in view.obs
    assert digest(adata) == before


def test_cells_without_label_have_no_values():
    adata = annotated()
    adata.obs.iloc[:4, 1] = np.nan
    with pytest.warns(UserWarning, match="4 of 300 cells: they are left out"):
        tl.mixing(adata, "batch", use_rep="X_new", label_key="cell_type")
    missing = adata.obs[[f"mixing_{name}" for name in COLUMNS]].isna()
    assert missing.iloc[:4].all(axis=None)
    assert not missing.iloc[4:].any(axis=None)


def test_one_batch_says_why_there_are_no_values():
    adata = annotated()
    adata.obs["batch"] = "only"
    with pytest.warns(UserWarning, match="iLISI is not defined, mixing_ilisi is nan: there is one batch only"):
        tl.mixing(adata, "batch", use_rep="X_new", unintegrated=None)
    assert adata.obs["mixing_ilisi"].isna().all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, KeyError, "use_rep='X_scbatchnorm' is not a key of adata.obsm; keys: X_pca, X_new"),
        ({"use_rep": "X_new", "label_key": "typ"}, KeyError, "label_key='typ' is not a column of adata.obs"),
        ({"use_rep": "X_new", "key_added": "a/b"}, ValueError, "key_added must be a non-empty str without '/'"),
    ],
    ids=["representation", "label", "key"],
)
def test_wrong_parameters(options, error, message):
    adata = annotated(n=30)
    before = digest(adata)
    with pytest.raises(error, match=message):
        tl.mixing(adata, "batch", **options)
    assert digest(adata) == before
