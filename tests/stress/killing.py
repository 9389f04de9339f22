"""Processes that fit, save and integrate, and are killed at some moment."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import sys
import threading
import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tqdm
from hypothesis import strategies as st

from scbatchnorm import BatchNormAutoencoder, cli
from tests.stress.examples import batches, brief, expression

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from scbatchnorm._data.types import Floats, Labels

# A process that does not end within so many seconds hangs.
_HANG = 600.0
_GLANCE = 2e-4
#: Parameters of the fits that are killed.
FITS: tuple[dict[str, Any], ...] = (
    {},
    {"norm": "switchable", "record_shift": True},
    {"statistics": "per_batch"},
)


@dataclass(frozen=True)
class Moment:
    """When a process is killed: `seconds` after it begins, or after it writes a temporary file for the `visit`-th time."""

    writing: bool
    visit: int
    seconds: float


def moments(*, longest: float, longest_writing: float, visits: int = 1) -> st.SearchStrategy[Moment]:
    """Some moment while a process works or writes."""
    return st.builds(Moment, st.just(False), st.just(0), st.floats(0, longest)) | while_writing(longest_writing, visits)


def while_writing(longest: float, visits: int = 1) -> st.SearchStrategy[Moment]:
    """Some moment while a process writes."""
    return st.builds(Moment, st.just(True), st.integers(1, visits), st.floats(0, longest))


class Process:
    """A process that runs a function, and works in a folder."""

    def __init__(self, folder: Path, function: Callable[..., None], *arguments: object) -> None:
        self._folder = folder
        self._seen: set[str] = set()
        self._begun = _context().RawValue("i", 0)
        self._child = _context().Process(target=_run, args=(self._begun, function, *arguments), daemon=True)
        self._child.start()
        self._deadline = time.perf_counter() + _HANG

    def kill(self, moment: Moment) -> bool:
        """Kill it then; whether it had not ended before."""
        self._wait(lambda: self._begun.value == 1)
        if moment.writing:
            self._wait(lambda: len(self._temporary()) >= moment.visit)
        until = time.perf_counter() + moment.seconds
        self._wait(lambda: time.perf_counter() >= until)
        alive = self._child.is_alive()
        self._child.kill()
        self._child.join()
        return alive

    def finish(self) -> None:
        """Wait until it has ended by itself, as it should."""
        self._wait(lambda: False)
        assert self._child.exitcode == 0, f"a process that nobody killed ended with exit status {self._child.exitcode}"

    def is_alive(self) -> bool:
        return self._child.is_alive()

    def _temporary(self) -> set[str]:
        """Names of the temporary files that have been seen."""
        self._seen.update(path.name for path in self._folder.iterdir() if path.name.endswith(".part"))
        return self._seen

    def _wait(self, done: Callable[[], bool]) -> None:
        """Wait until something is done, or the process has ended."""
        while self._child.is_alive() and not done():
            time.sleep(_GLANCE)
            if time.perf_counter() > self._deadline:
                self._child.kill()
                msg = f"a process did not end within {_HANG:g} s"
                raise TimeoutError(msg)


def _context() -> Any:
    """Processes that are forked from one that has imported the package and done nothing else: they start at once."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    chosen = multiprocessing.get_context("forkserver")
    chosen.set_forkserver_preload(["tests.stress.killing"])
    return chosen


def _run(begun: Any, function: Callable[..., None], *arguments: object) -> None:
    warnings.simplefilter("ignore")
    tqdm.tqdm.set_lock(threading.RLock())  # semaphores between processes would outlive a kill
    begun.value = 1
    function(*arguments)


def cells(n_cells: int) -> tuple[Floats, Labels]:
    """Expression and batches."""
    return expression(n_cells, 60), batches(["a", "b", "c"], n_cells)


def fit(number: int, checkpoint: Path | None, result: Path, n_cells: int, steps: int) -> None:
    """Fit with the parameters of this number, and leave the model in a file."""
    model = brief(n_refreshes=6, min_steps=steps, n_hidden=32, checkpoint=checkpoint, **FITS[number])
    model.fit(*cells(n_cells)).save(result, overwrite=True)


def save_on(versions: list[Path], target: Path, times: int | None) -> None:
    """Save models one after the other, for ever or so many times."""
    models = [BatchNormAutoencoder.load(version) for version in versions]
    done = 0
    while _has_parent() if times is None else done < times:
        models[done % len(models)].save(target, overwrite=True)
        done += 1


def _has_parent() -> bool:
    """Whether the process that started this one still exists: nobody else would end it."""
    parent = multiprocessing.parent_process()
    return parent is not None and parent.is_alive()


def save_carelessly(target: Path) -> None:
    """Write a model to `target` without any care, and come no further than half of it."""
    data = target.read_bytes()
    target.write_bytes(data[: len(data) // 2])
    target.with_name("half.part").touch()
    time.sleep(_HANG)


def integrate(arguments: list[str]) -> None:
    """The command line."""
    with contextlib.redirect_stdout(io.StringIO()):
        status = cli.main(["integrate", *arguments])
    sys.exit(status)
