"""Values that nobody expects, and where in a tree of values they can be put."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    #: Draws from a strategy, as `data.draw` of hypothesis does.
    Draw = Callable[[st.SearchStrategy[Any]], Any]
    Path = tuple[Any, ...]


def _nested(depth: int, kind: type) -> Any:
    """Lists or dicts in each other."""
    value: Any = kind()
    for _ in range(depth):
        value = [value] if kind is list else {"a": value}
    return value


_PLAIN: list[Any] = [
    None, True, False, 0, -1, 1, 3, 2**31, 2**63, 2**64 - 1, 10**9, -(10**18), 10**300, 0.5, -0.0, 5e-324, 1.7e308, math.nan, math.inf, "nan", "-inf",
    "1e3", "", "word", "{0.__class__} %s %n", "\ud800", "a\x00b", "a\nb\r\n", "../../../tmp/x", "__import__('os').abort()", "__class__",
]  # fmt: skip
# Made when needed: some are large, and some are changed later.
_MADE: list[Callable[[], Any]] = [
    list, dict, lambda: [1, "a", None], lambda: [[1, 2], [3]], lambda: [None] * 3, lambda: {"a": 1, "": 2}, lambda: {"a": [1, 2], "b": [3]},
    lambda: "x" * 300_000, lambda: list(range(200_000)), lambda: {str(i): i for i in range(50_000)}, lambda: _nested(300, list),
    lambda: _nested(300, dict),
]  # fmt: skip


def odd_values() -> st.SearchStrategy[Any]:
    """What JSON can hold, or Python's reader of it."""
    return st.sampled_from(_PLAIN) | st.sampled_from(_MADE).map(lambda make: make())


def one_of(draw: Draw, entries: Iterable[Any]) -> Any:
    """One of the entries, whatever they are; its place is what hypothesis draws and shows."""
    entries = list(entries)
    return entries[draw(st.integers(0, len(entries) - 1))]


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


def replaced(tree: Any, path: Path, value: Any) -> Any:
    """A copy of `tree` with another value at `path`."""
    tree = copy.deepcopy(tree)
    _holder(tree, path)[path[-1]] = value
    return tree


def with_odd_value(draw: Draw, tree: Any) -> Any:
    """A copy of `tree` with an odd value somewhere."""
    return replaced(tree, one_of(draw, paths(tree)), draw(odd_values()))


def without_entry(draw: Draw, tree: Any) -> Any:
    """A copy of `tree` without something that is in it."""
    tree, path = copy.deepcopy(tree), one_of(draw, paths(tree))
    del _holder(tree, path)[path[-1]]
    return tree


def with_other_key(draw: Draw, tree: Any) -> Any:
    """A copy of `tree` where a key has another name; in lists an entry is repeated."""
    tree, path = copy.deepcopy(tree), one_of(draw, paths(tree))
    holder = _holder(tree, path)
    if isinstance(holder, list):
        holder.append(holder[path[-1]])
    else:
        holder[str(draw(odd_values()))] = holder.pop(path[-1])
    return tree


def _holder(tree: Any, path: Sequence[Any]) -> Any:
    for key in path[:-1]:
        tree = tree[key]
    return tree


#: Changes of any tree.
TREE_CHANGES: dict[str, Callable[[Draw, Any], Any]] = {
    "any value": with_odd_value,
    "entry gone": without_entry,
    "entry renamed": with_other_key,
}
