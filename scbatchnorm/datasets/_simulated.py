from __future__ import annotations

import math
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from scbatchnorm._data.store_write import attach_expression, check_store_path, write_store
from scbatchnorm.datasets._simulation import (
    draw_cells,
    draw_counts,
    draw_effects,
    draw_programs,
    find_library_size,
)

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

    from scbatchnorm._data.types import Codes


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
    n_cells = check_integer("n_cells", n_cells, minimum=1)
    n_genes = check_integer("n_genes", n_genes, minimum=2)
    n_batches = check_integer("n_batches", n_batches, minimum=2 if private_type else 1)
    n_types = check_integer("n_types", n_types, minimum=2 if private_type else 1)
    batch_strength = check_number("batch_strength", batch_strength, lowest=0, highest=10)
    density = check_number("density", density, lowest=0, highest=0.9, open_below=True)
    concentration = check_number("concentration", concentration, lowest=0, highest=math.inf, open_below=True)
    if n_cells < n_batches * n_types:
        msg = (
            f"n_cells must be at least n_batches * n_types = {n_batches * n_types}, so that batches can hold their "
            f"types. Got {n_cells}."
        )
        raise ValueError(msg)
    path = None if store is None else check_store_path("store", store)

    # Independent streams: the truth stays the same whatever the effects are.
    rng_cells, rng_effects, rng_dropout = np.random.default_rng(rng).spawn(3)
    batch, cell_type = draw_cells(n_cells, n_batches, n_types, concentration, rng_cells, private_type=private_type)
    programs = draw_programs(n_genes, n_types, rng_cells)
    library_size = find_library_size(programs, cell_type, density)
    effects = draw_effects(n_batches, n_genes, batch_strength, rng_effects)
    blocks = draw_counts(batch, cell_type, programs, effects, library_size, rng_cells, rng_dropout, truth=truth)

    simulation: dict[str, Any] = {
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
    annotation = _make_annotation(batch, cell_type, simulation)
    if path is not None:
        write_store(path, annotation, blocks)
        return attach_expression(path, annotation)
    in_memory = list(blocks)
    matrices = {name: sparse.vstack([block[name] for block in in_memory], format="csr") for name in in_memory[0]}
    layers = {"truth": matrices["layers/truth"]} if truth else {}
    return ad.AnnData(matrices["X"], obs=annotation.obs, var=annotation.var, layers=layers, uns=annotation.uns)


def _make_annotation(batch: Codes, cell_type: Codes, simulation: dict[str, Any]) -> AnnData:
    """Cells and genes without expression, from codes of shape (cells,) and the parameters of the simulation."""
    obs = pd.DataFrame(
        {
            "batch": pd.Categorical.from_codes(batch, _number_names("batch", simulation["n_batches"])),
            "cell_type": pd.Categorical.from_codes(cell_type, _number_names("type", simulation["n_types"])),
        },
        index=_number_names("cell", simulation["n_cells"]),
    )
    var = pd.DataFrame(index=_number_names("gene", simulation["n_genes"]))
    return ad.AnnData(obs=obs, var=var, uns={"simulation": simulation})


def _number_names(prefix: str, number: int) -> pd.Index[str]:
    """`"prefix_0"`, `"prefix_1"` and so on, of shape (number,)."""
    return pd.Index([f"{prefix}_{i}" for i in range(number)])


def check_integer(name: str, value: int, *, minimum: int) -> int:
    """`value` as an int; raise ValueError unless it is a whole number of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < minimum:
        msg = f"{name} must be an integer of at least {minimum}. Got {value!r}."
        raise ValueError(msg)
    return int(value)


def check_number(name: str, value: float, *, lowest: float, highest: float, open_below: bool = False) -> float:
    """`value` as a float; raise ValueError unless it is a number between the bounds, `lowest` excluded if `open_below`."""
    valid = isinstance(value, Real) and not isinstance(value, bool) and lowest <= value <= highest
    if not valid or (open_below and value == lowest):
        msg = f"{name} must be a number in {'(' if open_below else '['}{lowest}, {highest}]. Got {value!r}."
        raise ValueError(msg)
    return float(value)
