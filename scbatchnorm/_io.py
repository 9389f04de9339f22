"""A fitted model as plain arrays and scalars, and back: what AnnData, h5ad and zarr can hold."""

from __future__ import annotations

import hashlib
import platform
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd
import torch

from scbatchnorm._device import seeded
from scbatchnorm._landmarks import Landmarks
from scbatchnorm._reference import Sketch
from scbatchnorm._stem import Stem
from scbatchnorm._strength import Strength
from scbatchnorm.nn.network import Autoencoder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike

    from scbatchnorm._fitted import FittedAutoencoder
    from scbatchnorm._model import BatchNormAutoencoder
    from scbatchnorm._typing import Labels

Model = TypeVar("Model", bound="BatchNormAutoencoder")

# Raised when older versions could no longer read what is written.
_FORMAT = 3
_LIBRARIES = ("scbatchnorm", "torch", "numpy", "scipy", "scikit-learn", "anndata", "scanpy")
_NETWORK = "network."
_STATES = "strength."
# Counts minibatches of the training; nothing depends on it afterwards.
_UNUSED = "num_batches_tracked"


def to_record(model: BatchNormAutoencoder) -> dict[str, Any]:
    """Everything a fitted model is, as a dict of str, numbers, arrays and DataFrames."""
    batch_levels = model.batches_
    return {
        "format": _FORMAT,
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
        arrays |= {f"{_STATES}{name}": value for name, value in vars(states).items()}
    if model.network_ is not None:
        # 0-d arrays come back as scalars, so every array has at least one dimension.
        state = model.network_.state_dict()
        arrays |= {f"{_NETWORK}{name}": np.atleast_1d(tensor.cpu().numpy()) for name, tensor in state.items()}
    return {name: np.array(value) for name, value in arrays.items()}


def fingerprint(model: FittedAutoencoder) -> str:
    """SHA-256, in hexadecimal, of all that decides what a fitted model does; see `weights`."""
    digest = hashlib.sha256(np.float64(model.strength_.value).tobytes())
    for name, array in sorted(weights(model).items()):
        if not name.endswith(_UNUSED):
            digest.update(f"{name} {array.dtype.newbyteorder('<').str} {array.shape}".encode())
            digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()


def from_record(cls: type[Model], record: Any, *, where: str) -> Model:
    """The model that `to_record` wrote; `where` names the place for messages."""
    try:
        found = int(record["format"])
        if found == _FORMAT:
            model = cls(**{name: _native(value) for name, value in record["params"].items()})
            _restore(model, record)
            return model
        writer = record["versions"]["scbatchnorm"]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        msg = f"{where} does not hold a model that pp.integrate wrote, or not all of it ({error}). Run pp.integrate again."
        raise ValueError(msg) from error
    rest = "upgrade" if found > _FORMAT else "run pp.integrate again"
    msg = f"{where} was written in format {found} by scbatchnorm {writer}; this version reads format {_FORMAT}: {rest}."
    raise ValueError(msg)


def _restore(model: BatchNormAutoencoder, record: Mapping[str, Any]) -> None:
    """Set the fitted attributes of `model`."""
    arrays = {name: np.array(value) for name, value in record["weights"].items()}
    scale = float(arrays["stem.scale"][0])
    model.stem_ = Stem(arrays["stem.mean"], arrays["stem.components"], arrays["stem.origin"], scale)
    model.offsets_ = arrays["offsets"]
    model.batches_ = _labels(record["batch_levels"])
    strength = record["strength"]
    states = {name.removeprefix(_STATES): value for name, value in arrays.items() if name.startswith(_STATES)}
    model.strength_ = Strength(
        float(strength["value"]),
        float(strength["evidence"]),
        str(strength["reason"]),
        Landmarks(**states) if states else None,
    )
    model.stopped_ = str(record["stopped"])
    model.history_ = pd.DataFrame(record["history"])
    model.shift_history_ = pd.DataFrame(record["shift_history"])
    model.calibration_ = {name: _native(value) for name, value in record["calibration"].items()}
    model.n_features_in_ = len(model.stem_.mean)
    model.features_ = _labels(record["features"])
    n_features, n_components, n_batches = len(model.features_), model.stem_.components.shape[1], len(model.batches_)
    shapes = {
        "stem.mean": (n_features,),
        "stem.components": (n_features, n_components),
        "stem.origin": (n_components,),
        "offsets": (n_batches, n_components),
    }
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            msg = f"{name} has shape {arrays[name].shape} instead of {shape}"
            raise ValueError(msg)
    state = {name.removeprefix(_NETWORK): value for name, value in arrays.items() if name.startswith(_NETWORK)}
    model.network_ = _network(model, state) if model.strength_.value > 0 else None
    if model.fingerprint() != str(record["fingerprint"]):
        msg = "its weights do not have the fingerprint they were written with, so they were changed"
        raise ValueError(msg)
    model.reference_ = _sketch(record["reference"])


def _sketch(record: Mapping[str, Any]) -> Sketch:
    """The sketch of the reference cells, as it was written."""
    points, unexplained = (np.array(record[name], dtype=np.float32) for name in ("points", "unexplained"))
    sketch = Sketch(points, np.array(record["codes"], dtype=np.int64), unexplained)
    if sketch.fingerprint() != str(record["fingerprint"]):
        msg = "its reference cells do not have the fingerprint they were written with, so they were changed"
        raise ValueError(msg)
    return sketch


def _network(model: BatchNormAutoencoder, state: dict[str, np.ndarray]) -> Autoencoder:
    with seeded(0, torch.device("cpu")):  # a new network draws its start, which is then replaced
        network = Autoencoder(
            model.stem_.components.shape[1],
            len(model.batches_),
            n_hidden=model.n_hidden,
            n_layers=model.n_layers,
            norm=model.norm,
            statistics=model.statistics,
            dropout=model.dropout,
        )
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    network.load_state_dict({name: torch.from_numpy(value).reshape(shapes[name]) for name, value in state.items()})
    return network.eval()


def _plain(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters that AnnData can store; a generator has no name, so it is left out."""
    plain = {name: _native(value) for name, value in params.items()}
    plain["device"] = str(params["device"])
    return {name: value if isinstance(value, str | int | float) else None for name, value in plain.items()}


def _labels(values: ArrayLike) -> Labels:
    """Labels as they were written: zarr gives strings of another type back."""
    labels = np.asarray(values)
    return labels if labels.dtype.kind in "iU" else np.array([str(label) for label in labels], dtype=str)


def _native(value: Any) -> Any:
    """Python's own scalar for a numpy one."""
    return value.item() if isinstance(value, np.generic) else value
