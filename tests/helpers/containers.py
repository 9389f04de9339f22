"""The same values in every container that an AnnData can hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[[np.ndarray], Any]


def read_only(values: Any) -> Any:
    arrays = [values] if isinstance(values, np.ndarray) else [values.data, values.indices, values.indptr]
    for array in arrays:
        array.setflags(write=False)
    return values


def unsorted(matrix: Any) -> Any:
    """Indices from last to first in every row, or column."""
    parts = [np.arange(stop - 1, start - 1, -1) for start, stop in zip(matrix.indptr, matrix.indptr[1:], strict=False)]
    order = np.concatenate(parts)
    return type(matrix)((matrix.data[order], matrix.indices[order], matrix.indptr.copy()), shape=matrix.shape)


def with_zeros(matrix: Any) -> Any:
    """Every second zero is stored."""
    zeros = np.argwhere(matrix.toarray() == 0)[::2].T
    assert zeros.size
    coo = matrix.tocoo()
    places = (np.append(coo.row, zeros[0]), np.append(coo.col, zeros[1]))
    data = np.append(coo.data, np.zeros(zeros.shape[1], coo.dtype))
    return type(matrix)(sparse.coo_matrix((data, places), matrix.shape))


def duplicated(matrix: Any) -> Any:
    """Every value is the sum of two that are stored: a half and a half."""
    made = type(matrix)((np.repeat(matrix.data / 2, 2), np.repeat(matrix.indices, 2), 2 * matrix.indptr), matrix.shape)
    assert not made.has_canonical_format
    return type(matrix)((made.data, made.indices, made.indptr), matrix.shape)


def with_long_indices(matrix: Any) -> Any:
    matrix.indices, matrix.indptr = matrix.indices.astype(np.int64), matrix.indptr.astype(np.int64)
    return matrix


# Of values that float16 holds: multiples of 1/8.
NUMBERS: dict[str, Make] = {
    "C": lambda v: v.copy(),
    "F": np.asfortranarray,
    "float16": lambda v: v.astype(np.float16),
    "float64": lambda v: v.astype(np.float64),
    "F float64": lambda v: np.asfortranarray(v.astype(np.float64)),
    "longdouble": lambda v: v.astype(np.longdouble),
    "big-endian": lambda v: v.astype(">f4"),
    "np.matrix": lambda v: np.asmatrix(v.copy()),
    "masked array without a mask": lambda v: np.ma.masked_array(v.copy()),
    "not contiguous": lambda v: np.repeat(np.repeat(v, 2, axis=0), 3, axis=1)[::2, ::3],
    "backwards": lambda v: np.ascontiguousarray(v[::-1])[::-1],
    "read-only": lambda v: read_only(v.copy()),
    "CSR": sparse.csr_matrix,
    "CSR array": sparse.csr_array,
    "CSR float64": lambda v: sparse.csr_matrix(v.astype(np.float64)),
    "CSR int64 indices": lambda v: with_long_indices(sparse.csr_matrix(v)),
    "CSR unsorted": lambda v: unsorted(sparse.csr_matrix(v)),
    "CSR zeros": lambda v: with_zeros(sparse.csr_matrix(v)),
    "CSR duplicates": lambda v: duplicated(sparse.csr_matrix(v)),
    "CSR array unsorted zeros duplicates": lambda v: unsorted(duplicated(with_zeros(sparse.csr_array(v)))),
    "CSR read-only": lambda v: read_only(sparse.csr_matrix(v)),
    "CSR unsorted zeros duplicates read-only": lambda v: read_only(unsorted(duplicated(with_zeros(sparse.csr_matrix(v))))),
    "CSC": sparse.csc_matrix,
    "CSC array": sparse.csc_array,
    "CSC float64 unsorted": lambda v: unsorted(sparse.csc_matrix(v.astype(np.float64))),
    "CSC zeros duplicates": lambda v: duplicated(with_zeros(sparse.csc_matrix(v))),
    "CSC read-only": lambda v: read_only(sparse.csc_matrix(v)),
}  # fmt: skip
# Of whole numbers: 0 and 1 as expression, more as a representation.
WHOLE: dict[str, Make] = {
    "float32 of whole numbers": lambda v: v.copy(),
    "int8": lambda v: v.astype(np.int8),
    "int16": lambda v: v.astype(np.int16),
    "int32": lambda v: v.astype(np.int32),
    "int64": lambda v: v.astype(np.int64),
    "F int64": lambda v: np.asfortranarray(v.astype(np.int64)),
    "uint8": lambda v: v.astype(np.uint8),
    "uint16": lambda v: v.astype(np.uint16),
    "uint64": lambda v: v.astype(np.uint64),
    "CSR int64": lambda v: sparse.csr_matrix(v.astype(np.int64)),
    "CSR uint16 unsorted": lambda v: unsorted(sparse.csr_matrix(v.astype(np.uint16))),
    "CSC int8": lambda v: sparse.csc_matrix(v.astype(np.int8)),
}
# Of 0 and 1.
BOOLEAN: dict[str, Make] = {
    "bool": lambda v: v.astype(bool),
    "CSR bool": lambda v: sparse.csr_matrix(v.astype(bool)),
    "CSC bool": lambda v: sparse.csc_matrix(v.astype(bool)),
}


def masked(values: np.ndarray) -> Any:
    mask = np.zeros(values.shape, bool)
    mask[3, 1] = True
    return np.ma.masked_array(values.copy(), mask)


def out_of_bounds(values: np.ndarray) -> Any:
    matrix = sparse.csr_matrix(values)
    matrix.indices[-1] = 10**6
    return matrix


# What is no matrix of numbers, and what is said then.
REFUSED: dict[str, tuple[Make, str]] = {
    "object": (lambda v: v.astype(object), "must hold real numbers; got values of type object"),
    "complex": (lambda v: v.astype(np.complex64), "must hold real numbers; got values of type complex64"),
    "CSR complex": (lambda v: sparse.csr_matrix(v.astype(complex)), "must hold real numbers; got values of type complex128"),
    "words": (lambda v: v.astype(str), "must hold real numbers; got values of type <U32"),
    "masked": (masked, "must have all its values; it is a masked array, and 1 are masked"),
    "indices out of bounds": (out_of_bounds, "must be a valid sparse matrix: indices must be < "),
    "three dimensions": (lambda v: v[:, :, None], r"must have two dimensions, cells and features; got shape \(\d+, \d+, 1\)"),
}  # fmt: skip


# ---- of an AnnData as a whole


def larger(adata: ad.AnnData) -> ad.AnnData:
    """The same cells, and once more the same under other names."""
    again = adata.copy()
    again.obs_names = [f"{name}, again" for name in adata.obs_names]
    return ad.concat([adata, again], merge="same", uns_merge="first")


# Of what is `larger`, and by the names of the cells and genes that are wanted.
VIEWS: dict[str, Callable[[ad.AnnData, Any, Any], ad.AnnData]] = {
    "view": lambda parent, cells, genes: parent[: len(cells)],
    "view by names": lambda parent, cells, genes: parent[cells, genes],
    "view of a view": lambda parent, cells, genes: parent[:-1][: len(cells)],
}
# What X is in a file.
BACKED: dict[str, Callable[[np.ndarray], Any]] = {
    "backed dense": np.asarray,
    "backed CSR": sparse.csr_matrix,
    "backed CSC": sparse.csc_matrix,
}
