"""Claims that hold for any finite matrix that is not negative and any labels of batches: a result, or an error that says what is wrong."""

from __future__ import annotations

import pickle
import re
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from scipy import sparse

from scbatchnorm import BatchNormAutoencoder, metrics, pp, tl
from scbatchnorm.nn.network import NORMS
from tests.stress import examples
from tests.stress.cases import FORMS, NAMES, Case, cases, matrix
from tests.stress.effort import tries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anndata import AnnData

pytestmark = pytest.mark.stress

#: Errors of which the message says what is wrong with the input, by a name for the statistics.
REFUSALS = {
    "raw counts": r"looks like raw counts",
    "too large": r"must lie between -1e\+12 and 1e\+12",
    "fewer than 2 cells or features": r"at least 2 (genes|columns|cells and 2 features)|minimum of 2",
    "far from the fit": r"must lie within 1e\+12 times the spread",
    "nothing to recalibrate": r"mode='recalibrate' needs (layers with statistics|a reference with statistics)",
    "no cells": r"query must have cells",
}
#: Warnings that the docstrings name.
WARNINGS = (
    r"has one batch only",
    r"batches of one cell cannot be aligned reliably",
    r"run sc\.pp\.log1p\(adata\) first",
    r"^query batch .* (fewer than the 20|has no anchors in the reference)",
    r"is not defined, mixing_\w+ is nan",
    r"is too small for norm=|too few for statistics=",
)


class Refused(Exception):
    """An error of `REFUSALS`, by its name."""


