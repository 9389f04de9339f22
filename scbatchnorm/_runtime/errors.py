"""What can go wrong that a caller may want to catch by name."""

from __future__ import annotations

from typing import Any


class ModelFileError(ValueError):
    """A file is not a model or checkpoint that this package wrote, is damaged or incomplete, or of another format.

    Examples
    --------
    >>> import scbatchnorm as sbn
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "model.safetensors")
    ...     written = path.write_bytes(b"something else")
    ...     try:
    ...         sbn.BatchNormAutoencoder.load(path)
    ...     except sbn.ModelFileError as error:
    ...         print("refused")
    refused
    """


class TrainingDivergedError(ArithmeticError):
    """Losses or gradients of a training were no longer finite.

    Attributes
    ----------
    model
        The estimator, fitted all the same: with the last good weights, `stopped_` is `"diverged"`.
    """

    def __init__(self, message: str, model: Any) -> None:
        super().__init__(message, model)
        self.model = model

    def __str__(self) -> str:
        return str(self.args[0])
