"""Degenerate and extreme numbers: nothing that is not finite is ever written, and numpy has nothing to warn of."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

from scbatchnorm import BatchNormAutoencoder, metrics, pp, tl
from scbatchnorm._method.stem import fit_stem
from tests.helpers.compare import digest

if TYPE_CHECKING:
    from collections.abc import Callable

N, G = 48, 12


def log_expression(n: int = N, g: int = G) -> np.ndarray:
    """Of two types, of which the second half of the cells is shifted."""
    rng = np.random.default_rng(0)
    rate = np.where(np.arange(n)[:, None] % 2 == np.arange(g) % 2, 2.0, 0.5)
    X = np.log1p(rng.poisson(rate) * rng.uniform(0.8, 1.2, (n, 1)))
    X[n // 2 :, : g // 3] += 1.5
    return X.astype(np.float32)


def expression(X: np.ndarray) -> ad.AnnData:
    """AnnData of two batches; the representations are the expression around 0."""
    adata = ad.AnnData(np.asarray(X, dtype=np.float32), pd.DataFrame(index=[f"cell{i}" for i in range(len(X))]))
    adata.var_names = [f"gene{i}" for i in range(X.shape[1])]
    adata.obs["batch"] = np.repeat(["a", "b"], [len(X) // 2, len(X) - len(X) // 2])
    adata.obs["cell_type"] = np.where(np.arange(len(X)) % 2 == 0, "even", "odd")
    adata.obsm["X_pca"] = adata.obsm["rep"] = adata.X - adata.X.mean(axis=0)
    return adata


def changed(place: Any, value: Any) -> np.ndarray:
    X = log_expression()
    X[place] = value
    return X


EXPRESSION: dict[str, Callable[[], np.ndarray]] = {
    "constant genes": lambda: changed(np.s_[:, 3:7], 1.3),
    "all genes constant": lambda: np.full((N, G), 1.3),
    "zero cells": lambda: changed(np.s_[5:20], 0),
    "zero genes": lambda: changed(np.s_[:, 3:7], 0),
    "zero": lambda: np.zeros((N, G)),
    "a batch of zeros": lambda: changed(np.s_[N // 2 :], 0),
    "identical cells": lambda: np.tile(log_expression()[:1], (N, 1)),
    "identical batches": lambda: np.tile(log_expression(N // 2), (2, 1)),
    "repeated genes": lambda: np.repeat(log_expression()[:, :3], 4, axis=1),
    "two cells": lambda: log_expression()[N // 2 - 1 : N // 2 + 1],
    "fewer cells than components": lambda: log_expression()[N // 2 - 3 : N // 2 + 2],
    "two genes": lambda: log_expression()[:, 3:5],
    "values of 1e6": lambda: 1e6 * log_expression(),
    "one value of 1e6": lambda: changed((3, 4), 1e6),
    "unnormalised library sizes of 1e9": lambda: np.expm1(log_expression()) * np.logspace(0, 8, N)[:, None] + 0.1,
    "tiny": lambda: 1e-30 * log_expression(),
    "squares that vanish": lambda: 1e-23 * log_expression(),
    "subnormal": lambda: 1e-42 * log_expression(),
}
SIGNED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "opposite batches": lambda P: np.concatenate([P[: N // 2], -P[: N // 2]]),
    "constant column": lambda P: np.column_stack([P, np.full(N, 7.0)]),
    "large constant column": lambda P: np.column_stack([P, np.full(N, 1e11)]),
    "repeated columns": lambda P: np.column_stack([P, P]),
    "far from the origin": lambda P: P + 1e8,
    "one cell far away": lambda P: np.where(np.arange(N)[:, None] == 3, 9e11, P),
    "1e10": lambda P: P * 1e10,
    "one subnormal value": lambda P: np.where(np.arange(P.size).reshape(P.shape) == 5, 1e-45, 0),
}


def representation(P: np.ndarray) -> ad.AnnData:
    adata = expression(log_expression())
    adata.obsm["rep"] = adata.obsm["X_pca"] = np.asarray(P, dtype=np.float32)
    return adata


CASES = [*EXPRESSION, *(f"representation, {name}" for name in SIGNED)]


def made(case: str) -> ad.AnnData:
    if case in EXPRESSION:
        return expression(EXPRESSION[case]())
    return representation(SIGNED[case.removeprefix("representation, ")](log_expression() - 1))


def infinite(adata: ad.AnnData) -> list[str]:
    """Where infinite numbers lie; missing ones say that something is not known."""

    def look(value, where: str) -> list[str]:
        if isinstance(value, pd.DataFrame):
            value = {name: value[name].to_numpy() for name in value}
        if sparse.issparse(value):
            value = value.data
        if hasattr(value, "items"):
            return [place for name, entry in value.items() for place in look(entry, f"{where}/{name}")]
        array = np.asarray(value)
        return [where] if array.dtype.kind == "f" and np.isinf(array).any() else []

    slots = {slot: dict(getattr(adata, slot)) for slot in ("layers", "obsm", "varm", "uns")}
    return look(slots | {"obs": adata.obs, "var": adata.var}, "")


@pytest.fixture
def quiet():
    """Only the package's own warnings are allowed, as the doubt about values that no logarithm has."""
    with warnings.catch_warnings():
        for known in ("run sc.pp.log1p", "cannot be aligned reliably", "fewer than the 20", "is not defined, mixing_"):
            warnings.filterwarnings("ignore", f".*{known}", UserWarning)
        yield


