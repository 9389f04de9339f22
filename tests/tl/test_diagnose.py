"""What is found is named, printed, written where it is said, and survives files; wrong input leaves the data alone."""

from __future__ import annotations

import re

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc

from scbatchnorm import BatchNormAutoencoder, pp, tl
from tests.helpers.compare import digest, rounding, written
from tests.helpers.diagnosed import TYPES, cells, onto


@pytest.fixture
def adata() -> ad.AnnData:
    return cells(n=40)


@pytest.fixture(scope="module")
def integrated() -> ad.AnnData:
    """By a network that trains for a moment; tests must not change it."""
    adata = cells(n=40)
    sc.pp.pca(adata, n_comps=8)
    model = BatchNormAutoencoder(n_components=8, strength=1.0, n_hidden=16, min_steps=20, max_steps=20, progress=False)
    pp.integrate(adata, "batch", model=model)
    return adata


def test_a_good_integration(adata):
    found = tl.diagnose(adata, "batch", use_rep="X_good")
    assert found.verdict == "nothing found"
    assert not found.flagged
    text = repr(found)
    assert text.startswith("verdict: nothing found\n- No two states of a batch were put together (12 pairs looked at")
    assert re.search(r"Cells keep \d+ % of their nearest neighbours .* would keep \d+ %\.$", text)


def test_merged_states_are_named_by_labels(adata):
    adata.obsm["X_bad"] = onto(adata, "B cell", "T cell", "x")
    found = tl.diagnose(adata, "batch", use_rep="X_bad", label_key="cell_type")
    assert found.verdict == "1 pair of states merged"
    assert found.flagged
    assert found.states.at["x: B cell", "merged_with"] == "x: T cell"
    assert found.states.at["y: B cell", "merged_with"] == ""
    pattern = (
        r"In x, (B cell and T cell|T cell and B cell) were put together: told apart with 0 % of cells mistaken before"
    )
    assert re.match(pattern, found.reasons[0])


def test_states_without_labels_are_numbered_and_have_markers(adata):
    found = tl.diagnose(adata, "batch", use_rep="X_good")
    assert re.fullmatch(r"x: state 1 \(gene\d+, gene\d+, gene\d+\)", found.states.index[0])
    assert found.states["label"].eq("").all()
    adata.obs["cell_type"] = adata.obs["cell_type"].astype(object)
    adata.obs.loc[adata.obs["cell_type"] != "B cell", "cell_type"] = "other"
    adata.obs.iloc[0, 1] = np.nan
    names = tl.diagnose(adata, "batch", use_rep="X_good", label_key="cell_type").states.index
    assert sorted(name for name in names if name.startswith("x")) == ["x: B cell", "x: other (1)", "x: other (2)", "x: other (3)"]  # fmt: skip


def test_pulled_states_are_named():
    adata = cells(n=40, without=(("B cell", "y"), ("monocyte", "x")))
    adata.obsm["X_bad"] = onto(adata, "B cell", "monocyte")
    found = tl.diagnose(adata, "batch", use_rep="X_bad", label_key="cell_type")
    assert found.verdict == "1 private state pulled onto another"
    assert found.states.at["x: B cell", "pulled_onto"] == "y: monocyte"
    assert "hardly any of their cells have a counterpart" in repr(found)


def test_what_is_written(integrated):
    adata = integrated.copy()
    before, columns, genes = digest(adata), list(adata.obs), list(adata.var)
    tl.diagnose(adata, "batch", label_key="cell_type", key_added="other")
    assert list(adata.obs) == [*columns, *(f"other_{name}" for name in ("state", "kept", "displacement", "displacement_own"))]  # fmt: skip
    assert list(adata.var) == [*genes, *(f"other_{name}" for name in ("shift", "variance_lost", "signal_before", "signal_after"))]  # fmt: skip
    after = digest(adata)
    for part in ("obs", "var"):
        del before[part], after[part]
    assert written(before, after) == {"uns['other']", "varm['other_shift']"}
    record = adata.uns["other"]
    assert record["batches"].tolist() == ["x", "y"]
    assert record["params"]["label_key"] == "cell_type"
    sizes = adata.obs["other_state"].value_counts()[record["states"].index]
    np.testing.assert_array_equal(record["states"]["n_cells"], sizes)


