"""Arrays and plain values in one file: safetensors with a JSON header and a checksum over everything that is used.

No code is in such a file and none is run in reading it. Sizes are checked before anything is allocated.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors
import safetensors.numpy
from safetensors import SafetensorError

from scbatchnorm._runtime.atomic_files import write_atomically
from scbatchnorm._runtime.errors import ModelFileError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import BinaryIO

    from scbatchnorm._data.plain import Arrays, Content

# The one entry of safetensors' own metadata.
_ENTRY = "scbatchnorm"
# What safetensors calls the types that are written here.
_TYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "I64": np.dtype("<i8"),
    "U8": np.dtype("u1"),
}
_LENGTH = 8
_MOST_HEADER = 100_000_000


def write_container(path: Path, kind: str, content: Content, arrays: Arrays) -> None:
    """Replace the file at `path` in one step.

    Parameters
    ----------
    path
        File to write; `check_output_path` says beforehand whether that may be done.
    kind
        What the file is.
    content
        Plain values. Finite: JSON has no others, see `to_json_number`.
    arrays
        Of float32, float64, int64 or uint8.
    """
    arrays = {name: np.asarray(value, order="C") for name, value in arrays.items()}
    entry = {"kind": kind, "sha256": _digest(kind, content, arrays), "content": content}
    text = json.dumps(entry, allow_nan=False)
    write_atomically(path, safetensors.numpy.save(arrays, metadata={_ENTRY: text}))


def read_container(path: Path, kind: str) -> tuple[Content, Arrays]:
    """What `write` wrote as the same kind.

    Raises
    ------
    FileNotFoundError
        There is nothing.
    ModelFileError
        It is something else, or not all of it.
    """
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
        msg = f"{path} must be a regular file; it is a folder, a device, a pipe or a socket."
        raise ModelFileError(msg)
    try:
        with path.open("rb") as file:
            # The size of what was opened: at the path there may be another file by now.
            head, entry = _header(file, os.fstat(file.fileno()).st_size, kind)
            return _unpacked(head + file.read(), entry)
    except (
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        OverflowError,
        RecursionError,
        SafetensorError,
    ) as error:
        msg = f"{path} is no {kind} that scbatchnorm wrote, or damaged: {error}."
        raise ModelFileError(msg) from error


def _header(file: BinaryIO, size: int, kind: str) -> tuple[bytes, Content]:
    """The beginning of a file of `size` bytes, and our entry in it, if the file can be a whole one of this kind."""
    head = file.read(_LENGTH)
    length = int.from_bytes(head, "little")
    if len(head) < _LENGTH or length > min(_MOST_HEADER, size - _LENGTH):
        msg = "it does not begin with a header of safetensors"
        raise ValueError(msg)
    head += file.read(length)
    header = json.loads(head[_LENGTH:])
    entry = json.loads(header.pop("__metadata__")[_ENTRY])
    if not isinstance(entry["content"], dict) or entry["kind"] != kind:
        msg = f"it is a {entry['kind']}"
        raise ValueError(msg)
    if unknown := {tensor["dtype"] for tensor in header.values()} - set(_TYPES):
        msg = f"it has arrays of the types {', '.join(map(str, unknown))}, which are never written"
        raise ValueError(msg)
    expected = max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
    if size - len(head) != expected:
        msg = f"it has {size - len(head)} bytes of arrays instead of {expected}"
        raise ValueError(msg)
    return head, entry


def _unpacked(data: bytes, entry: Content) -> tuple[Content, Arrays]:
    """Content and arrays, if all is as it was written."""
    # Bounds, overlaps and gaps are checked by safetensors.
    arrays: Arrays = {}
    for name, tensor in safetensors.deserialize(data):
        flat = np.frombuffer(tensor["data"], dtype=_TYPES[tensor["dtype"]])
        arrays[name] = flat.reshape(tensor["shape"]).copy()
    if _digest(entry["kind"], entry["content"], arrays) != entry["sha256"]:
        msg = "its checksum does not fit, so it was changed after it was written"
        raise ValueError(msg)
    return entry["content"], arrays


def _digest(kind: str, content: Content, arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256, in hexadecimal, of everything that a reader uses."""
    text = json.dumps([kind, content], sort_keys=True, allow_nan=False)
    digest = hashlib.sha256(text.encode())
    for name, array in sorted(arrays.items()):
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(json.dumps([name, little.dtype.str, list(little.shape)]).encode())
        digest.update(little.tobytes())
    return digest.hexdigest()
