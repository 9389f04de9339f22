"""A fitted model from its record. Whatever the record holds: a whole model, or an error that says what is wrong.

Everything is checked before it is used, for nobody knows where a file has been: names, types, shapes and sizes against the
parameters, values for being finite and in range, and all of it against the fingerprint that it was written with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from scbatchnorm._data.plain import select_prefix, to_native
from scbatchnorm._method.anchors import cells_per_batch
from scbatchnorm._method.fitted import NETWORK, STATES, UNUSED, FittedModel, LinearModel
from scbatchnorm._method.parameters import check_parameters
from scbatchnorm._method.reference import ReferenceCells
from scbatchnorm._method.stem import Stem
from scbatchnorm._method.strength import PER_BATCH, Landmarks, Strength
from scbatchnorm._method.training.history import empty_history, empty_shift_history
from scbatchnorm._persistence.record import FORMAT
from scbatchnorm.nn.network import Autoencoder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import ArrayLike

    from scbatchnorm._data.types import Labels

_STOPPED = ("completed", "converged", "interrupted", "diverged", "not trained")
_WRONG = (LookupError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError)


def from_record(
    record: Any,
    defaults: Mapping[str, Any],
    *,
    where: str,
    writer: str = "pp.integrate",
    remedy: str = "run pp.integrate again",
    error: type[ValueError] = ValueError,
) -> tuple[dict[str, Any], FittedModel]:
    """The parameters and the fitted model that `to_record` described.

    Parameters
    ----------
    record
        What there is.
    defaults
        All parameters of the estimator, with the values of those that the record lacks.
    where, writer, remedy
        The place it comes from, what writes there, and what helps, for messages.
    error
        What is raised if it is not a whole model.
    """
    try:
        number = int(record["format"])
        if number == FORMAT:
            params = _restore_params(record["params"], defaults)
            return params, _restore_model(record, params)
        by = str(record["versions"]["scbatchnorm"])
    except _WRONG as wrong:
        msg = f"{where} does not hold a model that {writer} wrote, or not all of it ({wrong}). {remedy[0].upper()}{remedy[1:]}."
        raise error(msg) from wrong
    helps = "upgrade" if number > FORMAT else remedy
    msg = f"{where} was written in format {number} by scbatchnorm {by}; this version reads format {FORMAT}: {helps}."
    raise error(msg)


def _restore_params(recorded: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters, checked."""
    params = {str(name): to_native(value) for name, value in recorded.items()}
    if unknown := params.keys() - defaults.keys():
        msg = f"it has parameters that no model has: {', '.join(sorted(unknown))}"
        raise ValueError(msg)
    params = {**defaults, **params}
    check_parameters(params)
    if params["checkpoint"] is not None:  # whoever fits a model that was read shall not write where the file says
        msg = f"checkpoint is {params['checkpoint']!r}, and no model that is written has one"
        raise ValueError(msg)
    return params


def _restore_model(record: Mapping[str, Any], params: Mapping[str, Any]) -> FittedModel:
    """The fitted model of an estimator with these `params`."""
    arrays = {str(name): np.array(value) for name, value in record["weights"].items()}
    batches = _distinct("batch_levels", _labels(record["batch_levels"]))
    features = _labels(record["features"])
    linear = restore_linear(arrays, record["strength"], n_batches=len(batches), n_features=len(features))
    width = linear.stem.components.shape[1]
    network = None
    if linear.strength.value > 0:
        network = _network(params, width, len(batches), select_prefix(arrays, NETWORK))
    calibration = {str(name): to_native(value) for name, value in record["calibration"].items()}
    model = FittedModel(
        **vars(linear),
        network=network,
        batches=batches,
        features=features,
        stem_kind=params["stem"],
        n_neighbors=params["n_neighbors"],
        named=bool(record.get("named", False)),
        stopped=_one_of("stopped", str(record["stopped"]), _STOPPED),
        history=_frame("history", record["history"], empty_history()),
        shift_history=_frame("shift_history", record["shift_history"], empty_shift_history()),
        reference=_reference(record["reference"], len(batches), width),
        calibration={
            "by": _one_of("calibration", str(calibration["by"]), ("fit", "recalibrate")),
            "n_cells": int(calibration["n_cells"]),
            "fingerprint_of_fit": str(calibration["fingerprint_of_fit"]),
        },
    )
    if model.fingerprint() != str(record["fingerprint"]):
        msg = "its weights do not have the fingerprint they were written with, so they were changed"
        raise ValueError(msg)
    return model


def restore_linear(
    arrays: Mapping[str, np.ndarray], strength: Mapping[str, Any], *, n_batches: int, n_features: int
) -> LinearModel:
    """Stem, strength and offsets of a model with so many batches and features, by its weights."""
    width = arrays["stem.components"].shape[-1]
    shapes: dict[str, tuple[int, ...]] = {
        "stem.mean": (n_features,),
        "stem.components": (n_features, width),
        "stem.origin": (width,),
        "offsets": (n_batches, width),
    }
    for name, shape in shapes.items():
        _array(name, arrays[name], np.float32, shape)
    scale = float(_array("stem.scale", arrays["stem.scale"], np.float64, (1,))[0])
    limits = np.finfo(np.float32)
    if not limits.tiny <= scale <= limits.max:
        msg = f"stem.scale is {scale} instead of a number > 0 that float32 can hold"
        raise ValueError(msg)
    states = select_prefix(arrays, STATES)
    known = {*shapes, "stem.scale", *(f"{STATES}{name}" for name in ("points", "codes", "values"))}
    if unknown := {name for name in arrays if not name.startswith(NETWORK)} - known:
        msg = f"it has arrays that no model has: {', '.join(sorted(unknown))}"
        raise ValueError(msg)
    return LinearModel(
        Stem(arrays["stem.mean"], arrays["stem.components"], arrays["stem.origin"], scale),
        Strength(
            _share("strength", float(strength["value"])),
            float(strength["evidence"]),
            str(strength["reason"]),
            _landmarks(states, n_batches, width) if states else None,
        ),
        arrays["offsets"],
    )


