"""`pp.assess`: whether an integration is needed and possible, read from AnnData."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scbatchnorm._data.adata import check_writable, read_batches, read_column, write_columns
from scbatchnorm._runtime.messages import log_written
from scbatchnorm.metrics._comparison import read_coordinates
from scbatchnorm.metrics._inputs import check_count
from scbatchnorm.pp._assessment.association import Column, bin_numbers
from scbatchnorm.pp._assessment.measure import assess_batches
from scbatchnorm.pp._assessment.result import KEY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from scbatchnorm.pp._assessment.result import Assessment

logger = logging.getLogger(__name__)

# Numeric covariates with more different values are numbers, those with fewer are levels.
_MAX_LEVELS = 10


def assess(
    adata: AnnData,
    batch_key: str | Sequence[str],
    *,
    label_key: str | None = None,
    covariate_keys: Sequence[str] | str = (),
    use_rep: str = "X_pca",
    n_permutations: int = 999,
    rng: int | np.random.Generator | None = 0,
) -> Assessment:
    """Test for a batch effect, and for whether a correction would remove effects of covariates as well.

    Batches are compared within groups of cells that they share, on the uncorrected representation. Without labels
    the groups are small clusters; cells without counterpart in another batch (by mutual nearest neighbours) are left out.
    Where batches lie apart, they are aligned by these neighbours before cells are clustered. Then covariates are
    looked for whose effects cannot be separated from those of the batches.

    The verdict is

    - `"none"`: batches differ by no more than chance, or by too little to matter, or only in less than 10 % of the cells;
    - `"correct"`: groups with at least 10 % of the cells, or whole batches, differ significantly (p at most .01 after
      correction for the number of tests) and by at least 2 % of the variance;
    - `"confounded"`: there is such a difference, but each batch holds (nearly) a single level of a covariate,
      so that a correction would remove the covariate's effect along with it; or batches have no cell state in common.

    Parameters
    ----------
    adata
        Annotated data, cells of all batches.
    batch_key
        Column of `adata.obs` with the batch of each cell, or several columns: then each combination is a batch.
    label_key
        Column of `adata.obs` with cell types, to compare batches within these instead of within clusters. Missing values
        are allowed.
    covariate_keys
        Columns of `adata.obs` that a correction must not remove, such as condition or donor. Numbers of more than 10
        different values are binned at their quintiles where levels are needed. Missing values are allowed.
    use_rep
        Key of `adata.obsm` with an uncorrected representation.
    n_permutations
        Permutations of the batches within each group; p-values, corrected ones too, are at least 1 / (n_permutations + 1).
    rng
        Seed or generator. The same seed gives the same result on the same machine.

    Returns
    -------
    An `Assessment` with `verdict`, `reasons` and tables; printed, it is a report. Sets the following field:

    `adata.uns['scbatchnorm_assess']` : :class:`dict`
        The same as arrays, str and DataFrames; :func:`scbatchnorm.pl.composition` shows it.

    Raises
    ------
    KeyError
        A key is not in `adata`; the message lists the keys that are.
    ValueError
        A cell has no batch, no cell has a label, coordinates are not finite or beyond 1e12, or `n_permutations` is below 99. `adata` is
        unchanged.

    Notes
    -----
    Effects are shares of the variance within a group that lies between batches: batches are weighted equally, and the
    value expected by chance is subtracted. They depend on the representation: more components of noise make them
    smaller. At most 1000 cells of each batch, 16 000 in all, are used; with labels, at most 400 of each label in each
    batch. Groups need 5 cells of at least two batches.

    Within a label, batches can differ because they contain its states in different proportions: an effect, but not a
    technical one. Without labels, a batch of other cell types than all others cannot be distinguished from one with a
    strong effect. A covariate is nested, not confounded, if each of its levels is in one batch but batches hold several
    levels (donors pooled in a batch): its levels can be compared within batches.

    Examples
    --------
    >>> import scanpy as sc
    >>> import scbatchnorm as sbn
    >>> adata = sbn.datasets.pbmc_planted()
    >>> sc.pp.pca(adata)
    >>> assessment = sbn.pp.assess(adata, "batch", label_key="cell_type")
    >>> assessment.verdict
    'correct'
    >>> bool((assessment.effects["effect"] > 0.02).all())
    True
    """
    start = time.perf_counter()
    check_writable(adata)
    n_permutations = check_count(n_permutations, name="n_permutations", minimum=99)
    batches = read_batches(adata, batch_key).sorted_by_name()
    label = None if label_key is None else _read_levels(adata, label_key, "label_key", numbers=False)
    if label is not None and (label.codes < 0).all():
        msg = f"label_key={label_key!r} must have a value for at least one cell; all {adata.n_obs} are missing."
        raise ValueError(msg)
    if not isinstance(covariate_keys, Iterable):
        msg = f"covariate_keys must be columns of adata.obs; got {covariate_keys!r}."
        raise ValueError(msg)
    keys = [covariate_keys] if isinstance(covariate_keys, str) else list(covariate_keys)
    covariates = [
        _read_levels(adata, key, "covariate_keys", numbers=True) for key in dict.fromkeys(keys) if key != label_key
    ]
    points = read_coordinates(adata, "use_rep", use_rep)
    batch = Column(batch_key if isinstance(batch_key, str) else " | ".join(batch_key), batches.codes, batches.levels)
    assessment = assess_batches(
        points, batch, label, covariates, n_permutations=n_permutations, rng=np.random.default_rng(rng)
    )
    write_columns(adata, {}, KEY, assessment.to_uns() | {"use_rep": use_rep, "n_permutations": n_permutations})
    log_written(logger, {"uns": [KEY]}, start)
    return assessment


def _read_levels(adata: AnnData, key: str, parameter: str, *, numbers: bool) -> Column:
    """A column of `obs` as sorted levels; with `numbers`, numbers of many different values are binned."""
    if not isinstance(key, str):
        msg = f"{parameter} must be a column of adata.obs; got {key!r}."
        raise ValueError(msg)
    values = read_column(adata, parameter, key)
    is_number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if numbers and is_number and values.nunique() > _MAX_LEVELS:
        floats = values.to_numpy(dtype=float, na_value=np.nan)
        known = np.isfinite(floats)
        codes = np.full(len(floats), -1)
        codes[known], names = bin_numbers(floats[known])
        return Column(key, codes, np.array(names, dtype=object), floats)
    codes, levels = pd.factorize(values, sort=True)
    texts = [str(level) for level in levels]
    if len(set(texts)) < len(texts):
        texts = [repr(level) for level in levels]
    return Column(key, np.asarray(codes), np.array(texts, dtype=object))
