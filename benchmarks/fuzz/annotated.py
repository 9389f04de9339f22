"""AnnData as people bring it, and as nobody should: changes of the matrix, the columns, the names and the other slots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from benchmarks.fuzz import examples
from benchmarks.fuzz.values import some

if TYPE_CHECKING:
    from collections.abc import Callable

    Change = Callable[[ad.AnnData, np.random.Generator], ad.AnnData | None]


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


def _holds(values: Any) -> bool:
    """Whether scipy has sparse matrices of such values."""
    return values.dtype in {np.dtype("f4"), np.dtype("f8")} or (values.dtype.kind in "iub" and values.dtype.isnative)


def _put(adata: ad.AnnData, values: Any, rng: np.random.Generator) -> None:
    """A matrix as X, dense or sparse."""
    adata.X = sparse.csr_matrix(values) if _holds(values) and rng.random() < 0.5 else values


def odd_numbers(adata: ad.AnnData, rng: np.random.Generator) -> None:
    """Some values are not numbers, infinite, negative, or far beyond what expression reaches."""
    X = _dense(adata).astype(some([np.float32, np.float64], rng))
    number = some([np.nan, np.inf, -np.inf, -1, -1e-30, -0.0, 1e3, 1e6, 1e11, 1e13, 1e20, 1e38, 1e300, 1e-45], rng)
    rows, columns = (rng.integers(n, size=int(some([1, 5, 200], rng))) for n in X.shape)
    with np.errstate(over="ignore"):
        X[rows, columns[0] if len(rows) != len(columns) else columns] = number
    _put(adata, X, rng)


def patterns(adata: ad.AnnData, rng: np.random.Generator) -> None:
    """Matrices without rank, without differences, without anything."""
    X = _dense(adata)
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
    _put(adata, some(made, rng).astype(np.float32), rng)


def types(adata: ad.AnnData, rng: np.random.Generator) -> None:
    """Values of other types, some of which are no numbers."""
    name = some(
        [
            "f2",
            "f4",
            "f8",
            "g",
            ">f4",
            ">i8",
            "i1",
            "i2",
            "i8",
            "u1",
            "u2",
            "u8",
            "?",
            "c8",
            "c16",
            "O",
            "U6",
            "S6",
            "M8[s]",
        ],
        rng,
    )
    with np.errstate(all="ignore"):
        X = _dense(adata)
        values = (
            np.full(X.shape, "a")
            if name == "U6" and rng.random() < 0.5
            else X.astype("i8").astype(name)
            if "M8" in name
            else X.astype(name)
        )
    if name == "O":
        values[0, 0] = some([None, "a", 1, 2.5, [1], pd.NA, 1j], rng)
    if rng.random() < 0.3:
        adata.layers["log"] = values
    _put(adata, values, rng)


def containers(adata: ad.AnnData, rng: np.random.Generator) -> ad.AnnData | None:
    """The same values in other containers."""
    X = _dense(adata)
    if not _holds(X):
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
    adata.X = some(forms, rng)
    choice = 4 if np.ma.isMaskedArray(adata.X) else rng.integers(4)  # of which a view has lost the mask
    if choice == 0:
        return adata[np.arange(adata.n_obs)]
    return adata[::-1, ::-1][::2] if choice == 1 else None


def broken_sparse(adata: ad.AnnData, rng: np.random.Generator) -> ad.AnnData:
    """Sparse matrices whose arrays point nowhere, which scipy computes with until it crashes."""
    adata = adata.copy() if adata.is_view else adata  # scipy would compute with it in being assigned
    if adata.X is None or not _holds(adata.X) or np.count_nonzero(_dense(adata)) < 20:
        return adata
    matrix = some([sparse.csr_matrix, sparse.csc_matrix], rng)(_dense(adata), copy=True)
    place, n = int(rng.integers(1, matrix.nnz - 1)), len(matrix.indptr)
    choice = int(rng.integers(9))
    if choice < 3:
        matrix.indices[place] = [10**9, -1, matrix.shape[1] + 40][choice]
    elif choice < 6:
        matrix.indptr[[-1, 0, n // 2][choice - 3]] = [10**9, 7, -3][choice - 3]
    elif choice == 6:
        matrix.indptr[1:-1] = matrix.indptr[1:-1][::-1].copy()
    elif choice == 7:
        matrix.data = matrix.data[:-5]
    else:
        matrix.indices[place] = matrix.indices[place - 1]
    if rng.random() < 0.3:
        adata.layers["log"] = matrix
    adata.X = matrix
    return adata


def shapes(adata: ad.AnnData, rng: np.random.Generator) -> ad.AnnData:
    """Hardly any cells or genes."""
    n, m = int(some([0, 1, 2, 3, 5, 20, 60], rng)), int(some([0, 1, 2, 3, 10, 30], rng))
    if not all(isinstance(name, str) for name in [*adata.obs_names, *adata.var_names]):
        return adata  # which AnnData itself does not cut
    small = adata[rng.permutation(adata.n_obs)[:n], :m]
    return small if rng.random() < 0.3 else small.copy()


def batch_column(adata: ad.AnnData, rng: np.random.Generator) -> None:
    """The column with the batches holds anything."""
    n = adata.n_obs
    i = np.arange(n)
    word = np.where(i < n // 2, "a", "b")
    missing = some([None, np.nan, pd.NA, pd.NaT], rng)
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
        lambda: [float, int][0:1] * (n // 2) + [int] * (n - n // 2), lambda: [np.array([k % 2]) for k in i], lambda: [pd.Timestamp(2020, 1, 1)] * n,
        lambda: (i % 2).astype("f2"), lambda: (i % 2).astype("u1"), lambda: rng.random(n), lambda: [("a | b", "a", "b")[k % 3] for k in i],
        lambda: [("a" if k % 2 else frozenset([1])) for k in i], lambda: [range(k % 2) for k in i], lambda: [-0.0 if k % 2 else 0.0 for k in i],
    ]  # fmt: skip
    values = some(columns, rng)()
    if isinstance(values, list):
        cells = np.empty(n, dtype=object)
        for k, value in enumerate(values):
            cells[k] = value
        values = cells
    adata.obs["batch"] = values


def obs_frame(adata: ad.AnnData, rng: np.random.Generator) -> None:
    """Tables of cells with odd names, or columns twice."""
    choice = int(rng.integers(6))
    if choice == 0:
        adata.obs = pd.concat([adata.obs, adata.obs[["batch"]]], axis=1)
    elif choice == 1:
        adata.obs = adata.obs.rename(columns={"donor": some([0, 1.5, ("a", "b"), "", None, "x" * 1000], rng)})
    elif choice == 2:
        adata.obs_names = ["cell"] * adata.n_obs
    elif choice == 3:
        adata.obs.index = pd.Index(np.arange(adata.n_obs))
    elif choice == 4:
        adata.obs = adata.obs.drop(columns=adata.obs.columns)
    else:
        adata.obs.index.name = "batch"


def var_frame(adata: ad.AnnData, rng: np.random.Generator) -> None:
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
    if rng.random() < 0.3:
        adata.var_names = some(names, rng)
    elif rng.random() < 0.2:
        adata.var.index = pd.Index(i) if rng.random() < 0.5 else pd.Index([np.nan, *i[1:]])
    else:
        adata.var["highly_variable"] = columns[int(rng.integers(len(columns)))]


def representation(adata: ad.AnnData, rng: np.random.Generator) -> None:
    """Components that are none."""
    Z = np.asarray(adata.obsm["X_pca"])
    n = len(Z)
    bad = Z.copy()
    bad[4, 2] = some([np.nan, np.inf, -np.inf, 1e30, 1e13, 1e11], rng)
    forms = [
        bad, Z[:, :1], Z[:, :0], Z[:, :2], Z * 0, Z * 1e6, Z * 1e-30, Z.astype("f8") * 1e300, Z.astype("f2"), Z.astype(complex), Z.astype(object),
        Z.astype(str), np.repeat(Z[..., None], 2, axis=2), sparse.csr_matrix(Z), sparse.csc_array(Z), np.asfortranarray(Z), Z > 0, Z.round().astype(int),
        pd.DataFrame(Z, index=adata.obs_names), pd.DataFrame(Z, index=adata.obs_names).assign(word="a"), np.ma.masked_less(Z, 0),
        pd.DataFrame(Z, index=adata.obs_names, columns=list("aaaabbbb")), Z + 1e6, np.tile(Z, 300), np.zeros((n, 5), dtype="M8[s]"),
        pd.DataFrame(Z, index=adata.obs_names).astype("Float64").mask(lambda frame: frame > 1),
    ]  # fmt: skip
    adata.obsm["X_pca"] = some(forms, rng)


def other_slots(adata: ad.AnnData, rng: np.random.Generator) -> None:
    """Slots that are written to, or have nothing to do with it, hold anything."""
    junk = some(
        [None, 1, "x", [], {}, {"format": "x"}, {"a": {1: object()}}, lambda: 0, np.zeros(3), {"\ud800": b""}], rng
    )
    adata.uns[some(["scbatchnorm", "pca", "log1p", "x", "a/b", ""], rng)] = junk
    choice = int(rng.integers(6))
    if choice == 0:
        adata.obsm["X_scbatchnorm"] = pd.DataFrame({"x": ["a"] * adata.n_obs}, index=adata.obs_names)
    elif choice == 1:
        adata.varm["scbatchnorm"] = sparse.csr_matrix(np.ones((adata.n_vars, 2)))
    elif choice == 2:
        adata.raw = adata.copy()
    elif choice == 3:
        adata.obsp["connectivities"] = sparse.eye(adata.n_obs, format="csr")
    elif choice == 4:
        adata.X = None
    else:
        del adata.layers["log"]


#: Several are made in this order: what others count on, the matrix and the numbers of cells and genes, is changed after them.
CHANGES: dict[str, Change] = {
    "X: odd numbers": odd_numbers,
    "X: patterns": patterns,
    "X: types": types,
    "X: containers": containers,
    "obs: batches": batch_column,
    "obs: names": obs_frame,
    "var": var_frame,
    "obsm": representation,
    "other slots": other_slots,
    "cells and genes": shapes,
    "X: broken sparse": broken_sparse,
}
