"""A fitted model as plain arrays and scalars: what AnnData, h5ad and zarr can hold. `restore` is the way back."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from scbatchnorm._data.plain import to_native

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scbatchnorm._method.fitted import FittedModel

# Raised when older versions could no longer read what is written.
FORMAT = 3
_LIBRARIES = ("scbatchnorm", "torch", "numpy", "scipy", "scikit-learn", "anndata", "scanpy")


def to_record(model: FittedModel, params: Mapping[str, Any]) -> dict[str, Any]:
    """A fitted model and the parameters of its estimator as a dict of str, numbers, arrays and DataFrames."""
    levels, reference = model.batches, model.reference
    return {
        "format": FORMAT,
        "params": _plain_params(params),
        "strength": {
            "value": model.strength.value,
            "evidence": model.strength.evidence,
            "reason": model.strength.reason,
        },
        "stopped": model.stopped,
        "history": model.history,
        "shift_history": model.shift_history,
        "batch_levels": levels if levels.dtype.kind == "i" else levels.astype(str),
        "features": np.asarray(model.features, dtype=str),
        # Features that were named by the columns of a DataFrame: new cells must then be named alike.
        "named": model.named,
        "weights": model.weights(),
        "fingerprint": model.fingerprint(),
        "reference": {
            "points": reference.points,
            "codes": reference.codes,
            "unexplained": reference.unexplained,
            "fingerprint": reference.fingerprint(),
        },
        "calibration": dict(model.calibration),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}},
    }


def _plain_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters that AnnData can store; a generator has no name, and a path belongs to one machine: they are left out."""
    plain = {name: to_native(value) for name, value in params.items()} | {
        "device": str(params["device"]),
        "checkpoint": None,
    }
    return {name: value if isinstance(value, str | int | float) else None for name, value in plain.items()}
