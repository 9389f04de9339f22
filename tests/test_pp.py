"""`pp.integrate`: what it writes, what it takes, what it refuses, and what it leaves alone."""

from __future__ import annotations

import hashlib
import logging
import pickle
import re
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import clone

from scbatchnorm import BatchNormAutoencoder
from scbatchnorm.pp import integrate

if TYPE_CHECKING:
    from collections.abc import Callable


def digest(adata: ad.AnnData) -> dict[str, str]:
    """Hashes of everything in `adata`, by name."""
    if adata.isbacked:
        adata = adata.to_memory()

    def of(value) -> str:
        if sparse.issparse(value):
            value = (
                value.format,
                value.dtype.str,
                value.data.tobytes(),
                value.indices.tobytes(),
                value.indptr.tobytes(),
            )
        elif isinstance(value, np.ndarray) and value.dtype != object:
            value = (value.dtype.str, value.shape, value.tobytes())
        elif isinstance(value, pd.DataFrame):
            value = (value.dtypes.astype(str).to_dict(), value.to_csv())
        elif isinstance(value, dict):
            value = {key: of(entry) for key, entry in value.items()}
        return hashlib.sha256(pickle.dumps(value)).hexdigest()

    parts = {"X": of(adata.X), "obs": of(adata.obs), "var": of(adata.var)}
    for slot in ("layers", "obsm", "varm", "obsp", "varp", "uns"):
        parts |= {f"{slot}[{key!r}]": of(value) for key, value in getattr(adata, slot).items() if key is not None}
    return parts


