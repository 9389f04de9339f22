"""Files that are well formed, checksum and fingerprints computed anew, with something in them that no fit gives."""

from __future__ import annotations

import copy
import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.numpy

from benchmarks.fuzz import values
from benchmarks.fuzz.values import some
from scbatchnorm._persistence.container import _digest, read_container

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Content = dict[str, Any]
    Arrays = dict[str, np.ndarray]
    Attack = Callable[[Content, Arrays, np.random.Generator], None]

_NUMBERS = [0, -1, 1, 2, 7, 10**5, 10**9, 2**63, 10**30, 0.5, -0.5, True, None, "1", "auto", [], {}, [1], "nan", 1e308]


def sealed(kind: str, content: Content, arrays: Arrays) -> bytes:
    """The bytes of a file as `write_container` would write them, whatever is in it."""
    try:
        digest = _digest(kind, content, arrays)
    except ValueError:  # not finite: no checksum fits
        digest = "0" * 64
    text = json.dumps({"kind": kind, "sha256": digest, "content": content})
    kept = {name: np.asarray(value, order="C") for name, value in arrays.items()}
    return safetensors.numpy.save(kept, metadata={"scbatchnorm": text})


def opened(data: bytes, kind: str, folder: Path) -> tuple[Content, Arrays]:
    """What is in a file; `sealed` gives another one back that is as good."""
    path = folder / "opened"
    path.write_bytes(data)
    content, arrays = read_container(path, kind)
    path.write_bytes(sealed(kind, content, arrays))
    read_container(path, kind)
    path.unlink()
    return content, arrays


