"""Names on their way out: they work until the version that is announced, and say what to use."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from scbatchnorm._runtime.messages import warn

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")


def deprecated(*, removed_in: str, instead: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Announce that a function or method goes: `instead` is a sentence that says what to use.

    Nothing else of it changes. It is announced as a FutureWarning at the line that calls it.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def announced(*args: P.args, **kwargs: P.kwargs) -> R:
            warn(f"{function.__name__} will be removed in scbatchnorm {removed_in}. {instead}", FutureWarning)
            return function(*args, **kwargs)

        return announced

    return decorate


def renamed(*, removed_in: str, **names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Accept keyword arguments by their old names: `renamed(removed_in="0.3", old="new")`.

    The signature shows the new ones. Giving both is an error, as giving one twice is.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def translated(*args: P.args, **kwargs: P.kwargs) -> R:
            for old, new in names.items():
                if old not in kwargs:
                    continue
                if new in kwargs:
                    msg = f"{function.__name__}() got {new!r} and its old name {old!r}; give {new!r} only."
                    raise TypeError(msg)
                kwargs[new] = kwargs.pop(old)
                warn(
                    f"{old!r} of {function.__name__}() is called {new!r} now; "
                    f"the old name will be removed in scbatchnorm {removed_in}.",
                    FutureWarning,
                )
            return function(*args, **kwargs)

        return translated

    return decorate
