"""The integration that a report is about, read from AnnData and checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd

from scbatchnorm._data.adata import Keys, read_batches, read_like_fit, recorded_keys, to_memory
from scbatchnorm._data.blocks import InMemory
from scbatchnorm._estimator import BatchNormAutoencoder
from scbatchnorm.metrics._comparison import read_coordinates, read_labels

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from anndata import AnnData

    from scbatchnorm._data.batches import Batches
    from scbatchnorm._data.types import Floats

# Column of `obs` for batches that combine several columns.
_COMBINED_COLUMN = "batch (combined)"


@dataclass(frozen=True, eq=False)
class Integration:
    """An integration to report on.

    `adata` is a shallow copy that shares arrays with the caller's object: results are written to the copy.
    """

    adata: AnnData
    batch_key: str | Sequence[str]
    label_key: str | None
    integrated: str  # key of `adata.obsm`
    unintegrated: str
    compared: list[str]
    key: str | None  # key_added of an integration of this package
    record: Mapping[str, Any] | None  # what `adata.uns` holds about it; None for another tool's
    model: BatchNormAutoencoder | None

    @property
    def batch_column(self) -> str:
        """Column of `adata.obs` with the batch of each cell."""
        return self.batch_key if isinstance(self.batch_key, str) else _COMBINED_COLUMN

    @property
    def batch_name(self) -> str:
        """Name of the columns with the batches."""
        return self.batch_key if isinstance(self.batch_key, str) else " | ".join(self.batch_key)

    @property
    def batches(self) -> pd.Series:
        """Number of cells of each batch, the largest first."""
        return self.adata.obs[self.batch_column].astype(str).value_counts()


def read_integration(
    adata: AnnData,
    *,
    key: str | None,
    use_rep: str | None,
    batch_key: str | Sequence[str] | None,
    label_key: str | None,
    unintegrated: str,
    compare: Sequence[str] | str,
) -> Integration:
    """Read and check the integration under `key`, or the embedding `use_rep` of another tool.

    Raises
    ------
    KeyError
        A key names nothing in `adata`.
    ValueError
        Parameters exclude each other, or what they name is not what it must be.
    """
    if key is not None and use_rep is not None:
        msg = f"key={key!r} and use_rep={use_rep!r} exclude each other: one embedding is reported on, others can be compared."
        raise ValueError(msg)
    slot = Keys.of(key)
    record, model = None, None
    if use_rep is None:
        if slot.uns not in adata.uns or slot.obsm not in adata.obsm:
            missing = f"uns[{slot.uns!r}]" if slot.uns not in adata.uns else f"obsm[{slot.obsm!r}]"
            msg = (
                f"key={key!r}: adata.{missing} is missing, there is no integration of this package under this name. For the "
                f"embedding of another tool: use_rep=..., batch_key=...; keys of adata.obsm: {_join_keys(adata.obsm)}."
            )
            raise KeyError(msg)
        model = BatchNormAutoencoder.from_anndata(adata, key=slot.uns)
        record = to_memory(adata.uns[slot.uns])
    batch_key = _choose_batch_key(adata, batch_key, record, use_rep)
    batches = read_batches(adata, batch_key)
    if label_key is not None:
        read_labels(adata, label_key)
    integrated = slot.obsm if use_rep is None else use_rep
    compared = [compare] if isinstance(compare, str) else list(compare)
    others = [rep for rep in dict.fromkeys(compared) if rep not in {integrated, unintegrated}]
    coordinates = {unintegrated: _coordinates_before(adata, unintegrated, key, model)}
    coordinates[integrated] = read_coordinates(adata, "key" if use_rep is None else "use_rep", integrated)
    coordinates |= {rep: read_coordinates(adata, "compare", rep) for rep in others}
    working_copy = _working_copy(adata, coordinates, batch_key, batches)
    return Integration(working_copy, batch_key, label_key, integrated, unintegrated, others, key, record, model)


def _join_keys(names: Iterable[object]) -> str:
    return ", ".join(map(str, names)) or "none"


def _choose_batch_key(
    adata: AnnData, batch_key: str | Sequence[str] | None, record: Mapping[str, Any] | None, use_rep: str | None
) -> str | Sequence[str]:
    """The batch key that the caller names, else that of the integration."""
    if batch_key is not None:
        return batch_key
    if record is None:
        msg = f"batch_key must name the batches that {use_rep!r} integrates; columns of adata.obs: {_join_keys(adata.obs)}."
        raise ValueError(msg)
    return recorded_keys(record["batch_key"])


def _coordinates_before(
    adata: AnnData, unintegrated: str, key: str | None, model: BatchNormAutoencoder | None
) -> Floats:
    """Coordinates before integration: those in `obsm`, else the principal components of the model, shape (cells, components)."""
    if unintegrated in adata.obsm:
        return read_coordinates(adata, "unintegrated", unintegrated)
    if model is not None:
        blocks, _ = read_like_fit(adata, model.features_, None, key)
        if isinstance(blocks, InMemory):
            return np.asarray(model.stem_.embed(model.stem_.encode(blocks.matrix)))
    msg = (
        f"unintegrated={unintegrated!r} is not a key of adata.obsm; keys: {_join_keys(adata.obsm)}. "
        "Run sc.pp.pca(adata) first."
    )
    raise KeyError(msg)


def _working_copy(
    adata: AnnData, coordinates: Mapping[str, Floats], batch_key: str | Sequence[str], batches: Batches
) -> AnnData:
    """An AnnData that shares expression and has copies of the annotation; of `obsm` only `coordinates` and their UMAPs."""
    umaps = [f"{rep}_umap" for rep in coordinates]
    work = ad.AnnData(
        adata.to_memory().X if adata.isbacked else adata.X,
        obs=to_memory(adata.obs).copy(),
        var=to_memory(adata.var).copy(),
        layers={name: layer for name, layer in adata.layers.items() if name is not None},
        obsm={**coordinates, **{umap: adata.obsm[umap] for umap in umaps if umap in adata.obsm}},
        uns=dict(to_memory(adata.uns)),
    )
    column = batch_key if isinstance(batch_key, str) else _COMBINED_COLUMN
    if column not in work.obs or not isinstance(work.obs[column].dtype, pd.CategoricalDtype):
        work.obs[column] = batches.as_categorical()
    return work
