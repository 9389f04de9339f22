"""The output of a diagnosis, written to AnnData."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd

from scbatchnorm._data.adata import load_annotation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData

    from scbatchnorm._data.types import Floats
    from scbatchnorm.tl._diagnosis.change import Change
    from scbatchnorm.tl._diagnosis.findings import Findings
    from scbatchnorm.tl._diagnosis.inputs import DiagnosisInput
    from scbatchnorm.tl._diagnosis.result import Diagnosis

_OBS = ("state", "kept", "displacement", "displacement_own")
_TABLES = ("states", "merged", "private", "changes", "control_genes", "calibration")
_VAR = ("shift", "variance_lost", "signal_before", "signal_after")


def write_diagnosis(
    adata: AnnData,
    slot: str,
    prefix: str,
    diagnosis: Diagnosis,
    data: DiagnosisInput,
    findings: Findings,
    change: Change | None,
    signals: Mapping[str, Floats],
    params: Mapping[str, Any],
) -> dict[str, list[str]]:
    """Write the diagnosis to `uns[slot]` and to columns with the `prefix`; return the keys by attribute of AnnData.

    Columns of an earlier diagnosis that this one does not have are deleted.
    """
    names = diagnosis.states.index.to_numpy()
    obs: dict[str, Any] = {
        "state": pd.Categorical.from_codes(findings.states.codes, categories=pd.Index(names)),
        "kept": findings.kept,
    }
    var = {name: _spread_genes(adata, data, signals[name]) for name in _VAR if name in signals}
    varm = {}
    if change is not None:
        obs |= {"displacement": change.displacement, "displacement_own": change.displacement_own}
    if data.model is not None and change is not None and change.genes is not None:
        places = adata.var_names.get_indexer(pd.Index(data.model.features_))
        shift = np.full((adata.n_vars, data.batches.n_batches), np.nan, dtype=np.float32)
        lost = np.full(adata.n_vars, np.nan)
        shift[places], lost[places] = change.genes.shift, change.genes.variance_lost
        var |= {"shift": np.sqrt(np.square(shift, dtype=np.float64).mean(axis=1)), "variance_lost": lost}
        varm["shift"] = shift
    record = {
        "verdict": diagnosis.verdict,
        "reasons": np.array(diagnosis.reasons, dtype=str),
        **{name: getattr(diagnosis, name) for name in _TABLES},
        "batches": np.array(data.batch_names, dtype=str),
        "params": dict(params),
    }
    with warnings.catch_warnings():
        # A view becomes an object of its own, as in scanpy: the caller asked for the result to be written to it.
        warnings.simplefilter("ignore", ad.ImplicitModificationWarning)
        load_annotation(adata)
        for frame, values, known in ((adata.obs, obs, _OBS), (adata.var, var, _VAR), (adata.varm, varm, ("shift",))):
            _replace_columns(frame, prefix, values, known)
        adata.uns[slot] = record
    written = {
        attribute: [f"{prefix}_{name}" for name in values]
        for attribute, values in (("obs", obs), ("var", var), ("varm", varm))
    }
    return written | {"uns": [slot]}


def _replace_columns(frame: Any, prefix: str, values: dict[str, Any], known: Sequence[str]) -> None:
    """Set the columns `values`, and delete those of the `known` ones that are not among them."""
    for name in known:
        column = f"{prefix}_{name}"
        if name in values:
            frame[column] = values[name]
        elif column in frame:
            del frame[column]


def _spread_genes(adata: AnnData, data: DiagnosisInput, values: Floats) -> Floats:
    """Values of the examined genes as values of all genes of `adata`, nan for the others."""
    spread = np.full(adata.n_vars, np.nan)
    if data.expression is not None and data.expression.mask is not None:
        spread[data.expression.mask] = values
    return spread
