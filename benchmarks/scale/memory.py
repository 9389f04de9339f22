"""Memory of a process with all its children, over time."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import numpy as np
import psutil

if TYPE_CHECKING:
    import subprocess

_MB = 2**20


class Trace:
    """Samples of the memory of a process tree: seconds of the monotonic clock, MB."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.mb: list[float] = []

    def add(self, mb: float) -> None:
        """Note the memory of now."""
        self.seconds.append(time.monotonic())
        self.mb.append(mb)

    def at(self, second: float) -> float:
        """MB at the last sample up to then."""
        position = max(int(np.searchsorted(self.seconds, second, side="right")) - 1, 0)
        return self.mb[position]

    def peak(self, start: float, stop: float) -> float:
        """MB of the largest sample between two times, and of the last one before them."""
        first, last = np.searchsorted(self.seconds, [start, stop])
        return max(self.at(start), *self.mb[first:last])


def tree_mb(process: psutil.Process) -> float:
    """MB that a process and its children hold; what they share counts once where the system can tell.

    Raises
    ------
    psutil.NoSuchProcess
        The process has ended.
    """
    children = process.children(recursive=True)
    if not children:
        return process.memory_info().rss / _MB
    total = 0
    for part in [process, *children]:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            held = part.memory_full_info()
            total += getattr(held, "pss", held.rss)
    return total / _MB


def watched(command: subprocess.Popen[str], *, timeout: float, every: float = 0.05) -> Trace:
    """Sample until the process ends.

    Raises
    ------
    TimeoutError
        It takes longer than `timeout` seconds; it has then been killed with its children.
    """
    trace, start = Trace(), time.monotonic()
    process = psutil.Process(command.pid)
    while command.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            trace.add(tree_mb(process))
        if time.monotonic() - start > timeout:
            for part in [*process.children(recursive=True), process]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    part.kill()
            command.wait()
            msg = f"stopped after {timeout:g} s"
            raise TimeoutError(msg)
        time.sleep(every)
    return trace
