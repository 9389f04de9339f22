"""AnnData and arguments that nobody expects, through `pp.integrate`: a finite result, or an error that names things and unchanged data."""

from __future__ import annotations

import hashlib
import pathlib
import re
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from scipy import sparse

from scbatchnorm import TrainingDivergedError, pp
from tests.stress import annotated
from tests.stress.effort import tries
from tests.stress.examples import brief
from tests.stress.values import odd_values, one_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.stress.values import Draw

pytestmark = [pytest.mark.stress, pytest.mark.filterwarnings("ignore")]

# What a message has to name: a parameter of the function or of the estimator, or a slot.
NAMED = re.compile(
    r"adata|batch_key|layer|use_rep|mask_var|\bmodel\b|strength|\brng\b|device|key_added|progress|\bcopy\b|learning_rate|BatchNormAutoencoder"
)
OF_ESTIMATOR = sorted(set(brief().get_params()) - {"checkpoint"})
ODD = [
    "batch", "donor", "log", "X_pca", "highly_variable", "X_scbatchnorm", "pca", "", ".", "a/b", "x", "auto", "cpu", None, True, False, 0, 1, -1, 3,
    2**70, 0.5, 2.0, float("nan"), float("inf"), b"batch", [], (), {}, ["batch", "donor"], ["batch", 3],
    ("batch",), {"batch"}, [["batch"]], np.str_("batch"), np.array(["batch"]), np.array("batch"), np.float32(0.5), np.int64(3), np.bool_(1),
    np.zeros((2, 2)), pd.Index(["batch"]), pd.Series([True] * 30), [True] * 30, [True] * 29, [0.0, 1.0], [0.5, 0.5], [1.0, 0.0], [0, 2],
    np.arange(30) % 2 == 0, object(), object, print, pathlib.Path("x"), "cuda:99", "meta", "gpu", ["a"] * 30, "x" * 10_000, 1j, "\ud800",
    np.random.default_rng(0), np.datetime64("2020"), pd.NA, range(2), "batch\x00", slice(None), ..., np.array([True, "x"] * 15, dtype=object),
]  # fmt: skip
OF_ESTIMATOR_ALSO = ["strength", "rng", "device", "progress"]
ARGUMENTS = ["batch_key", "layer", "use_rep", "mask_var", "key_added", "copy", "model", *OF_ESTIMATOR_ALSO]


def usual(draw: Draw) -> dict[str, Any]:
    """Arguments as they are meant to be."""
    arguments: dict[str, Any] = {
        "batch_key": one_of(draw, ["batch", "batch", ["batch", "donor"]]),
        "model": brief(strength=one_of(draw, [1.0, 1.0, "auto"])),
        "copy": one_of(draw, [False, False, True]),
    }
    return arguments | one_of(draw, [{}, {}, {"layer": "log"}, {"use_rep": "X_pca"}])


def integrate(adata: Any, arguments: dict[str, Any]) -> None:
    """Integrate, and check what came of it."""
    before = contents(adata)
    try:
        result = pp.integrate(adata, **arguments)
    except (ValueError, KeyError, TypeError, TrainingDivergedError) as error:
        changed = [name for name, value in contents(adata).items() if before.get(name) != value]
        assert not changed, f"{changed} changed after {error}"
        if not (arguments.get("copy") is True and cannot_be_copied(adata)):
            assert NAMED.search(str(error)), f"unclear: {error}"
        event("refused")
        return
    key = arguments.get("key_added")
    slots = {f"obsm {key or 'X_scbatchnorm'}", f"varm {key or 'scbatchnorm'}", f"uns {key or 'scbatchnorm'}"}
    if result is not None:
        slots = set()
    after = contents(adata)
    changed = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
    assert set(changed) <= slots, changed
    embedding = (adata if result is None else result).obsm[key or "X_scbatchnorm"]
    assert embedding.dtype == np.float32
    assert len(embedding) == adata.n_obs
    assert np.isfinite(embedding).all()
    event("finite result")