def refingerprint(content: Content, arrays: Arrays) -> None:
    """Compute the fingerprints of model and sketch anew, as somebody would who knows the source."""
    weights = {k.removeprefix("weights."): v for k, v in arrays.items() if k.startswith("weights.")}
    digest = hashlib.sha256(np.float64(content["strength"]["value"]).tobytes())
    for name, array in sorted(weights.items()):
        if not name.endswith("num_batches_tracked"):
            digest.update(f"{name} {array.dtype.newbyteorder('<').str} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    content["fingerprint"] = digest.hexdigest()
    sketch = [arrays[f"reference.{name}"].tobytes() for name in ("points", "codes", "unexplained")]
    content["reference"]["fingerprint"] = hashlib.sha256(b"".join(sketch)).hexdigest()


def _parameter(content: Content, arrays: Arrays, rng: np.random.Generator) -> None:
    """A parameter far from what was fitted, or of another type."""
    content["params"][some(content["params"], rng)] = copy.deepcopy(some(_NUMBERS, rng))


def _size(content: Content, arrays: Arrays, rng: np.random.Generator) -> None:
    """A parameter that decides the sizes of arrays."""
    name = some(["n_hidden", "n_layers", "n_components", "n_latent", "norm", "statistics", "stem", "dropout"], rng)
    words = ["batch", "layer", "per_batch", "pca", "identity", "switchable", "whitened", "none"]
    content["params"][name] = some([0, 1, 2, 3, 13, 1000, 10**9, 2**40, 10**30, *words], rng)


def _names_of_parameters(content: Content, arrays: Arrays, rng: np.random.Generator) -> None:
    """A parameter that there is not."""
    name = some(["__class__", "__dict__", "self", "cls", "unknown", "", "network_", "fit", "a b", "n_hidden "], rng)
    content["params"][name] = copy.deepcopy(some(_NUMBERS, rng))


def _batch_levels(content: Content, arrays: Arrays, rng: np.random.Generator) -> None:
    """Names of batches that are none."""
    levels = content["batch_levels"]
    n = len(levels)
    others: list[Any] = [
        levels[:-1], [*levels, "more"], [levels[0]] * n, [], None, "abc"[:n], [[level] for level in levels],
        [None] * n, list(range(10**6)), [1.5] * n, ["nan"] * n, [True, 1, *levels][:n], [1, 1.0, "1"][:n], [""] * n,
        {str(i): level for i, level in enumerate(levels)}, [10**30, *levels[1:]], [-1, 2**63, 3.5][:n],
        levels[::-1], ["nan", 1.5, 2.5][:n], [{"a": 1}] * n, [True, False, True][:n], ["\ud800", "b", "c"][:n],
    ]  # fmt: skip
    content["batch_levels"] = some(others, rng)


def _features(content: Content, arrays: Arrays, rng: np.random.Generator) -> None:
    """Names of features that are none."""
    names = content["features"]
    n = len(names)
    others: list[Any] = [
        names[:-1], [*names, "more"], [names[0]] * n, [], None, "x" * n, [names] * n, [[name] for name in names],
        list(range(n)), [None] * n, [1.5] * n, dict.fromkeys(names, 1), [True] * n, [f"x{i}" for i in range(10**6)],
        ["\x00"] * n, [{"a": 1}] * n, ["\ud800", *names[1:]], [10**30] * n, 7, ["x" * 10**6, *names[1:]],
    ]  # fmt: skip
    content["features"] = some(others, rng)
    content["named"] = some([True, False, 1, "x", None], rng)


def _history(content: Content, arrays: Arrays, rng: np.random.Generator) -> None:
    """Histories with other columns, lengths and types."""
    name = some(["history", "shift_history"], rng)
    table = content[name]
    column = some(table, rng)
    n = len(table[column])
    others: list[Any] = [
        {}, [], None, 5, "x", {column: table[column]}, table | {"more": [0] * n}, table | {column: [0] * (n + 1)},
        table | {column: None}, table | {column: 1}, table | {column: ["x"] * n}, table | {column: [None] * n},
        table | {column: [[1]] * n}, table | {column: ["nan"] * n}, table | {column: [2**70] * n},
        table | {column: {"0": 1}}, dict(reversed(table.items())), [table] * 3, table | {column: [1e308] * n},
        table | {column: [1.5] * n}, {key: [] for key in table}, dict.fromkeys(table, 1), list(table),
        {key: {"99": 1} for key in table}, table | {column: [{"a": 1}] * n}, table | {column: [True] * n},
    ]  # fmt: skip
    content[name] = some(others, rng)


def _strength(content: Content, arrays: Arrays, rng: np.random.Generator) -> None:
    name = some(["value", "evidence", "reason"], rng)
    content["strength"][name] = copy.deepcopy(some([*_NUMBERS, 1e-300, -0.0, "inf", "x" * 10**6], rng))


def _any_content(content: Content, arrays: Arrays, rng: np.random.Generator) -> None:
    changed = values.replaced(content, values.any_path(content, rng), values.any_value(rng))
    content.clear()
    content.update(changed)


def _content_gone(content: Content, arrays: Arrays, rng: np.random.Generator) -> None:
    changed = values.without(content, values.any_path(content, rng))
    content.clear()
    content.update(changed)


def _content_renamed(content: Content, arrays: Arrays, rng: np.random.Generator) -> None:
    changed = values.renamed(content, values.any_path(content, rng), str(values.any_value(rng)))
    content.clear()
    content.update(changed)


def _numbers_of_array(content: Content, arrays: Arrays, rng: np.random.Generator) -> None:
    """Some or all numbers of an array are others."""
    name = some(arrays, rng)
    array = arrays[name].copy()
    if array.dtype.kind == "f":
        limits = np.finfo(array.dtype)
        number = some([np.nan, np.inf, -np.inf, limits.max, -limits.max, limits.tiny, 0, -1, 1, 1e6, -1e-45], rng)
    else:
        limits = np.iinfo(array.dtype)
        number = some([limits.max, limits.min, 0, 1, 3, 10**3], rng)
    with np.errstate(all="ignore"):
        array.reshape(-1)[slice(None) if rng.random() < 0.5 else slice(0, 1)] = number
    arrays[name] = array


def _shape_of_array(content: Content, arrays: Arrays, rng: np.random.Generator) -> None:
    name = some(arrays, rng)
    array = np.atleast_1d(arrays[name])
    forms = [
        array.T, array[:0], array[:-1], array[None], array.reshape(-1), array[..., None], np.repeat(array, 2, axis=0),
        np.zeros((), array.dtype), np.zeros((0, 0), array.dtype), np.zeros((0, 10**9), array.dtype), array[:1],
        np.zeros((1,) * 20, array.dtype), np.repeat(array, 3, axis=-1),
    ]  # fmt: skip
    arrays[name] = some(forms, rng)


def _type_of_array(content: Content, arrays: Arrays, rng: np.random.Generator) -> None:
    name = some(arrays, rng)
    with np.errstate(all="ignore"):
        arrays[name] = arrays[name].astype(some(["f4", "f8", "i8", "u1", "f2", "i4", "?", "u8", "i1"], rng))


def _name_of_array(content: Content, arrays: Arrays, rng: np.random.Generator) -> None:
    name = some(arrays, rng)
    if rng.random() < 0.3:
        del arrays[name]
        return
    new = ["", "x", some(arrays, rng), "weights.", "weights.network.", "weights.network.__class__", "reference.more",
           "weights.strength.points", "weights.strength.more", "network.0", f"{name}.weight", name.upper()]  # fmt: skip
    arrays[some(new, rng)] = arrays[name] if rng.random() < 0.3 else arrays.pop(name)


def _many_arrays(content: Content, arrays: Arrays, rng: np.random.Generator) -> None:
    """More arrays than any model has, and as many layers."""
    prefix = some(["weights.network.", "weights.", "reference.", "weights.strength.", ""], rng)
    n = int(some([1, 1000, 20_000], rng))
    arrays |= {f"{prefix}more{i}": np.zeros(1, np.float32) for i in range(n)}
    if rng.random() < 0.5:
        content["params"]["n_layers"] = n


def _scale(content: Content, arrays: Arrays, rng: np.random.Generator) -> None:
    numbers = [0.0, -1.0, np.nan, np.inf, 5e-324, 1e-50, 1e-38, 1e38, 1e39, 1.7e308]
    arrays["weights.stem.scale"] = np.array([some(numbers, rng)])


def _cells(content: Content, arrays: Arrays, rng: np.random.Generator) -> None:
    """Landmarks and sketch: codes that are none, other numbers of them, values beyond shares."""
    places = [name for name in arrays if name.endswith((".codes", ".points", ".values", ".unexplained"))]
    name = some(places, rng)
    prefix = name.rsplit(".", 1)[0]
    of = [other for other in places if other.startswith(f"{prefix}.")]
    choice = int(rng.integers(5))
    if choice == 0:
        arrays[f"{prefix}.codes"] = np.full_like(arrays[f"{prefix}.codes"], some([-1, 3, 1, 2**62, -(2**63)], rng))
    elif choice == 1:
        n = int(some([0, 1, 2, 14], rng))
        arrays |= {other: arrays[other][:n] for other in of}
    elif choice == 2:
        arrays[name] = arrays[name] * some([0, -1, 2, 10**9], rng)
    elif choice == 3:
        arrays |= {other: np.repeat(arrays[other], 2000, axis=0) for other in of}
    else:
        arrays[name] = arrays[name][:1]


#: What can be done to any file of ours.
COMMON: dict[str, Attack] = {
    "hostile: any content": _any_content,
    "hostile: content gone": _content_gone,
    "hostile: content renamed": _content_renamed,
    "hostile: numbers of an array": _numbers_of_array,
    "hostile: shape of an array": _shape_of_array,
    "hostile: type of an array": _type_of_array,
    "hostile: name of an array": _name_of_array,
}
#: What can be done to models.
ATTACKS: dict[str, Attack] = COMMON | {
    "hostile: a parameter": _parameter,
    "hostile: a size": _size,
    "hostile: unknown parameters": _names_of_parameters,
    "hostile: names of batches": _batch_levels,
    "hostile: names of features": _features,
    "hostile: history": _history,
    "hostile: strength": _strength,
    "hostile: many arrays": _many_arrays,
    "hostile: scale": _scale,
    "hostile: landmarks and sketch": _cells,
}


def attacked(kind: str, content: Content, arrays: Arrays, rng: np.random.Generator) -> tuple[Content, Arrays]:
    """Content and arrays of a model as an attacker changes them, fingerprints anew for four in five."""
    content, arrays = copy.deepcopy(content), dict(arrays)
    ATTACKS[kind](content, arrays, rng)
    if rng.random() < 0.8:
        try:
            refingerprint(content, arrays)
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError):
            pass  # nothing to have a fingerprint of
    return content, arrays