def _landmarks(states: Mapping[str, np.ndarray], n_batches: int, width: int) -> Landmarks:
    n = len(states["codes"])
    landmarks = Landmarks(
        _array("strength.points", states["points"], np.float32, (n, width)),
        _codes("strength.codes", states["codes"], n_batches),
        _array("strength.values", states["values"], np.float32, (n,)),
    )
    _few("strength.points", n, PER_BATCH * n_batches)
    if not n or landmarks.values.min() < 0 or landmarks.values.max() > 1:
        msg = "strength.values are not numbers from 0 to 1"
        raise ValueError(msg)
    return landmarks


def _reference(record: Mapping[str, Any], n_batches: int, width: int) -> ReferenceCells:
    """The sketch of the reference cells, as it was written."""
    arrays = {name: np.array(record[name]) for name in ("points", "codes", "unexplained")}
    for name, value in arrays.items():
        _few(f"reference.{name}", len(value), cells_per_batch(n_batches) * n_batches)
    reference = ReferenceCells(
        _array("reference.points", arrays["points"], np.float32, (len(arrays["codes"]), width)),
        _codes("reference.codes", arrays["codes"], n_batches),
        _array("reference.unexplained", arrays["unexplained"], np.float32, (arrays["unexplained"].size,)),
    )
    if reference.fingerprint() != str(record["fingerprint"]):
        msg = "its reference cells do not have the fingerprint they were written with, so they were changed"
        raise ValueError(msg)
    return reference


def _network(
    params: Mapping[str, Any], n_components: int, n_batches: int, state: Mapping[str, np.ndarray]
) -> Autoencoder:
    """The network of the parameters, with the arrays of `state` in it."""
    with torch.device("meta"):  # neither memory nor random numbers are used before the shapes are known to fit
        network = Autoencoder(
            n_components,
            n_batches,
            n_hidden=params["n_hidden"],
            n_layers=params["n_layers"],
            norm=params["norm"],
            statistics=params["statistics"],
            dropout=params["dropout"],
        )
    expected = network.state_dict()
    given = {name: value for name, value in state.items() if not name.endswith(UNUSED)}
    if given.keys() != (names := {name for name in expected if not name.endswith(UNUSED)}):
        msg = f"the network of its parameters has other arrays: {', '.join(sorted(given.keys() ^ names)[:3])}"
        raise ValueError(msg)
    tensors = {}
    for name, tensor in expected.items():
        if name not in state:  # a count of steps that nothing depends on
            tensors[name] = torch.zeros(tensor.shape, dtype=tensor.dtype)
            continue
        dtype = np.int64 if tensor.dtype == torch.int64 else np.float32
        value = _array(f"{NETWORK}{name}", state[name], dtype, tuple(tensor.shape) or (1,))
        if name.endswith("running_var") and (value < 0).any():
            msg = f"{NETWORK}{name} has negative variances"
            raise ValueError(msg)
        tensors[name] = torch.from_numpy(value).reshape(tensor.shape)
    network.load_state_dict(tensors, assign=True)
    return network.eval()


def _array(name: str, value: np.ndarray, dtype: type[np.generic], shape: tuple[int, ...]) -> np.ndarray:
    """`value`, if it is an array of this type and shape, and finite."""
    if value.dtype != dtype or value.shape != shape:
        msg = f"{name} has type {value.dtype} and shape {value.shape} instead of {np.dtype(dtype)} and {shape}"
        raise ValueError(msg)
    if not np.isfinite(value).all():
        msg = f"{name} has values that are not finite"
        raise ValueError(msg)
    return value


def _few(name: str, found: int, most: int) -> None:
    if found > most:
        msg = f"{name} has {found} cells, more than the {most} that are kept"
        raise ValueError(msg)


def _codes(name: str, value: np.ndarray, n_batches: int) -> np.ndarray:
    codes = _array(name, value, np.int64, (value.size,))
    if codes.size and (codes.min() < 0 or codes.max() >= n_batches):
        msg = f"{name} are not codes of {n_batches} batches"
        raise ValueError(msg)
    return codes


def _share(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        msg = f"{name} is {value} instead of a number from 0 to 1"
        raise ValueError(msg)
    return value


def _one_of(name: str, value: str, words: Iterable[str]) -> str:
    if value not in words:
        msg = f"{name} is {value!r}"
        raise ValueError(msg)
    return value


def _frame(name: str, value: Any, like: pd.DataFrame) -> pd.DataFrame:
    """A history with the columns and types of an empty one."""
    frame = pd.DataFrame(value)
    if list(frame.columns) != list(like.columns):
        msg = f"{name} has other columns: {', '.join(map(str, frame.columns))}"
        raise ValueError(msg)
    return frame.astype(like.dtypes)


def _distinct(name: str, labels: Labels) -> Labels:
    if not len(labels) or len(set(labels.tolist())) < len(labels):
        msg = f"{name} are not different names"
        raise ValueError(msg)
    return labels


def _labels(values: ArrayLike) -> Labels:
    """Labels as they were written, shape (labels,): zarr gives strings of another type back."""
    labels = np.asarray(values)
    if labels.ndim != 1:
        msg = f"names of shape {labels.shape}"
        raise ValueError(msg)
    if labels.dtype.kind in "iUbf" or (
        labels.dtype.kind == "O" and not all(isinstance(label, str) for label in labels)
    ):
        return labels
    return np.array([str(label) for label in labels], dtype=str)
