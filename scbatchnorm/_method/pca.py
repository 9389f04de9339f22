"""Principal axes of cells in blocks, and of features that are scaled within each batch."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from scipy.linalg import eigh, svd
from scipy.sparse.linalg import LinearOperator, eigsh

from scbatchnorm._data.blocks import Blocks, InMemory, to_dense
from scbatchnorm._runtime.device import one_blas_thread

if TYPE_CHECKING:
    from scbatchnorm._data.types import Codes, Floats, Matrix

# Cells that are dense at once; and when the covariance of the features is the quicker way to their principal axes.
_BLOCK = 1024
_MOST_FEATURES = 4000
_TALL = 3
# What is smaller than this share of the data is rounding of float32; of what is smaller than the second, squares are.
_ROUNDING = 1e-5
_TINY = 1e-15
# From scipy 1.17 on.
_SEEDED = "rng" in inspect.signature(eigsh).parameters


def batchwise_scores(X: Matrix, codes: Codes, n_components: int, rng: np.random.Generator) -> Floats:
    """Component scores of features z-scored within each batch, clipped at 10: where the first anchors are sought.

    `X` is (cells, features), `codes` the batch of each cell, counted from 0. The matrix is scaled as it is stored
    and the batch means are subtracted implicitly, so a sparse `X` stays sparse; the lower clip, which only a
    gene that is expressed in nearly all cells could reach, is left out.
    """
    n_batches = int(codes.max()) + 1
    mean, sd = _group_moments(X, codes, n_batches)
    sd = sd + np.float32(0.01)
    if sparse.issparse(X):
        scaled = sparse.csr_matrix(X, dtype=np.float32, copy=True)
        row = np.repeat(codes, np.diff(scaled.indptr))
        unit = sd[row, scaled.indices]
        upper = mean[row, scaled.indices] + 10 * unit
        scaled.data = np.minimum(scaled.data, upper) / unit
    else:
        scaled = np.minimum(X, (mean + 10 * sd)[codes]) / sd[codes]
    mean = _group_moments(scaled, codes, n_batches)[0]
    axes = principal_axes(InMemory(scaled), mean, codes, n_components, rng)
    with one_blas_thread():
        return np.asarray(scaled @ axes, dtype=np.float32) - (mean @ axes)[codes]


def principal_axes(
    blocks: Blocks, mean: Floats, codes: Codes | None, n_components: int, rng: np.random.Generator
) -> Floats:
    """Orthonormal principal axes (features, components), first one first, of the values without the mean of their group.

    Signed so that their largest entry is positive, which makes them reproducible. Where cells of a group are alike no direction is
    better than another.

    Parameters
    ----------
    blocks
        Values, (cells, features).
    mean
        Of each group, shape (groups, features).
    codes
        Group of each cell, shape (cells,); `None`: there is only one.
    n_components
        Axes, fewer where there are not so many cells or features.
    rng
        Draws vectors to start with.

    Raises
    ------
    ValueError
        There are too many features for cells that are not in memory.
    """
    n_cells, n_features = blocks.shape
    k = min(n_components, min(blocks.shape) - 1)
    probe = rng.standard_normal(n_features).astype(np.float32)
    if _implicit(n_cells, n_features):
        X = _whole(blocks)
        with one_blas_thread():
            axes = _by_arpack(X, mean, codes, probe, k, rng)
    else:
        axes = _by_covariance(blocks, mean, codes, probe, k)
    if axes is None:
        return np.eye(n_features, k, dtype=np.float32)
    sign = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(k)])
    return np.ascontiguousarray(axes * np.where(sign == 0, 1, sign), dtype=np.float32)


def count_normal_draws(n_cells: int, n_features: int) -> list[int]:
    """How many numbers `axes` draws from the normal distribution at a time, unless variance is missing."""
    return [n_features, min(n_cells, n_features)] if _implicit(n_cells, n_features) else [n_features]


def _implicit(n_cells: int, n_features: int) -> bool:
    """Whether axes are found without the covariance."""
    return n_cells <= _TALL * n_features or n_features > _MOST_FEATURES


def _whole(blocks: Blocks) -> Matrix:
    """All values in memory, if these are few cells or are there already."""
    if not isinstance(blocks, InMemory) and blocks.shape[1] > _MOST_FEATURES:
        msg = (
            f"more than {_MOST_FEATURES} genes cannot be integrated from a Dask array; got {blocks.shape[1]}. Choose variable ones: "
            "sc.pp.highly_variable_genes(adata, n_top_genes=2000, batch_key=...), or mask_var=..."
        )
        raise ValueError(msg)
    return blocks.all()


class _Products:
    """Products of features without the mean of their group, and how long a product with `probe` is with and without it."""

    def __init__(self, mean: Floats, codes: Codes | None, probe: Floats) -> None:
        self.mean, self.codes, self.probe = mean, codes, probe

    def __call__(self, block: Matrix, start: int) -> list[Floats]:
        total, lengths = np.zeros((block.shape[1], block.shape[1])), np.zeros(2)
        for first in range(0, block.shape[0], _BLOCK):
            values = to_dense(block[first : first + _BLOCK])
            rows = slice(start + first, start + first + len(values))
            centred = values - self.mean[0 if self.codes is None else self.codes[rows]]
            total += centred.T @ centred
            lengths += [np.square((part @ self.probe).astype(np.float64)).sum() for part in (values, centred)]
        return [total, lengths]


def _by_covariance(blocks: Blocks, mean: Floats, codes: Codes | None, probe: Floats, k: int) -> Floats | None:
    """Principal axes from the covariance of the features; `None` where there is no direction.

    Sums are added in the order of the cells, so they do not depend on how many threads or machines there are.
    """
    total, lengths = blocks.total(_Products(mean, codes, probe), what="products")
    if _alike(*np.sqrt(lengths).tolist()):
        return None
    last = blocks.shape[1] - 1
    with one_blas_thread():
        return eigh(total, subset_by_index=(last - k + 1, last))[1][:, ::-1]


def _alike(length: float, centred: float) -> bool:
    """Whether what is left without the means is rounding."""
    return bool(centred <= max(_ROUNDING * length, _TINY))


def _by_arpack(
    X: Matrix, mean: Floats, codes: Codes | None, probe: Floats, k: int, rng: np.random.Generator
) -> Floats | None:
    """Principal axes by ARPACK on an implicit operator, the centred matrix is never formed; `None` where there is no direction."""
    codes = np.zeros(X.shape[0], dtype=np.intp) if codes is None else codes
    product = (X @ probe).astype(np.float64)
    if _alike(float(np.linalg.norm(product)), float(np.linalg.norm(product - (mean @ probe)[codes]))):
        return None
    shape = (len(mean), len(codes))
    member = sparse.csr_matrix((np.ones(len(codes), np.float32), (codes, np.arange(len(codes)))), shape)

    def centred(v: Floats) -> Floats:
        return X @ v - (mean @ v)[codes]

    def centred_t(u: Floats) -> Floats:
        return X.T @ u - mean.T @ (member @ u)

    matvec, rmatvec = (centred, centred_t) if X.shape[0] >= X.shape[1] else (centred_t, centred)
    shorter = min(X.shape)
    gram = LinearOperator((shorter, shorter), matvec=lambda v: rmatvec(matvec(v.ravel())), dtype=np.float32)
    start = rng.standard_normal(shorter).astype(np.float32)
    # As scipy's svds, bit by bit, but that has no rng for the vectors ARPACK goes on with where the rank is lower than k.
    basis = np.linalg.qr(eigsh(gram, k=k, v0=start, **({"rng": rng} if _SEEDED else {}))[1])[0]
    u, _, vt = svd(np.column_stack([matvec(v) for v in np.ascontiguousarray(basis.T)]), full_matrices=False)
    return (vt[::-1] @ basis.T)[::-1].T if matvec is centred else u


def _group_moments(X: Matrix, codes: Codes, n_groups: int) -> tuple[Floats, Floats]:
    """Mean and standard deviation of every feature within every group, each (groups, features)."""
    n = np.bincount(codes, minlength=n_groups)
    member = sparse.csr_matrix((1.0 / n[codes], (codes, np.arange(len(codes)))), shape=(n_groups, len(codes)))
    mean = _dense(member @ X)
    square = _dense(member @ (X.multiply(X) if sparse.issparse(X) else np.square(X, dtype=np.float64)))
    sd = np.sqrt(np.maximum(square - mean**2, 0))
    return mean.astype(np.float32), sd.astype(np.float32)


def _dense(X: Matrix) -> Floats:
    return np.asarray(X.toarray() if sparse.issparse(X) else X, dtype=np.float64)
