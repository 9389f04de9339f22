"""A fitted model as plain arrays and scalars: what AnnData, h5ad and zarr can hold. `_restore` is the way back."""

from __future__ import annotations

import hashlib
import platform
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scbatchnorm._estimator import BatchNormAutoencoder
    from scbatchnorm._fitted import FittedAutoencoder

# Raised when older versions could no longer read what is written.
FORMAT = 3
_LIBRARIES = ("scbatchnorm", "torch", "numpy", "scipy", "scikit-learn", "anndata", "scanpy")
NETWORK = "network."
STATES = "strength."
# Counts minibatches of the training; nothing depends on it afterwards.
UNUSED = "num_batches_tracked"


def to_record(model: BatchNormAutoencoder) -> dict[str, Any]:
    """Everything a fitted model is, as a dict of str, numbers, arrays and DataFrames."""
    batch_levels = model.batches_
    return {
        "format": FORMAT,
        "params": _plain(model.get_params(deep=False)),
        "strength": {
            "value": model.strength_.value,
            "evidence": model.strength_.evidence,
            "reason": model.strength_.reason,
        },
        "stopped": model.stopped_,
        "history": model.history_,
        "shift_history": model.shift_history_,
        "batch_levels": batch_levels if batch_levels.dtype.kind == "i" else batch_levels.astype(str),
        "features": np.asarray(model.features_, dtype=str),
        # Whether the features were named by the columns of a DataFrame: new cells must then be named alike.
        "named": hasattr(model, "feature_names_in_"),
        "weights": weights(model),
        "fingerprint": model.fingerprint(),
        "reference": {
            "points": model.reference_.points,
            "codes": model.reference_.codes,
            "unexplained": model.reference_.unexplained,
            "fingerprint": model.reference_.fingerprint(),
        },
        "calibration": dict(model.calibration_),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}},
    }


def weights(model: FittedAutoencoder) -> dict[str, np.ndarray]:
    """Copies of all arrays that decide what a fitted model does, frozen statistics included."""
    arrays = {
        "stem.mean": model.stem_.mean,
        "stem.components": model.stem_.components,
        "stem.origin": model.stem_.origin,
        "stem.scale": np.array([model.stem_.scale]),
        "offsets": model.offsets_,
    }
    states = model.strength_.states
    if states is not None:
        arrays |= {f"{STATES}{name}": value for name, value in vars(states).items()}
    if model.network_ is not None:
        # 0-d arrays come back as scalars, so every array has at least one dimension.
        state = model.network_.state_dict()
        arrays |= {f"{NETWORK}{name}": np.atleast_1d(tensor.cpu().numpy()) for name, tensor in state.items()}
    return {name: np.array(value) for name, value in arrays.items()}


def fingerprint(model: FittedAutoencoder) -> str:
    """SHA-256, in hexadecimal, of all that decides what a fitted model does; see `weights`."""
    digest = hashlib.sha256(np.float64(model.strength_.value).tobytes())
    for name, array in sorted(weights(model).items()):
        if not name.endswith(UNUSED):
            digest.update(f"{name} {array.dtype.newbyteorder('<').str} {array.shape}".encode())
            digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()


def _plain(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters that AnnData can store; a generator has no name, and a path belongs to one machine: they are left out."""
    plain = {name: native(value) for name, value in params.items()} | {
        "device": str(params["device"]),
        "checkpoint": None,
    }
    return {name: value if isinstance(value, str | int | float) else None for name, value in plain.items()}


def native(value: Any) -> Any:
    """Python's own scalar for a numpy one."""
    return value.item() if isinstance(value, np.generic) else value
