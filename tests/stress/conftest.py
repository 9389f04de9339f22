"""The process in which files of others are opened: what would crash it, hang or fill the memory is an outcome there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.importorskip("benchmarks", reason="benchmarks/ is in the repository, not in the package")

from benchmarks.isolated import Worker
from tests.stress import readers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Seconds after which an example hangs; the slowest has taken 8.5 s.
TIMEOUT = 120.0


@pytest.fixture(scope="session")
def isolated() -> Iterator[Callable[..., str]]:
    """Calls a function in the process; returns what it returns, and fails for every other end."""
    with Worker(prepare=readers.prepare) as worker:

        def call(function: Callable[..., str], *arguments: object) -> str:
            outcome = worker.call(function, *arguments, timeout=TIMEOUT)
            if outcome.reason:
                pytest.fail(outcome.reason)
            return outcome.value

        yield call
