"""Where `tl.diagnose` writes what it found."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd

from scbatchnorm._data.adata import load_annotation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from scbatchnorm._data.types import Floats
    from scbatchnorm.tl._diagnosis.change import Change
    from scbatchnorm.tl._diagnosis.findings import Findings
    from scbatchnorm.tl._diagnosis.inputs import Judged
    from scbatchnorm.tl._diagnosis.result import Diagnosis

_OBS = ("state", "kept", "displacement", "displacement_own")
_TABLES = ("states", "merged", "private", "changes", "control_genes", "calibration")
_VAR = ("shift", "variance_lost", "signal_before", "signal_after")


def write(
    adata: AnnData,
    slot: str,
    prefix: str,
    found: Diagnosis,
    judged: Judged,
    findings: Findings,
    change: Change | None,
    signals: dict[str, Floats],
    params: dict[str, Any],
) -> dict[str, list[str]]:
    """Write everything and say where; what an earlier call wrote and this one did not goes."""
    names = found.states.index.to_numpy()
    obs: dict[str, Any] = {
        "state": pd.Categorical.from_codes(findings.states.codes, categories=pd.Index(names)),
        "kept": findings.kept,
    }
    var = {name: _spread(adata, judged, signals[name]) for name in _VAR if name in signals}
    varm = {}
    if change is not None:
        obs |= {"displacement": change.displacement, "displacement_own": change.displacement_own}
    if (
        judged.model is not None
        and change is not None
        and change.shift is not None
        and change.variance_lost is not None
    ):
        places = adata.var_names.get_indexer(pd.Index(judged.model.features_))
        shift = np.full((adata.n_vars, judged.batches.n), np.nan, dtype=np.float32)
        lost = np.full(adata.n_vars, np.nan)
        shift[places], lost[places] = change.shift, change.variance_lost
        var |= {"shift": np.sqrt(np.square(shift, dtype=np.float64).mean(axis=1)), "variance_lost": lost}
        varm["shift"] = shift
    tables = {name: getattr(found, name) for name in _TABLES}
    record = {"verdict": found.verdict, "reasons": np.array(found.reasons, dtype=str), **tables}
    record |= {"batches": np.array(judged.batch_names, dtype=str), "params": params}
    with warnings.catch_warnings():
        # A view becomes an object of its own, as in scanpy: the caller asked for the result to be written to it.
        warnings.simplefilter("ignore", ad.ImplicitModificationWarning)
        load_annotation(adata)
        for frame, values, known in ((adata.obs, obs, _OBS), (adata.var, var, _VAR), (adata.varm, varm, ("shift",))):
            _replace(frame, prefix, values, known)
        adata.uns[slot] = record
    written = {
        attribute: [f"{prefix}_{name}" for name in values]
        for attribute, values in (("obs", obs), ("var", var), ("varm", varm))
    }
    return written | {"uns": [slot]}


def _replace(frame: Any, prefix: str, values: dict[str, Any], known: Sequence[str]) -> None:
    """Set the columns `values`, drop those `known` ones that are not among them."""
    for name in known:
        column = f"{prefix}_{name}"
        if name in values:
            frame[column] = values[name]
        elif column in frame:
            del frame[column]


def _spread(adata: AnnData, judged: Judged, values: Floats) -> Floats:
    """Values of the genes of the expression, as values of all genes of `adata`."""
    spread = np.full(adata.n_vars, np.nan)
    if judged.expression is not None and judged.expression.mask is not None:
        spread[judged.expression.mask] = values
    return spread
