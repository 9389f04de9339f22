"""`pp.integrate`: what it writes, which data and batches it uses, and what it leaves alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from scbatchnorm.pp import integrate
from tests.helpers.compare import digest, same_embedding, written

if TYPE_CHECKING:
    from collections.abc import Callable


# ---- what is written


def test_fields(prepared, brief):
    before = digest(prepared)
    assert integrate(prepared, "batch", model=brief()) is None
    assert written(before, digest(prepared)) == {
        "obsm['X_scbatchnorm']",
        "varm['scbatchnorm']",
        "uns['scbatchnorm']",
    }
    embedding, loadings = prepared.obsm["X_scbatchnorm"], prepared.varm["scbatchnorm"]
    assert (embedding.dtype, embedding.shape) == (np.float32, (90, 8))
    assert (loadings.dtype, loadings.shape) == (np.float32, (40, 8))
    used = prepared.var["highly_variable"].to_numpy()
    assert (loadings[~used] == 0).all()
    np.testing.assert_allclose(loadings[used].T @ loadings[used], np.eye(8), atol=1e-4)
    record = prepared.uns["scbatchnorm"]
    assert record["batch_key"] == "batch"
    assert record["batch_levels"].tolist() == ["a", "b", "c"]
    assert record["features"].tolist() == prepared.var_names[used].tolist()
    assert record["params"]["n_components"] == 8
    assert record["strength"]["value"] == 1
    assert record["history"]["step"].iloc[-1] == 6


def test_embedding_is_that_of_the_estimator(adata, brief):
    integrate(adata, "batch", model=brief())
    expected = brief().fit_transform(adata.X, adata.obs["batch"])
    np.testing.assert_array_equal(adata.obsm["X_scbatchnorm"], expected)


def test_key_added_names_every_slot(prepared, brief):
    before = digest(prepared)
    integrate(prepared, "batch", model=brief(), key_added="mine")
    assert written(before, digest(prepared)) == {"obsm['mine']", "varm['mine']", "uns['mine']"}


@pytest.mark.parametrize("key", ["", "a/b", ".", 3])
def test_keys_that_files_cannot_hold_are_refused(key, adata):
    with pytest.raises(ValueError, match="key_added"):
        integrate(adata, "batch", key_added=key)


def test_copy(prepared, brief):
    before = digest(prepared)
    result = integrate(prepared, "batch", model=brief(), copy=True)
    assert digest(prepared) == before
    assert result is not None
    assert "X_scbatchnorm" in result.obsm
    integrate(prepared, "batch", model=brief())
    assert digest(result) == digest(prepared)


def test_again_replaces_the_result(adata, brief):
    integrate(adata, "batch", model=brief())
    first = digest(adata)
    integrate(adata, "batch", model=brief(n_components=5))
    assert adata.obsm["X_scbatchnorm"].shape == (90, 5)
    integrate(adata, "batch", model=brief())
    assert digest(adata) == first


def test_strength_rng_and_device_are_handed_on(adata):
    integrate(adata, "batch", strength=0, rng=7, device="cpu", progress=False)
    params = adata.uns["scbatchnorm"]["params"]
    assert (params["strength"], params["rng"], params["device"], params["progress"]) == (0, 7, "cpu", False)
    assert adata.uns["scbatchnorm"]["strength"]["value"] == 0


# ---- what is used


def test_representation(prepared, brief):
    before = digest(prepared)
    integrate(prepared, "batch", use_rep="X_pca", model=brief(strength=0))
    assert written(before, digest(prepared)) == {"obsm['X_scbatchnorm']", "uns['scbatchnorm']"}
    np.testing.assert_allclose(prepared.obsm["X_scbatchnorm"], prepared.obsm["X_pca"], atol=1e-5)
    assert prepared.uns["scbatchnorm"]["features"].tolist() == [f"X_pca_{i}" for i in range(10)]


def test_representation_may_be_a_data_frame(prepared, brief):
    prepared.obsm["frame"] = pd.DataFrame(prepared.obsm["X_pca"], index=prepared.obs_names).add_prefix("pc")
    integrate(prepared, "batch", use_rep="X_pca", model=brief(), key_added="array")
    integrate(prepared, "batch", use_rep="frame", model=brief(), key_added="table")
    np.testing.assert_array_equal(prepared.obsm["array"], prepared.obsm["table"])


def test_layer(prepared, brief, annotated):
    prepared.X = annotated(seed=1).X
    integrate(prepared, "batch", model=brief(), key_added="from X")
    integrate(prepared, "batch", model=brief(), layer="log")
    prepared.X = prepared.layers["log"]
    expected = integrate(prepared, "batch", model=brief(), copy=True)
    same_embedding(prepared, expected)
    assert np.abs(prepared.obsm["X_scbatchnorm"] - prepared.obsm["from X"]).max() > 0.1


def test_layer_alone_suffices(prepared, brief):
    expected = integrate(prepared, "batch", model=brief(), copy=True)
    prepared.X = None
    integrate(prepared, "batch", model=brief(), layer="log")
    same_embedding(prepared, expected)


@pytest.mark.parametrize(
    "mask_var",
    [
        "auto",
        "highly_variable",
        np.arange(40) % 4 > 0,
        (np.arange(40) % 4 > 0).tolist(),
        (np.arange(40) % 4 > 0).astype(int),
        pd.array(np.arange(40) % 4 > 0, dtype="boolean"),
    ],
    ids=["auto", "column", "array", "list", "0 and 1", "nullable"],
)
def test_genes_used(mask_var, prepared, brief):
    subset = prepared[:, prepared.var["highly_variable"]].copy()
    integrate(subset, "batch", mask_var=None, model=brief())
    integrate(prepared, "batch", mask_var=mask_var, model=brief())
    same_embedding(prepared, subset)


def test_all_genes_are_used_on_request_or_without_highly_variable_ones(prepared, brief):
    integrate(prepared, "batch", mask_var=None, model=brief())
    assert len(prepared.uns["scbatchnorm"]["features"]) == 40
    del prepared.var["highly_variable"]
    expected = integrate(prepared, "batch", model=brief(), copy=True)
    same_embedding(prepared, expected)


def test_column_of_highly_variable_genes_that_went_through_a_file(prepared, brief):
    expected = integrate(prepared, "batch", model=brief(), copy=True)
    for column in (
        prepared.var["highly_variable"].astype(object),
        prepared.var["highly_variable"].astype("boolean"),
        prepared.var["highly_variable"].astype("category"),
    ):
        prepared.var["highly_variable"] = column
        integrate(prepared, "batch", model=brief())
        same_embedding(prepared, expected)


def test_several_columns_make_one_batch_of_each_combination(adata, brief):
    adata.obs["donor"] = pd.Categorical(np.where(np.arange(90) % 30 < 15, "d1", "d2"))
    integrate(adata, ["batch", "donor"], model=brief())
    record = adata.uns["scbatchnorm"]
    assert record["batch_key"].tolist() == ["batch", "donor"]
    assert record["batch_levels"].tolist() == [f"{b} | {d}" for b in "abc" for d in ("d1", "d2")]
    adata.obs["both"] = adata.obs["batch"].astype(str) + adata.obs["donor"].astype(str)
    expected = integrate(adata, "both", model=brief(), copy=True)
    same_embedding(adata, expected)


# ---- the model given


def test_model_is_copied(adata, brief):
    model = brief(rng=np.random.default_rng(0))
    params, state = model.get_params(), model.rng.bit_generator.state
    integrate(adata, "batch", model=model)
    assert model.get_params() == params
    assert model.rng.bit_generator.state == state
    assert not hasattr(model, "stem_")
    integrate(adata, "batch", use_rep="X_scbatchnorm", model=model, key_added="twice")
    assert model.stem == "pca"


def test_fitted_model_is_refused(adata, fitted, brief):
    with pytest.raises(ValueError, match="model must not be fitted"):
        integrate(adata, "batch", model=fitted)
    integrate(adata, "batch", model=clone(fitted))
    same_embedding(adata, integrate(adata, "batch", model=brief(), copy=True))


@pytest.mark.parametrize(
    "given_too", [{"strength": 1.0}, {"strength": 0}, {"rng": 1}, {"rng": None}, {"device": "cpu"}, {"progress": True}]
)
def test_model_excludes_its_own_parameters(given_too, adata, brief):
    with pytest.raises(ValueError, match=f"{next(iter(given_too))} and model exclude each other"):
        integrate(adata, "batch", model=brief(), **given_too)


def test_model_must_be_one(adata):
    with pytest.raises(TypeError, match="model must be a BatchNormAutoencoder; got str"):
        integrate(adata, "batch", model="pca")  # type: ignore[arg-type]


def test_identity_needs_a_representation(adata, brief):
    with pytest.raises(ValueError, match="use_rep"):
        integrate(adata, "batch", model=brief(stem="identity"))


# ---- batches


def test_one_batch_is_the_plain_stem(adata, brief):
    expected = integrate(adata, "batch", model=brief(strength=0), copy=True)
    adata.obs["batch"] = "only"
    with pytest.warns(UserWarning, match=r"batch_key='batch' has one batch only, 'only'") as caught:
        integrate(adata, "batch", model=brief())
    assert [w.filename for w in caught] == [__file__]
    same_embedding(adata, expected)
    assert adata.uns["scbatchnorm"]["strength"]["value"] == 0


def test_batch_of_a_single_cell(adata, brief):
    adata.obs["batch"] = ["alone", *["a"] * 45, *["b"] * 44]
    with pytest.warns(UserWarning, match=r"one cell .*batch_key='batch' has 1: alone") as caught:
        integrate(adata, "batch", model=brief())
    assert [w.filename for w in caught] == [__file__]
    assert np.isfinite(adata.obsm["X_scbatchnorm"]).all()


def test_every_cell_a_batch(annotated, brief):
    adata = annotated(12)
    adata.obs["batch"] = adata.obs_names
    with pytest.warns(UserWarning, match=r"has 12: cell0, .*\(12 in all\)"):
        integrate(adata, "batch", model=brief())
    assert np.isfinite(adata.obsm["X_scbatchnorm"]).all()


BATCH_COLUMNS: dict[str, Callable[[np.ndarray], Any]] = {
    "int": lambda b: np.searchsorted(["a", "b", "c"], b),
    "float": lambda b: np.searchsorted(["a", "b", "c"], b) / 2,
    "str": lambda b: b.astype(object),
    "unicode": lambda b: np.array([{"a": "Charité 1", "b": "東京", "c": "🧬 / x"}[level] for level in b]),
    "unused categories": lambda b: pd.Categorical(b, categories=["z", "c", "b", "y", "a"]),
    "categories of numbers": lambda b: pd.Series(np.searchsorted(["a", "b", "c"], b)).astype("category").array,
    "mixed types": lambda b: pd.Series([{"a": 1, "b": "1", "c": 2}[level] for level in b], dtype=object).to_numpy(),
    "nullable": lambda b: pd.Series(np.searchsorted(["a", "b", "c"], b)).astype("Int64").array,
    "dates": lambda b: pd.to_datetime([f"2026-01-0{np.searchsorted(['a', 'b', 'c'], level) + 1}" for level in b]),
}


@pytest.mark.parametrize("kind", BATCH_COLUMNS)
def test_kinds_of_batch_columns(kind, adata, batch, brief):
    expected = integrate(adata, "batch", model=brief(), copy=True)
    adata.obs["batch"] = BATCH_COLUMNS[kind](batch)
    before = digest(adata)
    integrate(adata, "batch", model=brief())
    same_embedding(adata, expected)
    assert len(adata.uns["scbatchnorm"]["batch_levels"]) == 3
    written(before, digest(adata))


def test_true_and_false_as_batches(adata, batch, brief):
    adata.obs["batch"] = batch == "c"
    integrate(adata, "batch", model=brief())
    assert adata.uns["scbatchnorm"]["batch_levels"].tolist() == ["False", "True"]


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batch=st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=30, max_size=30).filter(
        lambda b: len(set(b)) > 1 and min(b.count(level) for level in set(b)) > 1
    )
)
def test_any_division_into_batches(batch, annotated, brief):
    adata = annotated(30)
    adata.obs["batch"] = batch
    integrate(adata, "batch", model=brief())
    assert np.isfinite(adata.obsm["X_scbatchnorm"]).all()
    assert adata.uns["scbatchnorm"]["batch_levels"].tolist() == list(dict.fromkeys(batch))
