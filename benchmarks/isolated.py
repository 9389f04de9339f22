"""Functions called in a process of their own: its memory is watched from outside, and a crash or a time-out is an outcome."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

_ROOT = Path(__file__).resolve().parents[1]
_MB = 2**20
# Seconds between two samples of the memory, and those in which a process that has nothing to do ends by itself.
_EVERY, _PATIENCE = 0.05, 10.0
# Those of torch and OpenMP, of numpy's and scipy's BLAS, of numba.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_CODE = "import sys; from benchmarks.isolated import serve; serve(int(sys.argv[1]))"


@dataclass(frozen=True)
class Outcome:
    """What came of a call; without a value, `reason` says why."""

    value: Any = None
    reason: str = ""
    seconds: float = math.nan  # the call, or the part of it that went through `timed`
    process_seconds: float = math.nan  # since the call was asked for, with the start of the process
    before_mb: float = math.nan  # held by the process and its children when the clock started
    peak_mb: float = math.nan  # held at most while the clock ran

    def measurements(self) -> dict[str, Any]:
        """Columns of a table: everything but the value."""
        return {name: entry for name, entry in vars(self).items() if name != "value"}


@dataclass(frozen=True)
class Timed:
    """A value, and from when to when it was computed, by the monotonic clock of the machine."""

    value: Any
    start: float
    stop: float


def timed(function: Callable[..., Any], *arguments: Any, **options: Any) -> Timed:
    """Call a function with the clock of the outcome; imports and reading before it do not count."""
    time.sleep(2 * _EVERY)  # for a sample of the memory before the call
    start = time.monotonic()
    value = function(*arguments, **options)
    return Timed(value, start, time.monotonic())


class Worker:
    """A process that calls functions one after the other, and is replaced after a crash or a time-out.

    Parameters
    ----------
    threads
        Threads of each library in the process; as set in the environment if None.
    prepare
        Called first in each process.
    """

    def __init__(self, *, threads: int | None = None, prepare: Callable[[], None] | None = None) -> None:
        self._environment = {} if threads is None else dict.fromkeys(_THREADS, str(threads))
        self._prepare = prepare
        self._process: subprocess.Popen[bytes] | None = None

    def call(self, function: Callable[..., Any], *arguments: Any, timeout: float) -> Outcome:
        """Call a function of a module, within `timeout` seconds; a failure is an outcome, not an exception."""
        asked = time.monotonic()
        if self._process is None:
            self._start()
            if self._prepare is not None and (outcome := self._call(self._prepare, (), asked, timeout)).reason:
                return outcome
        return self._call(function, arguments, asked, timeout)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._connection.close()
            self._stop(patience=_PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        self._connection, theirs = Pipe()
        self._stderr = tempfile.TemporaryFile("w+")  # closed in `_stop`
        path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH", "")]))
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CODE, str(theirs.fileno())], pass_fds=[theirs.fileno()],
            env={**os.environ, **self._environment, "PYTHONPATH": path}, stdout=subprocess.DEVNULL, stderr=self._stderr,
        )  # fmt: skip
        theirs.close()

    def _call(self, function: Callable[..., Any], arguments: tuple[Any, ...], asked: float, timeout: float) -> Outcome:
        assert self._process is not None
        trace, process, sent = Trace(), psutil.Process(self._process.pid), time.monotonic()
        try:
            self._connection.send((function, arguments))
            while not self._connection.poll(_EVERY):
                with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                    trace.add(held_mb(process))
                if time.monotonic() - sent > timeout:
                    self._stop()
                    return Outcome(reason=f"stopped after {timeout:g} s", process_seconds=time.monotonic() - asked)
            value, reason, start, stop = self._connection.recv()
        except (EOFError, ConnectionError):
            return Outcome(reason=self._stop(patience=_PATIENCE), process_seconds=time.monotonic() - asked)
        if isinstance(value, Timed):
            value, start, stop = value.value, value.start, value.stop
        memory = (trace.at(start), trace.peak(start, stop))
        return Outcome(value, reason, stop - start, time.monotonic() - asked, *memory)

    def _stop(self, *, patience: float = 0.0) -> str:
        """Wait so many seconds for the process to end, then kill it with its children; why it ended."""
        assert self._process is not None
        try:
            code = self._process.wait(patience)
        except subprocess.TimeoutExpired:
            process = psutil.Process(self._process.pid)
            for part in [*process.children(recursive=True), process]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    part.kill()
            code = self._process.wait()
        self._stderr.seek(0)
        text = self._stderr.read()
        self._stderr.close()
        self._connection.close()
        self._process = None
        return describe_exit(code, text)


def run_isolated(function: Callable[..., Any], *arguments: Any, timeout: float, threads: int | None = None) -> Outcome:
    """Call a function of a module in a process that does nothing else; see `Worker`."""
    with Worker(threads=threads) as worker:
        return worker.call(function, *arguments, timeout=timeout)


def serve(descriptor: int) -> None:
    """In the process: call what is asked for until nobody asks any more."""
    connection = Connection(descriptor)
    with contextlib.suppress(EOFError):
        while True:
            function, arguments = connection.recv()
            value, reason, start = None, "", time.monotonic()
            try:
                value = function(*arguments)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the outcome
                reason = describe_error(error)
            connection.send((value, reason, start, time.monotonic()))


def describe_error(error: BaseException) -> str:
    """Type, message and the innermost place of an error, in a line."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        path = Path(trace.tb_frame.f_code.co_filename)
        place, trace = f"{path.parent.name}/{path.name}:{trace.tb_lineno}", trace.tb_next
    return f"{type(error).__name__}: {error!s:.300} ({place})"


def describe_exit(code: int, stderr: str) -> str:
    """Why a process ended as it did, in a line."""
    if code < 0:
        hint = " (out of memory?)" if code == -signal.SIGKILL else ""
        return f"ended by {signal.Signals(-code).name}{hint}"
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return lines[-1][:300] if lines else f"exit status {code}"


class Trace:
    """Samples of the memory of a process: seconds of the monotonic clock, MB."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.mb: list[float] = []

    def add(self, mb: float) -> None:
        """Note the memory of now."""
        self.seconds.append(time.monotonic())
        self.mb.append(mb)

    def at(self, second: float) -> float:
        """MB at the last sample up to then, nan without samples."""
        position = max(int(np.searchsorted(self.seconds, second, side="right")) - 1, 0)
        return self.mb[position] if self.mb else math.nan

    def peak(self, start: float, stop: float) -> float:
        """MB of the largest sample between two times, and of the last one before them."""
        first, last = np.searchsorted(self.seconds, [start, stop])
        return max([self.at(start), *self.mb[first:last]])


def held_mb(process: psutil.Process) -> float:
    """MB that a process and its children hold; what they share counts once where the system can tell."""
    children = process.children(recursive=True)
    if not children:
        return process.memory_info().rss / _MB
    total = 0
    for part in [process, *children]:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            held = part.memory_full_info()
            total += getattr(held, "pss", held.rss)
    return total / _MB
