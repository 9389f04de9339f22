"""Files that are being downloaded: one process or thread at a time, and what it leaves is there for the next."""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import TYPE_CHECKING

try:
    import fcntl
except ImportError:  # where files cannot be locked, each downloads for itself and leaves nothing
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def held(target: Path) -> Iterator[Path]:
    """The unfinished file of `target`, which nobody else touches meanwhile; waits for whoever has it.

    It exists, and may have content from earlier. It stays unless it is empty, or is moved away.
    """
    part = target.with_name(f"{target.name}.part")
    lock = _lock(part)
    if lock is None:
        part = target.with_name(f"{target.name}.{secrets.token_hex(6)}.part")
        part.touch()
    try:
        yield part
    finally:
        if lock is None:
            part.unlink(missing_ok=True)
        else:
            if _is_at(lock, part) and os.fstat(lock).st_size == 0:
                part.unlink()
            os.close(lock)


def _lock(part: Path) -> int | None:
    """The open file at `part`, locked; `None` where files cannot be locked."""
    if fcntl is None:
        return None
    while True:
        opened = os.open(part, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(opened, fcntl.LOCK_EX)
            if _is_at(opened, part):
                return opened
        except OSError:
            os.close(opened)
            return None
        except BaseException:  # Ctrl-C while waiting
            os.close(opened)
            raise
        # Whoever had it has finished it and moved it away.
        os.close(opened)


def _is_at(opened: int, path: Path) -> bool:
    """Whether the open file is the one at `path`."""
    try:
        return os.path.samestat(os.fstat(opened), path.stat())
    except FileNotFoundError:
        return False