@contextmanager
def documented() -> Iterator[None]:
    """Raise `Refused` for an error of `REFUSALS`, and AssertionError for a warning that is none of `WARNINGS`."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("error")
        warnings.simplefilter("always", UserWarning)
        try:
            yield
        except ValueError as error:
            for name, pattern in REFUSALS.items():
                if re.search(pattern, str(error)):
                    raise Refused(name) from error
            raise
    for warning in caught:
        text = str(warning.message)
        assert warning.category is UserWarning and any(re.search(known, text) for known in WARNINGS), text


def apply(verb: Callable[..., Any], adata: AnnData, *arguments: Any, **options: Any) -> Any:
    """What `verb` returns; where it is refused, `adata` must be as it was."""
    before = contents(adata)
    try:
        with documented():
            return verb(adata, *arguments, **options)
    except Refused:
        assert contents(adata) == before, "changed although refused"
        raise


def contents(adata: AnnData) -> bytes:
    """All that is in `adata`, to see whether a call has changed it."""
    slots = [dict(getattr(adata, slot)) for slot in ("layers", "obsm", "varm", "obsp", "varp", "uns")]
    return pickle.dumps((adata.X, adata.obs, adata.var, slots))


def not_finite(value: Any, *, nan: bool, where: str = "") -> list[str]:
    """Places in nested dicts, tables and arrays with infinite numbers, or missing ones unless `nan`."""
    if isinstance(value, pd.DataFrame):
        value = {str(name): column.to_numpy() for name, column in value.items()}
    if sparse.issparse(value):
        value = value.data
    if hasattr(value, "items"):
        return [place for name, entry in value.items() for place in not_finite(entry, nan=nan, where=f"{where}/{name}")]
    array = np.asarray(value)
    if array.dtype.kind != "f" or np.isfinite(array).all() or (nan and not np.isinf(array).any()):
        return []
    return [where]


def brief(**params: Any) -> BatchNormAutoencoder:
    """An estimator that trains for a moment, and not always."""
    return examples.brief(**({"strength": "auto", "n_hidden": 16, "max_steps": 20, "n_refreshes": 1} | params))


def integrated(case: Case, use_rep: str | None = None, **params: Any) -> AnnData:
    """The cells of `case` with an integration."""
    adata = case.adata()
    apply(pp.integrate, adata, "batch", use_rep=use_rep, model=brief(**params))
    return adata


def integrates(case: Case, use_rep: str | None = None, **params: Any) -> None:
    """All that is written is finite and of the right shape; the same again in a copy; the model can be had back, bit for bit."""
    adata = case.adata()
    before = contents(adata)
    options: dict[str, Any] = {"use_rep": use_rep, "model": brief(**params)}
    copied = apply(pp.integrate, adata, "batch", copy=True, **options)
    assert contents(adata) == before, "copy=True changed the original"
    apply(pp.integrate, adata, "batch", **options)
    embedding = adata.obsm["X_scbatchnorm"]
    assert embedding.dtype == np.float32
    n, g = case.X.shape
    assert embedding.shape == (n, g if use_rep else min(8, n - 1, g - 1))
    record = {name: value for name, value in adata.uns["scbatchnorm"].items() if name != "strength"}
    written = {"embedding": embedding, "loadings": adata.varm.get("scbatchnorm", 0), "record": record}
    assert not_finite(written, nan=False) == []
    assert np.isfinite(adata.uns["scbatchnorm"]["strength"]["value"])
    np.testing.assert_array_equal(copied.obsm["X_scbatchnorm"], embedding, err_msg="same seed, other result")
    model = BatchNormAutoencoder.from_anndata(adata)
    with documented():
        again = model.transform(adata.obsm[use_rep] if use_rep else adata.X, adata.obs["batch"].to_numpy())
    np.testing.assert_array_equal(again, embedding, err_msg="restored differs")


def ignores_names(case: Case, names: str, form: str, **params: Any) -> None:
    """Other names of the batches, in another form and with levels in another order, give bitwise the same."""
    adata, renamed = case.adata(), case.adata(names=names, form=form)
    for one in (adata, renamed):
        apply(pp.integrate, one, "batch", model=brief(**params))
    np.testing.assert_array_equal(adata.obsm["X_scbatchnorm"], renamed.obsm["X_scbatchnorm"])
    levels = [str(level) for level in renamed.uns["scbatchnorm"]["batch_levels"]]
    assert len(set(levels)) == len(np.unique(case.codes))


def places_cells_alone(case: Case, seed: int, **params: Any) -> None:
    """Where a cell is does not depend on its row, on the cells beside it, or on how many there are of it."""
    rng = np.random.default_rng(seed)
    model, n = brief(**params), len(case.X)
    with documented():
        whole = model.fit_transform(case.X, case.codes)
    order, chosen = rng.permutation(n), rng.integers(0, n, 2 * n)
    halves = [model.transform(case.X[rows], case.codes[rows]) for rows in np.array_split(order, 2)]
    # Sums of products are rounded in another order for other numbers of rows.
    unit = np.abs(case.X).max() + np.abs(whole).max() + np.abs(model.stem_.mean).max()
    exact: dict[str, Any] = {"atol": 1e-4 * float(unit), "rtol": 0}
    np.testing.assert_allclose(np.concatenate(halves), whole[order], **exact, err_msg="order or chunks")
    np.testing.assert_allclose(
        model.transform(case.X[chosen], case.codes[chosen]), whole[chosen], **exact, err_msg="repeated cells"
    )
    _, same = np.unique(np.column_stack([case.X, case.codes]), axis=0, return_inverse=True)
    for cells in (np.flatnonzero(same == one) for one in range(same.max() + 1)):
        np.testing.assert_allclose(whole[cells], np.tile(whole[cells[:1]], (len(cells), 1)), **exact, err_msg="twins")


def transforms_others(case: Case, other: Case, **params: Any) -> None:
    """Cells unlike those of the fit are placed somewhere, or refused."""
    model = brief(**params)
    with documented():
        model.fit(case.X, case.codes)
        codes = other.codes % (case.codes.max() + 1)
        known = np.isin(codes, case.codes)
        found = model.transform(other.X, np.where(known, codes, case.codes[0]))
        assert np.isfinite(found).all()
        assert np.isfinite(model.inverse_transform(found)).all()


def corrects(case: Case, genes: str, threshold: float | None, **params: Any) -> None:
    """Corrected expression is finite and never negative; a copy is the same and leaves the original."""
    adata = integrated(case, **params)
    before = contents(adata)
    copied = apply(tl.correct, adata, genes=genes, threshold=threshold, copy=True)
    assert contents(adata) == before, "copy=True changed the original"
    apply(tl.correct, adata, genes=genes, threshold=threshold)
    layers = [one.layers["scbatchnorm"] for one in (adata, copied)]
    dense = [layer if threshold is None else layer.toarray() for layer in layers]
    np.testing.assert_array_equal(*dense)
    assert dense[0].shape == case.X.shape
    assert np.isfinite(dense[0]).all()
    assert dense[0].min(initial=0) >= 0
    assert not_finite(adata.uns["scbatchnorm_correct"], nan=False) == []


def maps(case: Case, query: Case, mode: str, **params: Any) -> None:
    """New cells have a finite place; novelty and confidence are missing where they cannot be known, never infinite."""
    reference, new = integrated(case, **params), query.adata()
    before = contents(reference)
    apply(tl.map_query, new, reference, batch_key="batch", label_keys="type", mode=mode)
    assert contents(reference) == before, "the reference was changed"
    assert np.isfinite(new.obsm["X_scbatchnorm"]).all()
    assert new.obsm["X_scbatchnorm"].shape == (len(query.X), reference.obsm["X_scbatchnorm"].shape[1])
    assert np.isfinite(new.obs["type_mapped_probability"]).all()
    assert not_finite({"obs": new.obs.drop(columns="batch"), "uns": new.uns["scbatchnorm"]}, nan=True) == []


def diagnoses(case: Case, use_rep: str | None, **params: Any) -> None:
    """Findings are never infinite, and a state is named for each cell."""
    adata = integrated(case, **params)
    apply(tl.diagnose, adata, "batch", label_key="type", use_rep=use_rep)
    assert adata.obs["diagnose_state"].notna().all()
    found = {
        "obs": adata.obs.drop(columns="batch"),
        "var": adata.var,
        "varm": dict(adata.varm),
        "uns": adata.uns["scbatchnorm_diagnose"],
    }
    assert not_finite(found, nan=True) == []


def judges(case: Case, covariate: float, **params: Any) -> None:
    """Mixing, assessment and scores are never infinite, values of cells from 0 to 1, and nothing else is changed."""
    adata = integrated(case, **params)
    adata.obs["number"] = np.arange(adata.n_obs) * covariate
    apply(tl.mixing, adata, "batch", label_key="type")
    columns = adata.obs.filter(like="mixing_")
    assert columns.shape[1] == 4
    assert ((columns.isna()) | ((columns >= 0) & (columns <= 1 + 1e-9))).to_numpy().all()
    for options in ({}, {"label_key": "type", "covariate_keys": ["number"]}):
        found = apply(pp.assess, adata, "batch", n_permutations=99, **options)
        assert found.verdict in {"none", "correct", "confounded"}
        assert not_finite(adata.uns["scbatchnorm_assess"], nan=True) == []
    before = contents(adata)
    table = apply(
        metrics.evaluate, adata, "X_scbatchnorm", batch_key="batch", label_key="type", n_bootstrap=2, progress=False
    )
    assert contents(adata) == before, "evaluate changed the data"
    assert not_finite(table, nan=True) == []


_STRENGTHS = st.sampled_from(["auto", 1.0, "auto", 0.5])
_NORMS = st.sampled_from(["batch", *NORMS])
_STEMS = st.sampled_from(["pca", "identity"])

#: Every claim, and what it is tried with.
CLAIMS: dict[str, tuple[Callable[..., None], dict[str, st.SearchStrategy[Any]]]] = {
    "integrates": (
        integrates,
        {"case": cases(), "use_rep": st.sampled_from([None, "rep"]), "strength": _STRENGTHS, "norm": _NORMS},
    ),
    "ignores names": (
        ignores_names,
        {
            "case": cases(n_genes=9),
            "names": st.sampled_from(sorted(NAMES)),
            "form": st.sampled_from(sorted(FORMS)),
            "strength": _STRENGTHS,
        },
    ),
    "places cells alone": (
        places_cells_alone,
        {"case": cases(), "seed": st.integers(0, 99), "strength": _STRENGTHS, "norm": _NORMS, "stem": _STEMS},
    ),
    "transforms others": (
        transforms_others,
        {
            "case": cases(n_genes=9),
            "other": cases(n_genes=9),
            "strength": _STRENGTHS,
            "norm": _NORMS,
            "stem": _STEMS,
        },
    ),
    "corrects": (
        corrects,
        {
            "case": cases(),
            "genes": st.sampled_from(["all", "hvg"]),
            "threshold": st.sampled_from([None, 0.1]),
            "strength": _STRENGTHS,
        },
    ),
    "maps": (
        maps,
        {
            "case": cases(n_genes=9),
            "query": cases(n_genes=9),
            "mode": st.sampled_from(["frozen", "frozen", "recalibrate"]),
            "strength": _STRENGTHS,
            "norm": _NORMS,
        },
    ),
    "diagnoses": (diagnoses, {"case": cases(), "use_rep": st.sampled_from([None, "rep"]), "strength": _STRENGTHS}),
    "judges": (
        judges,
        {"case": cases(), "covariate": st.sampled_from([1.0, 0.0, 1e-300, 1e300]), "strength": _STRENGTHS},
    ),
}


@pytest.mark.parametrize("claim", CLAIMS)
@tries(4)
@given(data=st.data())
def test_claim(claim, data):
    check, inputs = CLAIMS[claim]
    try:
        check(**data.draw(st.fixed_dictionaries(inputs)))
    except Refused as refused:
        event(str(refused))
    else:
        event("held")


@pytest.mark.parametrize("names", NAMES)
def test_names_of_batches(names):
    """Every kind of name, in an order that is not that of the words, in some form."""
    form = list(FORMS)[len(names) % len(FORMS)]
    ignores_names(Case(matrix(36, 9, 0, []), np.array([2, 0, 1] * 12), "words", "objects"), names, form, strength=1.0)
