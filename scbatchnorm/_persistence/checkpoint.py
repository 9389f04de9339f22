"""How far a fit has come, in a file: a fit that was killed goes on from there and ends as if it had not been."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from scbatchnorm._data.blocks import InMemory
from scbatchnorm._data.plain import add_prefix, rng_state, select_prefix, to_json_number, to_native
from scbatchnorm._method.fit import FitCheckpoint
from scbatchnorm._persistence.container import read_container, write_container
from scbatchnorm._persistence.restore import restore_linear
from scbatchnorm._runtime.atomic_files import check_output_path, remove_leftovers
from scbatchnorm._runtime.errors import ModelFileError
from scbatchnorm._runtime.messages import warn

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    import torch

    from scbatchnorm._data.batches import Batches
    from scbatchnorm._data.blocks import Blocks
    from scbatchnorm._data.plain import Arrays, Content
    from scbatchnorm._data.types import Codes, Floats, Matrix
    from scbatchnorm._method.fitted import LinearModel

logger = logging.getLogger(__name__)

_KIND = "checkpoint"
_LINEAR, _TRAINING, _SUMS, _ROWS = "linear.", "training.", "sums.", "rows"
# Seconds between two notes of sums over blocks.
_OFTEN = 60.0
# Parameters that change nothing in a fit, or are looked at apart.
_APART = ("progress", "checkpoint", "rng", "device")
# Rounding may differ between their releases.
_LIBRARIES = ("scbatchnorm", "torch", "numpy", "scipy", "scikit-learn")


class FileCheckpoint(FitCheckpoint):
    """What a fit keeps in a file while it sums up blocks, before its network, and after each interval of training."""

    keeps = True

    def __init__(self, path: Path, identity: Content) -> None:
        self.path = path
        self._content: Content = {"fit": identity}
        self._arrays: Arrays = {}
        self._size: dict[str, int] = {}
        self._failed = False
        self._last = time.monotonic()

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        params: Mapping[str, Any],
        blocks: Blocks,
        batches: Batches,
        rng: np.random.Generator,
        device: torch.device,
    ) -> Self:
        """That of the fit of an estimator with these `params` to `blocks`, with what an earlier run of the same fit kept.

        Raises
        ------
        ValueError
            The file belongs to another fit, which has not ended, or is no checkpoint.
        OSError
            Nothing can be written there.
        """
        path = Path(os.fspath(path))
        check_output_path("checkpoint", path, overwrite=True, hint="")
        remove_leftovers(path)
        checkpoint = cls(path, _identity(params, blocks, batches.codes, rng, device))
        checkpoint._size = {"n_batches": batches.n_batches, "n_features": blocks.shape[1]}
        if path.exists():
            checkpoint._take_over()
        return checkpoint

    def recall(self, what: str) -> tuple[int, list[Floats]]:
        """See `Notes`."""
        sums = select_prefix(self._arrays, f"{_SUMS}{what}.")
        if not sums:
            return 0, []
        logger.info("going on with %s at block %d", what, sums["n_done"][0])
        return int(sums.pop("n_done")[0]), [sums[str(i)] for i in range(len(sums))]

    def note(self, what: str, n_done: int, sums: list[Floats], *, last: bool) -> None:
        """See `Notes`; the file is not written too often."""
        due = time.monotonic() - self._last >= _OFTEN
        if not (due or last):
            return
        arrays = {"n_done": np.array([n_done]), **{str(i): np.atleast_1d(array) for i, array in enumerate(sums)}}
        self._arrays |= add_prefix(arrays, f"{_SUMS}{what}.")
        if due:
            self._write()
            self._last = time.monotonic()

    def load_linear(self) -> tuple[LinearModel, Codes] | None:
        """See `FitCheckpoint`."""
        if "training" not in self._content:
            return None
        try:
            arrays = select_prefix(self._arrays, _LINEAR)
            rows = arrays.pop(_ROWS)
            linear = restore_linear(arrays, self._content["strength"], **self._size)
        except (LookupError, TypeError, ValueError) as error:
            raise self.refuse(error) from error
        logger.info("resuming from checkpoint %s", self.path)
        return linear, rows

    def save_linear(self, linear: LinearModel, rows: Codes) -> None:
        """See `FitCheckpoint`; the file is written when training begins."""
        strength = linear.strength
        if strength.value == 0 and any(name.startswith(_SUMS) for name in self._arrays):
            self.remove()  # nothing is trained, and the sums are used
        self._content["strength"] = {
            "value": strength.value,
            "evidence": to_json_number(strength.evidence),
            "reason": strength.reason,
        }
        self._arrays = add_prefix({**linear.weights(), _ROWS: rows}, _LINEAR)

    def load_training(self) -> tuple[Content, Arrays] | None:
        """See `TrainingCheckpoint`."""
        content = self._content.get("training")
        return None if content is None else (content, select_prefix(self._arrays, _TRAINING))

    def save_training(self, content: Content, arrays: Arrays) -> None:
        """See `TrainingCheckpoint`."""
        self._content["training"] = content
        linear = {name: value for name, value in self._arrays.items() if name.startswith(_LINEAR)}
        self._arrays = linear | add_prefix(arrays, _TRAINING)
        self._write()

    def refuse(self, reason: Exception) -> Exception:
        """See `TrainingCheckpoint`."""
        words = " ".join(str(reason).split())
        return ModelFileError(f"checkpoint={str(self.path)!r} cannot be used ({words}). Remove it to begin anew.")

    def remove(self) -> None:
        """See `TrainingCheckpoint`."""
        self.path.unlink(missing_ok=True)

    def _write(self) -> None:
        """Replace the file, if that can be done."""
        try:
            write_container(self.path, _KIND, self._content, self._arrays)
        except OSError as error:
            if not self._failed:
                warn(
                    f"checkpoint={str(self.path)!r} cannot be written ({error}); training goes on, and what was there is unchanged."
                )
            self._failed = True

    def _take_over(self) -> None:
        """Go on from what is in the file, if it is of the same fit; leave it if it is of another that has not ended."""
        fit, path = self._content["fit"], self.path
        try:
            content, arrays = read_container(path, _KIND)
            other, stopped = content["fit"], content.get("training", {"stopped": ""})["stopped"]
            differences = [name for name in fit if other.get(name) != fit[name]]
        except (ModelFileError, LookupError, TypeError, AttributeError) as error:
            msg = f"checkpoint={str(path)!r} is a file that cannot be used: {error} Name another one; remove this one only if it is a checkpoint that is not needed."
            raise ModelFileError(msg) from error
        if not differences:
            self._content, self._arrays = content, arrays
        elif not stopped:
            msg = (
                f"checkpoint={str(path)!r} belongs to another fit, which has not ended: it differs in {', '.join(differences)}. "
                "Remove the file to give that fit up, or name another one."
            )
            raise ValueError(msg)
        else:
            logger.info("checkpoint %s is of another fit, which has ended: it is replaced", path)


def _identity(
    params: Mapping[str, Any], X: Blocks, codes: Codes, rng: np.random.Generator, device: torch.device
) -> Content:
    """What decides the result of a fit, by the names that a user knows it by; of cells beyond memory the first and the last block."""
    parts = (
        [X.all()]
        if isinstance(X, InMemory)
        else list(X.map(_block, what="comparing", starts=X.starts[:: len(X.starts) - 1 or 1]))
    )
    plain = {name: to_native(value) for name, value in params.items() if name not in _APART}
    return plain | {
        "rng": None if params["rng"] is None else _sha256([], rng_state(rng)),
        "device": device.type,
        "X": _sha256([array for part in parts for array in _arrays(part)], list(X.shape)),
        "batch": _sha256([codes]),
        **{f"the version of {name}": version(name) for name in _LIBRARIES},
    }


def _block(block: Matrix, _start: int) -> Matrix:
    return block


def _arrays(X: Matrix) -> list[np.ndarray]:
    return [X.data, X.indices, X.indptr] if sparse.issparse(X) else [X]


def _sha256(arrays: list[np.ndarray], *others: object) -> str:
    digest = hashlib.sha256(repr(others).encode())
    for array in arrays:
        digest.update(array.dtype.str.encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
