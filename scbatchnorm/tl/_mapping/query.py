"""The query: its genes matched with those of a model, labels transferred to it, and the record of how it was mapped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scbatchnorm._data.adata import read_features, to_memory
from scbatchnorm._data.checks import join_names
from scbatchnorm._method.anchors import find_nearest, sketch_batches
from scbatchnorm._method.stem import Stem
from scbatchnorm.tl._mapping.place import QueryFeatures

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData

    from scbatchnorm._data.types import Codes, Floats, Labels
    from scbatchnorm._method.fitted import FittedModel
    from scbatchnorm.tl._mapping.place import MappedQuery, MappingOptions
    from scbatchnorm.tl._mapping.reference import Reference

UNKNOWN = "unknown"
# Share of the genes of the model that a query must have; with fewer, the place of a cell mostly depends on the means put in for the others.
_MIN_SHARE = 0.5
# Labelled cells that vote on the label of a cell, most labelled cells that are searched, and fewest of them of each label.
_VOTERS = 15
_MAX_LABELLED = 6000
_MIN_OF_LABEL = 200
# Rows handled at once; no result depends on it.
_ROWS = 2048


def read_query(query: AnnData, model: FittedModel, *, layer: str | None, use_rep: str | None) -> QueryFeatures:
    """Features of `query` that the model was fitted on.

    Parameters
    ----------
    query
        Cells to be mapped.
    model
        The fitted reference.
    layer
        Layer with log-normalised expression; `None` is `query.X`.
    use_rep
        Key in `query.obsm`, for a model that was fitted on a representation.

    Raises
    ------
    KeyError
        There is no such layer or representation.
    ValueError
        Too few genes are found, or values are not log-normalised expression.
    """
    if query.n_obs == 0:
        msg = "query must have cells; it has none."
        raise ValueError(msg)
    if model.stem_kind == "identity":
        return _read_representation(query, model, layer, use_rep)
    if use_rep is not None:
        msg = f"use_rep={use_rep!r} is for a reference that was integrated from a representation; this one was integrated from genes."
        raise ValueError(msg)
    wanted = np.asarray(model.features, dtype=str)
    columns, missing = match_genes(np.asarray(query.var_names, dtype=str), wanted, _gene_names_in_var(query))
    mask = np.zeros(query.n_vars, dtype=bool)
    mask[columns] = True
    features = read_features(query, layer=layer, use_rep=None, mask_var=mask)
    positions = pd.Index(wanted).get_indexer(pd.Index(features.names))
    stem = model.stem
    stem = Stem(stem.mean[positions], np.ascontiguousarray(stem.components[positions]), stem.origin, stem.scale)
    return QueryFeatures(features.blocks, stem, len(wanted), missing)


def _read_representation(query: AnnData, model: FittedModel, layer: str | None, use_rep: str | None) -> QueryFeatures:
    """Features for a model that was fitted on a representation."""
    if use_rep is None:
        msg = "use_rep must name the representation in query.obsm: the reference was fitted on one, and an estimator does not know its name."
        raise ValueError(msg)
    blocks = read_features(query, layer=layer, use_rep=use_rep, mask_var=None).blocks
    n_wanted = len(model.features)
    if blocks.shape[1] != n_wanted:
        msg = f"query.obsm[{use_rep!r}] must have the {n_wanted} columns of the reference's representation; got {blocks.shape[1]}."
        raise ValueError(msg)
    return QueryFeatures(blocks, model.stem, n_wanted, np.empty(0, dtype=str), use_rep)


def _gene_names_in_var(query: AnnData) -> dict[str, Labels]:
    """Columns of `var` that may hold names of genes, by how they are written in code."""
    columns = to_memory(query.var).select_dtypes(exclude=["number", "bool", "datetime"])
    return {f"query.var[{column!r}]": values.astype(str).to_numpy() for column, values in columns.items()}


def match_genes(names: Labels, wanted: Labels, other_names: Mapping[str, Labels]) -> tuple[Codes, Labels]:
    """Genes of a model that a query has, by name.

    Parameters
    ----------
    names
        Genes of the query.
    wanted
        Genes of the model.
    other_names
        Further names of the genes of the query, by how they are written in code: only for the advice in the error.

    Returns
    -------
    Their positions among the genes of the query, in the order of the model, and the names of the genes that are missing.

    Raises
    ------
    ValueError
        Fewer than half of the genes of the model are found.
    """
    positions = pd.Index(wanted).get_indexer(pd.Index(names))
    columns = np.flatnonzero(positions >= 0)
    columns = columns[np.argsort(positions[columns], kind="stable")]
    missing = np.ones(len(wanted), dtype=bool)
    missing[positions[columns]] = False
    if len(columns) < _MIN_SHARE * len(wanted):
        msg = (
            f"query must have at least half of the {len(wanted)} genes of the reference; {len(columns)} are found "
            f"({len(columns) / len(wanted):.0%}). Reference: {join_names(wanted, 4)}; query: {join_names(names, 4)}. "
            f"{_advise_on_names(names, wanted, other_names, len(columns))}"
        )
        raise ValueError(msg)
    return columns, np.asarray(wanted)[missing]


def _advise_on_names(names: Labels, wanted: Labels, other_names: Mapping[str, Labels], n_found: int) -> str:
    """Where the names that are meant may be."""
    known = set(wanted)
    counts = {where: len(known & set(values)) for where, values in other_names.items()}
    best = max(counts, key=counts.__getitem__, default="")
    if best and counts[best] > max(n_found, _MIN_SHARE * len(wanted)):
        return f"{best} has {counts[best]} of them: query.var_names = {best}."
    if len({name.upper() for name in wanted} & {name.upper() for name in names}) > _MIN_SHARE * len(wanted):
        return "They differ in capital letters: are they of another species?"
    return "Both must be named alike, by gene symbols or by Ensembl ids, and be of one species; give the query all genes, not its own variable ones."


def transfer_labels(
    mapped: MappedQuery,
    reference: Reference,
    options: MappingOptions,
    key_added: str | None,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Columns of `obs` with the labels of the reference and their probabilities."""
    columns: dict[str, Any] = {}
    for label_key, labelled in reference.labels.items():
        codes, probability = predict_labels(mapped.points, labelled.points, labelled.codes, rng)
        unsure = (mapped.novelty > 1) | (probability < options.min_probability)
        names = np.where(unsure, UNKNOWN, labelled.names[codes])
        column = label_column(label_key, key_added)
        columns[column] = pd.Categorical(names, categories=[*labelled.names[labelled.names != UNKNOWN], UNKNOWN])
        columns[f"{column}_probability"] = probability
    return columns


