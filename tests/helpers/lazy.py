"""The same AnnData with expression in a Dask array."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import anndata as ad
import dask
import dask.array as da
import numpy as np
import pytest
from packaging.version import Version
from scipy import sparse

if TYPE_CHECKING:
    from pathlib import Path

# What the extra [scale] asks for. Older versions divide by 0 at our history of shifts, which is empty unless it is asked for.
EMPTY_TABLES = pytest.mark.skipif(
    Version(version("anndata")) < Version("0.12.17"),
    reason="anndata before 0.12.17 cannot read empty tables of h5ad lazily",
)

# Modules in which cells of a block are counted.
_PLACES = ("_data.blocks", "_data.dask_blocks", "_method.stem", "tl._correction.in_memory")


def small_blocks(patch: pytest.MonkeyPatch, rows: int) -> None:
    """Let blocks have few cells, so that little data has several."""
    for place in _PLACES:
        patch.setattr(f"scbatchnorm.{place}.ROWS", rows)


def lazy(X: Any, chunks: tuple[int, int], *, dense: bool = False) -> Any:
    """Dask array with chunks of at most so many cells and genes, CSR or dense."""
    matrix = sparse.csr_matrix(X)
    if dense:
        return da.from_array(matrix.toarray(), chunks=chunks)
    starts = [range(0, n, size) for n, size in zip(matrix.shape, chunks, strict=True)]
    meta = sparse.csr_matrix((0, 0), dtype=np.float32)
    return da.block(
        [
            [da.from_delayed(dask.delayed(part, traverse=False), part.shape, meta=meta) for part in row]
            for row in [[matrix[i : i + chunks[0], j : j + chunks[1]] for j in starts[1]] for i in starts[0]]
        ]
    )


def with_lazy(adata: ad.AnnData, chunks: tuple[int, int] = (37, 40), *, dense: bool = False) -> ad.AnnData:
    """Copy of `adata` with a Dask array as `X`."""
    copied = adata.copy()
    copied.X = lazy(adata.X, chunks, dense=dense)
    return copied


def reopened(adata: ad.AnnData, path: Path) -> ad.AnnData:
    """What `anndata.experimental.read_lazy` gives of `adata` in a new store of this path, .zarr or .h5ad."""
    (adata.write_zarr if path.suffix == ".zarr" else adata.write_h5ad)(path)
    return ad.experimental.read_lazy(path)
