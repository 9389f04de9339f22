"""Toy data whose truth is known: simulated counts, and real cells with planted batch effects.

Both return an AnnData with `obs["batch"]`, `obs["cell_type"]`, the disturbed values in `X` and, for the same cells,
the undisturbed ones in `layers["truth"]`.
"""

from __future__ import annotations

import math
import warnings
from numbers import Integral, Real
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from . import _simulation, _sparse_store

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

    from ._typing import Codes

__all__ = ["pbmc_planted", "simulate_batches"]

# Shares of protocols A, B and C in the cell types of `pbmc_planted`, dealt out in turn from the most frequent type on.
_PROTOCOL_SHARES = ((0.15, 0.30, 0.55), (0.60, 0.30, 0.10), (0.45, 0.05, 0.50), (0.30, 0.60, 0.10))


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
    >>> adata.shape, sorted(adata.layers)
    ((300, 200), ['truth'])
    >>> adata.obs["batch"].value_counts().to_list()
    [100, 100, 100]
    """
    n_cells = _integer("n_cells", n_cells, minimum=1)
    n_genes = _integer("n_genes", n_genes, minimum=2)
    n_batches = _integer("n_batches", n_batches, minimum=2 if private_type else 1)
    n_types = _integer("n_types", n_types, minimum=2 if private_type else 1)
    batch_strength = _number("batch_strength", batch_strength, lowest=0, highest=10)
    density = _number("density", density, lowest=0, highest=0.9, open_below=True)
    concentration = _number("concentration", concentration, lowest=0, highest=math.inf, open_below=True)
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


def pbmc_planted(*, batch_strength: float = 1.0, rng: int | np.random.Generator | None = 0) -> AnnData:
    """Real blood cells as three pseudo-batches with planted technical effects.

    The 700 peripheral blood cells that scanpy ships (:func:`scanpy.datasets.pbmc68k_reduced`, 765 genes; nothing is
    downloaded) are dealt out to three protocols with unequal composition. Each protocol then loses values,
    the low ones first as at a lower depth, and shifts and scales every gene's expressed values. What is not
    technical is real: the noise, the rare types, and the labels, which were transferred from sorted cells.

    Parameters
    ----------
    batch_strength
        Size of the planted effect: 0 plants none. At 1 a gene's expressed values shift with a standard deviation
        of 0.4 (natural log scale) and scale by about 15 %, and protocols lose up to half of the single counts.
    rng
        Seed or generator.

    Returns
    -------
    Annotated data with the cells and genes in scanpy's order and these fields:

    `X` : :class:`scipy.sparse.csr_matrix` (shape `(700, 765)`, dtype `float32`)
        Log-normalised expression with the planted effects, never negative.
    `layers["truth"]` : :class:`scipy.sparse.csr_matrix` (shape `(700, 765)`, dtype `float32`)
        Log-normalised expression as measured.
    `obs["batch"]`, `obs["cell_type"]` : :class:`pandas.Categorical`
        `"protocol A"` to `"protocol C"`; the ten labels of the original (`bulk_labels`).
    `uns["simulation"]` : :class:`dict`
        `batch_strength`, and the seed if it was an integer.

    Raises
    ------
    ValueError
        If `batch_strength` is outside its range.

    Examples
    --------
    >>> import scbatchnorm as sbn
    >>> adata = sbn.datasets.pbmc_planted()
    >>> adata.shape, list(adata.obs["batch"].cat.categories)
    ((700, 765), ['protocol A', 'protocol B', 'protocol C'])
    """
    import scanpy as sc  # seconds of start-up that the simulator does not need

    batch_strength = _number("batch_strength", batch_strength, lowest=0, highest=10)
    with warnings.catch_warnings():
        # The file in scanpy's wheel is from 2019; some versions of anndata warn about the format, which nobody can mend.
        warnings.simplefilter("ignore")
        source = sc.datasets.pbmc68k_reduced()
    truth = sparse.csr_matrix(source.raw.X, dtype=np.float32)
    cell_type = source.obs["bulk_labels"].astype(str).astype("category")

    rng_cells, rng_effects, rng_dropout = np.random.default_rng(rng).spawn(3)
    batch = _deal_out(cell_type, rng_cells)
    measured = _plant(truth, batch, batch_strength, rng_effects, rng_dropout)

    obs = pd.DataFrame(
        {
            "batch": pd.Categorical.from_codes(batch, pd.Index(["protocol A", "protocol B", "protocol C"])),
            "cell_type": cell_type.array,
        },
        index=source.obs_names.astype(str),
    )
    var = pd.DataFrame(index=source.raw.var_names.astype(str))
    simulation: dict[str, int | float] = {"batch_strength": batch_strength}
    if isinstance(rng, Integral):
        simulation["rng"] = int(rng)
    return ad.AnnData(measured, obs=obs, var=var, layers={"truth": truth}, uns={"simulation": simulation})


def _names(prefix: str, number: int) -> pd.Index[str]:
    return pd.Index([f"{prefix}_{i}" for i in range(number)])


def _integer(name: str, value: int, *, minimum: int) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < minimum:
        msg = f"{name} must be an integer of at least {minimum}. Got {value!r}."
        raise ValueError(msg)
    return int(value)


def _number(name: str, value: float, *, lowest: float, highest: float, open_below: bool = False) -> float:
    valid = isinstance(value, Real) and not isinstance(value, bool) and lowest <= value <= highest
    if not valid or (open_below and value == lowest):
        msg = f"{name} must be a number in {'(' if open_below else '['}{lowest}, {highest}]. Got {value!r}."
        raise ValueError(msg)
    return float(value)


def _deal_out(cell_type: pd.Series, rng: np.random.Generator) -> Codes:
    """Protocol codes of shape (cells,): each type in the shares of `_PROTOCOL_SHARES`."""
    codes = np.empty(len(cell_type), dtype=np.int64)
    for rank, label in enumerate(cell_type.value_counts().index):
        cells = rng.permutation(np.flatnonzero(cell_type == label))
        edges = np.cumsum(_PROTOCOL_SHARES[rank % len(_PROTOCOL_SHARES)])[:-1] * cells.size
        codes[cells] = np.searchsorted(np.round(edges), np.arange(cells.size), side="right")
    return codes


def _plant(
    truth: sparse.csr_matrix,
    batch: Codes,
    strength: float,
    rng: np.random.Generator,
    rng_dropout: np.random.Generator,
) -> sparse.csr_matrix:
    """Log-normalised values (cells, genes) with the technical effects of each cell's protocol."""
    n_batches, n_genes = int(batch.max()) + 1, truth.shape[1]
    shift = rng.normal(0, 0.4, (n_batches, n_genes)) * strength
    scale = np.exp(rng.normal(0, 0.15, (n_batches, n_genes)) * strength)
    loss = np.minimum(np.linspace(0, 0.5, n_batches) * strength, 0.95)  # of a single count

    cells, genes = np.repeat(np.arange(truth.shape[0]), np.diff(truth.indptr)), truth.indices
    b = batch[cells]
    # A cell's lowest value is a single count; a value of c counts is lost with probability loss^c.
    lowest = np.minimum.reduceat(truth.data, truth.indptr[:-1])[cells]
    counts = np.expm1(truth.data) / np.expm1(lowest)
    kept = rng_dropout.random(truth.nnz) >= loss[b] ** counts
    values = scale[b, genes] * truth.data + shift[b, genes]
    measured = truth.copy()
    measured.data = np.where(kept, np.maximum(values, 0), 0).astype(np.float32)
    measured.eliminate_zeros()
    return measured
