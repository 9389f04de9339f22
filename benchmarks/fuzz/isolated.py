"""Cases tried one after the other in a process of its own, so that a crash, a hang or memory is an outcome like others."""

from __future__ import annotations

import multiprocessing
import resource
import signal
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.connection import Connection

#: Outcomes that mean that something is wrong, whatever was tried.
CRASH, HANG, MEMORY, ERROR = "CRASH", "HANG", "MEMORY", "OTHER ERROR"
# A process that cannot even begin within so many seconds.
_START = 300.0


@dataclass(frozen=True)
class Case:
    """What came of one case."""

    number: int
    kind: str
    outcome: str
    detail: str = ""
    seconds: float = 0.0


class Judge(Protocol):
    """Tries cases by their numbers: the same number is the same case."""

    def kind(self, number: int) -> str:
        """What is done in this case, in a few words."""

    def __call__(self, number: int) -> tuple[str, str]:
        """Outcome and detail."""


def context() -> Any:
    """Processes that are forked from one that has imported the package and done nothing else: they start at once."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    chosen = multiprocessing.get_context("forkserver")
    chosen.set_forkserver_preload(["benchmarks.fuzz.judges", "benchmarks.fuzz.killed"])
    return chosen


def judged(
    make: Callable[..., Judge],
    arguments: Sequence[object],
    numbers: Sequence[int],
    *,
    seconds: float = 60.0,
    gigabytes: float = 2.0,
) -> Iterator[Case]:
    """Outcomes of the cases `numbers`, in their order.

    Parameters
    ----------
    make, arguments
        What makes the judge in the process, and of what.
    numbers
        Cases.
    seconds
        What takes longer is a hang.
    gigabytes
        Memory that a case may ask for beyond what the process has after the judge was made.
    """
    left = list(numbers)
    while left:
        ours, theirs = multiprocessing.Pipe()
        child = context().Process(target=_serve, args=(theirs, make, arguments, left, gigabytes), daemon=True)
        child.start()
        theirs.close()
        try:
            kinds = dict(_received(ours, _START))
            while left:
                case = _next(ours, child, seconds)
                left.remove(case.number)
                yield (
                    case
                    if case.kind
                    else Case(case.number, kinds[case.number], case.outcome, case.detail, case.seconds)
                )
                if case.outcome in {CRASH, HANG, MEMORY}:  # what is left of the process is not to be trusted
                    break
        finally:
            child.join(0 if left else _START)
            child.kill()
            child.join()
            ours.close()


def _received(connection: Connection, seconds: float) -> Any:
    if not connection.poll(seconds):
        msg = f"nothing was heard of the process for {seconds:g} s"
        raise TimeoutError(msg)
    return connection.recv()


def _next(connection: Connection, child: Any, seconds: float) -> Case:
    """The next case that the process reports, or what ended it."""
    number, start = _received(connection, _START), time.perf_counter()
    try:
        return _received(connection, seconds)
    except TimeoutError:
        return Case(number, "", HANG, f"longer than {seconds:g} s", seconds)
    except EOFError:
        child.join()
        code = child.exitcode
        name = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        return Case(number, "", CRASH, name, time.perf_counter() - start)


def _serve(
    connection: Connection,
    make: Callable[..., Judge],
    arguments: Sequence[object],
    numbers: Sequence[int],
    gigabytes: float,
) -> None:
    """Try all cases, and report each before and after."""
    warnings.simplefilter("ignore")
    judge = make(*arguments)
    _limit_memory(gigabytes)
    connection.send([(number, judge.kind(number)) for number in numbers])
    for number in numbers:
        connection.send(number)
        start = time.perf_counter()
        try:
            outcome, detail = judge(number)
        except MemoryError as error:
            outcome, detail = MEMORY, str(error)
        except Exception as error:  # noqa: BLE001
            outcome, detail = ERROR, described(error)
        connection.send(Case(number, judge.kind(number), outcome, detail, time.perf_counter() - start))


def described(error: BaseException) -> str:
    """Type, message and the innermost place of an error."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        path = Path(trace.tb_frame.f_code.co_filename)
        place, trace = f"{path.parent.name}/{path.name}:{trace.tb_lineno}", trace.tb_next
    return f"{type(error).__name__}: {error!s:.300} ({place})"


def _limit_memory(gigabytes: float) -> None:
    """Let this process have so much more address space than it has."""
    status = Path("/proc/self/status")
    if sys.platform != "linux" or not status.exists():
        return
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmSize:"))
    limit = int(line.split()[1]) * 1024 + int(gigabytes * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