def test_changes_are_those_of_the_embedding(integrated):
    """Recomputed from the loadings: displacement, shift of genes, and the genes that moved most."""
    adata = integrated.copy()
    found = tl.diagnose(adata, "batch")
    model = BatchNormAutoencoder.from_anndata(adata)
    before = model.stem_.embed(model.stem_.encode(adata.X))
    moved = adata.obsm["X_scbatchnorm"] - before
    atol = rounding(before, adata.n_vars)  # the scores before are sums over genes, here and there in another order
    np.testing.assert_allclose(adata.obs["diagnose_displacement"], np.linalg.norm(moved, axis=1), atol=atol)
    mean = np.stack([moved[adata.obs["batch"] == name].mean(axis=0) for name in "xy"])
    shift = (mean - mean.mean(axis=0)) @ model.stem_.components.T
    np.testing.assert_allclose(adata.varm["diagnose_shift"], shift.T, atol=atol)
    np.testing.assert_allclose(adata.var["diagnose_shift"], np.sqrt((shift**2).mean(axis=0)), atol=atol)
    changes = found.changes
    assert set(changes["state"]) == set(found.states.index)
    np.testing.assert_allclose(changes["beyond"], changes["shift"] - changes["shift_of_batch"], atol=atol)
    assert found.states["displacement"].gt(0).all()


def test_nothing_moves_with_strength_0():
    adata = cells(n=40)
    sc.pp.pca(adata, n_comps=8)
    pp.integrate(adata, "batch", strength=0.0)
    found = tl.diagnose(adata, "batch", calibrate=True)
    assert not found.flagged
    np.testing.assert_allclose(adata.obs["diagnose_displacement"], 0, atol=1e-4)
    np.testing.assert_allclose(adata.var["diagnose_variance_lost"], 0, atol=1e-4)
    assert found.calibration["kept"].to_numpy() == pytest.approx(1)


def test_calibration(integrated):
    found = tl.diagnose(integrated.copy(), "batch", calibrate=True)
    assert list(found.calibration.index) == ["x", "y"]
    assert found.calibration["n_cells"].tolist() == [160, 160]
    assert (found.calibration["kept"] > found.calibration["kept_again"]).all()
    assert not found.calibration[["merged", "pulled", "split", "lost"]].any(axis=None)
    assert any(reason.startswith("Calibration: x and y split at random in two") for reason in found.reasons)


def test_control_genes(adata):
    """A gene of the types is lost if types are shuffled; one that tells nothing cannot be."""
    rng = np.random.default_rng(0)
    adata.X[:, 5] = rng.random(adata.n_obs)
    adata.obsm["X_bad"] = rng.normal(size=adata.obsm["X_good"].shape)
    genes = ["gene5", "gene0"]
    found = tl.diagnose(adata, "batch", use_rep="X_bad", control_genes=genes)
    assert found.control_genes["flagged"].to_dict() == {"gene5": False, "gene0": True}
    assert "1 control gene lost its signal" in found.verdict
    assert any(
        "1 of 2 lost more than half of what noise leaves: gene0 (correlation 0.9" in text for text in found.reasons
    )
    assert not tl.diagnose(adata, "batch", use_rep="X_good", control_genes=genes).control_genes["flagged"].any()


