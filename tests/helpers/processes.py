"""Fresh Python processes, none of which is waited for without end."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).parents[2]
# Seconds after which a process has failed: a hundred times what each of them takes.
TIMEOUT = 300


def run_python(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments until it ends, or kill it after `TIMEOUT` seconds and raise."""
    with python_processes(arguments, **environment) as (process,):
        (done,) = finish([process])
    return done


@contextlib.contextmanager
def python_processes(*commands: Sequence[object], **environment: str) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes of Python, started together, that find the package; none is left at the end."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with contextlib.ExitStack() as stack:
        started = []
        for arguments in commands:
            process = subprocess.Popen(
                [sys.executable, *map(str, arguments)],
                env={**os.environ, "PYTHONPATH": path, **environment},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            started.append(process)
        yield started


def finish(processes: Sequence[subprocess.Popen[str]]) -> list[subprocess.CompletedProcess[str]]:
    """What the processes said, once all have ended; raises `TimeoutExpired` if they have not after `TIMEOUT` seconds."""
    end = time.monotonic() + TIMEOUT
    done = []
    for process in processes:
        said = process.communicate(timeout=max(0.0, end - time.monotonic()))
        done.append(subprocess.CompletedProcess(process.args, process.returncode, *said))
    return done