def written(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """Names of what is new, provided that nothing else is changed or gone."""
    assert {name: after.get(name) for name in before} == before
    return set(after) - set(before)


def same_embedding(adata: ad.AnnData, other: ad.AnnData, tolerance: float = 0) -> None:
    np.testing.assert_allclose(adata.obsm["X_scbatchnorm"], other.obsm["X_scbatchnorm"], atol=tolerance, rtol=0)


@pytest.fixture
def prepared(adata):
    """With a layer, highly variable genes and principal components, as users have them."""
    adata.layers["log"] = adata.X.copy()
    adata.var["highly_variable"] = np.arange(40) % 4 > 0
    sc.pp.pca(adata, n_comps=10)
    return adata


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


# ---- forms of the data


def backed(adata, folder):
    adata.write_h5ad(folder / "data.h5ad")
    return ad.read_h5ad(folder / "data.h5ad", backed="r")


def with_matrix(make):
    def change(adata, folder):
        adata.X = make(adata.X)
        return adata

    return change


FORMS = {
    "backed": backed,
    "dense": with_matrix(lambda X: X.toarray()),
    "csc": with_matrix(sparse.csc_matrix),
    "csr_array": with_matrix(sparse.csr_array),
    "float64": with_matrix(lambda X: X.astype(np.float64)),
    "fortran": with_matrix(lambda X: np.asfortranarray(X.toarray())),
    "float64 fortran": with_matrix(lambda X: np.asfortranarray(X.toarray().astype(np.float64))),
    "not contiguous": with_matrix(lambda X: np.repeat(np.repeat(X.toarray(), 2, axis=0), 3, axis=1)[::2, ::3]),
    "backwards": with_matrix(lambda X: np.ascontiguousarray(X.toarray()[::-1])[::-1]),
    "view": lambda adata, folder: ad.concat([adata, adata], index_unique="-", merge="same")[:90],
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_the_data(form, prepared, brief, tmp_path):
    expected = integrate(prepared, "batch", model=brief(), copy=True)
    changed = FORMS[form](prepared, tmp_path)
    before = digest(changed)
    integrate(changed, "batch", model=brief())
    written(before, digest(changed))
    # Sparse and dense products round differently; training multiplies it (see test_model.py).
    same_embedding(changed, expected, 5e-3)
    assert not changed.is_view


@pytest.mark.parametrize("form", FORMS)
def test_copies_of_all_forms(form, prepared, brief, tmp_path):
    changed = FORMS[form](prepared, tmp_path)
    before = digest(changed)
    result = integrate(changed, "batch", model=brief(strength=0), copy=True)
    assert digest(changed) == before
    assert result is not None
    assert "X_scbatchnorm" in result.obsm
    assert not result.isbacked


def test_view_of_genes_and_cells(adata, brief):
    rows, columns = np.arange(0, 90, 2), np.arange(39, 0, -1)
    expected = adata[rows, columns].copy()
    integrate(expected, "batch", model=brief())
    view = adata[rows, columns]
    before = digest(adata)
    integrate(view, "batch", model=brief())
    same_embedding(view, expected)
    assert digest(adata) == before


def test_representation_may_be_sparse(adata, brief):
    adata.obsm["sparse"] = adata.X[:, :12].copy()
    adata.obsm["array"] = adata.obsm["sparse"].toarray()
    for form in ("sparse", "array"):
        integrate(adata, "batch", model=brief(), use_rep=form, key_added=f"from {form}")
    np.testing.assert_allclose(adata.obsm["from sparse"], adata.obsm["from array"], atol=5e-3)


def test_empty_genes_and_cells(adata, brief):
    X = adata.X.toarray()
    X[5], X[:, 7] = 0, 0
    adata.X = sparse.csr_matrix(X)
    integrate(adata, "batch", model=brief())
    assert np.isfinite(adata.obsm["X_scbatchnorm"]).all()
    np.testing.assert_allclose(adata.varm["scbatchnorm"][7], 0, atol=1e-6)


def test_fewer_cells_than_components(annotated, brief):
    adata = annotated(12)
    integrate(adata, "batch", model=brief(n_components=50))
    assert adata.obsm["X_scbatchnorm"].shape == (12, 11)


def test_fewer_genes_than_components(annotated, brief):
    adata = annotated(60, 6)
    integrate(adata, "batch", model=brief(n_components=50))
    assert adata.obsm["X_scbatchnorm"].shape == (60, 5)
    assert adata.varm["scbatchnorm"].shape == (6, 5)


def test_repeated_names_of_cells_are_fine(adata, brief):
    expected = integrate(adata, "batch", model=brief(), copy=True)
    adata.obs_names = ["cell"] * 90
    integrate(adata, "batch", model=brief())
    same_embedding(adata, expected)


# ---- what is refused


def one_value(value):
    def apply(adata):
        X = adata.X.toarray()
        X[3, 4] = value
        adata.X = sparse.csr_matrix(X)

    return apply


def one_dense_value(value):
    def apply(adata):
        adata.X = adata.X.toarray() + np.float32(0.1)
        adata.X[3, 4] = value

    return apply


def raw_counts(adata):
    adata.X = sparse.csr_matrix(np.rint(np.expm1(adata.X.toarray())))


def obs(values):
    def apply(adata):
        adata.obs["batch"] = values

    return apply


def nothing(adata):
    pass


def repeated_genes(adata):
    adata.var_names = ["gene1", "gene1", *adata.var_names[2:]]


def no_matrix(adata):
    adata.X = None


def broken_representation(adata):
    adata.obsm["X_pca"] = np.ones((90, 3))
    adata.obsm["X_pca"][7, 1] = np.nan


MISSING = ["a"] * 45 + ["b"] * 45
MISSING[10] = MISSING[20] = None  # type: ignore[call-overload]
PLACE = "in cell 'cell3', feature 'gene4'"
REFUSED: dict[str, tuple[Callable[[ad.AnnData], None], dict[str, Any], type[Exception], str]] = {
    "batch_key missing": (nothing, {"batch_key": "Batch"}, KeyError, "batch_key='Batch' .*columns: batch"),
    "second batch_key missing": (nothing, {"batch_key": ["batch", "x"]}, KeyError, "batch_key='x' .*columns: batch"),
    "no batch_key": (nothing, {"batch_key": []}, ValueError, "batch_key must be"),
    "batch_key a number": (nothing, {"batch_key": 3}, ValueError, "batch_key must be"),
    "cells without batch": (
        obs(MISSING),
        {},
        ValueError,
        "batch_key='batch' .* 2 of 90 .*cell10, cell20.*Remove them",
    ),
    "cells without batch, categorical": (obs(pd.Categorical(MISSING)), {}, ValueError, "2 of 90 .*cell10, cell20"),
    "cells without batch, numbers": (
        obs([np.nan] * 6 + [1.0] * 84),
        {},
        ValueError,
        "6 of 90 .*cell0.*cell4, \\.\\.\\.",
    ),
    "layer missing": (nothing, {"layer": "log"}, KeyError, "layer='log' .*keys: none"),
    "use_rep missing": (nothing, {"use_rep": "X_pca"}, KeyError, "use_rep='X_pca' .*keys: none"),
    "mask_var missing": (nothing, {"mask_var": "hvg"}, KeyError, "mask_var='hvg' .*columns: none"),
    "mask_var of the wrong length": (nothing, {"mask_var": [True] * 39}, ValueError, "mask_var .*40 genes.*39"),
    "mask_var of names": (nothing, {"mask_var": ["x"] * 40}, ValueError, "mask_var must hold True or False"),
    "mask_var of numbers": (nothing, {"mask_var": np.arange(40)}, ValueError, "mask_var must hold True or False"),
    "mask_var of mixed types": (
        nothing,
        {"mask_var": np.array([True, "x"] * 20, dtype=object)},
        ValueError,
        "mask_var must hold True or False",
    ),
    "mask_var selects one gene": (nothing, {"mask_var": np.arange(40) == 1}, ValueError, "at least 2 genes.* 1 of 40"),
    "layer and use_rep": (nothing, {"layer": "a", "use_rep": "b"}, ValueError, "layer='a' and use_rep='b' exclude"),
    "mask_var and use_rep": (
        nothing,
        {"mask_var": "a", "use_rep": "b"},
        ValueError,
        "mask_var and use_rep='b' exclude",
    ),
    "no matrix": (no_matrix, {}, ValueError, "adata.X is None; give the layer"),
    "NaN": (one_value(np.nan), {}, ValueError, f"adata.X must be finite; it has 1 .*\\(nan\\) {PLACE}"),
    "infinite": (one_value(np.inf), {}, ValueError, f"adata.X must be finite; it has 1 .*\\(inf\\) {PLACE}"),
    "negative": (one_value(-0.5), {}, ValueError, f"never negative; it has 1 .*\\(-0.5\\) {PLACE}"),
    "dense NaN": (one_dense_value(np.nan), {}, ValueError, f"adata.X must be finite; it has 1 .*\\(nan\\) {PLACE}"),
    "dense negative": (one_dense_value(-2), {}, ValueError, f"never negative; it has 1 .*\\(-2\\) {PLACE}"),
    "raw counts": (
        raw_counts,
        {},
        ValueError,
        r"looks like raw counts .*\n *sc.pp.normalize_total\(adata, target_sum=1e4\)\n *sc.pp.log1p\(adata\)",
    ),
    "representation not finite": (
        broken_representation,
        {"use_rep": "X_pca"},
        ValueError,
        r"adata.obsm\['X_pca'\] must be finite; .*in cell 'cell7', feature 'X_pca_1'",
    ),
    "repeated genes": (repeated_genes, {}, ValueError, "var_names must be unique; 1 .*gene1.*var_names_make_unique"),
    "strength": (nothing, {"strength": 2}, ValueError, "'strength' parameter"),
    "rng": (nothing, {"rng": -1}, ValueError, "'rng' parameter"),
    "device": (nothing, {"device": "gpu"}, ValueError, "device must be"),
    "key_added": (nothing, {"key_added": "a/b"}, ValueError, "key_added must be"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("copy", [False, True], ids=["in place", "copy"])
def test_refused_and_unchanged(case, copy, adata):
    prepare, arguments, error, message = REFUSED[case]
    prepare(adata)
    before = digest(adata)
    with pytest.raises(error) as raised:
        integrate(adata, **({"batch_key": "batch", "copy": copy} | arguments))
    assert re.search(message, str(raised.value.args[0]), flags=re.DOTALL)
    assert digest(adata) == before


def test_views_stay_views_when_refused(adata):
    view = adata[:50]
    with pytest.raises(KeyError):
        integrate(view, "nothing")
    assert view.is_view


def test_unused_genes_may_be_repeated_or_broken(prepared, brief):
    expected = integrate(prepared, "batch", model=brief(), copy=True)
    X = prepared.X.toarray()
    X[3, [0, 4]] = np.nan  # not highly variable
    prepared.X = sparse.csr_matrix(X)
    prepared.var_names = ["twice" if i in {0, 4} else name for i, name in enumerate(prepared.var_names)]
    integrate(prepared, "batch", model=brief())
    same_embedding(prepared, expected)


@pytest.mark.filterwarnings("ignore:batch_key='batch' has one batch only:UserWarning")
@pytest.mark.parametrize("shape", [(0, 40), (1, 40), (90, 0), (90, 1)])
def test_too_small(shape, adata):
    small = adata[: shape[0], : shape[1]].copy()
    with pytest.raises(ValueError, match="at least 2|minimum of 2"):
        integrate(small, "batch")


def test_doubtful_values_are_warned_of(adata, brief):
    adata.X = adata.X * 100
    with pytest.warns(UserWarning, match="run sc.pp.log1p") as caught:
        integrate(adata, "batch", model=brief())
    assert [w.filename for w in caught] == [__file__]


# ---- side effects


def test_log_names_what_was_written(prepared, brief, caplog):
    with caplog.at_level(logging.INFO, logger="scbatchnorm"):
        integrate(prepared, "batch", model=brief())
    assert "integrating 90 cells x 30 features of 3 batches" in caplog.messages
    assert caplog.messages[-1].startswith("added obsm['X_scbatchnorm'], varm['scbatchnorm'], uns['scbatchnorm'] in ")
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="scbatchnorm"):
        integrate(prepared, "batch", model=brief(), use_rep="X_pca", key_added="mine")
    assert caplog.messages[-1].startswith("added obsm['mine'], uns['mine'] in ")


def test_nothing_is_printed(adata, capfd):
    integrate(adata, "batch", model=BatchNormAutoencoder(min_steps=5, n_epochs=1, n_refreshes=1, strength=1))
    assert capfd.readouterr() == ("", "")


def test_global_states_are_left_alone(adata, brief):
    numpy_before = np.random.get_state(legacy=False)  # noqa: NPY002 (the legacy state is what is watched)
    torch_before, threads = torch.get_rng_state(), torch.get_num_threads()
    deterministic, gradients = torch.are_deterministic_algorithms_enabled(), torch.is_grad_enabled()
    integrate(adata, "batch", model=brief())
    numpy_after = np.random.get_state(legacy=False)  # noqa: NPY002
    np.testing.assert_array_equal(numpy_after["state"]["key"], numpy_before["state"]["key"])
    assert numpy_after["state"]["pos"] == numpy_before["state"]["pos"]
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert torch.get_num_threads() == threads
    assert (torch.are_deterministic_algorithms_enabled(), torch.is_grad_enabled()) == (deterministic, gradients)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
