"""Files that are well formed, checksum and fingerprints computed anew, with something in them that no fit gives."""

from __future__ import annotations

import copy
import functools
import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.numpy
from hypothesis import strategies as st

from scbatchnorm._persistence.container import _digest
from tests.stress.damage import entry_of, split
from tests.stress.values import TREE_CHANGES, one_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.stress.values import Draw

    Content = dict[str, Any]
    Arrays = dict[str, np.ndarray]
    Attack = Callable[[Draw, Content, Arrays], None]

_NUMBERS: list[Any] = [
    0, -1, 1, 2, 7, 10**5, 10**9, 2**63, 10**30, 0.5, -0.5, True, None, "1", "auto", [], {}, [1], "nan", 1e308,
]  # fmt: skip
_KINDS = ["batch", "layer", "per_batch", "pca", "identity", "switchable", "whitened", "blend", "none"]


def unpack(data: bytes) -> tuple[str, Content, Arrays]:
    """Kind, content and arrays of a file of ours; the arrays in an order that is always the same, for places in it are drawn."""
    entry = entry_of(split(data)[0])
    return entry["kind"], entry["content"], dict(sorted(safetensors.numpy.load(data).items()))


def pack(kind: str, content: Content, arrays: Arrays) -> bytes:
    """The bytes of a file as we would write them, whatever is in it."""
    try:
        digest = _digest(kind, content, arrays)
    except ValueError:  # not finite: no checksum fits
        digest = "0" * 64
    text = json.dumps({"kind": kind, "sha256": digest, "content": content})
    kept = {name: np.asarray(value, order="C") for name, value in arrays.items()}
    return safetensors.numpy.save(kept, metadata={"scbatchnorm": text})


