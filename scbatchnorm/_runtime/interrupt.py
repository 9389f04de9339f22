"""Ctrl-C and SIGTERM while something runs that should end at a point of its own choosing."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

# What Python does where nobody has asked for anything else; other handlers are the application's, and stay.
_USUAL: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}


@dataclass
class InterruptRequest:
    """Whether somebody wants this to end."""

    signal: int | None = None

    def raise_if_requested(self) -> None:
        """Raise KeyboardInterrupt if so."""
        if self.signal is not None:
            self.signal = None
            raise KeyboardInterrupt


@contextlib.contextmanager
def catch_interrupts() -> Iterator[InterruptRequest]:
    """Note the first signal instead of acting on it; a second one has its usual effect, and so has one that nobody obeyed.

    Signals reach the main thread only: elsewhere nothing is changed.
    """
    request = InterruptRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def note(number: int, _frame: object) -> None:
        request.signal = number
        signal.signal(number, _USUAL[number])

    ours = [number for number, usual in _USUAL.items() if signal.getsignal(number) is usual]
    for number in ours:
        signal.signal(number, note)
    try:
        yield request
    finally:
        for number in ours:
            signal.signal(number, _USUAL[number])
    if request.signal is not None:
        os.kill(os.getpid(), request.signal)
