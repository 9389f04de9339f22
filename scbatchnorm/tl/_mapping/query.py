"""New cells as a model needs them, and what is written about them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scbatchnorm._data.adata import read_features
from scbatchnorm._data.annotation import to_memory
from scbatchnorm._data.blocks import Blocks, InMemory
from scbatchnorm._method.stem import Stem
from scbatchnorm.tl._mapping import genes as _genes
from scbatchnorm.tl._mapping import transfer as _transfer
from scbatchnorm.tl._mapping.place import Source

if TYPE_CHECKING:
    from anndata import AnnData

    from scbatchnorm._data.types import Labels
    from scbatchnorm._method.fitted import FittedModel
    from scbatchnorm.tl._mapping.place import Mapped, Options
    from scbatchnorm.tl._mapping.reference import Reference

UNKNOWN = "unknown"


def read(query: AnnData, model: FittedModel, *, layer: str | None, use_rep: str | None) -> Source:
    """Features of `query` that the model was fitted on; `use_rep` for one that was fitted on a representation.

    Raises
    ------
    KeyError
        The layer or representation is not there.
    ValueError
        Too few genes are found, or the values are not what they must be.
    """
    if query.n_obs == 0:
        msg = "query must have cells; it has none."
        raise ValueError(msg)
    n_wanted = len(model.features)
    if model.stem_kind == "identity":
        if use_rep is None:
            msg = "use_rep must name the representation in query.obsm: the reference was fitted on one, and an estimator does not know its name."
            raise ValueError(msg)
        matrix = read_features(query, layer=layer, use_rep=use_rep, mask_var=None).matrix
        if matrix.shape[1] != n_wanted:
            msg = f"query.obsm[{use_rep!r}] must have the {n_wanted} columns of the reference's representation; got {matrix.shape[1]}."
            raise ValueError(msg)
        return Source(InMemory(matrix), model.stem, n_wanted, np.empty(0, dtype=str), use_rep)
    if use_rep is not None:
        msg = f"use_rep={use_rep!r} is for a reference that was integrated from a representation; this one was integrated from genes."
        raise ValueError(msg)
    names = np.asarray(query.var_names, dtype=str)
    found = _genes.find(names, np.asarray(model.features, dtype=str), _other_names(query))
    mask = np.zeros(query.n_vars, dtype=bool)
    mask[found.columns] = True
    features = read_features(query, layer=layer, use_rep=None, mask_var=mask)
    position = pd.Index(model.features.astype(str)).get_indexer(pd.Index(features.names))
    stem = model.stem
    known = Stem(stem.mean[position], np.ascontiguousarray(stem.components[position]), stem.origin, stem.scale)
    matrix = features.matrix if isinstance(features.matrix, Blocks) else InMemory(features.matrix)
    return Source(matrix, known, n_wanted, found.missing)


def _other_names(query: AnnData) -> dict[str, Labels]:
    """Columns of `var` that may hold names of genes."""
    columns = to_memory(query.var).select_dtypes(exclude=["number", "bool", "datetime"])
    return {f"query.var[{column!r}]": values.astype(str).to_numpy() for column, values in columns.items()}


def transfer(
    mapped: Mapped, reference: Reference, options: Options, key_added: str | None, rng: np.random.Generator
) -> dict[str, Any]:
    """Columns with the labels of the reference, and their probabilities."""
    columns: dict[str, Any] = {}
    for label_key, known in reference.labels.items():
        chosen, probability = _transfer.vote(mapped.points, known.points, known.codes, rng)
        unsure = (mapped.novelty > 1) | (probability < options.min_probability)
        names = np.where(unsure, UNKNOWN, known.names[chosen])
        column = label_column(label_key, key_added)
        columns[column] = pd.Categorical(names, categories=[*known.names[known.names != UNKNOWN], UNKNOWN])
        columns[f"{column}_probability"] = probability
    return columns


def label_column(label_key: str, key_added: str | None) -> str:
    """Name of the column with mapped labels."""
    return f"{label_key}_mapped" if key_added is None else f"{key_added}_{label_key}_mapped"


def stale_columns(query: AnnData, key: str, key_added: str | None) -> list[str]:
    """Columns with labels of an earlier call, as its record tells."""
    record = to_memory(query.uns.get(key, {}))
    params = record.get("params", {}) if isinstance(record, dict) else {}
    earlier: list[object] = list(np.atleast_1d(params["label_keys"])) if "known_batches" in params else []
    columns = [label_column(str(label_key), key_added) for label_key in earlier]
    return [*columns, *(f"{column}_probability" for column in columns)]


def record(mapped: Mapped, source: Source, model: FittedModel) -> dict[str, Any]:
    """How cells were mapped, as files can hold it."""
    return {
        "reference": {"fingerprint": model.fingerprint(), "batches": np.asarray(model.batches).astype(str)},
        "genes": {
            "n_wanted": source.n_wanted,
            "n_found": source.matrix.shape[1],
            "share_found": source.share,
            "missing": source.missing,
        },
        "batches": mapped.batches,
        "same_names": np.array(mapped.same_names, dtype=str),
        "warnings": np.array(mapped.warnings, dtype=str),
    }
