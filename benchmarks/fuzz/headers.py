"""Files whose header was edited by somebody who did not compute the checksum anew."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

from benchmarks.fuzz import values

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    Edit = Callable[[dict[str, Any], np.random.Generator], Any]

_TYPES = ["F32", "F64", "I64", "U8", "F16", "BF16", "I32", "I8", "BOOL", "U64", "F8_E4M3", "C64", "f32", "", None, 4]
# Stands for what `json` itself would refuse to write.
_MARK = "@mark@"
_NUMBERS = [-1, 0, 1, 3, 2**31, 2**53, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30, 1.5, "8", None, True]


def parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and arrays of a file."""
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def joined(header: Any, body: bytes) -> bytes:
    """A file of a header, text or values, and arrays; the length is right."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def _array(header: dict[str, Any], rng: np.random.Generator) -> str:
    return str(rng.choice([name for name in header if name != "__metadata__"]))


def _inner(header: dict[str, Any], edit: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    """The header with our entry in it changed."""
    entry = edit(json.loads(header["__metadata__"]["scbatchnorm"]))
    return header | {"__metadata__": {"scbatchnorm": entry if isinstance(entry, str) else json.dumps(entry)}}


def _type_of_array(header: dict[str, Any], rng: np.random.Generator) -> Any:
    header[_array(header, rng)]["dtype"] = _TYPES[rng.integers(len(_TYPES))]
    return header


def _shape_of_array(header: dict[str, Any], rng: np.random.Generator) -> Any:
    entry = header[_array(header, rng)]
    shape = entry["shape"]
    number = _NUMBERS[rng.integers(len(_NUMBERS))]
    shapes = [shape[::-1], [*shape, 1], shape[:-1], [], [0], [number], [*shape[:-1], number], [2**32, 2**32], None, "x"]
    entry["shape"] = shapes[rng.integers(len(shapes))]
    return header


def _offsets_of_array(header: dict[str, Any], rng: np.random.Generator) -> Any:
    entry = header[_array(header, rng)]
    low, high = entry["data_offsets"]
    number = _NUMBERS[rng.integers(len(_NUMBERS))]
    other = header[_array(header, rng)]["data_offsets"]
    offsets = [
        [low, number], [number, high], [high, low], [low - 1, high], [low, high + 1], [low + 4, high + 4], other,
        [-high, -low], [low], [], None, [low, high, high], "x",
    ]  # fmt: skip
    entry["data_offsets"] = offsets[rng.integers(len(offsets))]
    return header


def _name_of_array(header: dict[str, Any], rng: np.random.Generator) -> Any:
    old, other = _array(header, rng), _array(header, rng)
    new = ["", "x", other, old.upper(), "__class__", f"weights.{old}", old.split(".", 1)[-1], "__metadata__", "a/b"]
    return values.renamed(header, (old,), new[rng.integers(len(new))])


def _array_added_or_gone(header: dict[str, Any], rng: np.random.Generator) -> Any:
    name = _array(header, rng)
    choice = rng.integers(3)
    if choice == 0:
        return values.without(header, (name,))
    if choice == 1:
        return header | {"extra": copy.deepcopy(header[name])}
    return header | {f"extra{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(20_000)}


def _value(header: dict[str, Any], rng: np.random.Generator) -> Any:
    return values.replaced(header, values.any_path(header, rng), values.any_value(rng))


def _key_gone(header: dict[str, Any], rng: np.random.Generator) -> Any:
    return values.without(header, values.any_path(header, rng))


def _repeated_key(header: dict[str, Any], rng: np.random.Generator) -> Any:
    """The same key twice, with another value: readers differ in which they believe."""
    name = _array(header, rng)
    other = json.dumps(header[_array(header, rng)])
    text = json.dumps(header)
    return (f'{{"{name}": {other}, {text[1:]}' if rng.random() < 0.5 else f'{text[:-1]}, "{name}": {other}}}').encode()


def _repeated_metadata(header: dict[str, Any], rng: np.random.Generator) -> Any:
    other = _inner(
        copy.deepcopy(header), lambda entry: entry | {"content": entry["content"] | {"stopped": "converged"}}
    )
    first, second = (header, other) if rng.random() < 0.5 else (other, header)
    rest = json.dumps({name: entry for name, entry in header.items() if name != "__metadata__"})
    both = ", ".join(f'"__metadata__": {json.dumps(h["__metadata__"])}' for h in (first, second))
    return f"{{{both}, {rest[1:]}".encode()


def _metadata(header: dict[str, Any], rng: np.random.Generator) -> Any:
    entry = header["__metadata__"]["scbatchnorm"]
    others: list[Any] = [
        None, [], {}, {"scbatchnorm": None}, {"scbatchnorm": json.loads(entry)}, {"scbatchnorm": ""},
        {"scbatchnorm": "null"}, {"scbatchnorm": "[]"}, {"scbatchnorm": entry[:-1]}, {"scbatchnorm": entry + " "},
        {"scbatchnorm": entry, "more": "x"}, {"scbatchnorm": entry, "more": 1}, {"other": entry},
        {"scbatchnorm": entry * 2},
    ]  # fmt: skip
    return header | {"__metadata__": others[rng.integers(len(others))]}


def _content(header: dict[str, Any], rng: np.random.Generator) -> Any:
    """Another value in what the checksum is over."""
    return _inner(header, lambda entry: values.replaced(entry, values.any_path(entry, rng), values.any_value(rng)))


def _content_gone(header: dict[str, Any], rng: np.random.Generator) -> Any:
    return _inner(header, lambda entry: values.without(entry, values.any_path(entry, rng)))


def _content_repeated(header: dict[str, Any], rng: np.random.Generator) -> Any:
    """A key twice in our entry."""

    def edit(entry: dict[str, Any]) -> str:
        key = str(rng.choice(list(entry)))
        other = json.dumps(values.any_value(rng))
        text = json.dumps(entry)
        return f'{{"{key}": {other}, {text[1:]}' if rng.random() < 0.5 else f'{text[:-1]}, "{key}": {other}}}'

    return _inner(header, edit)


def _deep(header: dict[str, Any], rng: np.random.Generator) -> Any:
    """Brackets in each other, up to more than a reader that calls itself can bear."""
    depth = int(rng.choice([100, 900, 5_000, 100_000, 1_000_000]))
    brackets = ("[" * depth + "]" * depth) if rng.random() < 0.5 else '{"a":' * depth + "1" + "}" * depth
    if rng.random() < 0.5:
        return json.dumps(header | {_MARK: 0}).replace("0", brackets, 1).encode()
    path = values.any_path(header, rng)
    text = json.dumps(values.replaced(header, path, _MARK)).replace(f'"{_MARK}"', brackets)
    if rng.random() < 0.5:
        entry = json.loads(header["__metadata__"]["scbatchnorm"])
        marked = json.dumps(values.replaced(entry, values.any_path(entry, rng), _MARK))
        text = json.dumps(header | {"__metadata__": {"scbatchnorm": marked.replace(f'"{_MARK}"', brackets)}})
    return text.encode()


def _literal(header: dict[str, Any], rng: np.random.Generator) -> Any:
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
    word = words[rng.integers(len(words))]
    return json.dumps(values.replaced(header, values.any_path(header, rng), _MARK)).replace(f'"{_MARK}"', word).encode()


def _encoding(header: dict[str, Any], rng: np.random.Generator) -> Any:
    """The same text in other bytes: some are the same to a reader, most are none."""
    text = json.dumps(header)
    place = int(rng.integers(len(text)))
    forms = [
        b"\xef\xbb\xbf" + text.encode(), text.encode("utf-16"), text.encode("utf-32"), text.encode() + b"\x00",
        b" " + text.encode(), text.encode() + b"   ", json.dumps(header, indent=1).encode(),
        text[:place].encode() + b"\xff" + text[place:].encode(), text[:place].encode() + b"\x00" + text[place:].encode(),
        text.replace("{", "{ ", 1).encode(), json.dumps(header, ensure_ascii=False).encode(), text.encode() * 2,
        f"[{text}]".encode(), json.dumps(dict(reversed(header.items()))).encode(), json.dumps(text).encode(),
    ]  # fmt: skip
    return forms[rng.integers(len(forms))]


EDITS: dict[str, Edit] = {
    "header: type of an array": _type_of_array,
    "header: shape of an array": _shape_of_array,
    "header: offsets of an array": _offsets_of_array,
    "header: name of an array": _name_of_array,
    "header: array added or gone": _array_added_or_gone,
    "header: any value": _value,
    "header: key gone": _key_gone,
    "header: array named twice": _repeated_key,
    "header: metadata twice": _repeated_metadata,
    "header: metadata": _metadata,
    "header: content": _content,
    "header: content gone": _content_gone,
    "header: content twice": _content_repeated,
    "header: deep nesting": _deep,
    "header: odd numbers": _literal,
    "header: encoding": _encoding,
}


def edited(data: bytes, kind: str, rng: np.random.Generator) -> bytes:
    """The file with its header edited in this way."""
    header, body = parts(data)
    return joined(EDITS[kind](header, rng), body)


def length(data: bytes, rng: np.random.Generator) -> bytes:
    """Another length of the header in the first 8 bytes."""
    true = int.from_bytes(data[:8], "little")
    others = [0, 1, 2, true - 1, true + 1, len(data) - 8, len(data) - 7, len(data), 10**8, 10**8 + 1, 2**31, 2**32]
    others += [2**53, 2**63 - 1, 2**63, 2**64 - 1, int(rng.integers(len(data))), int(rng.integers(2**63))]
    return others[rng.integers(len(others))].to_bytes(8, "little") + data[8:]