def cannot_be_copied(adata: Any) -> bool:
    """Whether a slot that nothing is computed with is so broken that AnnData itself fails."""
    try:
        adata.copy()
    except (ValueError, AttributeError):
        return isinstance(adata, ad.AnnData)
    return False


def contents(adata: Any) -> dict[str, str]:
    """Hashes of everything in `adata`, by name."""
    if not isinstance(adata, ad.AnnData):
        return {}
    found = {"X": digest(adata.X), "obs": digest(adata.obs), "var": digest(adata.var)}
    for slot in ("layers", "obsm", "varm", "obsp", "varp", "uns"):
        found |= {f"{slot} {key}": digest(value) for key, value in getattr(adata, slot).items() if key is not None}
    return found


def digest(value: Any) -> str:
    sha = hashlib.sha256()
    for part in parts(value):
        sha.update(part if isinstance(part, bytes) else repr(part).encode("utf-8", "backslashreplace"))
    return sha.hexdigest()


def parts(value: Any) -> Iterable[Any]:
    """Bytes and words that make a value what it is."""
    if sparse.issparse(value):
        yield from (value.format, value.shape, value.dtype.str)
        arrays = [vars(value).get(name) for name in ("data", "indices", "indptr")]
        for array in arrays if value.format in {"csr", "csc"} else [value.toarray()]:
            yield from parts(array)
    elif isinstance(value, np.ndarray) and value.dtype != object:  # or a view of one, which may become an array
        yield from (value.dtype.str, value.shape, value.tobytes())
    elif isinstance(value, np.ndarray):
        for entry in value.ravel():
            yield from parts(entry)
    elif isinstance(value, pd.DataFrame):
        yield from (value.index.tolist(), str(value.index.name), [str(dtype) for dtype in value.dtypes])
        for i, name in enumerate(value.columns):
            yield name
            yield from parts(value.iloc[:, i].to_numpy())
    elif isinstance(value, dict):
        for key, entry in value.items():
            yield key
            yield from parts(entry)
    else:
        yield from (type(value).__name__, value)


@pytest.mark.parametrize("kind", annotated.CHANGES)
@tries(3)
@given(data=st.data())
def test_changed_data(kind, data):
    adata = annotated.base()
    adata = annotated.CHANGES[kind](data.draw, adata) or adata
    arguments = usual(data.draw)
    if kind == "obsm":
        arguments = {name: value for name, value in arguments.items() if name != "layer"} | {"use_rep": "X_pca"}
    integrate(adata, arguments)


@tries(8)
@given(data=st.data())
def test_two_changes(data):
    adata = annotated.base()
    for kind in sorted(data.draw(st.sets(st.integers(0, len(annotated.CHANGES) - 1), min_size=2, max_size=2))):
        adata = list(annotated.CHANGES.values())[kind](data.draw, adata) or adata
    integrate(adata, usual(data.draw))


@tries(30)
@given(data=st.data())
def test_odd_arguments(data):
    arguments = usual(data.draw)
    for name in data.draw(st.lists(st.sampled_from(ARGUMENTS), min_size=1, max_size=2, unique=True)):
        arguments[name] = one_of(data.draw, ODD)
    if set(OF_ESTIMATOR_ALSO) & arguments.keys():
        del arguments["model"]
    integrate(annotated.base(), arguments)


@tries(30)
@given(data=st.data())
def test_odd_parameters(data):
    name = data.draw(st.sampled_from(OF_ESTIMATOR))
    value = one_of(data.draw, ODD) if data.draw(st.booleans()) else data.draw(odd_values())
    integrate(annotated.base(), usual(data.draw) | {"model": brief(**{name: value})})


def test_no_anndata():
    adata = annotated.base()
    others = [
        None,
        adata.X,
        adata.to_df(),
        {},
        "data.h5ad",
        adata.obs,
        [adata],
        ad.AnnData,
        object(),
        3,
        adata.raw,
        ad.AnnData(),
    ]
    for other in others:
        with pytest.raises((TypeError, ValueError, KeyError)) as error:
            pp.integrate(other, "batch")
        assert NAMED.search(str(error.value)), type(other)
