"""The input of a diagnosis, read from AnnData and checked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scbatchnorm._data.adata import Features, Keys, read_batches, read_features, read_like_fit
from scbatchnorm._data.checks import join_names
from scbatchnorm._data.dask_blocks import is_lazy
from scbatchnorm._estimator import BatchNormAutoencoder
from scbatchnorm.metrics._comparison import read_coordinates, read_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from scbatchnorm._data.batches import Batches
    from scbatchnorm._data.types import Bools, Codes, Floats, Labels, Matrix


@dataclass(frozen=True, eq=False)
class DiagnosisInput:
    """Cells before and after integration; expression, model and what it was fitted to where there are any.

    Attributes
    ----------
    before, after
        Coordinates, shape (cells, dimensions).
    use_rep
        Key of `obsm` with the coordinates after integration.
    batches
        Batch of each cell.
    labels
        Label of each cell, str or `None`, shape (cells,).
    expression
        Log-normalised expression of the genes that are examined.
    no_genes
        Why there is no expression.
    model
        The fitted model; `None` for the embedding of another tool.
    integrated
        What the model was fitted to, shape (cells, features).
    """

    before: Floats
    after: Floats
    use_rep: str
    batches: Batches
    labels: Labels | None
    expression: Features | None
    no_genes: str
    model: BatchNormAutoencoder | None
    integrated: Matrix | None

    @property
    def batch_names(self) -> list[str]:
        """Names of the batches, in the order of their codes."""
        return [str(name) for name in self.batches.levels]


def read_diagnosis_input(
    adata: AnnData,
    batch_key: str | Sequence[str],
    *,
    label_key: str | None,
    key: str | None,
    use_rep: str | None,
    unintegrated: str,
    layer: str | None,
    control_genes: Sequence[str],
) -> DiagnosisInput:
    """Read and check the input.

    Raises
    ------
    KeyError
        A key is not in `adata`.
    ValueError
        Parameters exclude each other, or what they name is not what it must be.
    """
    if key is not None and use_rep is not None:
        msg = f"key={key!r} and use_rep={use_rep!r} exclude each other."
        raise ValueError(msg)
    if layer is not None and use_rep is None:
        msg = f"layer={layer!r} and an integration of this package, which knows its layer, exclude each other."
        raise ValueError(msg)
    batches = read_batches(adata, batch_key)
    cell_labels = None if label_key is None else _read_labels(adata, label_key)
    slot = Keys.of(key)
    model = None if use_rep is not None else BatchNormAutoencoder.from_anndata(adata, key=slot.uns)
    rep = slot.obsm if use_rep is None else use_rep
    after = read_coordinates(adata, "key" if use_rep is None else "use_rep", rep)
    if unintegrated not in adata.obsm:
        msg = (
            f"unintegrated={unintegrated!r} is not a key of adata.obsm; keys: {', '.join(map(str, adata.obsm)) or 'none'}. "
            "Run sc.pp.pca(adata) first."
        )
        raise KeyError(msg)
    before = read_coordinates(adata, "unintegrated", unintegrated)
    integrated, no_genes = None, ""
    if model is None:
        expression, no_genes = _read_expression(adata, layer, control_genes)
    else:
        n_components = model.stem_.components.shape[1]
        if after.shape[1] != n_components:
            msg = f"adata.obsm[{rep!r}] must have the {n_components} columns of the model in adata.uns[{slot.uns!r}]; got {after.shape[1]}."
            raise ValueError(msg)
        record = adata.uns[slot.uns]
        if record.get("use_rep"):
            column = batch_key if isinstance(batch_key, str) else None
            integrated = read_like_fit(adata, model.features_, column, key)[0].all()
            expression, no_genes = _read_expression(adata, None, control_genes)
        else:
            expression = _read_model_genes(adata, model.features_, record.get("layer") or None, control_genes)
            places = pd.Index(expression.names).get_indexer(pd.Index(model.features_))
            integrated = _select_columns(expression.blocks.all(), places)
    return DiagnosisInput(before, after, rep, batches, cell_labels, expression, no_genes, model, integrated)


def _read_model_genes(adata: AnnData, genes: Labels, layer: str | None, control_genes: Sequence[str]) -> Features:
    """Expression of the `genes` that a model was fitted to, and of the control genes."""
    _check_in_memory(adata, layer)
    missing = pd.Index(genes).difference(adata.var_names)
    if len(missing):
        msg = f"adata must have the {len(genes)} genes of the model; {len(missing)} are missing: {join_names(missing)}."
        raise KeyError(msg)
    mask = np.asarray(adata.var_names.isin(genes)) | _is_control(adata, control_genes)
    return read_features(adata, layer=layer, use_rep=None, mask_var=mask)


def _check_in_memory(adata: AnnData, layer: str | None) -> None:
    """Raise if expression is a Dask array: genes are compared between each cell and its neighbours."""
    if is_lazy(adata.X if layer is None else adata.layers.get(layer)):
        where = "adata.X" if layer is None else f"adata.layers[{layer!r}]"
        msg = (
            f"{where} is a Dask array, and tl.diagnose needs expression in memory. Look at some of the cells: "
            "part = adata[rows].to_memory(), all of a few batches, or a share of all that was drawn at random."
        )
        raise ValueError(msg)


def _select_columns(matrix: Matrix, places: Codes) -> Matrix:
    """Some columns; `matrix` itself where they are all columns in order."""
    return matrix if np.array_equal(places, np.arange(matrix.shape[1])) else matrix[:, places]


def _read_labels(adata: AnnData, label_key: str) -> Labels:
    """Label of each cell as str, `None` where there is none."""
    values = read_labels(adata, label_key)
    return np.array([None if pd.isna(value) else str(value) for value in values], dtype=object)


def _is_control(adata: AnnData, control_genes: Sequence[str]) -> Bools:
    """Which genes are controls, shape (n_vars,)."""
    if isinstance(control_genes, str) or not isinstance(control_genes, Iterable):
        msg = f"control_genes must be a sequence of names of genes; got {control_genes!r}."
        raise ValueError(msg)
    wanted = pd.Index([str(gene) for gene in control_genes], dtype=object)
    missing = wanted.difference(adata.var_names)
    if len(missing):
        example = ", ".join(map(str, adata.var_names[:3])) or "none"
        msg = f"control_genes must be names in adata.var_names (such as {example}); {len(missing)} are not: {join_names(missing)}."
        raise KeyError(msg)
    return np.asarray(adata.var_names.isin(wanted))


def _read_expression(adata: AnnData, layer: str | None, control_genes: Sequence[str]) -> tuple[Features | None, str]:
    """Expression of highly variable and control genes, or why there is none; an error if `layer` or controls were given."""
    controls = _is_control(adata, control_genes)
    if layer is None and not controls.any() and (adata.X is None or adata.n_vars < 2):
        return None, "adata has no expression"
    mask: Any = adata.var["highly_variable"] if "highly_variable" in adata.var else np.ones(adata.n_vars, dtype=bool)
    try:
        _check_in_memory(adata, layer)
        mask = np.asarray(mask, dtype=bool) | controls
        return read_features(adata, layer=layer, use_rep=None, mask_var=mask), ""
    except ValueError as error:
        if layer is not None or controls.any():
            raise
        return None, f"genes were left out, as {error}".rstrip(".")
