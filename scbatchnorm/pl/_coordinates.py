"""Coordinates of cells to draw: two dimensions of a representation, or its UMAP, which is stored beside it."""

from __future__ import annotations

import logging
import time
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse
from sklearn.neighbors import NearestNeighbors

from scbatchnorm._data.matrix import as_real_matrix
from scbatchnorm._runtime.messages import log_written

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from scbatchnorm._data.types import Floats

logger = logging.getLogger(__name__)

# Defaults of scanpy.
_N_NEIGHBORS = 15
_MIN_DIST = 0.5
# From this many cells on umap-learn searches neighbours approximately, and compiles the search for most of a minute. An exact search takes
# a second for ten thousand cells; beyond the second number of cells it is slower.
_MIN_APPROXIMATE, _MAX_EXACT = 4096, 50_000
# With fewer cells the graph of umap-learn has too few eigenvectors for its initialisation.
_MIN_CELLS = 4
# Calls that compute a missing basis.
_CALLS = {"umap": "sc.tl.umap(adata)", "pca": "sc.pp.pca(adata)", "scbatchnorm": "sbn.pp.integrate(adata, batch_key)"}
_WORDS = {"umap": "UMAP", "pca": "PCA", "tsne": "tSNE"}


@dataclass(frozen=True, eq=False)
class Coordinates:
    """Coordinates of the cells, shape (cells, 2), and the names of the two axes."""

    points: Floats
    names: tuple[str, str]


def find_coordinates(
    adata: AnnData, bases: Sequence[str], *, dimensions: tuple[int, int] | None, seed: int
) -> list[Coordinates]:
    """Read or compute the coordinates of each of `bases`, keys of `obsm` with or without "X_".

    For a basis with more than 2 dimensions these are its UMAP, unless `dimensions` chooses two. A computed UMAP is written to
    `obsm[f"{key}_umap"]`, and parameters and checksums of the cells to `uns[f"{key}_umap"]`, unless `adata` is a view.

    Raises
    ------
    KeyError
        A basis is not in `obsm`; nothing was written.
    ValueError
        A basis has a single dimension, is not finite, or has too few cells for a UMAP, or `dimensions` are not two of its
        own; nothing was written.
    """
    keys = {basis: _find_key(adata, basis) for basis in bases}
    stored = {basis: _stored_coordinates(adata, basis, keys[basis], dimensions) for basis in keys}
    # All bases are checked before the first UMAP is computed.
    computed = {
        basis: _store_umap(adata, keys[basis], seed) if coordinates is None else coordinates
        for basis, coordinates in stored.items()
    }
    return [computed[basis] for basis in bases]


def _find_key(adata: AnnData, basis: str) -> str:
    """Find the key of `obsm` for `basis`."""
    key = next((key for key in (basis, f"X_{basis}") if key in adata.obsm), None)
    if key is None:
        keys = ", ".join(map(str, adata.obsm.keys())) or "none"
        msg = f"basis={basis!r} is not a key of adata.obsm; keys: {keys}."
        call = _CALLS.get(str(basis).removeprefix("X_"))
        msg = f"{msg} Run {call} first." if call else msg
        raise KeyError(msg)
    return key


def _stored_coordinates(adata: AnnData, basis: str, key: str, dimensions: tuple[int, int] | None) -> Coordinates | None:
    """Stored coordinates that can be drawn; `None` if a UMAP has to be computed, and can be."""
    points = _read_points(adata, key)
    if points.ndim != 2 or points.shape[1] < 2:
        msg = f"basis={basis!r} must have at least 2 dimensions; adata.obsm[{key!r}] has shape {points.shape}."
        raise ValueError(msg)
    if dimensions is None and points.shape[1] > 2:
        if not _has_umap(adata, key):
            _check_umap_input(adata, basis, key)
            return None
        key = f"{key}_umap"
        points = _read_points(adata, key)
        if points.ndim != 2 or points.shape[1] != 2:
            msg = f"basis={basis!r} is drawn as adata.obsm[{key!r}], which must have 2 dimensions; it has shape {points.shape}."
            raise ValueError(msg)
    pair = _check_dimensions(dimensions, key, points.shape[1])
    _check_finite(adata, basis, key, points[:, pair])
    return Coordinates(points[:, pair].astype(float), _axis_names(key, pair))


def _read_points(adata: AnnData, key: str) -> Floats:
    values = as_real_matrix(adata.obsm[key], where=f"adata.obsm[{key!r}]")
    return values.toarray() if sparse.issparse(values) else values


