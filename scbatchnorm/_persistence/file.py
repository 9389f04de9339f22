"""A record of a fitted model in a file, and back: see `container` for what such a file is, `restore` for what is checked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scbatchnorm._data.plain import add_prefix, select_prefix, to_json_number, to_json_table
from scbatchnorm._persistence.container import read_container, write_container
from scbatchnorm._persistence.record import to_record
from scbatchnorm._persistence.restore import from_record
from scbatchnorm._runtime.atomic_files import check_output_path
from scbatchnorm._runtime.errors import ModelFileError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scbatchnorm._data.types import Labels
    from scbatchnorm._method.fitted import FittedModel

_KIND = "model"
_REFERENCE = "reference."
_WEIGHTS = "weights."


def save_model(model: FittedModel, params: Mapping[str, Any], path: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Write a fitted model and the parameters of its estimator; see `BatchNormAutoencoder.save`."""
    target = to_path("path", path)
    check_output_path("path", target, overwrite=overwrite, hint="overwrite=True")
    record = to_record(model, params)
    arrays = add_prefix(record.pop("weights"), _WEIGHTS)
    reference = record.pop("reference")
    arrays |= {f"{_REFERENCE}{name}": value for name, value in reference.items() if isinstance(value, np.ndarray)}
    content = record | {
        "strength": record["strength"] | {"evidence": to_json_number(record["strength"]["evidence"])},
        "history": to_json_table(record["history"]),
        "shift_history": to_json_table(record["shift_history"]),
        "batch_levels": _as_list(model.batches),
        "features": record["features"].tolist(),
        "reference": {"fingerprint": reference["fingerprint"]},
    }
    write_container(target, _KIND, content, arrays)


def load_model(path: str | os.PathLike[str], defaults: Mapping[str, Any]) -> tuple[dict[str, Any], FittedModel]:
    """The parameters and the fitted model that `save_model` wrote; `defaults` are those of all parameters of the estimator."""
    source = to_path("path", path)
    if not source.exists():
        msg = f"path does not exist: {source}."
        raise FileNotFoundError(msg)
    content, arrays = read_container(source, _KIND)
    try:
        record = content | {
            "weights": select_prefix(arrays, _WEIGHTS),
            "reference": content["reference"] | select_prefix(arrays, _REFERENCE),
            "batch_levels": _as_labels(content["batch_levels"]),
        }
    except (LookupError, TypeError, ValueError) as error:
        msg = f"{source} is no model that scbatchnorm wrote, or damaged: {error}."
        raise ModelFileError(msg) from error
    how = {"writer": "BatchNormAutoencoder.save", "remedy": "fit the model again, or restore the file from a copy"}
    return from_record(record, defaults, where=str(source), error=ModelFileError, **how)


def to_path(name: str, path: object) -> Path:
    """A path of this machine; nothing else is opened."""
    try:
        text = os.fspath(path)  # type: ignore[call-overload]
    except TypeError:
        text = None
    if not isinstance(text, str) or not text:
        msg = f"{name} must be the path of a file, a str or pathlib.Path; got {path!r}."
        raise TypeError(msg)
    return Path(text)


def _as_list(labels: Labels) -> list[Any]:
    """Names of batches with their types, so that 1 and "1" stay apart; those that JSON does not know become words."""
    values = labels.tolist()
    if all(isinstance(value, str | int | float) for value in values):
        return [to_json_number(value) if isinstance(value, float) else value for value in values]
    words = [str(value) for value in values]
    return words if len(set(words)) == len(words) else [repr(value) for value in values]


def _as_labels(values: Any) -> Labels:
    """The array that pandas would make of these values, as in the fit."""
    if not isinstance(values, list) or not all(isinstance(value, str | int | float) for value in values):
        msg = f"batch_levels are {values!r:.60}"
        raise ValueError(msg)
    if len({type(value) for value in values}) == 1:
        return np.array(values)
    labels = np.empty(len(values), dtype=object)
    labels[:] = values
    return labels
