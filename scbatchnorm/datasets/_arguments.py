"""What the toy data accept for their numbers."""

from __future__ import annotations

from numbers import Integral, Real


def integer(name: str, value: int, *, minimum: int) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < minimum:
        msg = f"{name} must be an integer of at least {minimum}. Got {value!r}."
        raise ValueError(msg)
    return int(value)


def number(name: str, value: float, *, lowest: float, highest: float, open_below: bool = False) -> float:
    valid = isinstance(value, Real) and not isinstance(value, bool) and lowest <= value <= highest
    if not valid or (open_below and value == lowest):
        msg = f"{name} must be a number in {'(' if open_below else '['}{lowest}, {highest}]. Got {value!r}."
        raise ValueError(msg)
    return float(value)