@pytest.mark.parametrize("case", CASES)
def test_nothing_that_is_not_finite_is_written(case, brief, quiet):
    adata = made(case)
    use_rep = "rep" if case.startswith("representation") else None
    pp.integrate(adata, "batch", use_rep=use_rep, model=brief(n_refreshes=1))
    assert np.isfinite(adata.obsm["X_scbatchnorm"]).all()
    assert all(np.isfinite(values).all() for values in adata.uns["scbatchnorm"]["weights"].values())
    if use_rep is None:
        tl.correct(adata)
        assert np.isfinite(adata.layers["scbatchnorm"]).all()
    query = made(case)
    tl.map_query(query, adata, batch_key="batch", label_keys="cell_type", use_rep=use_rep)
    assert np.isfinite(query.obsm["X_scbatchnorm"]).all()
    assert infinite(query) == []
    tl.diagnose(adata, "batch")
    tl.mixing(adata, "batch", label_key="cell_type")
    pp.assess(adata, "batch", n_permutations=99)
    table = metrics.evaluate(
        adata, "X_scbatchnorm", batch_key="batch", metrics=["ilisi", "knn_preservation"], n_bootstrap=0
    )
    assert not np.isinf(table.select_dtypes("number").to_numpy(dtype=float)).any()
    assert infinite(adata) == []


def test_library_sizes_of_1e9_through_scanpy(brief):
    counts = np.random.default_rng(0).poisson(np.expm1(log_expression()) + 0.2) * np.logspace(0, 8, N)[:, None]
    adata = expression(np.rint(counts))
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    sc.pp.pca(adata, n_comps=5)
    pp.integrate(adata, "batch", model=brief())
    tl.correct(adata)
    assert np.isfinite(adata.obsm["X_scbatchnorm"]).all()
    assert np.isfinite(adata.layers["scbatchnorm"]).all()
    assert metrics.ilisi(adata.obsm["X_scbatchnorm"], adata.obs["batch"]) >= 0


@pytest.mark.parametrize("shape", [(1, G), (N, 1)], ids=["one cell", "one gene"])
@pytest.mark.filterwarnings("ignore:batch_key='batch' has one batch only:UserWarning")
def test_one_is_too_few(shape, brief):
    adata = expression(log_expression(*shape))
    before = digest(adata)
    for use_rep in (None, "rep"):
        with pytest.raises(
            ValueError, match="minimum of 2|at least 2 cells and 2 features|at least 2 columns; it has 1"
        ):
            pp.integrate(adata, "batch", use_rep=use_rep, model=brief())
    assert digest(adata) == before


VERBS: dict[str, Callable[[ad.AnnData], object]] = {
    "integrate": lambda adata: pp.integrate(adata, "batch", use_rep="rep"),
    "assess": lambda adata: pp.assess(adata, "batch"),
    "mixing": lambda adata: tl.mixing(adata, "batch", use_rep="rep"),
    "diagnose": lambda adata: tl.diagnose(adata, "batch", use_rep="rep"),
    "evaluate": lambda adata: metrics.evaluate(adata, "rep", batch_key="batch", label_key="cell_type"),
}


