"""Files as accidents change them: bytes flipped, lost, added, moved."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    Damage = Callable[[bytes, np.random.Generator], bytes]


def _end_of_header(data: bytes) -> int:
    return 8 + int.from_bytes(data[:8], "little")


def _boundaries(data: bytes) -> list[int]:
    """Offsets where something begins or ends: length, header, and every array."""
    end = _end_of_header(data)
    header = json.loads(data[8:end])
    offsets = [end + offset for name, entry in header.items() if name[0] != "_" for offset in entry["data_offsets"]]
    return sorted({0, 1, 7, 8, 9, end // 2, end, *offsets})


def _place(data: bytes, rng: np.random.Generator) -> int:
    """An offset, in the header or behind it with equal chances."""
    end = _end_of_header(data)
    return int(rng.integers(end) if rng.random() < 0.5 else rng.integers(end, len(data)))


def flip(data: bytes, rng: np.random.Generator, n: int = 1) -> bytes:
    """So many bits changed."""
    changed = bytearray(data)
    for _ in range(n):
        changed[_place(data, rng)] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _flip_many(data: bytes, rng: np.random.Generator) -> bytes:
    return flip(data, rng, int(rng.integers(2, 64)))


def _flip_length(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    changed[int(rng.integers(8))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _byte(data: bytes, rng: np.random.Generator) -> bytes:
    place = _place(data, rng)
    return data[:place] + rng.bytes(1) + data[place + 1 :]


def _overwritten(data: bytes, rng: np.random.Generator) -> bytes:
    place, length = _place(data, rng), int(rng.integers(1, 300))
    return (data[:place] + rng.bytes(length) + data[place + length :])[: len(data)]


def _zeroed(data: bytes, rng: np.random.Generator) -> bytes:
    place, length = _place(data, rng), int(rng.choice([1, 16, 512, 4096]))
    return (data[:place] + bytes(length) + data[place + length :])[: len(data)]


def _truncated(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: _place(data, rng)]


def _truncated_at_boundary(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: max(0, int(rng.choice(_boundaries(data))) - int(rng.integers(2)))]


def _appended(data: bytes, rng: np.random.Generator) -> bytes:
    length = int(rng.choice([1, 2, 7, 8, 64, 4096]))
    return data + (bytes(length) if rng.random() < 0.5 else rng.bytes(length))


def _prepended(data: bytes, rng: np.random.Generator) -> bytes:
    return rng.bytes(int(rng.integers(1, 17))) + data


def _swapped(data: bytes, rng: np.random.Generator) -> bytes:
    length = int(rng.choice([1, 4, 64, 512]))
    first, second = sorted(rng.integers(len(data) - length, size=2).tolist())
    second = max(second, first + length)
    parts = data[:first], data[second : second + length], data[first + length : second], data[first : first + length]
    return b"".join(parts) + data[second + length :]


def _removed(data: bytes, rng: np.random.Generator) -> bytes:
    place = _place(data, rng)
    return data[:place] + data[place + int(rng.choice([1, 4, 64, 512])) :]


def _repeated(data: bytes, rng: np.random.Generator) -> bytes:
    place, length = _place(data, rng), int(rng.choice([1, 4, 64, 512]))
    return data[: place + length] + data[place:]


def _reordered_arrays(data: bytes, rng: np.random.Generator) -> bytes:
    """Two arrays of the same size change places: a file without a checksum would still be read."""
    end = _end_of_header(data)
    header = json.loads(data[8:end])
    places = [tuple(entry["data_offsets"]) for name, entry in header.items() if name[0] != "_"]
    pairs = [(a, b) for a in places for b in places if a < b and a[1] - a[0] == b[1] - b[0] > 0]
    if not pairs:
        return _swapped(data, rng)
    (a, b), (c, d) = pairs[rng.integers(len(pairs))]
    body = data[end:]
    return data[:end] + body[:a] + body[c:d] + body[b:c] + body[a:b] + body[d:]


def _another_file(data: bytes, rng: np.random.Generator) -> bytes:
    """A file that was never a model."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("data.pkl", pickle.dumps({"weights": [1.0]}))
    array = io.BytesIO()
    np.save(array, np.arange(9.0))
    others = [
        b"",
        b"\x89HDF\r\n\x1a\n" + bytes(2000),
        archive.getvalue(),
        array.getvalue(),
        pickle.dumps({"format": 3, "params": {}}),
        b"batch,cell\na,1\n" * 100,
        bytes(1 << 16),
        b"\xff" * 4096,
        rng.bytes(4096),
        data[8:],
        data[::-1],
        (2).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (4).to_bytes(8, "little") + b"null",
        (0).to_bytes(8, "little"),
    ]
    return others[int(rng.integers(len(others)))]


DAMAGES: dict[str, Damage] = {
    "one bit": flip,
    "several bits": _flip_many,
    "one bit of the length": _flip_length,
    "one byte": _byte,
    "run of bytes overwritten": _overwritten,
    "run of bytes zeroed": _zeroed,
    "truncated anywhere": _truncated,
    "truncated at a boundary": _truncated_at_boundary,
    "bytes appended": _appended,
    "bytes prepended": _prepended,
    "blocks swapped": _swapped,
    "arrays swapped": _reordered_arrays,
    "block removed": _removed,
    "block repeated": _repeated,
    "another file": _another_file,
}
