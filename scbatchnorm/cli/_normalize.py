"""The option `--normalize`: log-normalises counts and selects highly variable genes."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scbatchnorm.cli._source import Source

logger = logging.getLogger(__name__)

N_TOP_GENES = 2000


def log_normalise(source: Source, batch_keys: list[str], *, layer: str | None) -> None:
    """Log-normalise counts into `X`, and select highly variable genes by batch."""
    import numpy as np
    import pandas as pd
    import scanpy as sc

    from scbatchnorm._data.adata import read_batches

    if source.files is not None:
        msg = (
            f"--normalize needs all expression in memory, and {source.files.path} is read in blocks. scanpy normalises blocks of a Dask array as well, "
            f"before pp.integrate: sc.pp.normalize_total(adata, target_sum=1e4); sc.pp.log1p(adata); sc.pp.highly_variable_genes(adata, n_top_genes={N_TOP_GENES}, "
            "batch_key=...). Where memory suffices, add --no-lazy."
        )
        raise ValueError(msg)
    adata = source.adata
    batches = read_batches(adata, batch_keys)
    if layer is not None and layer not in adata.layers:
        msg = f"layer={layer!r} is not a key of adata.layers; keys: {', '.join(filter(None, adata.layers)) or 'none'}."
        raise KeyError(msg)
    counts = adata.X if layer is None else adata.layers[layer]
    values = counts.data if hasattr(counts, "tocsr") else np.asarray(counts)
    if not np.array_equal(values, np.rint(values)) or (values < 0).any():
        where = "adata.X" if layer is None else f"adata.layers[{layer!r}]"
        msg = f"--normalize needs counts, whole numbers that are not negative; {where} holds others. Leave it out if they are log-normalised."
        raise ValueError(msg)
    adata.layers.setdefault("counts", counts.copy())
    adata.X = counts.astype(np.float32)
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    n_top_genes = min(N_TOP_GENES, adata.n_vars)
    # Several columns may be combined into one batch, so that scanpy is given a column of a copy without other annotation.
    copy = sc.AnnData(
        adata.X, obs=pd.DataFrame({"batch": batches.as_categorical()}, index=adata.obs_names), var=adata.var[[]]
    )
    with warnings.catch_warnings():
        # If a batch has fewer expressed genes than n_top_genes, all of them are selected.
        warnings.filterwarnings("ignore", message="`n_top_genes`")
        selected = sc.pp.highly_variable_genes(copy, n_top_genes=n_top_genes, batch_key="batch", inplace=False)
    adata.var["highly_variable"] = selected["highly_variable"].to_numpy()
    logger.info("log-normalised, %d variable genes chosen", int(adata.var["highly_variable"].sum()))
