"""How much memory there is."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROC, _GROUPS = Path("/proc"), Path("/sys/fs/cgroup")
# Files of a control group: its limit, what it uses, and what of that are files read lately, in both versions of such groups.
_FILES = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def available() -> int | None:
    """Bytes that can be had without swapping; `None` where nobody says.

    On Linux within the limits of the container or of the job of a cluster that this process is in; elsewhere all memory of the machine.
    """
    return min([*_of_machine(), *_of_groups()], default=None)


def _of_machine() -> Iterator[int]:
    """What the system says."""
    with suppress(OSError, KeyError, ValueError, IndexError):
        yield 1024 * _numbers(_PROC / "meminfo")["MemAvailable:"]
        return
    with suppress(AttributeError, OSError, ValueError):
        yield os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _of_groups() -> Iterator[int]:
    """What is left to each control group that this process is in."""
    with suppress(OSError, ValueError):
        for line in (_PROC / "self" / "cgroup").read_text().splitlines():
            _, kind, inside = line.split(":", 2)
            if kind not in _FILES:
                continue
            limit, used, cached = _FILES[kind]
            # A container may see its own group as the root.
            own = _GROUPS / kind / inside.lstrip("/")
            for group in {own, *own.parents} - {*_GROUPS.parents}:
                with suppress(OSError, KeyError, ValueError):  # no limit is "max"
                    most = int((group / limit).read_text())
                    busy = int((group / used).read_text()) - _numbers(group / "memory.stat")[cached]
                    yield max(most - busy, 0)


def _numbers(path: Path) -> dict[str, int]:
    """The first number of each line, by the word before it."""
    return {words[0]: int(words[1]) for words in map(str.split, path.read_text().splitlines()) if len(words) > 1}
