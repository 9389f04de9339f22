from __future__ import annotations

import math
from numbers import Integral
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from scbatchnorm._data import store_write as _sparse_store
from scbatchnorm.datasets import _arguments, _simulation

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData


def simulate_batches(
    n_cells: int = 3000,
    *,
    n_genes: int = 2000,
    n_batches: int = 3,
    n_types: int = 6,
    batch_strength: float = 1.0,
    density: float = 0.09,
    concentration: float = 2.0,
    private_type: bool = True,
    rng: int | np.random.Generator | None = 0,
    truth: bool = True,
    store: str | Path | None = None,
) -> AnnData:
    """Simulate negative binomial counts of several batches with known cell types and known truth.

    A cell's rates are a base level per gene times the program of its type (types come in pairs of relatives, the last
    two among them) times an activity that varies within types. A batch adds a shift per gene, stretches the distance
    of each gene to its base level, sequences more or less deeply and loses a share of the non-zero values. Truth
    and measurement use the same random numbers: they differ by the batch effect alone, and the truth of a seed
    does not depend on `batch_strength`.

    Parameters
    ----------
    n_cells
        Cells in all batches together; batches have the same size, up to one cell.
    n_genes
        Genes.
    n_batches
        Batches, at least 2 with `private_type`.
    n_types
        Cell types, at least 2 with `private_type`.
    batch_strength
        Size of the batch effect: 0 makes `X` equal to the truth. At 1 the log rates shift with a standard deviation
        of 0.5, their distances to the base scale by about 15 %, the library size by about 30 %, and up to 20 %
        of the non-zero values are lost; all four grow in proportion.
    density
        Expected share of non-zero values in the truth, in (0, 0.9]. It sets the library size (recorded in `uns`).
        `X` deviates by the depth and dropout of its batches.
    concentration
        Dirichlet concentration of each batch's cell type proportions: small is very unequal, `inf` is equal.
    private_type
        Whether the last type exists in the last batch only, as `1 / n_types` of its cells.
    rng
        Seed or generator.
    truth
        Whether the truth is simulated as well; without it `X` is the same, in half the time.
    store
        A zarr or h5ad file, `"x.zarr"` or `"x.h5ad"`, that is written block by block: expression may be larger than
        memory. It holds the values that would be in memory without it. Needs Dask, the extra `[scale]`.

    Returns
    -------
    Annotated data with cells in random order and these fields:

    `X` : :class:`scipy.sparse.csr_matrix` (shape `(n_cells, n_genes)`, dtype `float32`)
        Counts with the batch effect. With `store` a Dask array whose blocks, read from there, are such matrices.
    `layers["truth"]` : :class:`scipy.sparse.csr_matrix` (shape `(n_cells, n_genes)`, dtype `float32`)
        Counts of the same cells without it, if `truth`. With `store` a Dask array as well.
    `obs["batch"]`, `obs["cell_type"]` : :class:`pandas.Categorical`
        `"batch_0"`, ... and `"type_0"`, ...
    `uns["simulation"]` : :class:`dict`
        The parameters, the library size, and the seed if it was an integer.

    Raises
    ------
    ValueError
        If a parameter is outside its range, or there are too few cells for every batch to have every type.
    FileExistsError, FileNotFoundError, PermissionError
        There is something at `store` already; its folder does not exist, or cannot be written to.
    OSError
        The store cannot be written, for instance because the disk is full. Then none is left.
    ImportError
        `store` is given and Dask is missing.

    Examples
    --------
    >>> import scbatchnorm as sbn
    >>> adata = sbn.datasets.simulate_batches(300, n_genes=200, n_types=4)
    >>> adata.shape, adata.layers["truth"].shape
    ((300, 200), (300, 200))
    >>> adata.obs["batch"].value_counts().to_list()
    [100, 100, 100]
    """
    n_cells = _arguments.integer("n_cells", n_cells, minimum=1)
    n_genes = _arguments.integer("n_genes", n_genes, minimum=2)
    n_batches = _arguments.integer("n_batches", n_batches, minimum=2 if private_type else 1)
    n_types = _arguments.integer("n_types", n_types, minimum=2 if private_type else 1)
    batch_strength = _arguments.number("batch_strength", batch_strength, lowest=0, highest=10)
    density = _arguments.number("density", density, lowest=0, highest=0.9, open_below=True)
    concentration = _arguments.number("concentration", concentration, lowest=0, highest=math.inf, open_below=True)
    if n_cells < n_batches * n_types:
        msg = (
            f"n_cells must be at least n_batches * n_types = {n_batches * n_types}, so that batches can hold their "
            f"types. Got {n_cells}."
        )
        raise ValueError(msg)
    path = None if store is None else _sparse_store.check_target("store", store)

    # Independent streams: the truth stays the same whatever the effects are.
    rng_cells, rng_effects, rng_dropout = np.random.default_rng(rng).spawn(3)
    batch, cell_type = _simulation.draw_cells(
        n_cells, n_batches, n_types, concentration, rng_cells, private_type=private_type
    )
    programs = _simulation.draw_programs(n_genes, n_types, rng_cells)
    library_size = _simulation.library_size(programs, cell_type, density)
    effects = _simulation.draw_effects(n_batches, n_genes, batch_strength, rng_effects)
    blocks = _simulation.draw_counts(
        batch, cell_type, programs, effects, library_size, rng_cells, rng_dropout, truth=truth
    )

    simulation: dict[str, int | float | bool] = {
        "n_cells": n_cells,
        "n_genes": n_genes,
        "n_batches": n_batches,
        "n_types": n_types,
        "batch_strength": batch_strength,
        "density": density,
        "concentration": concentration,
        "private_type": bool(private_type),
        "library_size": library_size,
    }
    if isinstance(rng, Integral):
        simulation["rng"] = int(rng)
    obs = pd.DataFrame(
        {
            "batch": pd.Categorical.from_codes(batch, _names("batch", n_batches)),
            "cell_type": pd.Categorical.from_codes(cell_type, _names("type", n_types)),
        },
        index=_names("cell", n_cells),
    )
    var = pd.DataFrame(index=_names("gene", n_genes))
    annotation = ad.AnnData(obs=obs, var=var, uns={"simulation": simulation})
    if path is not None:
        _sparse_store.write(path, annotation, blocks)
        return _sparse_store.with_expression(path, annotation)
    in_memory = list(blocks)
    matrices = {name: sparse.vstack([block[name] for block in in_memory], format="csr") for name in in_memory[0]}
    layers = {"truth": matrices["layers/truth"]} if truth else {}
    return ad.AnnData(matrices["X"], obs=obs, var=var, layers=layers, uns=annotation.uns)


def _names(prefix: str, number: int) -> pd.Index[str]:
    return pd.Index([f"{prefix}_{i}" for i in range(number)])