def test_control_genes_need_not_be_integrated():
    adata = cells(n=40)
    adata.var["highly_variable"] = np.arange(adata.n_vars) >= 8
    sc.pp.pca(adata, n_comps=8)
    pp.integrate(adata, "batch", strength=0.0)
    found = tl.diagnose(adata, "batch", control_genes=["gene2", "gene30"])
    assert found.control_genes["signal_after"].gt(0.5).all()
    assert found.control_genes["variance_lost"].isna().tolist() == [True, False]
    assert adata.var["diagnose_signal_before"].notna().sum() == 33


def test_again_for_another_tool_leaves_nothing_old(integrated):
    adata = integrated.copy()
    tl.diagnose(adata, "batch")
    tl.diagnose(adata, "batch", use_rep="X_good")
    assert [column for column in adata.obs if column.startswith("diagnose")] == ["diagnose_state", "diagnose_kept"]
    assert "diagnose_shift" not in adata.varm
    assert "diagnose_shift" not in adata.var


def test_without_expression():
    adata = cells(n=40)
    bare = ad.AnnData(obs=adata.obs, obsm=dict(adata.obsm))
    found = tl.diagnose(bare, "batch", use_rep="X_good")
    assert found.states["markers"].eq("").all()
    assert "Genes were not looked at: adata has no expression." in found.reasons
    adata.X[:] = np.arange(adata.n_vars)  # counts
    found = tl.diagnose(adata, "batch", use_rep="X_good")
    assert any(
        reason.startswith("Genes were not looked at: genes were left out, as adata.X") for reason in found.reasons
    )


@pytest.mark.parametrize("suffix", ["h5ad", pytest.param("zarr", marks=pytest.mark.slow)])
def test_survives_writing(integrated, tmp_path, suffix):
    adata = integrated.copy()
    adata.obs["day"] = np.tile(["mon", "tue"], 160)
    found = tl.diagnose(adata, ["batch", "day"], label_key="cell_type", control_genes=["gene0"])
    path = tmp_path / f"a.{suffix}"
    (adata.write_zarr if suffix == "zarr" else adata.write_h5ad)(path)
    again = (ad.read_zarr if suffix == "zarr" else ad.read_h5ad)(path)
    record = again.uns["scbatchnorm_diagnose"]
    for name in ("states", "merged", "private", "changes", "control_genes", "calibration"):
        pd.testing.assert_frame_equal(record[name], getattr(found, name), check_dtype=False, check_index_type=False)
    assert record["verdict"] == found.verdict
    assert record["reasons"].tolist() == list(found.reasons)
    assert record["params"]["batch_key"].tolist() == ["batch", "day"]
    same = tl.diagnose(again, ["batch", "day"], label_key="cell_type", control_genes=["gene0"])
    assert repr(same) == repr(found)


def test_same_seed_same_answer(adata):
    first, second = (tl.diagnose(adata, "batch", use_rep="X_good", rng=3) for _ in range(2))
    pd.testing.assert_frame_equal(first.states, second.states)
    pd.testing.assert_frame_equal(first.merged, second.merged)


def test_names_of_batches_and_types_make_no_difference(adata):
    expected = tl.diagnose(adata, "batch", use_rep="X_good").states["kept"].to_numpy()
    adata.obs["batch"] = (adata.obs["batch"] == "x").to_numpy()
    np.testing.assert_array_equal(tl.diagnose(adata, "batch", use_rep="X_good").states["kept"], expected)


def test_view(adata):
    before = digest(adata)
    view = adata[adata.obs["cell_type"] != "B cell"]
    tl.diagnose(view, "batch", use_rep="X_good")
    assert "diagnose_kept" in view.obs
    assert digest(adata) == before


