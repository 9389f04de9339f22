from __future__ import annotations

import warnings
from numbers import Integral
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from scbatchnorm.datasets._simulated import check_number

if TYPE_CHECKING:
    from anndata import AnnData

    from scbatchnorm._data.types import Codes

# Shares of protocols A, B and C in the cell types of `pbmc_planted`, dealt out in turn from the most frequent type on.
_PROTOCOL_SHARES = ((0.15, 0.30, 0.55), (0.60, 0.30, 0.10), (0.45, 0.05, 0.50), (0.30, 0.60, 0.10))


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

    batch_strength = check_number("batch_strength", batch_strength, lowest=0, highest=10)
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
