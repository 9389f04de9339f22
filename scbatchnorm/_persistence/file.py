"""A fitted model as a file, and back: see `_container` for what such a file is, `_restore` for what is checked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from scbatchnorm._persistence import record as _record
from scbatchnorm._persistence import restore as _restore
from scbatchnorm._persistence.container import (
    read_container,
    select_prefix,
    to_json_number,
    to_json_table,
    write_container,
)
from scbatchnorm._runtime.atomic_files import check_output_path
from scbatchnorm._runtime.errors import ModelFileError

if TYPE_CHECKING:
    from scbatchnorm._data.types import Labels
    from scbatchnorm._estimator import BatchNormAutoencoder

Model = TypeVar("Model", bound="BatchNormAutoencoder")

_KIND = "model"
_REFERENCE = "reference."
_WEIGHTS = "weights."


def save_model(model: BatchNormAutoencoder, path: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Write a fitted model; see `BatchNormAutoencoder.save`."""
    target = to_path("path", path)
    check_output_path("path", target, overwrite=overwrite, hint="overwrite=True")
    record = _record.to_record(model)
    arrays = {f"{_WEIGHTS}{name}": value for name, value in record.pop("weights").items()}
    sketch = record.pop("reference")
    arrays |= {f"{_REFERENCE}{name}": value for name, value in sketch.items() if isinstance(value, np.ndarray)}
    content = record | {
        "strength": record["strength"] | {"evidence": to_json_number(record["strength"]["evidence"])},
        "history": to_json_table(record["history"]),
        "shift_history": to_json_table(record["shift_history"]),
        "batch_levels": _as_list(model.batches_),
        "features": record["features"].tolist(),
        "reference": {"fingerprint": sketch["fingerprint"]},
    }
    write_container(target, _KIND, content, arrays)


def load_model(cls: type[Model], path: str | os.PathLike[str]) -> Model:
    """Read a model that `save` wrote; see `BatchNormAutoencoder.load`."""
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
    return _restore.from_record(cls, record, where=str(source), error=ModelFileError, **how)


def to_path(name: str, path: object) -> Path:
    """A path of this machine; nothing else is opened."""
    try:
        found = os.fspath(path)  # type: ignore[call-overload]
    except TypeError:
        found = None
    if not isinstance(found, str) or not found:
        msg = f"{name} must be the path of a file, a str or pathlib.Path; got {path!r}."
        raise TypeError(msg)
    return Path(found)


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
