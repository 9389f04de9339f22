"""Mapping of new cells into the space of an integrated reference, with transferred labels and novelty."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Literal

import numpy as np

from scbatchnorm._data.adata import Keys, check_writable, read_batches, write_columns, write_integration
from scbatchnorm._data.batches import Batches
from scbatchnorm._runtime.messages import log_written, warn
from scbatchnorm.tl._mapping.place import MappingOptions, match_known_batches, place_query
from scbatchnorm.tl._mapping.query import describe_mapping, read_query, stale_columns, transfer_labels
from scbatchnorm.tl._mapping.reference import read_reference

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from anndata import AnnData

    from scbatchnorm._estimator import BatchNormAutoencoder

logger = logging.getLogger(__name__)


def map_query(
    query: AnnData,
    reference: AnnData | BatchNormAutoencoder | str | Path,
    *,
    batch_key: str | Sequence[str] | None = None,
    label_keys: str | Sequence[str] = (),
    known_batches: Sequence[str] = (),
    mode: Literal["frozen", "recalibrate"] = "frozen",
    layer: str | None = None,
    use_rep: str | None = None,
    false_alarm: float = 0.01,
    min_probability: float = 0.5,
    key: str | None = None,
    rng: int | np.random.Generator | None = 0,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | None:
    """Place new cells, also of new batches, in the space of an integrated reference.

    Takes seconds: nothing is trained, and the embedding of the reference does not change. The offset of a new batch is the median
    displacement of its anchors (mutual nearest neighbours) from the reference. Its cells pass the network without a batch code, and
    the residual displacement, averaged over neighbouring anchors, is subtracted. Genes are matched by name; missing ones
    have the mean of the reference.

    A cell is *novel* if the principal components of the reference leave more of its expression unexplained, averaged over its nearest
    neighbours in its batch, than that of reference cells whose batch was held out; or if it is farther from the reference cells
    than these were. What is common to most cells of a batch counts as batch effect, so a new type that is most of the
    query is not found. Neither are types that differ little from one of the reference (CD4 and CD8 T cells).

    Parameters
    ----------
    query
        New cells, log-normalised like the reference, with all their genes, not only highly variable ones. Expression may be a Dask array, as
        anndata's lazy readers give: it is read block by block, in three passes for up to 64 batches, by the workers of the Dask cluster that
        is connected, if there is one. Only components of the cells and at most 1 000 cells of each batch are then in memory. The result is the same.
    reference
        The AnnData that :func:`scbatchnorm.pp.integrate` wrote to (expression is not needed), the path of its file (.h5ad
        or .zarr), a fitted estimator, or the path of the file that its `save` wrote. An AnnData may be read lazily.
    batch_key
        Column of `query.obs` with the batch of each cell, or several that are combined. `None`: all cells are one new batch.
    label_keys
        Columns of `reference.obs` with labels to transfer. Needs the reference's cells: not with an estimator or its file.
    known_batches
        Names of batches in `query` that *are* batches of the reference: more cells of the same experiment. They get the offset and the
        batch code of that batch. All other batches are new, even if the reference has a batch of that name: two
        experiments that are both called "1" are two batches. Such names are listed in `uns`.
    mode
        Statistics of the BatchNorm layers. `"frozen"`: those of the reference. `"recalibrate"`: those of the reference's
        sketch and of the new batch together, for this batch only.
    layer
        Layer of `query` with log-normalised expression, instead of `query.X`.
    use_rep
        If the reference was integrated from a representation: the same representation of the query in `query.obsm`; `None`
        is the key that the reference was integrated from.
    false_alarm
        Share of held-out reference cells that may be called novel, by each of the two criteria: it sets where `novelty` is 1.
    min_probability
        Cells whose most likely label has a lower probability are `"unknown"`.
    key
        The `key_added` of the integration of the reference.
    rng
        Seed or generator: in large batches anchors are searched among 1 000 random cells.
    key_added
        If given, results are written to `obsm[key_added]` and `uns[key_added]`, and columns begin with it.
    copy
        Work on a copy and return it.

    Returns
    -------
    Returns `None` if `copy=False`, else an `AnnData`. Sets the following fields; `reference` is not changed:

    `query.obsm['X_scbatchnorm' | key_added]` : :class:`numpy.ndarray` (dtype `float32`)
        Embedding, in the space and units of that of the reference.
    `query.obs['scbatchnorm_novelty' | key_added + '_novelty']` : :class:`pandas.Series` (dtype `float32`)
        At least 0; above 1 a cell is novel. nan where it is not known: batches of fewer than 20 cells.
    `query.obs['scbatchnorm_confidence']`
        Share of held-out reference cells that are at least as novel, from 0 to 1.
    `query.obs[label_key + '_mapped' | key_added + '_' + label_key + '_mapped']` : :class:`pandas.Categorical`
        Most likely label by the 15 nearest labelled reference cells; `"unknown"` for novel cells and for probabilities below `min_probability`.
    `query.obs[label_key + '_mapped_probability']`
        Probability of the most likely label, also for cells that are `"unknown"`.
    `query.uns['scbatchnorm' | key_added]` : :class:`dict`
        `params`, `reference` (fingerprint of the model, and its batches), `genes` (number wanted and found, share found, names of the
        missing), `batches` (DataFrame: cells, known or new, anchors, novel cells), `same_names` and `warnings`.

    If `query` was read lazily, its `obs`, `var` and `uns` are in memory afterwards: anndata writes them from there only.

    Raises
    ------
    KeyError
        A key is not in `query` or `reference`, or the reference is not integrated.
    ValueError
        Fewer than half of the genes are found; values are raw counts, negative, not finite or beyond 1e12; the reference's weights
        are incomplete or were changed; a cell has no batch; a parameter is out of range. `query` is unchanged.

    Warns
    -----
    UserWarning
        A batch could not be moved onto the reference: it has fewer than 20 cells, or no anchors; values are larger than
        log-normalised ones can be.

    Examples
    --------
    >>> import anndata as ad
    >>> import scanpy as sc
    >>> import scbatchnorm as sbn
    >>> adata = sbn.datasets.pbmc_planted()
    >>> new = adata.obs["batch"] == "protocol C"
    >>> reference, query = adata[~new].copy(), adata[new].copy()
    >>> sbn.pp.integrate(reference, "batch")
    >>> sbn.tl.map_query(query, reference, label_keys="cell_type")
    >>> query.obsm["X_scbatchnorm"].shape[1] == reference.obsm["X_scbatchnorm"].shape[1]
    True
    >>> bool((query.obs["cell_type_mapped"].astype(str) == query.obs["cell_type"].astype(str)).mean() > 0.6)
    True

    Both in one picture:

    >>> both = ad.concat({"reference": reference, "query": query}, label="origin", join="outer")
    >>> both.obsm["X_scbatchnorm"].shape[0] == adata.n_obs
    True
    >>> sc.pp.neighbors(both, use_rep="X_scbatchnorm")  # doctest: +SKIP
    >>> sc.tl.umap(both)  # doctest: +SKIP
    """
    start = time.perf_counter()
    keys = Keys.of(key_added)
    options = MappingOptions(mode, false_alarm, min_probability)
    options.check()
    check_writable(query, copy=copy)
    source = read_reference(reference, Keys.of(key), label_keys)
    batches = (
        Batches(np.zeros(query.n_obs, dtype=np.int64), np.array(["query"]))
        if batch_key is None
        else read_batches(query, batch_key)
    )
    known = match_known_batches(batches, known_batches, source.model.batches)
    features = read_query(query, source.model, layer=layer, use_rep=use_rep or source.use_rep)
    generator = np.random.default_rng(rng)
    mapped = place_query(features, batches, known, source.model, options, generator)
    columns = {f"{keys.uns}_novelty": mapped.novelty, f"{keys.uns}_confidence": mapped.confidence}
    columns |= transfer_labels(mapped, source, options, key_added, generator)
    params = {
        "batch_key": _as_plain_keys(batch_key),
        "label_keys": np.asarray(list(source.labels), dtype=str),
        "known_batches": np.asarray(list(known), dtype=str),
        "mode": mode,
        "layer": layer or "",
        "use_rep": features.use_rep or "",
        "false_alarm": float(false_alarm),
        "min_probability": float(min_probability),
    }
    record = {"params": params} | describe_mapping(mapped, features, source.model)
    embedding = source.model.stem.embed(mapped.points)
    for text in mapped.warnings:
        warn(text)
    if copy:
        query = query.to_memory() if query.isbacked else query.copy()
    stale = [name for name in stale_columns(query, keys.uns, key_added) if name not in columns]
    write_integration(query, keys, embedding=embedding, loadings=None, record=record)
    write_columns(query, columns, keys.uns, record, stale=stale)
    logger.info(
        "mapped %d cells of %d batches onto the reference, %d of %d features found",
        query.n_obs, len(mapped.batches), features.blocks.shape[1], features.n_wanted,
    )  # fmt: skip
    log_written(logger, {"obsm": [keys.obsm], "obs": columns, "uns": [keys.uns]}, start)
    return query if copy else None


def _as_plain_keys(batch_key: str | Sequence[str] | None) -> str | np.ndarray:
    """Columns as files can hold them: no column is the empty str."""
    if batch_key is None:
        return ""
    return batch_key if isinstance(batch_key, str) else np.asarray(batch_key, dtype=str)
