"""AnnData as people bring it, and as nobody should: changes of the matrix, the columns, the names and the other slots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
from hypothesis import reject
from hypothesis import strategies as st
from scipy import sparse

from tests.stress import examples
from tests.stress.values import one_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.stress.values import Draw

    Change = Callable[[Draw, ad.AnnData], ad.AnnData | None]


def base(n_cells: int = 60, n_genes: int = 30) -> ad.AnnData:
    """Cells with all that a user may have: layers, variable genes, components, notes of other tools."""
    X = examples.expression(n_cells, n_genes)
    adata = ad.AnnData(sparse.csr_matrix(X))
    adata.obs_names = [f"cell{i}" for i in range(n_cells)]
    adata.var_names = [f"gene{i}" for i in range(n_genes)]
    adata.obs["batch"] = pd.Categorical(examples.batches(["a", "b", "c"], n_cells))
    adata.obs["donor"] = np.arange(n_cells) % 2
    adata.var["highly_variable"] = np.arange(n_genes) % 5 > 0
    adata.layers["log"] = X.copy()
    adata.obsm["X_pca"] = X[:, :8] - X[:, :8].mean(axis=0)
    adata.uns["pca"] = {"params": {"n": 8}}
    return adata


def _dense(adata: ad.AnnData) -> np.ndarray:
    return adata.X.toarray() if sparse.issparse(adata.X) else np.asarray(adata.X)


def _fits_sparse(values: Any) -> bool:
    """Whether scipy has sparse matrices of such values."""
    return values.dtype in {np.dtype("f4"), np.dtype("f8")} or (values.dtype.kind in "iub" and values.dtype.isnative)


def _put(draw: Draw, adata: ad.AnnData, values: Any) -> None:
    """A matrix as X, dense or sparse."""
    adata.X = sparse.csr_matrix(values) if _fits_sparse(values) and draw(st.booleans()) else values


def _rng(draw: Draw) -> np.random.Generator:
    return np.random.default_rng(draw(st.integers(0, 2**20)))


def _odd_numbers(draw: Draw, adata: ad.AnnData) -> None:
    """Some values are not numbers, infinite, negative, or far beyond what expression reaches."""
    X = _dense(adata).astype(one_of(draw, [np.float32, np.float64]))
    numbers = [np.nan, np.inf, -np.inf, -1, -1e-30, -0.0, 1e3, 1e6, 1e11, 1e13, 1e20, 1e38, 1e300, 1e-45]
    places = _rng(draw).integers(X.size, size=one_of(draw, [1, 5, 200]))
    with np.errstate(over="ignore"):
        X.flat[places] = one_of(draw, numbers)
    _put(draw, adata, X)


def _patterns(draw: Draw, adata: ad.AnnData) -> None:
    """Matrices without rank, without differences, without anything."""
    X, rng = _dense(adata), _rng(draw)
    n, m = X.shape
    one = np.zeros_like(X)
    one[3, 4] = 1.5
    wholes = np.rint(np.expm1(X))
    made = [
        X * 0, X * 0 + 1.5, X * 0 + X[:1], X * 0 + X[:, :1], one, np.eye(n, m, dtype=np.float32), wholes, X.clip(0, 1).round(),
        np.where(np.arange(n)[:, None] < n // 2, wholes, X), X * 1e6, X * 1e-30, X * 1e11, np.exp(X * 20),
        np.where(np.arange(n)[:, None] < n // 3, 0, X), X[rng.integers(n, size=n)], X[np.zeros(n, int)], X * (rng.random((n, 1)) < 0.1),
        X * 10.0 ** rng.integers(-6, 7, size=(1, m)), X * 10.0 ** rng.integers(-6, 7, size=(n, 1)), np.repeat(X[:, :2], m // 2, axis=1),
    ]  # fmt: skip
    _put(draw, adata, one_of(draw, made).astype(np.float32))


def _types(draw: Draw, adata: ad.AnnData) -> None:
    """Values of other types, some of which are no numbers."""
    names = "f2 f4 f8 g >f4 >i8 i1 i2 i8 u1 u2 u8 ? c8 c16 O U6 S6 M8[s]".split()
    name, X = one_of(draw, names), _dense(adata)
    with np.errstate(all="ignore"):
        values = X.astype("i8").astype(name) if name == "M8[s]" else X.astype(name)
    if name == "U6" and draw(st.booleans()):
        values = np.full(X.shape, "a")
    if name == "O":
        values[0, 0] = one_of(draw, [None, "a", 1, 2.5, [1], pd.NA, 1j])
    if draw(st.booleans()):
        adata.layers["log"] = values
    _put(draw, adata, values)


def _containers(draw: Draw, adata: ad.AnnData) -> ad.AnnData | None:
    """The same values in other containers."""
    X = _dense(adata)
    if not _fits_sparse(X):
        return None
    csr = sparse.csr_matrix(X)
    frozen = X.copy()
    frozen.flags.writeable = False
    unsorted = sparse.csr_matrix(sparse.csc_matrix(csr[:, ::-1])[:, ::-1])
    unsorted.indices, unsorted.data = unsorted.indices[::-1].copy(), unsorted.data[::-1].copy()
    unsorted.indptr = (unsorted.indptr[-1] - unsorted.indptr[::-1]).astype(unsorted.indptr.dtype)
    zeros = csr.copy()
    zeros.data[::3] = 0
    long = csr.copy()
    long.indices, long.indptr = long.indices.astype(np.int64), long.indptr.astype(np.int64)
    forms = [
        sparse.csc_matrix(csr), sparse.csr_array(csr), sparse.csc_array(csr), np.matrix(X), np.asfortranarray(X), np.repeat(X, 2, axis=1)[:, ::2], frozen,
        np.ma.masked_less(X, 0.5), np.ma.masked_less(X, -1), unsorted, zeros, long, pd.DataFrame(X, adata.obs_names, adata.var_names),
        np.broadcast_to(X[:1], X.shape), X[::-1][::-1],
    ]  # fmt: skip
    adata.X = one_of(draw, forms)
    if np.ma.isMaskedArray(adata.X):  # of which a view has lost the mask
        return None
    return one_of(draw, [None, adata[np.arange(adata.n_obs)], adata[::-1, ::-1][::2]])


def _broken_sparse(draw: Draw, adata: ad.AnnData) -> ad.AnnData:
    """Sparse matrices whose arrays point nowhere, which scipy computes with until it crashes."""
    adata = adata.copy() if adata.is_view else adata  # scipy would compute with it in being assigned
    if adata.X is None or not _fits_sparse(adata.X) or np.count_nonzero(_dense(adata)) < 20:
        return adata
    matrix = one_of(draw, [sparse.csr_matrix, sparse.csc_matrix])(_dense(adata), copy=True)
    place, n = draw(st.integers(1, matrix.nnz - 2)), len(matrix.indptr)
    what = one_of(draw, ["index", "pointer", "order of pointers", "length", "twice"])
    if what == "index":
        matrix.indices[place] = one_of(draw, [10**9, -1, matrix.shape[1] + 40])
    elif what == "pointer":
        where, pointer = one_of(draw, [(-1, 10**9), (0, 7), (n // 2, -3)])
        matrix.indptr[where] = pointer
    elif what == "order of pointers":
        matrix.indptr[1:-1] = matrix.indptr[1:-1][::-1].copy()
    elif what == "length":
        matrix.data = matrix.data[:-5]
    else:
        matrix.indices[place] = matrix.indices[place - 1]
    if draw(st.booleans()):
        adata.layers["log"] = matrix
    adata.X = matrix
    return adata


def _shapes(draw: Draw, adata: ad.AnnData) -> ad.AnnData:
    """Hardly any cells or genes."""
    n, m = one_of(draw, [0, 1, 2, 3, 5, 20, 60]), one_of(draw, [0, 1, 2, 3, 10, 30])
    if not all(isinstance(name, str) for name in [*adata.obs_names, *adata.var_names]):
        return adata  # which AnnData itself does not cut
    small = adata[_rng(draw).permutation(adata.n_obs)[:n], :m]
    try:
        copied = small.copy()
    except ValueError:  # scipy cannot cut every sparse array to nothing
        reject()
    return small if draw(st.booleans()) else copied


def _batch_column(draw: Draw, adata: ad.AnnData) -> None:
    """The column with the batches holds anything."""
    n = adata.n_obs
    i = np.arange(n)
    word = np.where(i < n // 2, "a", "b")
    missing = one_of(draw, [None, np.nan, pd.NA, pd.NaT])
    columns: list[Callable[[], Any]] = [
        lambda: [missing if k < 3 else "a" if k < 30 else "b" for k in i], lambda: [missing] * n, lambda: i % 3, lambda: i % 3 / 7,
        lambda: np.where(i == 5, np.nan, i % 2), lambda: np.where(i < 9, np.inf, 1.0), lambda: i % 2 == 0, lambda: i, lambda: ["a"] * n,
        lambda: np.where(i == 0, "alone", word), lambda: pd.Categorical(word, categories=["z", "b", "a", "y"], ordered=True),
        lambda: pd.Categorical([None if k < 2 else "a" for k in i]), lambda: pd.to_datetime(i % 2, unit="D"),
        lambda: pd.to_timedelta(i % 2, unit="D"), lambda: pd.period_range("2020", periods=2, freq="Y").take(i % 2),
        lambda: pd.cut(i, 3), lambda: pd.array(i % 2, dtype="Int64"), lambda: pd.array([True, None] * (n // 2), dtype="boolean"),
        lambda: pd.array(word, dtype="string"), lambda: pd.arrays.SparseArray(i % 2), lambda: [(k % 2, "x") for k in i],
        lambda: [[k % 2] for k in i], lambda: [{"a": k % 2} for k in i], lambda: [{k % 2} for k in i], lambda: [bytes([k % 2]) for k in i],
        lambda: [1 if k % 2 else "1" for k in i], lambda: [1 if k % 2 else True for k in i], lambda: [(1, 1.0, "1", b"1")[k % 4] for k in i],
        lambda: [("", " ", "\t", "\n")[k % 4] for k in i], lambda: [("naïve", "批次", "\u202e", "a\x00")[k % 4] for k in i],
        lambda: [("nan", "None", "NA", "<NA>")[k % 4] for k in i], lambda: ["x" * 10_000 + str(k % 2) for k in i],
        lambda: [("\ud800", "b")[k % 2] for k in i], lambda: (i % 2).astype(complex), lambda: [object() for _ in i],
        lambda: [float] * (n // 2) + [int] * (n - n // 2), lambda: [np.array([k % 2]) for k in i], lambda: [pd.Timestamp(2020, 1, 1)] * n,
        lambda: (i % 2).astype("f2"), lambda: (i % 2).astype("u1"), lambda: i / 7, lambda: [("a | b", "a", "b")[k % 3] for k in i],
        lambda: [("a" if k % 2 else frozenset([1])) for k in i], lambda: [range(k % 2) for k in i], lambda: [-0.0 if k % 2 else 0.0 for k in i],
    ]  # fmt: skip
    values = one_of(draw, columns)()
    if isinstance(values, list):
        cells = np.empty(n, dtype=object)
        for k, value in enumerate(values):
            cells[k] = value
        values = cells
    adata.obs["batch"] = values


def _obs_frame(draw: Draw, adata: ad.AnnData) -> None:
    """Tables of cells with odd names, or columns twice."""
    what = one_of(draw, ["column twice", "odd column", "one name", "numbers as names", "no columns", "named index"])
    if what == "column twice":
        adata.obs = pd.concat([adata.obs, adata.obs[["batch"]]], axis=1)
    elif what == "odd column":
        adata.obs = adata.obs.rename(columns={"donor": one_of(draw, [0, 1.5, ("a", "b"), "", None, "x" * 1000])})
    elif what == "one name":
        adata.obs_names = ["cell"] * adata.n_obs
    elif what == "numbers as names":
        adata.obs.index = pd.Index(np.arange(adata.n_obs))
    elif what == "no columns":
        adata.obs = adata.obs.drop(columns=adata.obs.columns)
    else:
        adata.obs.index.name = "batch"


def _var_frame(draw: Draw, adata: ad.AnnData) -> None:
    """Genes with odd names, and odd columns that choose some of them."""
    m = adata.n_vars
    i = np.arange(m)
    names = [
        ["gene"] * m, [*adata.var_names[:-1], "gene0"], [""] * m, i.astype(str), [f"gene {k}\n" for k in i], ["\ud800", *adata.var_names[1:]],
        ["x" * 100_000, *adata.var_names[1:]], ["nan"] * m,
    ]  # fmt: skip
    columns = [
        i % 2, i % 2 / 1.0, i % 2 / 2, i, np.zeros(m, bool), i == 3, i < 2, np.where(i % 2, "True", "False"), np.where(i == 3, np.nan, i % 2),
        pd.array(i % 2 == 0, dtype="boolean"), pd.array([None, True, False] * (m // 3), dtype="boolean"), pd.Categorical(i % 2 == 0),
        pd.Categorical(np.where(i % 2, "yes", "no")), np.array([True, False, None] * (m // 3), dtype=object), pd.arrays.SparseArray(i % 2 == 0),
        np.array([True, 1, False] * (m // 3), dtype=object), np.array([[1], {}, ()] * (m // 3), dtype=object), pd.to_datetime(i, unit="D"),
    ]  # fmt: skip
    what = one_of(draw, ["names", "index", "column", "column"])
    if what == "names":
        adata.var_names = one_of(draw, names)
    elif what == "index":
        adata.var.index = one_of(draw, [pd.Index(i), pd.Index([np.nan, *i[1:]])])
    else:
        adata.var["highly_variable"] = one_of(draw, columns)


def _representation(draw: Draw, adata: ad.AnnData) -> None:
    """Components that are none."""
    Z = np.asarray(adata.obsm["X_pca"])
    n = len(Z)
    bad = Z.copy()
    bad[4, 2] = one_of(draw, [np.nan, np.inf, -np.inf, 1e30, 1e13, 1e11])
    forms = [
        bad, Z[:, :1], Z[:, :0], Z[:, :2], Z * 0, Z * 1e6, Z * 1e-30, Z.astype("f8") * 1e300, Z.astype("f2"), Z.astype(complex), Z.astype(object),
        Z.astype(str), np.repeat(Z[..., None], 2, axis=2), sparse.csr_matrix(Z), sparse.csc_array(Z), np.asfortranarray(Z), Z > 0, Z.round().astype(int),
        pd.DataFrame(Z, index=adata.obs_names), pd.DataFrame(Z, index=adata.obs_names).assign(word="a"), np.ma.masked_less(Z, 0),
        pd.DataFrame(Z, index=adata.obs_names, columns=list("aaaabbbb")), Z + 1e6, np.tile(Z, 300), np.zeros((n, 5), dtype="M8[s]"),
        pd.DataFrame(Z, index=adata.obs_names).astype("Float64").mask(lambda frame: frame > 1),
    ]  # fmt: skip
    adata.obsm["X_pca"] = one_of(draw, forms)


def _other_slots(draw: Draw, adata: ad.AnnData) -> None:
    """Slots that are written to, or have nothing to do with it, hold anything."""
    junk: list[Any] = [
        None,
        1,
        "x",
        [],
        {},
        {"format": "x"},
        {"a": {1: object()}},
        lambda: 0,
        np.zeros(3),
        {"\ud800": b""},
    ]
    adata.uns[one_of(draw, ["scbatchnorm", "pca", "log1p", "x", "a/b", ""])] = one_of(draw, junk)
    what = one_of(draw, ["obsm", "varm", "raw", "obsp", "no X", "no layer"])
    if what == "obsm":
        adata.obsm["X_scbatchnorm"] = pd.DataFrame({"x": ["a"] * adata.n_obs}, index=adata.obs_names)
    elif what == "varm":
        adata.varm["scbatchnorm"] = sparse.csr_matrix(np.ones((adata.n_vars, 2)))
    elif what == "raw":
        adata.raw = adata.copy()
    elif what == "obsp":
        adata.obsp["connectivities"] = sparse.eye(adata.n_obs, format="csr")
    elif what == "no X":
        adata.X = None
    else:
        del adata.layers["log"]


#: Several are made in this order: what others count on, the matrix and the numbers of cells and genes, is changed after them.
CHANGES: dict[str, Change] = {
    "X: odd numbers": _odd_numbers,
    "X: patterns": _patterns,
    "X: types": _types,
    "X: containers": _containers,
    "obs: batches": _batch_column,
    "obs: names": _obs_frame,
    "var": _var_frame,
    "obsm": _representation,
    "other slots": _other_slots,
    "cells and genes": _shapes,
    "X: broken sparse": _broken_sparse,
}
