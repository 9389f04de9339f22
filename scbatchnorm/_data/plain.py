"""Arrays and plain values by name, as a file or a checkpoint holds them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

Arrays: TypeAlias = dict[str, np.ndarray]
# What JSON holds: dicts with str keys, lists, str, int, float, bool and None.
Content: TypeAlias = dict[str, Any]

T = TypeVar("T")


def select_prefix(arrays: Mapping[str, T], prefix: str) -> dict[str, T]:
    """The entries whose names begin with `prefix`, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


def add_prefix(arrays: Mapping[str, T], prefix: str) -> dict[str, T]:
    """The entries with `prefix` before their names: the inverse of `select_prefix`."""
    return {f"{prefix}{name}": value for name, value in arrays.items()}


def to_json_number(value: float) -> float | str:
    """A number as JSON can hold it: `float` gives it back."""
    return float(value) if math.isfinite(value) else str(float(value))


def to_json_table(frame: pd.DataFrame) -> dict[str, list[Any]]:
    """A DataFrame of strings and numbers as JSON can hold it."""
    return {
        str(name): [to_json_number(value) for value in column] if column.dtype.kind == "f" else column.tolist()
        for name, column in frame.items()
    }


def to_native(value: Any) -> Any:
    """Python's own scalar for a numpy one."""
    return value.item() if isinstance(value, np.generic) else value


def rng_state(rng: np.random.Generator) -> Content:
    """State of a generator as JSON can hold it."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(entry) for name, entry in value.items()}
        return value.tolist() if isinstance(value, np.ndarray | np.generic) else value

    return plain(rng.bit_generator.state)


def set_rng_state(rng: np.random.Generator, saved: Content) -> None:
    """Set a generator to a state that `rng_state` gave.

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