@pytest.mark.parametrize("value", [1e13, 1e20, 3e38])
@pytest.mark.parametrize("verb", VERBS)
def test_values_whose_squares_overflow_are_refused(verb, value):
    P = log_expression() - 1
    P[3, 4] = -value
    adata = representation(P)
    before = digest(adata)
    with pytest.raises(
        ValueError, match=r"adata.obsm\['(rep|X_pca)'\] must lie between -1e\+12 and 1e\+12; it .*cell '?(cell)?3"
    ):
        VERBS[verb](adata)
    assert digest(adata) == before


def test_large_expression_is_refused_with_its_place():
    adata = expression(changed((3, 4), 1e20))
    with pytest.raises(
        ValueError,
        match=r"adata.X must lie between .* 1 values beyond, the first \(1e\+20\) in cell 'cell3', feature 'gene4'",
    ):
        pp.integrate(adata, "batch")


@pytest.mark.parametrize("norm", ["batch", "layer", "group"])
@pytest.mark.parametrize("value", [1e14, 1e20, 3e38])
def test_cells_far_from_the_fit_are_refused(norm, value, brief):
    X, batch = log_expression(), np.arange(N) % 2
    model = brief(norm=norm).fit(X, batch)
    X[7, 2] = value
    with pytest.raises(
        ValueError, match=r"within 1e\+12 times the spread of those of the fit; 1 of 48 do not, the first at 7"
    ):
        model.transform(X, batch)
    with pytest.raises(ValueError, match=r"within 1e\+12 times the spread .* 48 of 48"):
        model.inverse_transform(np.full((N, 8), value))
    X[7, 2] = 1e11
    assert np.isfinite(model.transform(X, batch)).all()


def test_numbers_that_cannot_be_corrected_are_not_copied(brief):
    """With strength 0 or `genes="hvg"` values are copied as measured: these must be numbers, too."""
    adata = expression(log_expression())
    adata.var["highly_variable"] = np.arange(G) > 2
    pp.integrate(adata, "batch", model=brief(strength=0))
    adata.X[3, 1] = np.nan
    before = digest(adata)
    for genes in ("all", "hvg"):
        with pytest.raises(ValueError, match="adata.X must be finite; .*cell 'cell3', feature 'gene1'"):
            tl.correct(adata, genes=genes)
    assert digest(adata) == before


@pytest.mark.parametrize("covariate", [1e-300, 1e300])
def test_covariates_in_any_unit(covariate):
    adata = expression(log_expression())
    adata.obs["number"] = np.arange(N) * covariate
    found = pp.assess(adata, "batch", covariate_keys=["number"], n_permutations=99)
    adata.obs["number"] = np.arange(N) * 1.0
    expected = pp.assess(adata, "batch", covariate_keys=["number"], n_permutations=99)
    assert found.verdict == expected.verdict
    assert found.association["value"].tolist() == pytest.approx(expected.association["value"].tolist())


@pytest.mark.parametrize("shape", [(60, 40), (40, 60)])
def test_axes_of_repeated_cells_are_reproducible(shape):
    """Where the rank is lower than the components that were asked for, ARPACK goes on with random vectors."""
    rng = np.random.default_rng(0)
    X = rng.gamma(1.0, size=shape).astype(np.float32)[rng.integers(0, 6, shape[0])]
    fits = [fit_stem(X, "pca", 20, 20, np.random.default_rng(0))[0] for _ in range(4)]
    for fit in fits[1:]:
        np.testing.assert_array_equal(fit.components, fits[0].components)
    np.testing.assert_allclose(fits[0].components.T @ fits[0].components, np.eye(20), atol=1e-4)


@pytest.mark.parametrize("values", [["1", 1], ["1", 1, 1.5], [b"a", "a"]])
def test_batches_in_a_list_stay_apart(values, brief):
    X = log_expression()
    batch = [values[i % len(values)] for i in range(N)]
    model = brief().fit(X, batch)
    assert model.batches_.tolist() == values
    np.testing.assert_array_equal(model.transform(X, batch), brief().fit_transform(X, np.arange(N) % len(values)))
    assert isinstance(model, BatchNormAutoencoder)
