"""Matrices in whatever container they come: what is computed with depends on their values alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

if TYPE_CHECKING:
    from scbatchnorm._data.types import Floats, Matrix


def as_csr(values: Any, *, where: str) -> Matrix:
    """`values` as a canonical CSR matrix of float32: the same from every container, so that what follows rounds alike.

    `values` are never changed, and not copied where they are in that form already.

    Raises
    ------
    ValueError
        They are no matrix of real numbers; the message begins with `where` they are.
    """
    values = as_real_matrix(values, where=where)
    return (
        _to_canonical_csr(values)
        if sparse.issparse(values)
        else sparse.csr_matrix(_to_float32(np.ascontiguousarray(values)))
    )


def as_array(values: Any, *, where: str) -> Floats:
    """`values` of a representation as a C-contiguous array of float32, otherwise like `as_csr`."""
    values = as_real_matrix(values, where=where)
    return _to_float32(np.ascontiguousarray(values.toarray() if sparse.issparse(values) else values))


def as_features(values: Any, stem: str, *, where: str) -> Matrix:
    """`values` as a model with this kind of `stem` computes with them: expression as CSR, a representation as an array."""
    return as_array(values, where=where) if stem == "identity" else as_csr(values, where=where)


def as_real_matrix(values: Any, *, where: str) -> Any:
    """`values` as a numpy array, or as a CSR or CSC matrix, with two dimensions and of real numbers; not copied.

    Raises
    ------
    ValueError
        They are something else, have masked values, or indices that point nowhere; the message begins with `where` they are.
    """
    if isinstance(values, pd.DataFrame):
        values = _frame_to_array(values)
    if np.ma.is_masked(values):
        msg = f"{where} must have all its values; it is a masked array, and {np.ma.count_masked(values)} are masked: fill or remove them."
        raise ValueError(msg)
    if not sparse.issparse(values):
        values = np.asarray(values)
    if values.ndim != 2:
        msg = f"{where} must have two dimensions, cells and features; got shape {values.shape}."
        raise ValueError(msg)
    if values.dtype.kind not in "fiub":
        msg = f"{where} must hold real numbers; got values of type {values.dtype}."
        raise ValueError(msg)
    return _wrap_sparse(values, where) if sparse.issparse(values) else values


def _wrap_sparse(values: Any, where: str) -> Any:
    """A new CSR or CSC matrix around the arrays of `values`: scipy sets flags on it, and sorts it, not on the user's."""
    values = values if values.format in {"csr", "csc"} else values.tocsr()
    kind = sparse.csr_matrix if values.format == "csr" else sparse.csc_matrix
    try:
        wrapped = kind((values.data, values.indices, values.indptr), shape=values.shape)
        wrapped.check_format(full_check=True)  # scipy computes with indices that point nowhere, until it crashes
    except ValueError as error:
        msg = f"{where} must be a valid sparse matrix: {error}."
        raise ValueError(msg) from error
    return wrapped


def as_points(values: Any, *, where: str) -> Any:
    """`values` as a C-contiguous array, in float32 where that holds all of them, so that container and type make no difference.

    What is sparse is left so; raises as `real` does.
    """
    values = as_real_matrix(values, where=where)
    if sparse.issparse(values):
        return values
    single = _to_float32(values)
    return np.ascontiguousarray(single if np.array_equal(single, values) else values)


def _frame_to_array(frame: pd.DataFrame) -> np.ndarray:
    """A table as an array; missing values of pandas' own types of numbers become nan."""
    values = frame.to_numpy()
    if values.dtype == object and all(pd.api.types.is_numeric_dtype(dtype) for dtype in frame.dtypes):
        return frame.to_numpy(dtype=np.float64, na_value=np.nan)
    return values


def _to_canonical_csr(values: Any) -> Matrix:
    """As float32 CSR with sorted indices, without duplicates and without zeros that are stored."""
    matrix = values.tocsr()
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    data = _to_float32(matrix.data)
    if np.count_nonzero(data) < len(data):
        matrix = matrix.copy()
        matrix.data = data.copy()
        matrix.eliminate_zeros()
        return matrix
    return sparse.csr_matrix((data, matrix.indices, matrix.indptr), shape=matrix.shape)


def _to_float32(array: np.ndarray) -> np.ndarray:
    """As float32, not copied if it is; what is too large becomes infinite, and is refused as that."""
    with np.errstate(over="ignore"):
        return array.astype(np.float32, copy=False)
