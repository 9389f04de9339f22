"""Files as accidents change them, and with headers edited by somebody who did not compute the checksum anew."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from tests.stress.values import (
    odd_values,
    one_of,
    paths,
    replaced,
    with_odd_value,
    with_other_key,
    without_entry,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.stress.values import Draw

_LENGTH, _METADATA, _ENTRY = 8, "__metadata__", "scbatchnorm"
# Stands for what `json` itself would refuse to write.
_MARK = "@mark@"
_TYPES = ["F32", "F64", "I64", "U8", "F16", "BF16", "I32", "I8", "BOOL", "U64", "F8_E4M3", "C64", "f32", "", None, 4]
_NUMBERS = [-1, 0, 1, 3, 2**31, 2**53, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30, 1.5, "8", None, True]


def split(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and arrays of a file."""
    end = _LENGTH + int.from_bytes(data[:_LENGTH], "little")
    return json.loads(data[_LENGTH:end]), data[end:]


def join(header: Any, body: bytes) -> bytes:
    """A file of a header, text or values, and arrays; the length is right."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(_LENGTH, "little") + text + body


def entry_of(header: dict[str, Any]) -> dict[str, Any]:
    """Our entry in a header."""
    return json.loads(header[_METADATA][_ENTRY])


def _array(draw: Draw, header: dict[str, Any]) -> str:
    return one_of(draw, [name for name in header if name != _METADATA])


def _place(draw: Draw, data: bytes) -> int:
    """An offset, in the header or behind it with equal chances."""
    end = _LENGTH + int.from_bytes(data[:_LENGTH], "little")
    return draw(st.integers(0, end - 1) | st.integers(end, len(data) - 1))


def _size(draw: Draw) -> int:
    return draw(st.sampled_from([1, 2, 7, 8, 16, 64, 512, 4096]))


def _bytes(draw: Draw, length: int) -> bytes:
    """Nothing or anything."""
    if draw(st.booleans()):
        return bytes(length)
    return np.random.default_rng(draw(st.integers(0, 2**32))).bytes(length)


def _bits(draw: Draw, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 64))):
        changed[_place(draw, data)] ^= 1 << draw(st.integers(0, 7))
    return bytes(changed)


def _one_bit(draw: Draw, data: bytes) -> bytes:
    place = _place(draw, data)
    return data[:place] + bytes([data[place] ^ 1 << draw(st.integers(0, 7))]) + data[place + 1 :]


def _length(draw: Draw, data: bytes) -> bytes:
    """Another length of the header in the first 8 bytes."""
    true = int.from_bytes(data[:_LENGTH], "little")
    others = [0, 1, 2, true - 1, true + 1, len(data) - 8, len(data) - 7, len(data), 10**8, 10**8 + 1, 2**31, 2**32]
    others += [2**53, 2**63 - 1, 2**63, 2**64 - 1, *(true ^ 1 << bit for bit in range(64))]
    return one_of(draw, others).to_bytes(_LENGTH, "little") + data[_LENGTH:]


def _overwritten(draw: Draw, data: bytes) -> bytes:
    place, length = _place(draw, data), _size(draw)
    return (data[:place] + _bytes(draw, length) + data[place + length :])[: len(data)]


def _truncated(draw: Draw, data: bytes) -> bytes:
    """Anywhere, or where something begins or ends: length, header, an array."""
    header, body = split(data)
    end = len(data) - len(body)
    offsets = [end + offset for name, entry in header.items() if name != _METADATA for offset in entry["data_offsets"]]
    boundary = st.sampled_from(sorted({0, 1, 7, 8, 9, end // 2, end, *offsets})).map(
        lambda offset: max(0, min(offset, len(data) - 1))
    )
    return data[: draw(boundary) if draw(st.booleans()) else _place(draw, data)]


def _longer(draw: Draw, data: bytes) -> bytes:
    more = _bytes(draw, _size(draw))
    return data + more if draw(st.booleans()) else more + data


def _blocks_swapped(draw: Draw, data: bytes) -> bytes:
    size = min(_size(draw), len(data) // 4)
    first = draw(st.integers(0, len(data) - 2 * size))
    second = draw(st.integers(first + size, len(data) - size))
    parts = data[:first], data[second : second + size], data[first + size : second], data[first : first + size]
    return b"".join(parts) + data[second + size :]


def _arrays_swapped(draw: Draw, data: bytes) -> bytes:
    """Two arrays of the same size change places: a file without a checksum would still be read."""
    header, body = split(data)
    places = [tuple(entry["data_offsets"]) for name, entry in header.items() if name != _METADATA]
    pairs = [(a, b) for a in places for b in places if a < b and a[1] - a[0] == b[1] - b[0] > 0]
    assume(pairs)
    (a, b), (c, d) = one_of(draw, pairs)
    end = len(data) - len(body)
    return data[:end] + body[:a] + body[c:d] + body[b:c] + body[a:b] + body[d:]


def _block_gone_or_twice(draw: Draw, data: bytes) -> bytes:
    place, size = _place(draw, data), _size(draw)
    return data[:place] + data[place + size :] if draw(st.booleans()) else data[: place + size] + data[place:]


def _another_file(draw: Draw, data: bytes) -> bytes:
    """A file that was never a model."""
    archive, array = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("data.pkl", pickle.dumps({"weights": [1.0]}))
    np.save(array, np.arange(9.0))
    others = [
        b"", b"\x89HDF\r\n\x1a\n" + bytes(2000), archive.getvalue(), array.getvalue(), pickle.dumps({"format": 3, "params": {}}),
        b"batch,cell\na,1\n" * 100, bytes(1 << 16), b"\xff" * 4096, data[8:], data[::-1], (2).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]", (4).to_bytes(8, "little") + b"null", (0).to_bytes(8, "little"),
    ]  # fmt: skip
    return one_of(draw, others)


def _array_description(draw: Draw, header: dict[str, Any]) -> Any:
    """Another type, shape or place of an array."""
    entry, number = header[_array(draw, header)], one_of(draw, _NUMBERS)
    shape, (low, high), other = entry["shape"], entry["data_offsets"], header[_array(draw, header)]["data_offsets"]
    shapes = [shape[::-1], [*shape, 1], shape[:-1], [], [0], [number], [*shape[:-1], number], [2**32, 2**32], None, "x"]
    offsets = [
        [low, number], [number, high], [high, low], [low - 1, high], [low, high + 1], [low + 4, high + 4], other,
        [-high, -low], [low], [], None, [low, high, high], "x",
    ]  # fmt: skip
    key, values = one_of(draw, [("dtype", _TYPES), ("shape", shapes), ("data_offsets", offsets)])
    entry[key] = one_of(draw, values)
    return header


def _array_name(draw: Draw, header: dict[str, Any]) -> Any:
    old, other = _array(draw, header), _array(draw, header)
    new = ["", "x", other, old.upper(), "__class__", f"weights.{old}", old.split(".", 1)[-1], _METADATA, "a/b"]
    header[one_of(draw, new)] = header.pop(old)
    return header


def _array_more_or_less(draw: Draw, header: dict[str, Any]) -> Any:
    name = _array(draw, header)
    forms: list[dict[str, Any]] = [
        {key: entry for key, entry in header.items() if key != name},
        header | {"extra": header[name]},
        header | {f"extra{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(20_000)},
    ]
    return one_of(draw, forms)


def _named_twice(draw: Draw, header: dict[str, Any]) -> Any:
    """The same key twice, with another value: readers differ in which they believe."""
    name = _array(draw, header)
    entry = header[_array(draw, header)]
    if draw(st.booleans()):
        inner = entry_of(header)
        name, entry = _METADATA, {_ENTRY: json.dumps(inner | {"content": inner["content"] | {"stopped": "converged"}})}
    return _repeated(draw, header, name, entry).encode()


def _repeated(draw: Draw, entries: dict[str, Any], key: str, other: Any) -> str:
    """JSON of a dict with a second entry of a key, before or after the others."""
    text, more = json.dumps(entries), f'"{key}": {json.dumps(other)}'
    return f"{{{more}, {text[1:]}" if draw(st.booleans()) else f"{text[:-1]}, {more}}}"


def _metadata(draw: Draw, header: dict[str, Any]) -> Any:
    entry = header[_METADATA][_ENTRY]
    others: list[Any] = [
        None, [], {}, {_ENTRY: None}, {_ENTRY: json.loads(entry)}, {_ENTRY: ""}, {_ENTRY: "null"}, {_ENTRY: "[]"}, {_ENTRY: entry[:-1]},
        {_ENTRY: entry + " "}, {_ENTRY: entry, "more": "x"}, {_ENTRY: entry, "more": 1}, {"other": entry}, {_ENTRY: entry * 2},
    ]  # fmt: skip
    return header | {_METADATA: one_of(draw, others)}


def _content(draw: Draw, header: dict[str, Any]) -> Any:
    """Something else in what the checksum is over."""
    entry = entry_of(header)
    change = draw(st.integers(0, 2))
    if change == 2:
        text = _repeated(draw, entry, one_of(draw, entry), draw(odd_values()))
    else:
        text = json.dumps((with_odd_value, without_entry)[change](draw, entry))
    return header | {_METADATA: {_ENTRY: text}}


def _deep(draw: Draw, header: dict[str, Any]) -> Any:
    """Brackets in each other, up to more than a reader that calls itself can bear."""
    depth = draw(st.sampled_from([100, 900, 5_000, 100_000, 1_000_000]))
    brackets = ("[" * depth + "]" * depth) if draw(st.booleans()) else '{"a":' * depth + "1" + "}" * depth
    if draw(st.booleans()):
        entry = entry_of(header)
        marked = json.dumps(replaced(entry, one_of(draw, paths(entry)), _MARK)).replace(f'"{_MARK}"', brackets)
        return header | {_METADATA: {_ENTRY: marked}}
    return _marked(draw, header, brackets)


def _odd_number(draw: Draw, header: dict[str, Any]) -> Any:
    """Numbers that only some readers of JSON know, or only few can hold."""
    words = [
        "NaN",
        "Infinity",
        "-Infinity",
        "1e999",
        "-1e999",
        "9" * 4_000,
        "9" * 100_000,
        "0x10",
        "01",
        "1.",
        "'a'",
        "",
    ]
    return _marked(draw, header, one_of(draw, words))


def _marked(draw: Draw, header: dict[str, Any], text: str) -> bytes:
    """The header with `text` in place of some value."""
    return json.dumps(replaced(header, one_of(draw, paths(header)), _MARK)).replace(f'"{_MARK}"', text).encode()


def _encoding(draw: Draw, header: dict[str, Any]) -> Any:
    """The same text in other bytes: some are the same to a reader, most are none."""
    text = json.dumps(header)
    place = draw(st.integers(0, len(text) - 1))
    before, after = text[:place].encode(), text[place:].encode()
    forms = [
        b"\xef\xbb\xbf" + text.encode(), text.encode("utf-16"), text.encode("utf-32"), text.encode() + b"\x00",
        b" " + text.encode(), text.encode() + b"   ", json.dumps(header, indent=1).encode(), before + b"\xff" + after, before + b"\x00" + after,
        text.replace("{", "{ ", 1).encode(), json.dumps(header, ensure_ascii=False).encode(), text.encode() * 2,
        f"[{text}]".encode(), json.dumps(dict(reversed(header.items()))).encode(), json.dumps(text).encode(),
    ]  # fmt: skip
    return one_of(draw, forms)


_ACCIDENTS: dict[str, Callable[[Draw, bytes], bytes]] = {
    "one bit": _one_bit,
    "several bits": _bits,
    "length": _length,
    "bytes overwritten": _overwritten,
    "truncated": _truncated,
    "bytes before or behind": _longer,
    "blocks swapped": _blocks_swapped,
    "arrays swapped": _arrays_swapped,
    "block gone or twice": _block_gone_or_twice,
    "another file": _another_file,
}
_EDITS: dict[str, Callable[[Draw, dict[str, Any]], Any]] = {
    "description of an array": _array_description,
    "name of an array": _array_name,
    "array more or less": _array_more_or_less,
    "any value": with_odd_value,
    "entry gone": without_entry,
    "entry renamed": with_other_key,
    "named twice": _named_twice,
    "metadata": _metadata,
    "content": _content,
    "deep nesting": _deep,
    "odd number": _odd_number,
    "encoding": _encoding,
}
#: All that is done to a file whose checksum stays as it was.
DAMAGES = (*_ACCIDENTS, *(f"header: {name}" for name in _EDITS))


def damage(draw: Draw, data: bytes, kind: str) -> bytes:
    """The file after an accident, or with another header."""
    if kind in _ACCIDENTS:
        changed = _ACCIDENTS[kind](draw, data)
    else:
        header, body = split(data)
        changed = join(_EDITS[kind.removeprefix("header: ")](draw, header), body)
    assume(changed != data)
    return changed
