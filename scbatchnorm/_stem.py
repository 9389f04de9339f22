"""The linear stem: gene space <-> component space, fitted without densifying cells x genes."""

from __future__ import annotations

import inspect
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from scipy.linalg import eigh, svd
from scipy.sparse.linalg import LinearOperator, eigsh

from scbatchnorm import _checks
from scbatchnorm._device import one_blas_thread

if TYPE_CHECKING:
    from scbatchnorm._typing import Codes, Floats, Matrix

# Cells that are dense at once; and when the covariance of the features is the quicker way to their principal axes.
_BLOCK = 1024
_MOST_FEATURES = 4000
_TALL = 3
# Blocks at once, each with its products of features: many threads would take much memory.
_MOST_THREADS = 8
# What is smaller than this share of the data is rounding of float32; of what is smaller than the second, squares are.
_ROUNDING = 1e-5
_TINY = 1e-15
# From scipy 1.17 on.
_SEEDED = "rng" in inspect.signature(eigsh).parameters
# Cells farther than this from those of the fit, in units of their spread, would become infinite in the network.
_FARTHEST = 1e12


@dataclass(frozen=True)
class Stem:
    """Affine map between features (genes or an existing representation) and components.

    `encode` gives coordinates whose mean variance per component is 1 on the data the stem was fitted on;
    `scale` is the unit they were divided by, so that `embed` returns principal component scores.
    """

    mean: Floats  # (n_features,)
    components: Floats  # (n_features, n_components), orthonormal columns
    origin: Floats  # (n_components,): where the embedding has its zero
    scale: float

    def encode(self, X: Matrix) -> Floats:
        """Coordinates of cells, shape (cells, components); `X` dense or sparse, (cells, features).

        Raises
        ------
        ValueError
            A cell is so far from those of the fit that nothing finite could be said of it.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            scores = np.asarray(X @ self.components, dtype=np.float32)
            return _near((scores - self.mean @ self.components) / np.float32(self.scale))

    def decode(self, coordinates: Floats) -> Floats:
        """Features of coordinates, shape (cells, features): the inverse of `encode` on the kept components."""
        return (coordinates * np.float32(self.scale)) @ self.components.T + self.mean

    def embed(self, coordinates: Floats) -> Floats:
        """Coordinates in the units of the input: principal component scores, or the representation's own."""
        return coordinates * np.float32(self.scale) + self.origin

    def unembed(self, embedding: Floats) -> Floats:
        """Inverse of `embed`; raises as `encode` does."""
        with np.errstate(over="ignore", invalid="ignore"):
            return _near((embedding - self.origin) / np.float32(self.scale))


def fit(X: Matrix, kind: str, n_components: int, n_latent: int, rng: np.random.Generator) -> tuple[Stem, Stem]:
    """Stem of `X` (cells, features), and that of its components to be corrected.

    Of the `kind` "pca" they are the principal axes, centred over all cells, and the `n_latent` leading ones of them; "identity" is
    not cut.

    Raises
    ------
    ValueError
        Values are beyond 1e12.
    """
    _checks.finite(X, where="X", cells=np.arange(X.shape[0]), genes=np.arange(X.shape[1]))
    if kind == "identity":
        stem = fit_identity(X)
        return stem, stem
    codes = np.zeros(X.shape[0], dtype=np.intp)
    mean = _group_moments(X, codes, 1)[0]
    scores, components = _centred_svd(X, mean, codes, n_components, rng)

    def leading(n: int) -> Stem:
        kept = np.ascontiguousarray(components[:, :n])
        return Stem(mean[0], kept, np.zeros(kept.shape[1], np.float32), unit(scores[:, :n]))

    return leading(n_components), leading(n_latent)


def fit_identity(X: Matrix) -> Stem:
    """Stem that keeps a given representation `X` (cells, features) as it is, but centred and in units of its spread."""
    dense = np.asarray(X.toarray() if sparse.issparse(X) else X, dtype=np.float32)
    mean = dense.mean(axis=0, dtype=np.float64).astype(np.float32)
    eye = np.eye(dense.shape[1], dtype=np.float32)
    return Stem(mean, eye, mean.copy(), unit(dense - mean))


