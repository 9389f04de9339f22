"""Values that nobody expects, and where in a tree of values they can be put."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    Path = tuple[Any, ...]


def _nested(depth: int, kind: type) -> Any:
    """Lists or dicts in each other."""
    value: Any = kind()
    for _ in range(depth):
        value = [value] if kind is list else {"a": value}
    return value


#: What JSON can hold, or Python's reader of it; made when needed, for some are large.
VALUES: dict[str, Callable[[], Any]] = {
    "null": lambda: None,
    "true": lambda: True,
    "false": lambda: False,
    "0": lambda: 0,
    "-1": lambda: -1,
    "1": lambda: 1,
    "3": lambda: 3,
    "2**31": lambda: 2**31,
    "2**63": lambda: 2**63,
    "2**64 - 1": lambda: 2**64 - 1,
    "10**9": lambda: 10**9,
    "-10**18": lambda: -(10**18),
    "10**300": lambda: 10**300,
    "half": lambda: 0.5,
    "-0.0": lambda: -0.0,
    "smallest": lambda: 5e-324,
    "largest": lambda: 1.7e308,
    "nan": lambda: math.nan,
    "inf": lambda: math.inf,
    "word nan": lambda: "nan",
    "word -inf": lambda: "-inf",
    "word number": lambda: "1e3",
    "no word": lambda: "",
    "word": lambda: "word",
    "format": lambda: "{0.__class__} %s %n",
    "surrogate": lambda: "\ud800",
    "zero byte": lambda: "a\x00b",
    "line breaks": lambda: "a\nb\r\n",
    "path": lambda: "../../../tmp/x",
    "code": lambda: "__import__('os').abort()",
    "dunder": lambda: "__class__",
    "long word": lambda: "x" * 300_000,
    "empty list": list,
    "empty dict": dict,
    "list": lambda: [1, "a", None],
    "list of lists": lambda: [[1, 2], [3]],
    "list of nothing": lambda: [None] * 3,
    "dict": lambda: {"a": 1, "": 2},
    "dict of lists": lambda: {"a": [1, 2], "b": [3]},
    "long list": lambda: list(range(200_000)),
    "long dict": lambda: {str(i): i for i in range(50_000)},
    "deep list": lambda: _nested(300, list),
    "deep dict": lambda: _nested(300, dict),
}


def some(entries: Any, rng: np.random.Generator) -> Any:
    """One of the entries, whatever they are."""
    entries = list(entries)
    return entries[int(rng.integers(len(entries)))]


def any_value(rng: np.random.Generator) -> Any:
    """One of them."""
    return VALUES[some(VALUES, rng)]()


def paths(tree: Any, path: Path = ()) -> list[Path]:
    """Where in a tree of dicts and lists there is something; of long lists the first and last entries."""
    found = [path] if path else []
    if isinstance(tree, dict):
        entries = list(tree.items())
    elif isinstance(tree, list):
        entries = [(i, tree[i]) for i in sorted({0, 1, len(tree) - 1} & set(range(len(tree))))]
    else:
        entries = []
    for key, entry in entries:
        found += paths(entry, (*path, key))
    return found


def at(tree: Any, path: Path) -> Any:
    """The entry of `tree` at `path`."""
    for key in path:
        tree = tree[key]
    return tree


def replaced(tree: Any, path: Path, value: Any) -> Any:
    """A copy of `tree` with another value at `path`."""
    tree = copy.deepcopy(tree)
    at(tree, path[:-1])[path[-1]] = value
    return tree


def without(tree: Any, path: Path) -> Any:
    """A copy of `tree` without what is at `path`."""
    tree = copy.deepcopy(tree)
    del at(tree, path[:-1])[path[-1]]
    return tree


def renamed(tree: Any, path: Path, name: str) -> Any:
    """A copy of `tree` where the last key of `path` has another name; in lists the entry is repeated."""
    tree = copy.deepcopy(tree)
    holder = at(tree, path[:-1])
    if isinstance(holder, list):
        holder.append(holder[path[-1]])
    else:
        holder[name] = holder.pop(path[-1])
    return tree


def any_path(tree: Any, rng: np.random.Generator) -> Path:
    """One of the places."""
    return some(paths(tree), rng)
