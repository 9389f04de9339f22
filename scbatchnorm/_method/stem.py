"""The linear stem: gene space <-> component space, fitted without densifying cells x genes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from scbatchnorm._data.blocks import ROWS, Blocks, InMemory
from scbatchnorm._method.pca import principal_axes

if TYPE_CHECKING:
    from scbatchnorm._data.types import Floats, Matrix

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
            return self.standardise(np.asarray(X @ self.components, dtype=np.float32))

    def standardise(self, products: Floats) -> Floats:
        """Coordinates of cells by their `products` with the components, and maybe further ones, (cells, components or more).

        Raises as `encode` does.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            kept = products[:, : self.components.shape[1]]
            return _near((kept - self.mean @ self.components) / np.float32(self.scale))

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


def fit_stem(X: Matrix, kind: str, n_components: int, n_latent: int, rng: np.random.Generator) -> tuple[Stem, Stem]:
    """Stem of the matrix `X` (cells, features), and that of its components to be corrected; see `fit_stem_blocks`."""
    return fit_stem_blocks(InMemory(X), kind, n_components, n_latent, rng)[:2]


def fit_stem_blocks(
    blocks: Blocks, kind: str, n_components: int, n_latent: int, rng: np.random.Generator
) -> tuple[Stem, Stem, Floats]:
    """Stem of cells, that of its components to be corrected, and the products of the cells with the components of the first.

    Of the `kind` "pca" they are the principal axes, centred over all cells, and the `n_latent` leading ones of them; "identity" is
    not cut. The products (cells, components) are what `Stem.standardise` of either takes.

    Raises
    ------
    ValueError
        Values are not what they must be.
    """
    total = blocks.feature_sums()
    if kind == "identity":
        stem = fit_identity_stem(blocks.all())
        return stem, stem, blocks.product(stem.components, what="components")
    mean = (total / blocks.shape[0]).astype(np.float32)
    components = principal_axes(blocks, mean[None], None, n_components, rng)
    products = blocks.product(components, what="components")
    squares = _squares(products, mean @ components)

    def leading(n: int) -> Stem:
        kept = np.ascontiguousarray(components[:, :n])
        scale = np.sqrt(squares[:n].sum() / (len(products) * kept.shape[1]))
        return Stem(mean, kept, np.zeros(kept.shape[1], np.float32), _divisor(float(scale)))

    return leading(n_components), leading(n_latent), products


def _squares(products: Floats, centre: Floats) -> Floats:
    """Sum of squares of each column without its centre, shape (components,)."""
    total = np.zeros(products.shape[1])
    for start in range(0, len(products), ROWS):
        total += np.square(products[start : start + ROWS] - centre, dtype=np.float64).sum(axis=0)
    return total


def fit_identity_stem(X: Matrix) -> Stem:
    """Stem that keeps a given representation `X` (cells, features) as it is, but centred and in units of its spread."""
    dense = np.asarray(X.toarray() if sparse.issparse(X) else X, dtype=np.float32)
    mean = dense.mean(axis=0, dtype=np.float64).astype(np.float32)
    eye = np.eye(dense.shape[1], dtype=np.float32)
    return Stem(mean, eye, mean.copy(), root_mean_square(dense - mean))


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


def root_mean_square(scores: Floats) -> float:
    """Root mean square of `scores`; 1 where there is no spread that float32 could be divided by."""
    return _divisor(float(np.sqrt(np.mean(np.square(scores, dtype=np.float64)))))


def _divisor(rms: float) -> float:
    return rms if rms >= np.finfo(np.float32).tiny else 1.0