def _near(coordinates: Floats) -> Floats:
    """The `coordinates` (cells, components) themselves, checked."""
    near = np.abs(coordinates).max(axis=1, initial=0) <= _FARTHEST
    if not near.all():
        msg = (
            f"cells must lie within {_FARTHEST:g} times the spread of those of the fit; {(~near).sum()} of {len(near)} do not, the "
            f"first at {near.argmin()}: are their values in the same unit?"
        )
        raise ValueError(msg)
    return coordinates


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
    return _centred_svd(scaled, mean, codes, n_components, rng)[0]


def unit(scores: Floats) -> float:
    """Root mean square of `scores`; 1 where there is no spread that float32 could be divided by."""
    rms = float(np.sqrt(np.mean(np.square(scores, dtype=np.float64))))
    return rms if rms >= np.finfo(np.float32).tiny else 1.0


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


def _centred_svd(
    X: Matrix, mean: Floats, codes: Codes, n_components: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Scores (cells, components) and orthonormal axes (features, components) of `X - mean[codes]`.

    Axes are signed so that their largest entry is positive, which makes them reproducible.
    """
    k = min(n_components, min(X.shape) - 1)
    probe = rng.standard_normal(X.shape[1]).astype(np.float32)
    product = (X @ probe).astype(np.float64)
    if np.linalg.norm(product - (mean @ probe)[codes]) <= max(_ROUNDING * float(np.linalg.norm(product)), _TINY):
        # All cells of a group are alike: no direction is better than another.
        return np.zeros((X.shape[0], k), np.float32), np.eye(X.shape[1], k, dtype=np.float32)
    with one_blas_thread() as n_threads:
        if X.shape[1] <= _MOST_FEATURES and X.shape[0] > _TALL * X.shape[1]:
            axes = _axes_of_covariance(X, mean, codes, k, n_threads)
        else:
            axes = _axes_by_arpack(X, mean, codes, k, rng)
        sign = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(k)])
        axes = np.ascontiguousarray(axes * np.where(sign == 0, 1, sign), dtype=np.float32)
        return np.asarray(X @ axes, dtype=np.float32) - (mean @ axes)[codes], axes


def _axes_of_covariance(X: Matrix, mean: Floats, codes: Codes, k: int, n_threads: int) -> Floats:
    """Principal axes, first one first, from the covariance of the features, added up over blocks of cells.

    Blocks are shared among threads and added in order, so the sum does not depend on how many threads there are.
    """
    total = np.zeros((X.shape[1], X.shape[1]))

    def products(start: int) -> Floats:
        rows = slice(start, start + _BLOCK)
        block = X[rows].toarray() if sparse.issparse(X) else X[rows]
        block = block - mean[codes[rows]]
        return block.T @ block

    n_threads = min(n_threads, _MOST_THREADS)
    starts = range(0, X.shape[0], _BLOCK)
    with ThreadPoolExecutor(n_threads) as pool:
        for first in range(0, len(starts), n_threads):  # no more of them in memory at once
            for part in pool.map(products, starts[first : first + n_threads]):
                total += part
    last = X.shape[1] - 1
    return eigh(total, subset_by_index=(last - k + 1, last))[1][:, ::-1]


def _axes_by_arpack(X: Matrix, mean: Floats, codes: Codes, k: int, rng: np.random.Generator) -> Floats:
    """Principal axes, first one first, by ARPACK on an implicit operator: the centred matrix is never formed."""
    shape = (len(mean), len(codes))
    member = sparse.csr_matrix((np.ones(len(codes), np.float32), (codes, np.arange(len(codes)))), shape)

    def centred(v: Floats) -> Floats:
        return X @ v - (mean @ v)[codes]

    def centred_t(u: Floats) -> Floats:
        return X.T @ u - mean.T @ (member @ u)

    there, back = (centred, centred_t) if X.shape[0] >= X.shape[1] else (centred_t, centred)
    shorter = min(X.shape)
    gram = LinearOperator((shorter, shorter), matvec=lambda v: back(there(v.ravel())), dtype=np.float32)
    start = rng.standard_normal(shorter).astype(np.float32)
    # As scipy's svds, bit by bit, but that has no rng for the vectors ARPACK goes on with where the rank is lower than k.
    found = np.linalg.qr(eigsh(gram, k=k, v0=start, **({"rng": rng} if _SEEDED else {}))[1])[0]
    u, _, vt = svd(np.column_stack([there(v) for v in np.ascontiguousarray(found.T)]), full_matrices=False)
    return (vt[::-1] @ found.T)[::-1].T if there is centred else u
