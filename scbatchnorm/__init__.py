"""Batch-effect correction for single-cell data with an autoencoder trained on minibatches that mix all batches."""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scbatchnorm import datasets, metrics, nn, pl, pp, tl
    from scbatchnorm._estimator import BatchNormAutoencoder
    from scbatchnorm._runtime.errors import ModelFileError, TrainingDivergedError

__all__ = [
    "BatchNormAutoencoder",
    "ModelFileError",
    "TrainingDivergedError",
    "datasets",
    "metrics",
    "nn",
    "pl",
    "pp",
    "tl",
]

_HOMES = {
    "BatchNormAutoencoder": "_estimator",
    **dict.fromkeys(("ModelFileError", "TrainingDivergedError"), "_runtime.errors"),
}

# What a library does: the application decides where messages go.
logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    """Import a part when it is first asked for: torch and scanpy take seconds, the command line's help needs neither."""
    if name in _HOMES:
        return getattr(import_module(f"scbatchnorm.{_HOMES[name]}"), name)
    if name in __all__:
        return import_module(f"scbatchnorm.{name}")
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