def renew_fingerprints(content: Content, arrays: Arrays) -> None:
    """Fingerprints of model and sketch, as somebody computes them who knows the source."""
    weights = {k.removeprefix("weights."): v for k, v in arrays.items() if k.startswith("weights.")}
    digest = hashlib.sha256(np.float64(content["strength"]["value"]).tobytes())
    for name, array in sorted(weights.items()):
        if not name.endswith("num_batches_tracked"):
            digest.update(f"{name} {array.dtype.newbyteorder('<').str} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    content["fingerprint"] = digest.hexdigest()
    sketch = [arrays[f"reference.{name}"].tobytes() for name in ("points", "codes", "unexplained")]
    content["reference"]["fingerprint"] = hashlib.sha256(b"".join(sketch)).hexdigest()


def _tree(change: Callable[[Draw, Any], Any], draw: Draw, content: Content, arrays: Arrays) -> None:
    changed = change(draw, content)
    content.clear()
    content.update(changed)


def _numbers_of_array(draw: Draw, content: Content, arrays: Arrays) -> None:
    """Some or all numbers of an array are others."""
    name = one_of(draw, arrays)
    array = arrays[name].copy()
    if array.dtype.kind == "f":
        largest, tiny = np.finfo(array.dtype).max, np.finfo(array.dtype).tiny
        numbers = [np.nan, np.inf, -np.inf, largest, -largest, tiny, 0, -1, 1, 1e6, -1e-45]
    else:
        limits = np.iinfo(array.dtype)
        numbers = [limits.max, limits.min, 0, 1, 3, 10**3 % limits.max]
    with np.errstate(all="ignore"):
        array.reshape(-1)[slice(None) if draw(st.booleans()) else slice(0, 1)] = one_of(draw, numbers)
    arrays[name] = array


def _shape_of_array(draw: Draw, content: Content, arrays: Arrays) -> None:
    name = one_of(draw, arrays)
    array = np.atleast_1d(arrays[name])
    forms = [
        array.T, array[:0], array[:-1], array[None], array.reshape(-1), array[..., None], np.repeat(array, 2, axis=0),
        np.zeros((), array.dtype), np.zeros((0, 0), array.dtype), np.zeros((0, 10**9), array.dtype), array[:1],
        np.zeros((1,) * 20, array.dtype), np.repeat(array, 3, axis=-1),
    ]  # fmt: skip
    arrays[name] = one_of(draw, forms)


def _type_of_array(draw: Draw, content: Content, arrays: Arrays) -> None:
    name = one_of(draw, arrays)
    with np.errstate(all="ignore"):
        arrays[name] = arrays[name].astype(one_of(draw, ["f4", "f8", "i8", "u1", "f2", "i4", "?", "u8", "i1"]))


def _name_of_array(draw: Draw, content: Content, arrays: Arrays) -> None:
    name, other = one_of(draw, arrays), one_of(draw, arrays)
    what = one_of(draw, ["gone", "renamed", "copied"])
    array = arrays[name] if what == "copied" else arrays.pop(name)
    if what != "gone":
        new = ["", "x", other, "weights.", "weights.network.", "weights.network.__class__", "reference.more", "network.0",
               "weights.strength.points", "weights.strength.more", f"{name}.weight", name.upper()]  # fmt: skip
        arrays[one_of(draw, new)] = array


def _parameter(draw: Draw, content: Content, arrays: Arrays) -> None:
    """A parameter far from what was fitted, of another type, or that there is not."""
    unknown = ["__class__", "__dict__", "self", "cls", "unknown", "", "network_", "fit", "a b", "n_hidden "]
    names = one_of(draw, [list(content["params"]), unknown])
    content["params"][one_of(draw, names)] = copy.deepcopy(one_of(draw, _NUMBERS))


def _size(draw: Draw, content: Content, arrays: Arrays) -> None:
    """A parameter that decides the sizes of arrays."""
    name = one_of(draw, ["n_hidden", "n_layers", "n_components", "n_latent", "norm", "statistics", "stem", "dropout"])
    content["params"][name] = one_of(draw, [0, 1, 2, 3, 13, 1000, 10**9, 2**40, 10**30, *_KINDS])


def _batch_levels(draw: Draw, content: Content, arrays: Arrays) -> None:
    """Names of batches that are none."""
    levels = content["batch_levels"]
    n = len(levels)
    others: list[Any] = [
        levels[:-1], [*levels, "more"], [levels[0]] * n, [], None, "abc"[:n], [[level] for level in levels],
        [None] * n, list(range(10**6)), [1.5] * n, ["nan"] * n, [True, 1, *levels][:n], [1, 1.0, "1"][:n], [""] * n,
        {str(i): level for i, level in enumerate(levels)}, [10**30, *levels[1:]], [-1, 2**63, 3.5][:n],
        levels[::-1], ["nan", 1.5, 2.5][:n], [{"a": 1}] * n, [True, False, True][:n], ["\ud800", "b", "c"][:n],
    ]  # fmt: skip
    content["batch_levels"] = one_of(draw, others)


def _features(draw: Draw, content: Content, arrays: Arrays) -> None:
    """Names of features that are none."""
    names = content["features"]
    n = len(names)
    others: list[Any] = [
        names[:-1], [*names, "more"], [names[0]] * n, [], None, "x" * n, [names] * n, [[name] for name in names],
        list(range(n)), [None] * n, [1.5] * n, dict.fromkeys(names, 1), [True] * n, [f"x{i}" for i in range(10**6)],
        ["\x00"] * n, [{"a": 1}] * n, ["\ud800", *names[1:]], [10**30] * n, 7, ["x" * 10**6, *names[1:]],
    ]  # fmt: skip
    content["features"] = one_of(draw, others)
    content["named"] = one_of(draw, [True, False, 1, "x", None])


def _history(draw: Draw, content: Content, arrays: Arrays) -> None:
    """Histories with other columns, lengths and types."""
    name = one_of(draw, ["history", "shift_history"])
    table = content[name]
    column = one_of(draw, table)
    n = len(table[column])
    values: list[Any] = [
        [0] * (n + 1), None, 1, ["x"] * n, [None] * n, [[1]] * n, ["nan"] * n, [2**70] * n, {"0": 1}, [1e308] * n, [1.5] * n, [{"a": 1}] * n,
        [True] * n,
    ]  # fmt: skip
    others: list[Any] = [
        {}, [], None, 5, "x", {column: table[column]}, table | {"more": [0] * n}, dict(reversed(table.items())), [table] * 3,
        {key: [] for key in table}, dict.fromkeys(table, 1), list(table), {key: {"99": 1} for key in table},
    ]  # fmt: skip
    content[name] = one_of(draw, [table | {column: value} for value in values] + others)


def _strength(draw: Draw, content: Content, arrays: Arrays) -> None:
    name = one_of(draw, ["value", "evidence", "reason"])
    content["strength"][name] = copy.deepcopy(one_of(draw, [*_NUMBERS, 1e-300, -0.0, "inf", "x" * 10**6]))


def _many_arrays(draw: Draw, content: Content, arrays: Arrays) -> None:
    """More arrays than any model has, and as many layers."""
    prefix = one_of(draw, ["weights.network.", "weights.", "reference.", "weights.strength.", ""])
    n = one_of(draw, [1, 1000, 20_000])
    arrays |= {f"{prefix}more{i}": np.zeros(1, np.float32) for i in range(n)}
    if draw(st.booleans()):
        content["params"]["n_layers"] = n


def _scale(draw: Draw, content: Content, arrays: Arrays) -> None:
    numbers = [0.0, -1.0, np.nan, np.inf, 5e-324, 1e-50, 1e-38, 1e38, 1e39, 1.7e308]
    arrays["weights.stem.scale"] = np.array([one_of(draw, numbers)])


def _cells(draw: Draw, content: Content, arrays: Arrays) -> None:
    """Landmarks and sketch: codes that are none, other numbers of them, values beyond shares."""
    places = [name for name in arrays if name.endswith((".codes", ".points", ".values", ".unexplained"))]
    name = one_of(draw, places)
    prefix = name.rsplit(".", 1)[0]
    of = [other for other in places if other.startswith(f"{prefix}.")]
    codes, n = arrays[f"{prefix}.codes"], one_of(draw, [0, 1, 2, 14])
    forms: list[Arrays] = [
        {f"{prefix}.codes": np.full_like(codes, one_of(draw, [-1, 3, 1, 2**62, -(2**63)]))},
        {other: arrays[other][:n] for other in of},
        {name: arrays[name] * one_of(draw, [0, -1, 2, 10**9])},
        {other: np.repeat(arrays[other], 2000, axis=0) for other in of},
        {name: arrays[name][:1]},
    ]
    arrays |= one_of(draw, forms)


#: What can be done to arrays.
OF_ARRAYS: dict[str, Attack] = {
    "numbers of an array": _numbers_of_array,
    "shape of an array": _shape_of_array,
    "type of an array": _type_of_array,
    "name of an array": _name_of_array,
}
#: What can be done to any file of ours.
OF_FILES: dict[str, Attack] = OF_ARRAYS | {
    name: functools.partial(_tree, change) for name, change in TREE_CHANGES.items()
}
#: What can be done to a model.
OF_MODELS: dict[str, Attack] = OF_FILES | {
    "a parameter": _parameter,
    "a size": _size,
    "names of batches": _batch_levels,
    "names of features": _features,
    "history": _history,
    "strength": _strength,
    "many arrays": _many_arrays,
    "scale": _scale,
    "landmarks and sketch": _cells,
}


def attack(draw: Draw, data: bytes, kind: str) -> bytes:
    """A file as an attacker changes it; fingerprints of a model fit mostly."""
    what, content, arrays = unpack(data)
    OF_MODELS[kind](draw, content, arrays)
    if what == "model" and draw(st.integers(0, 4)):
        try:
            renew_fingerprints(content, arrays)
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError):
            pass  # nothing to have a fingerprint of
    return pack(what, content, arrays)