@pytest.mark.parametrize("sizes", [(60, 1), (60, 2), (60, 3), (1, 1), (3, 3), (60, 14)])
def test_tiny_batches(sizes):
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"batch": np.repeat(["x", "y"], sizes)}, index=[f"cell{i}" for i in range(sum(sizes))])
    points = rng.normal(size=(sum(sizes), 4))
    adata = ad.AnnData(obs=obs, obsm={"X_pca": points, "X_new": points})
    assert not tl.diagnose(adata, "batch", use_rep="X_new").flagged


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, KeyError, "key='scbatchnorm' is not a key of adata.uns; keys: none"),
        ({"use_rep": "X_new"}, KeyError, "use_rep='X_new' is not a key of adata.obsm; keys: X_pca, X_good"),
        ({"use_rep": "X_good", "key": "a"}, ValueError, "key='a' and use_rep='X_good' exclude each other"),
        ({"layer": "log"}, ValueError, "layer='log' and an integration of this package"),
        ({"use_rep": "X_good", "layer": "log"}, KeyError, "layer='log' is not a key of adata.layers; keys: none"),
        ({"use_rep": "X_good", "unintegrated": "X"}, KeyError, "unintegrated='X' is not a key of adata.obsm"),
        ({"use_rep": "X_good", "label_key": "typ"}, KeyError, "label_key='typ' is not a column of adata.obs"),
        ({"use_rep": "X_good", "label_key": 3}, ValueError, "label_key must be a column of adata.obs or None; got 3"),
        ({"use_rep": "X_good", "control_genes": ["XIST"]}, KeyError, "1 are not: XIST"),
        ({"use_rep": "X_good", "control_genes": "XIST"}, ValueError, "control_genes must be a sequence of names"),
        ({"use_rep": "X_good", "calibrate": True}, ValueError, "use_rep='X_good' is another tool's"),
        ({"use_rep": "X_good", "calibrate": 1}, ValueError, "calibrate must be True or False; got 1"),
        ({"use_rep": "X_good", "key_added": "a/b"}, ValueError, "key_added must be a non-empty str without '/'"),
    ],
)
def test_wrong_parameters(adata, options, error, message):
    before = digest(adata)
    with pytest.raises(error, match=re.escape(message)):
        tl.diagnose(adata, "batch", **options)
    assert digest(adata) == before


def test_integration_that_no_longer_fits(integrated):
    adata = integrated[:, 2:].copy()
    with pytest.raises(KeyError, match="the 40 genes of the model; 2 are missing: gene0, gene1"):
        tl.diagnose(adata, "batch")
    adata = integrated.copy()
    adata.obsm["X_scbatchnorm"] = adata.obsm["X_scbatchnorm"][:, :3]
    with pytest.raises(ValueError, match="must have the 8 columns of the model"):
        tl.diagnose(adata, "batch")


def test_a_gene_of_one_batch_is_seen_by_its_shift(brief):
    """Say of the Y chromosome: integration and correction carry it over, which is no loss of signal."""
    adata = cells(n=40)
    adata.X[:, 5] = np.where(adata.obs["batch"] == "y", 2.0, 0.0)
    sc.pp.pca(adata, n_comps=8)
    pp.integrate(adata, "batch", model=brief(n_components=8))
    tl.correct(adata)
    assert adata.layers["scbatchnorm"][adata.obs["batch"] == "x", 5].min() > 0.5
    found = tl.diagnose(adata, "batch", control_genes=["gene5", "gene0"]).control_genes
    assert not found["flagged"].any()
    shift = found["largest_shift"].to_dict()
    assert shift["gene5"] > 0.8 > 4 * shift["gene0"]
    adata.var["kept"] = adata.var_names != "gene5"
    pp.integrate(adata, "batch", model=brief(n_components=8), mask_var="kept")
    tl.correct(adata, genes="hvg")
    np.testing.assert_array_equal(adata.layers["scbatchnorm"][:, 5], adata.X[:, 5])


def test_one_type_without_labels():
    adata = cells(n=80, without=tuple((name, batch) for name in TYPES[1:] for batch in ("x", "y")))
    found = tl.diagnose(adata, "batch", use_rep="X_good")
    assert not found.flagged
    assert found.states.groupby("batch")["n_cells"].sum().to_dict() == {"x": 80, "y": 80}
