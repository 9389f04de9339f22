"""Processes that tell where they are, and are killed there."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any
from unittest import mock

import tqdm

from benchmarks.fuzz.isolated import context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


#: Where a process can be: at the beginning or end, in what goes before training, in training, or writing a file.
PLACES = ("elsewhere", "stem", "training", "writing")
# A process that does not end within so many seconds hangs.
_HANG = 600.0
_GLANCE = 2e-4


class Place:
    """Where a process is, and how often it has come to each place; seen by the process that started it."""

    def __init__(self) -> None:
        self.now = context().RawValue("i", 0)
        self.visits = context().RawArray("i", len(PLACES))

    @contextlib.contextmanager
    def at(self, **functions: tuple[Any, str]) -> Iterator[None]:
        """Whoever calls one of these functions (place=(object, name)) is at this place until it returns."""
        with contextlib.ExitStack() as stack:
            for place, (holder, name) in functions.items():
                noted = self._noted(PLACES.index(place), getattr(holder, name))
                stack.enter_context(mock.patch.object(holder, name, noted))
            yield

    def _noted(self, number: int, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def noted(*args: Any, **kwargs: Any) -> Any:
            before, self.now.value = self.now.value, number
            self.visits[number] += 1
            try:
                return function(*args, **kwargs)
            finally:
                self.now.value = before

        return noted


def started(function: Callable[..., None], *arguments: object) -> tuple[Any, Place]:
    """A process that runs `function` of a `Place` and the arguments."""
    place = Place()
    child = context().Process(target=_quietly, args=(function, place, *arguments), daemon=True)
    child.start()
    return child, place


def _quietly(function: Callable[..., None], *arguments: object) -> None:
    warnings.simplefilter("ignore")
    tqdm.tqdm.set_lock(threading.RLock())  # semaphores between processes would outlive a kill
    function(*arguments)


def killed(child: Any, place: Place, where: str, visit: int, seconds: float) -> str | None:
    """Kill a process so many seconds after it has come to a place so often; where it was then, None if it had ended."""
    number, start = PLACES.index(where), time.perf_counter()
    while child.is_alive() and place.visits[number] < visit:
        time.sleep(_GLANCE)
        _in_time(child, start)
    until = time.perf_counter() + seconds
    while child.is_alive() and time.perf_counter() < until:
        time.sleep(min(_GLANCE, seconds))
    alive = child.is_alive()
    child.kill()
    child.join()
    return PLACES[place.now.value] if alive else None


def ended(child: Any) -> None:
    """Wait for a process to end by itself; RuntimeError if it fails."""
    start = time.perf_counter()
    while child.is_alive():
        child.join(1.0)
        _in_time(child, start)
    if child.exitcode:
        msg = f"a process that nobody killed ended with exit status {child.exitcode}"
        raise RuntimeError(msg)


def _in_time(child: Any, start: float) -> None:
    if time.perf_counter() - start > _HANG:
        child.kill()
        msg = f"a process did not end within {_HANG:g} s"
        raise TimeoutError(msg)
