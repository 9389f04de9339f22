"""What `tl.diagnose` judges, read from AnnData and checked."""

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
from scbatchnorm.metrics import _comparison as _design
from scbatchnorm.metrics import _inputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from scbatchnorm._data.types import Bools, Codes, Floats, Matrix
    from scbatchnorm.metrics._inputs import Groups


@dataclass(frozen=True, eq=False)
class Judged:
    """Coordinates `before` and `after`, (cells, dimensions), in `batches`; expression and model if there are any."""

    before: Floats
    after: Floats
    use_rep: str
    batches: Groups
    labels: np.ndarray | None  # (cells,) of str or None
    expression: Features | None
    no_genes: str  # why there is no expression
    model: BatchNormAutoencoder | None
    integrated: Matrix | None  # what the model was fitted to

    @property
    def batch_names(self) -> list[str]:
        """Names of the batches, in the order of their codes."""
        return [str(name) for name in self.batches.names]

    def places(self, names: Iterable[str]) -> Codes:
        """Columns of `expression` that hold these genes."""
        if self.expression is None:
            return np.empty(0, dtype=np.intp)
        return pd.Index(self.expression.names).get_indexer(pd.Index(list(names)))

    @property
    def of_genes(self) -> bool:
        """Whether the model was fitted to expression, not to a representation."""
        return self.model is not None and self.model.stem != "identity"


def read(
    adata: AnnData,
    batch_key: str | Sequence[str],
    *,
    label_key: str | None,
    key: str | None,
    use_rep: str | None,
    unintegrated: str,
    layer: str | None,
    control_genes: Sequence[str],
) -> Judged:
    """Read and check what there is.

    Raises
    ------
    KeyError
        A key names nothing in `adata`.
    ValueError
        Parameters exclude each other, or what they name is not what it must be.
    """
    for name, value in (("key", key), ("layer", None if layer is None else (layer if use_rep is None else None))):
        if value is not None and (use_rep is not None or name == "layer"):
            other = (
                f"use_rep={use_rep!r}" if name == "key" else "an integration of this package, which knows its layer,"
            )
            msg = f"{name}={value!r} and {other} exclude each other."
            raise ValueError(msg)
    batches = _inputs.of_batches(read_batches(adata, batch_key))
    labels = None if label_key is None else _labels(adata, label_key)
    slot = Keys.of(key)
    model = None if use_rep is not None else BatchNormAutoencoder.from_anndata(adata, key=slot.uns)
    rep = slot.obsm if use_rep is None else use_rep
    after = _design.coordinates(adata, "key" if use_rep is None else "use_rep", rep)
    if unintegrated not in adata.obsm:
        msg = (
            f"unintegrated={unintegrated!r} is not a key of adata.obsm; keys: {', '.join(map(str, adata.obsm)) or 'none'}. "
            "Run sc.pp.pca(adata) first."
        )
        raise KeyError(msg)
    before = _design.coordinates(adata, "unintegrated", unintegrated)
    if model is None:
        expression, why = _expression(adata, layer, control_genes)
        return Judged(before, after, rep, batches, labels, expression, why, None, None)
    n_components = model.stem_.components.shape[1]
    if after.shape[1] != n_components:
        msg = f"adata.obsm[{rep!r}] must have the {n_components} columns of the model in adata.uns[{slot.uns!r}]; got {after.shape[1]}."
        raise ValueError(msg)
    record = adata.uns[slot.uns]
    if record.get("use_rep"):
        integrated = read_like_fit(adata, model.features_, batch_key if isinstance(batch_key, str) else None, key)[0]
        expression, why = _expression(adata, None, control_genes)
        return Judged(before, after, rep, batches, labels, expression, why, model, integrated)
    _in_memory(adata, record.get("layer") or None)
    missing = pd.Index(model.features_).difference(adata.var_names)
    if len(missing):
        msg = f"adata must have the {len(model.features_)} genes of the model; {len(missing)} are missing: {join_names(missing)}."
        raise KeyError(msg)
    mask = np.asarray(adata.var_names.isin(model.features_)) | _controls(adata, control_genes)
    expression = read_features(adata, layer=record.get("layer") or None, use_rep=None, mask_var=mask)
    judged = Judged(before, after, rep, batches, labels, expression, "", model, None)
    return Judged(**(vars(judged) | {"integrated": _columns(expression.matrix, judged.places(model.features_))}))


def _in_memory(adata: AnnData, layer: str | None) -> None:
    """Raise where expression is a Dask array: genes are compared between each cell and its neighbours."""
    if is_lazy(adata.X if layer is None else adata.layers.get(layer)):
        where = "adata.X" if layer is None else f"adata.layers[{layer!r}]"
        msg = (
            f"{where} is a Dask array, and tl.diagnose needs expression in memory. Look at some of the cells: "
            "part = adata[rows].to_memory(), all of a few batches, or a share of all that was drawn at random."
        )
        raise ValueError(msg)


def _columns(matrix: Matrix, places: Codes) -> Matrix:
    """These columns; `matrix` itself where they are all of it."""
    return matrix if np.array_equal(places, np.arange(matrix.shape[1])) else matrix[:, places]


def _labels(adata: AnnData, label_key: str) -> np.ndarray:
    """Label of each cell as str, `None` where there is none."""
    values = _design.labels(adata, label_key)
    return np.array([None if pd.isna(value) else str(value) for value in values], dtype=object)


def _controls(adata: AnnData, control_genes: Sequence[str]) -> Bools:
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


def _expression(adata: AnnData, layer: str | None, control_genes: Sequence[str]) -> tuple[Features | None, str]:
    """Highly variable and control genes, or why there are none; an error only for what was asked for."""
    controls = _controls(adata, control_genes)
    if layer is None and not controls.any() and (adata.X is None or adata.n_vars < 2):
        return None, "adata has no expression"
    mask: Any = adata.var["highly_variable"] if "highly_variable" in adata.var else np.ones(adata.n_vars, dtype=bool)
    try:
        _in_memory(adata, layer)
        mask = np.asarray(mask, dtype=bool) | controls
        return read_features(adata, layer=layer, use_rep=None, mask_var=mask), ""
    except ValueError as error:
        if layer is not None or controls.any():
            raise
        return None, f"genes were left out, as {error}".rstrip(".")
