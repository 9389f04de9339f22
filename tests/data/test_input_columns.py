"""Batches and labels in columns of every type that pandas has for them: the same result as with words."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from packaging.version import Version

from scbatchnorm import metrics, pl, pp, tl
from tests.helpers import results, verbs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import anndata as ad

# As pandas 3 infers words; 2.2 has no such type.
STR = pd.StringDtype("python", na_value=np.nan) if Version(pd.__version__) >= Version("2.3") else "string[python]"
ARROW = [pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="pandas needs pyarrow for it")]


def levels(codes: np.ndarray, words: Sequence[str], *, ordered: bool = False) -> Any:
    return pd.Categorical(np.array(words, dtype=object)[codes], categories=list(words), ordered=ordered)


# What a column of two groups, given as 0 and 1, is: the words by which it is named, and the column.
COLUMNS: dict[str, tuple[tuple[str, str], Callable[[np.ndarray], Any]]] = {
    "objects": (("a", "b"), lambda codes: np.array(["a", "b"], dtype=object)[codes]),
    "unused levels": (("a", "b"), lambda codes: levels(2 * codes + 1, ["0", "a", "aa", "b", "c"])),
    "ordered": (("a", "b"), lambda codes: levels(codes, ["a", "b"], ordered=True)),
    "categories of numbers": (("0", "1"), lambda codes: pd.Categorical(codes)),
    "bool": (("False", "True"), lambda codes: codes.astype(bool)),
    "int64": (("0", "1"), lambda codes: codes),
    "uint8": (("0", "1"), lambda codes: codes.astype(np.uint8)),
    "float64": (("0.5", "1.5"), lambda codes: codes + 0.5),
    "mixed objects": (("0", "b"), lambda codes: np.array([0, "b"], dtype=object)[codes]),
    "Int64": (("0", "1"), lambda codes: pd.array(codes, dtype="Int64")),
    "Float64": (("0.5", "1.5"), lambda codes: pd.array(codes + 0.5, dtype="Float64")),
    "boolean": (("False", "True"), lambda codes: pd.array(codes.astype(bool), dtype="boolean")),
    "string": (("a", "b"), lambda codes: pd.array(np.array(["a", "b"])[codes], dtype="string[python]")),
    "str": (("a", "b"), lambda codes: pd.array(np.array(["a", "b"])[codes], dtype=STR)),
    "arrow strings": (("a", "b"), lambda codes: pd.array(np.array(["a", "b"])[codes], dtype="string[pyarrow]")),
}  # fmt: skip
NUMBERS = {"int64", "uint8", "float64", "Int64", "Float64"}
EVALUATE: dict[str, Any] = {"n_bootstrap": 0, "progress": False, "metrics": ["ilisi", "clisi"], "per_label": False}
# By function; those that take labels are called with the same columns for them.
CALLS: dict[str, Callable[[ad.AnnData], Any]] = {
    "pp.assess": lambda adata: pp.assess(adata, "batch", label_key="type", n_permutations=99),
    "pp.integrate": lambda adata: pp.integrate(adata, "batch", model=verbs.model()),
    "tl.concordance": lambda adata: tl.concordance(adata, "batch", "type", corrected="log"),
    "tl.diagnose": lambda adata: tl.diagnose(adata, "batch", label_key="type", use_rep="X_two"),
    "tl.mixing": lambda adata: tl.mixing(adata, "batch", label_key="type", use_rep="X_two"),
    "metrics.evaluate": lambda adata: metrics.evaluate(adata, "X_two", batch_key="batch", label_key="type", **EVALUATE),
    "pl.composition": lambda adata: pl.composition(adata, "batch", "type"),
    "pl.embedding": lambda adata: pl.embedding(adata, "two", color="type"),
}
WRITES = {
    "pp.integrate": {"obsm['X_scbatchnorm']", "uns['scbatchnorm']"},
    "tl.diagnose": {"obs['diagnose_state']", "obs['diagnose_kept']"},
    "tl.mixing": {f"obs['mixing_{name}']" for name in ("ilisi", "cilisi", "clisi", "knn_preservation")},
}
CODES = {"batch": (verbs.BATCHES == "b").astype(int), "type": (verbs.TYPES == "T").astype(int)}


def with_columns(make: Callable[[np.ndarray], Any]) -> ad.AnnData:
    adata = verbs.bare()
    for name, codes in CODES.items():
        adata.obs[name] = make(codes)
    return adata


@pytest.fixture(scope="module")
def expected() -> Callable[[str, tuple[str, str]], dict[str, Any]]:
    """What a function gives with words."""
    known: dict[tuple[str, tuple[str, str]], dict[str, Any]] = {}

    def of(name: str, words: tuple[str, str]) -> dict[str, Any]:
        if (name, words) not in known:
            adata = with_columns(lambda codes: levels(codes, words))
            known[name, words] = results.of(CALLS[name](adata), adata, WRITES.get(name, set()))
        return known[name, words]

    return of


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("column", [pytest.param(kind, marks=ARROW if "arrow" in kind else []) for kind in COLUMNS])
def test_types_of_columns_make_no_difference(name, column, expected):
    words, make = COLUMNS[column]
    adata = with_columns(make)
    before = results.stored(adata)
    if name.startswith("pl.") and column in NUMBERS:
        with pytest.raises(ValueError, match=r"'type' must hold groups; adata.obs\['type'\] holds numbers"):
            CALLS[name](adata)
        assert results.stored(adata) == before
        return
    returned = CALLS[name](adata)
    after = results.stored(adata)
    assert {slot: after[slot] for slot in before} == before
    found, wanted = results.of(returned, adata, WRITES.get(name, set())), expected(name, words)
    if (name, column) == ("pl.embedding", "unused levels"):  # levels have colours by their place, as in scanpy
        found, wanted = ({key: value for key, value in one.items() if "colors" not in key} for one in (found, wanted))
    results.same(found, wanted)


@pytest.mark.parametrize("column", [pytest.param(kind, marks=ARROW if "arrow" in kind else []) for kind in COLUMNS])
def test_types_of_columns_of_query_and_reference_make_no_difference(column, reference):
    words, make = COLUMNS[column]

    def mapped(make: Callable[[np.ndarray], Any]) -> dict[str, Any]:
        query, labelled = with_columns(make), reference.copy()
        labelled.obs["type"] = make(CODES["type"])
        tl.map_query(query, labelled, batch_key="batch", label_keys="type")
        slots = {"obsm['X_scbatchnorm']", "uns['scbatchnorm']", "obs['type_mapped']", "obs['scbatchnorm_novelty']"}
        return results.of(None, query, slots)

    results.same(mapped(make), mapped(lambda codes: levels(codes, words)))


@pytest.fixture(scope="module")
def reference() -> ad.AnnData:
    adata = verbs.bare()
    pp.integrate(adata, "batch", model=verbs.model())
    return adata
