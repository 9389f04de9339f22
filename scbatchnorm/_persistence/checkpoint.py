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

from scbatchnorm._data.blocks import InMemory, Notes
from scbatchnorm._persistence import record as _record
from scbatchnorm._persistence import restore as _restore
from scbatchnorm._persistence.container import read_container, select_prefix, to_json_number, write_container
from scbatchnorm._runtime.atomic_files import check_output_path, remove_leftovers
from scbatchnorm._runtime.errors import ModelFileError
from scbatchnorm._runtime.messages import warn

if TYPE_CHECKING:
    from typing import Self

    import torch

    from scbatchnorm._data.blocks import Blocks
    from scbatchnorm._data.types import Codes, Floats, Matrix
    from scbatchnorm._estimator import BatchNormAutoencoder
    from scbatchnorm._persistence.container import Arrays, Content

logger = logging.getLogger(__name__)

_KIND = "checkpoint"
_LINEAR, _TRAINING, _SUMS, _ROWS = "linear.", "training.", "sums.", "rows"
# Seconds between two notes of sums over blocks.
_OFTEN = 60.0
# Parameters that change nothing in a fit, or are looked at apart.
_APART = ("progress", "checkpoint", "rng", "device")
# Rounding may differ between their releases.
_LIBRARIES = ("scbatchnorm", "torch", "numpy", "scipy", "scikit-learn")


class Checkpoint(Notes):
    """What a fit notes while it sums up blocks, and after each refresh; without a path it notes nothing."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._content: Content = {}
        self._arrays: Arrays = {}
        self._failed = False
        self._last = time.monotonic()

    @classmethod
    def of(
        cls, model: BatchNormAutoencoder, X: Blocks, codes: Codes, rng: np.random.Generator, device: torch.device
    ) -> Self:
        """That of the fit of `model` to `X` (cells, features), with what an earlier run of the same fit noted.

        Raises
        ------
        ValueError
            The file belongs to another fit, which has not ended, or is no checkpoint.
        OSError
            Nothing can be written there.
        """
        if model.checkpoint is None:
            return cls()
        path = Path(os.fspath(model.checkpoint))
        check_output_path("checkpoint", path, overwrite=True, hint="")
        remove_leftovers(path)
        checkpoint = cls(path)
        checkpoint._content = {"fit": _identity(model, X, codes, rng, device)}
        if path.exists():
            checkpoint._take_over(path)
        return checkpoint

    def resume(self, model: BatchNormAutoencoder) -> bool:
        """Set what `model` has learned before its network is trained; `False` if nothing is known."""
        if "training" not in self._content:
            return False
        try:
            arrays = {name: a for name, a in select_prefix(self._arrays, _LINEAR).items() if name != _ROWS}
            _restore.linear(model, arrays, self._content["strength"])
        except (LookupError, TypeError, ValueError) as error:
            msg = f"checkpoint={str(self.path)!r} cannot be used ({' '.join(str(error).split())}). Remove it to begin anew."
            raise ModelFileError(msg) from error
        logger.info("resuming from checkpoint %s", self.path)
        return True

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
        if self.path is None or not (due or last):
            return
        found = {"n_done": np.array([n_done]), **{str(i): np.atleast_1d(array) for i, array in enumerate(sums)}}
        self._arrays |= {f"{_SUMS}{what}.{name}": array for name, array in found.items()}
        if due:
            self._write()
            self._last = time.monotonic()

    def rows(self) -> Codes:
        """Cells that are learned from, which `begin` was given."""
        return self._arrays[f"{_LINEAR}{_ROWS}"]

    def begin(self, model: BatchNormAutoencoder, rows: Codes) -> None:
        """Remember what `model` has learned before its network is trained, and the cells that it learns from."""
        if model.strength_.value == 0 and any(name.startswith(_SUMS) for name in self._arrays):
            self.remove()  # nothing is trained, and the sums are used
        if self.path is not None:
            strength = model.strength_
            numbers = {"value": strength.value, "evidence": to_json_number(strength.evidence)}
            self._content["strength"] = {**numbers, "reason": strength.reason}
            arrays = {**_record.weights(model), _ROWS: rows}
            self._arrays = {f"{_LINEAR}{name}": value for name, value in arrays.items()}

    def training(self) -> tuple[Content, Arrays] | None:
        """What `keep` was given last."""
        content = self._content.get("training")
        return None if content is None else (content, select_prefix(self._arrays, _TRAINING))

    def keep(self, content: Content, arrays: Arrays, rng: np.random.Generator) -> None:
        """Write the state of training, and that of `rng`. What cannot be written does not end the training."""
        if self.path is None:
            return
        self._content["training"] = content | {"rng": rng_state(rng)}
        linear = {name: value for name, value in self._arrays.items() if name.startswith(_LINEAR)}
        self._arrays = linear | {f"{_TRAINING}{name}": value for name, value in arrays.items()}
        self._write()

    def _write(self) -> None:
        """Replace the file, if that can be done."""
        if self.path is None:
            return
        try:
            write_container(self.path, _KIND, self._content, self._arrays)
        except OSError as error:
            if not self._failed:
                warn(
                    f"checkpoint={str(self.path)!r} cannot be written ({error}); training goes on, and what was there is unchanged."
                )
            self._failed = True

    def remove(self) -> None:
        """Forget all: who goes on from here comes to the same bad end."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def _take_over(self, path: Path) -> None:
        """Go on from what is in the file, if it is of the same fit; leave it if it is of another that has not ended."""
        fit = self._content["fit"]
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
    model: BatchNormAutoencoder, X: Blocks, codes: Codes, rng: np.random.Generator, device: torch.device
) -> Content:
    """What decides the result of a fit, by the names that a user knows it by; of cells beyond memory the first and the last block."""
    parts = (
        [X.all()]
        if isinstance(X, InMemory)
        else list(X.map(_block, what="comparing", starts=X.starts[:: len(X.starts) - 1 or 1]))
    )
    params = {k: _record.native(v) for k, v in model.get_params(deep=False).items() if k not in _APART}
    return params | {
        "rng": None if model.rng is None else _sha256([], rng_state(rng)),
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


def rng_state(rng: np.random.Generator) -> Content:
    """State of a generator as JSON can hold it."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(entry) for name, entry in value.items()}
        return value.tolist() if isinstance(value, np.ndarray | np.generic) else value

    return plain(rng.bit_generator.state)


def set_rng_state(rng: np.random.Generator, saved: Content) -> None:
    """Set a generator to a state that `state` gave.

    Raises
    ------
    ValueError, TypeError, LookupError
        It is of another kind of generator, or none.
    """

    def whole(value: Any, like: Any) -> Any:
        if isinstance(like, dict):
            return {name: whole(value[name], entry) for name, entry in like.items()}
        return np.array(value, dtype=like.dtype) if isinstance(like, np.ndarray) else value

    rng.bit_generator.state = whole(saved, rng.bit_generator.state)