def predict_labels(points: Floats, labelled: Floats, codes: Codes, rng: np.random.Generator) -> tuple[Codes, Floats]:
    """Most likely label of each cell and its probability, both of shape (cells,).

    The 15 nearest labelled cells vote, with Gaussian weights of their distance. The probability is the share of the votes.

    Parameters
    ----------
    points
        Cells without label, shape (cells, components).
    labelled
        Labelled cells in the same space, shape (labelled cells, components).
    codes
        Their labels, counted from 0; each label has a cell.
    rng
        Of more than 6000 labelled cells draws those that are searched.
    """
    n_cells = np.bincount(codes)
    rows: Codes = np.arange(len(codes))
    if len(codes) > _MAX_LABELLED:
        rows = sketch_batches(codes, max(_MIN_OF_LABEL, _MAX_LABELLED // len(n_cells)), rng)
    # Each sketched cell stands for so many of its label: shares stay those of all labelled cells.
    multiplicity = (n_cells / np.bincount(codes[rows], minlength=len(n_cells))).astype(np.float32)
    predicted, probability = np.empty(len(points), np.intp), np.empty(len(points), np.float32)
    for start in range(0, len(points), _ROWS):
        chunk = points[start : start + _ROWS]
        nearest = rows[find_nearest(chunk, labelled[rows], _VOTERS)]
        squared_distance = np.square(chunk[:, None] - labelled[nearest]).sum(axis=2)
        width = np.maximum(squared_distance.max(axis=1, keepdims=True), np.float32(1e-12))
        weights = np.exp(-squared_distance / width)
        weights *= multiplicity[codes[nearest]]
        votes = np.zeros((len(chunk), len(n_cells)), np.float32)
        np.add.at(votes, (np.arange(len(chunk))[:, None], codes[nearest]), weights)
        predicted[start : start + _ROWS] = votes.argmax(axis=1)
        probability[start : start + _ROWS] = votes.max(axis=1) / votes.sum(axis=1)
    return predicted, probability


def label_column(label_key: str, key_added: str | None) -> str:
    """Name of the column with transferred labels."""
    return f"{label_key}_mapped" if key_added is None else f"{key_added}_{label_key}_mapped"


def stale_columns(query: AnnData, key: str, key_added: str | None) -> list[str]:
    """Columns with labels that an earlier call wrote, by its record in `uns[key]`."""
    record = to_memory(query.uns.get(key, {}))
    params = record.get("params", {}) if isinstance(record, dict) else {}
    label_keys: list[object] = list(np.atleast_1d(params["label_keys"])) if "known_batches" in params else []
    columns = [label_column(str(label_key), key_added) for label_key in label_keys]
    return [*columns, *(f"{column}_probability" for column in columns)]


def describe_mapping(mapped: MappedQuery, features: QueryFeatures, model: FittedModel) -> dict[str, Any]:
    """The record for `uns` of how a query was mapped."""
    return {
        "reference": {"fingerprint": model.fingerprint(), "batches": np.asarray(model.batches).astype(str)},
        "genes": {
            "n_wanted": features.n_wanted,
            "n_found": features.blocks.shape[1],
            "share_found": features.share,
            "missing": features.missing,
        },
        "batches": mapped.batches,
        "same_names": np.array(mapped.same_names, dtype=str),
        "warnings": np.array(mapped.warnings, dtype=str),
    }
