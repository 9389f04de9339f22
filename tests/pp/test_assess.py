"""Verdicts are right on data simulated for them."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scbatchnorm import pp
from scbatchnorm.pp._assessment.result import from_uns
from tests.helpers.assessment import annotated, assert_same
from tests.helpers.compare import digest, written


@pytest.mark.parametrize("label_key", [None, "type"])
def test_shifted_batches_need_a_correction(label_key):
    found = pp.assess(annotated([150, 150, 80], shift=2), "batch", label_key=label_key)
    assert found.verdict == "correct"
    assert (found.effects["effect"] > 0.1).mean() > 0.9
    assert (found.batches["shared"] > 0.9).all()
    assert "Batches differ beyond chance" in found.reasons[0]
    assert found.batches["effect"].idxmax() == "2"
    if label_key:
        assert sorted(found.effects.index) == ["A", "B"]
        assert found.effects["cells"].sum() == 380


@pytest.mark.parametrize("label_key", [None, "type"])
def test_the_fewest_permutations_are_enough_to_see_an_effect(label_key):
    """Of 99 the smallest p is .01."""
    found = pp.assess(annotated([150, 150, 80], shift=2), "batch", label_key=label_key, n_permutations=99)
    assert found.effects["p_adjusted"].min() == 0.01
    assert found.verdict == "correct"


@pytest.mark.parametrize("label_key", [None, "type"])
@pytest.mark.parametrize("sizes", [(150, 150), (240, 40), (90, 90, 90)])
def test_batches_of_one_experiment_need_none(sizes, label_key):
    found = pp.assess(annotated(sizes, seed=1), "batch", label_key=label_key)
    assert found.verdict == "none"
    assert "no more than chance" in found.reasons[0]
    assert found.effects["p_adjusted"].min() > 0.01


def test_significant_effects_may_be_too_small_to_matter():
    adata = annotated([3000, 3000], shift=0.4)
    found = pp.assess(adata, "batch", label_key="type")
    assert (found.effects["p_adjusted"] < 0.01).any()
    assert found.verdict == "none"
    assert "by too little to matter" in found.reasons[0]


def test_private_types_are_no_effect():
    adata = annotated([400, 400], types="ABCD")
    kept = ~((adata.obs["batch"] == 0) & (adata.obs["type"] == "D"))
    kept &= ~((adata.obs["batch"] == 1) & (adata.obs["type"] == "A"))
    adata = adata[kept].copy()
    found = pp.assess(adata, "batch")
    assert found.verdict == "none"
    assert (found.batches["shared"] < 0.8).all()
    found = pp.assess(adata, "batch", label_key="type")
    assert found.verdict == "none"
    assert any("A, D are in one batch only" in reason for reason in found.reasons)


def test_one_of_many_batches_is_found_and_named():
    adata = annotated([60] * 20)
    adata.obsm["X_pca"][adata.obs["batch"] == 7, 5] += 2
    found = pp.assess(adata, "batch")
    assert found.verdict == "correct"
    assert any("1 of 20 batches differs from the others: 7 (" in reason for reason in found.reasons)


def test_condition_that_is_the_batch_is_confounded():
    adata = annotated([100, 100, 100], shift=2)
    adata.obs["condition"] = np.where(adata.obs["batch"] == 0, "control", "treated")
    adata.obs["donor"] = [f"{batch}{i % 3}" for i, batch in enumerate(adata.obs["batch"])]
    adata.obs["sex"] = np.tile(["m", "f"], 150)
    adata.obs["age"] = 20 + 10.5 * adata.obs["batch"] + 0.01 * np.arange(300)
    found = pp.assess(adata, "batch", covariate_keys=["sex", "donor", "condition", "age"])
    assert found.verdict == "confounded"
    assert found.association["status"].to_dict() == {
        "sex": "separable", "donor": "nested in batches", "condition": "confounded", "age": "nearly confounded"
    }  # fmt: skip
    assert found.reasons[0].startswith("condition (Cramer's V ")
    assert "treated in 2" in found.reasons[0]
    assert found.design.to_numpy()[list(found.design.index).index(("condition", "treated"))].tolist() == [0, 100, 100]
    assert pp.assess(adata, "batch", covariate_keys=["sex", "donor"]).verdict == "correct"


def test_confounding_without_effect_asks_for_nothing():
    adata = annotated([100, 100], seed=1)
    adata.obs["condition"] = adata.obs["batch"] * 2
    found = pp.assess(adata, "batch", covariate_keys="condition")
    assert found.verdict == "none"
    assert found.association.loc["condition", "confounded"]
    assert any(reason.startswith("condition") for reason in found.reasons)


def test_batches_without_a_common_label_are_confounded():
    adata = annotated([60, 60], shift=1)
    adata.obs["type"] = np.where(adata.obs["batch"] == 0, "A", "B")
    found = pp.assess(adata, "batch", label_key="type")
    assert found.verdict == "confounded"
    assert found.effects.empty
    assert "No label has 5 cells or more of two batches" in found.reasons[0]


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [
        ([60], "There is one batch only, 0"),
        ([1], "There is one batch only"),
        ([3, 3], "Fewer than two batches have 5 cells"),
        ([80, 2], "Fewer than two batches have 5 cells"),
    ],
)
def test_too_little_to_compare(sizes, reason):
    adata = annotated(sizes, shift=9)
    found = pp.assess(adata, "batch", label_key="type")
    assert found.verdict == "none"
    assert found.reasons[0].startswith(reason)
    assert_same(from_uns(adata.uns["scbatchnorm_assess"]), found)
    assert "Verdict: none" in repr(found)


def test_tiny_batches_are_named():
    found = pp.assess(annotated([100, 100, 3], shift=2), "batch", label_key="type")
    assert found.verdict == "correct"
    assert found.batches["effect"].isna().to_list() == [False, False, True]
    assert any("Nothing can be said about 2: fewer than 5 cells" in reason for reason in found.reasons)


def test_what_is_written():
    adata = annotated([50, 50])
    before = digest(adata)
    pp.assess(adata, "batch")
    assert written(before, digest(adata)) == {"uns['scbatchnorm_assess']"}
    assert adata.uns["scbatchnorm_assess"]["use_rep"] == "X_pca"
    view = annotated([50, 50])[:80]
    pp.assess(
        view,
        "batch",
        use_rep="X_pca",
        n_permutations=np.int64(99),  # type: ignore[arg-type]
    )
    assert view.uns["scbatchnorm_assess"]["n_permutations"] == 99


def test_same_seed_same_result():
    adata = annotated([100, 100], shift=0.5)
    first = pp.assess(adata, "batch", rng=3)
    assert_same(first, pp.assess(adata, "batch", rng=np.random.default_rng(3)))
    assert not first.effects.equals(pp.assess(adata, "batch", rng=4).effects)


@pytest.mark.parametrize("kind", ["category", "str", "bool", "sparse X", "DataFrame"])
def test_other_types(kind):
    adata = annotated([60, 60], shift=2)
    expected = pp.assess(adata.copy(), "batch", label_key="type")
    if kind == "sparse X":
        adata = ad.AnnData(sparse.eye(120, format="csr"), obs=adata.obs, obsm=adata.obsm)
    elif kind == "category":
        adata.obs["batch"] = pd.Categorical(adata.obs["batch"], categories=[1, 0, 9])
        adata.obs["type"] = pd.Categorical(adata.obs["type"], categories=["B", "unused", "A"])
    elif kind in {"str", "bool"}:
        adata.obs["batch"] = adata.obs["batch"].astype(kind)
    elif kind == "DataFrame":
        adata.obsm["X_pca"] = pd.DataFrame(adata.obsm["X_pca"], index=adata.obs_names).add_prefix("pc")
    found = pp.assess(adata, "batch", label_key="type")
    assert found.verdict == expected.verdict
    # In which order labels are permuted depends on that of the categories.
    np.testing.assert_allclose(found.effects["effect"], expected.effects["effect"], rtol=1e-4)


def test_cells_without_label_are_left_out_of_labels():
    adata = annotated([60, 60], shift=2)
    adata.obs.loc[adata.obs_names[:20], "type"] = np.nan
    found = pp.assess(adata, "batch", label_key="type", covariate_keys=["type"])
    assert found.effects["cells"].sum() == 100
    assert found.batches["cells"].tolist() == [60, 60]
    assert found.association.loc["type", "missing"] == 20
    assert len(found.association) == 1


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"use_rep": "X_umap"}, KeyError, "use_rep='X_umap' is not a key of adata.obsm; keys: X_pca"),
        ({"label_key": "typ"}, KeyError, "label_key='typ' is not a column of adata.obs; columns: batch, type"),
        ({"covariate_keys": ["type", "sex"]}, KeyError, "covariate_keys='sex' is not a column of adata.obs; columns: "),
        ({"covariate_keys": 3}, ValueError, "covariate_keys must be columns of adata.obs; got 3"),
        ({"n_permutations": 20}, ValueError, "n_permutations must be an integer of at least 99; got 20"),
        ({"batch_key": "donor"}, KeyError, "batch_key='donor' is not a column of adata.obs"),
        ({"label_key": "empty"}, ValueError, "label_key='empty' must have a value for at least one cell; all 40 are"),
    ],
    ids=["rep", "label", "covariate", "covariates", "permutations", "batch", "no labels"],
)
def test_wrong_parameters(options, error, message):
    adata = annotated([20, 20])
    if options.get("label_key") == "empty":
        adata.obs["empty"] = np.nan
    before = digest(adata)
    with pytest.raises(error, match=message):
        pp.assess(adata, **{"batch_key": "batch"} | options)
    assert digest(adata) == before


def test_without_components():
    adata = annotated([20, 20])
    del adata.obsm["X_pca"]
    with pytest.raises(KeyError, match=r"'X_pca' is not a key of adata.obsm; keys: none. Run sc.pp.pca\(adata\) first"):
        pp.assess(adata, "batch")
    adata.obsm["X_pca"] = np.full((40, 3), np.nan)
    with pytest.raises(ValueError, match="must be finite"):
        pp.assess(adata, "batch")