def _check_dimensions(dimensions: tuple[int, int] | None, key: str, n_dimensions: int) -> list[int]:
    """Check the two dimensions, counted from 0."""
    pair = [0, 1] if dimensions is None else list(dimensions)
    if len(pair) != 2 or len(set(pair)) != 2 or not set(pair) <= set(range(n_dimensions)):
        msg = (
            f"dimensions must be two of the {n_dimensions} of adata.obsm[{key!r}], counted from 0; got {dimensions!r}."
        )
        raise ValueError(msg)
    return pair


def _check_umap_input(adata: AnnData, basis: str, key: str) -> None:
    points = _read_points(adata, key)
    if len(points) < _MIN_CELLS:
        msg = (
            f"basis={basis!r} has {points.shape[1]} dimensions, and their UMAP takes at least {_MIN_CELLS} cells; adata "
            f"has {len(points)}. Draw two of them: dimensions=(0, 1)."
        )
        raise ValueError(msg)
    _check_finite(adata, basis, key, points)


def _check_finite(adata: AnnData, basis: str, key: str, points: Floats) -> None:
    bad = ~np.isfinite(points.astype(np.float32)).all(axis=1)
    if bad.any():
        msg = (
            f"basis={basis!r} must be finite; {int(bad.sum())} of {len(points)} cells have NaN or infinite coordinates in "
            f"adata.obsm[{key!r}], the first is {str(adata.obs_names[bad.argmax()])!r}."
        )
        raise ValueError(msg)


def _axis_names(key: str, pair: Sequence[int]) -> tuple[str, str]:
    """Names of the axes, such as "PCA1" and "scbatchnorm UMAP2"."""
    name = key.removeprefix("X_")
    base = name.removesuffix("_umap")
    word = _WORDS.get(name, f"{name} ") if base == name else f"{_WORDS.get(base, base)} UMAP"
    return f"{word}{pair[0] + 1}", f"{word}{pair[1] + 1}"


def _has_umap(adata: AnnData, key: str) -> bool:
    """Whether `obsm` has a UMAP that another tool computed, or this package from the same values."""
    slot = f"{key}_umap"
    if slot not in adata.obsm:
        return False
    record = adata.uns.get(slot)
    is_recorded = isinstance(record, Mapping) and "crc32" in record
    # There is a checksum for each cell, because the UMAP is still valid for a subset of the cells.
    return not is_recorded or bool(np.isin(_checksums(_read_points(adata, key)), record["crc32"]).all())


def _checksums(points: Floats) -> np.ndarray:
    """CRC-32 of each cell's coordinates in single precision, shape (cells,)."""
    rows = np.ascontiguousarray(points, dtype=np.float32)
    return np.fromiter((zlib.crc32(row) for row in rows), dtype=np.uint32, count=len(rows))


def _store_umap(adata: AnnData, key: str, seed: int) -> Coordinates:
    """Compute the UMAP of a representation and store it."""
    start = time.perf_counter()
    points, slot = _read_points(adata, key), f"{key}_umap"
    params = {"n_neighbors": min(_N_NEIGHBORS, len(points) - 1), "min_dist": _MIN_DIST, "random_state": seed}
    computed = _compute_umap(points, params)
    if not adata.is_view:
        adata.obsm[slot] = computed
        adata.uns[slot] = {"params": {"use_rep": key, **params}, "crc32": _checksums(points)}
        log_written(logger, {"obsm": [slot], "uns": [slot]}, start)
    return Coordinates(computed.astype(float), _axis_names(slot, [0, 1]))


def _compute_umap(points: Floats, params: dict[str, Any]) -> Floats:
    """Compute a UMAP, float32 of shape (cells, 2); the number of threads of numba is restored."""
    with warnings.catch_warnings():
        # umap-learn warns about its search and initialisation, which needs no action.
        warnings.simplefilter("ignore")
        import numba
        import umap  # takes seconds to import

        threads = numba.get_num_threads()
        try:
            values = points.astype(np.float32)
            return umap.UMAP(
                **params, n_jobs=1, precomputed_knn=_find_neighbors(values, params["n_neighbors"])
            ).fit_transform(values)
        finally:
            numba.set_num_threads(threads)


def _find_neighbors(points: Floats, k: int) -> tuple[Any, ...]:
    """Exact nearest neighbours and their distances, shape (cells, k), if umap-learn would search approximately.

    The first neighbour of each cell is the cell itself.
    """
    if not _MIN_APPROXIMATE <= len(points) <= _MAX_EXACT:
        return None, None, None
    distances, indices = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(points).kneighbors(points)
    is_self = indices == np.arange(len(points))[:, None]
    # Among cells with the same coordinates another cell may be the first.
    order = np.argsort(~is_self, axis=1, kind="stable")
    indices, distances = (np.take_along_axis(values, order, axis=1) for values in (indices, distances))
    indices[:, 0] = np.arange(len(points))
    distances[:, 0] = 0
    return indices.astype(np.int32), distances.astype(np.float32)
