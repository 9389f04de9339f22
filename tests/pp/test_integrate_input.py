"""`pp.integrate`: the forms of data it takes, and what it refuses, with the data unchanged."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scbatchnorm.pp import integrate
from tests.helpers.compare import digest, same_embedding, written

if TYPE_CHECKING:
    from collections.abc import Callable


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
    same_embedding(changed, expected)
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
    np.testing.assert_array_equal(adata.obsm["from sparse"], adata.obsm["from array"])


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
    "device an array": (nothing, {"device": np.array(["cpu", "cpu"])}, ValueError, "device must be"),
    "device a number": (nothing, {"device": 2**70}, ValueError, "device must be"),
    "copy an array": (nothing, {"copy": np.array([True, False])}, ValueError, "copy must be True or False"),
    "batch_key no sequence": (nothing, {"batch_key": np.array("batch")}, ValueError, "batch_key must be a column"),
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
