"""Where cells are drawn: two dimensions of a representation, or its UMAP, which is kept beside it."""

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

# Those of scanpy, so that pictures look as its users know them.
_N_NEIGHBORS = 15
_MIN_DIST = 0.5
# From this many cells on umap-learn searches approximately, which takes most of a minute to compile. Comparing all pairs takes a second for
# ten thousand cells; of more than the second number it is slower than the search.
_SEARCHED, _MOST_COMPARED = 4096, 50_000
# With fewer cells its graph has too few eigenvectors to start from.
_FEWEST_CELLS = 4
# What makes a basis that is not there.
_FIRST = {"umap": "sc.tl.umap(adata)", "pca": "sc.pp.pca(adata)", "scbatchnorm": "sbn.pp.integrate(adata, batch_key)"}
_WORDS = {"umap": "UMAP", "pca": "PCA", "tsne": "tSNE"}


@dataclass(frozen=True, eq=False)
class Coordinates:
    """Coordinates of the cells, shape (cells, 2), and what the two axes are called."""

    points: Floats
    names: tuple[str, str]


def find_coordinates(
    adata: AnnData, bases: Sequence[str], *, dimensions: tuple[int, int] | None, seed: int
) -> list[Coordinates]:
    """Coordinates of each of `bases`, keys of `obsm` with or without "X_".

    Of more than 2 dimensions the UMAP, unless two are chosen. One that has to be computed is written to
    `obsm[f"{key}_umap"]`, and what it was computed from to `uns[f"{key}_umap"]`, unless `adata` is a view.

    Raises
    ------
    KeyError
        A basis is not in `obsm`; nothing was written.
    ValueError
        A basis has a single dimension, is not finite, or has too few cells for a UMAP, or `dimensions` are not two of its
        own; nothing was written.
    """
    keys = {basis: _find_key(adata, basis) for basis in bases}
    chosen = {basis: _stored_coordinates(adata, basis, keys[basis], dimensions) for basis in keys}
    # All are checked before the first is computed.
    computed = {
        basis: _store_umap(adata, keys[basis], seed) if coordinates is None else coordinates
        for basis, coordinates in chosen.items()
    }
    return [computed[basis] for basis in bases]


def _find_key(adata: AnnData, basis: str) -> str:
    """Key of `obsm` that `basis` means."""
    key = next((key for key in (basis, f"X_{basis}") if key in adata.obsm), None)
    if key is None:
        keys = ", ".join(map(str, adata.obsm.keys())) or "none"
        missing = f"basis={basis!r} is not a key of adata.obsm; keys: {keys}."
        call = _FIRST.get(str(basis).removeprefix("X_"))
        msg = f"{missing} Run {call} first." if call else missing
        raise KeyError(msg)
    return key


def _stored_coordinates(adata: AnnData, basis: str, key: str, dimensions: tuple[int, int] | None) -> Coordinates | None:
    """What is there and can be drawn as it is; `None` where a UMAP has to be computed, and can be."""
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
    """Two dimensions, counted from 0."""
    pair = [0, 1] if dimensions is None else list(dimensions)
    if len(pair) != 2 or len(set(pair)) != 2 or not set(pair) <= set(range(n_dimensions)):
        msg = (
            f"dimensions must be two of the {n_dimensions} of adata.obsm[{key!r}], counted from 0; got {dimensions!r}."
        )
        raise ValueError(msg)
    return pair


def _check_umap_input(adata: AnnData, basis: str, key: str) -> None:
    points = _read_points(adata, key)
    if len(points) < _FEWEST_CELLS:
        msg = (
            f"basis={basis!r} has {points.shape[1]} dimensions, and their UMAP takes at least {_FEWEST_CELLS} cells; adata "
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
    """What the axes are called: "PCA1", "scbatchnorm UMAP2"."""
    name = key.removeprefix("X_")
    base = name.removesuffix("_umap")
    word = _WORDS.get(name, f"{name} ") if base == name else f"{_WORDS.get(base, base)} UMAP"
    return f"{word}{pair[0] + 1}", f"{word}{pair[1] + 1}"


def _has_umap(adata: AnnData, key: str) -> bool:
    """Whether a UMAP is stored that is the user's own, or ours and of the same values."""
    slot = f"{key}_umap"
    if slot not in adata.obsm:
        return False
    record = adata.uns.get(slot)
    ours = isinstance(record, Mapping) and "crc32" in record
    # There is a checksum for each cell: of a subset of the cells the UMAP is still right.
    return not ours or bool(np.isin(_checksums(_read_points(adata, key)), record["crc32"]).all())


def _checksums(points: Floats) -> np.ndarray:
    """CRC-32 of each cell's coordinates in single precision, shape (cells,)."""
    rows = np.ascontiguousarray(points, dtype=np.float32)
    return np.fromiter((zlib.crc32(row) for row in rows), dtype=np.uint32, count=len(rows))


def _store_umap(adata: AnnData, key: str, seed: int) -> Coordinates:
    """The UMAP of a representation, computed and stored."""
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
    """A UMAP, float32 of shape (cells, 2); numba has as many threads afterwards as before."""
    with warnings.catch_warnings():
        # They tell how its search went and where it started: nothing to act upon.
        warnings.simplefilter("ignore")
        import numba
        import umap  # seconds that other pictures do not need

        threads = numba.get_num_threads()
        try:
            values = points.astype(np.float32)
            return umap.UMAP(
                **params, n_jobs=1, precomputed_knn=_find_neighbors(values, params["n_neighbors"])
            ).fit_transform(values)
        finally:
            numba.set_num_threads(threads)


def _find_neighbors(points: Floats, k: int) -> tuple[Any, ...]:
    """Nearest neighbours and their distances, each cell the first of its own, where umap-learn would search approximately."""
    if not _SEARCHED <= len(points) <= _MOST_COMPARED:
        return None, None, None
    distances, indices = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(points).kneighbors(points)
    itself = indices == np.arange(len(points))[:, None]
    # Among cells in the same place another one may come first.
    order = np.argsort(~itself, axis=1, kind="stable")
    indices, distances = (np.take_along_axis(values, order, axis=1) for values in (indices, distances))
    indices[:, 0] = np.arange(len(points))
    distances[:, 0] = 0
    return indices.astype(np.int32), distances.astype(np.float32)
