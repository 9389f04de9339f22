"""Available memory."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROC, _GROUPS = Path("/proc"), Path("/sys/fs/cgroup")
# Files of a control group with its limit, its use, and the file cache in its use, for versions 2 and 1 of control groups.
_FILES = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def available_memory() -> int | None:
    """Bytes that are available without swapping; `None` if they are not known.

    On Linux within the limits of the container or of the cluster job that this process is in; elsewhere all memory of the machine.
    """
    return min([*_machine_memory(), *_control_group_memory()], default=None)


def _machine_memory() -> Iterator[int]:
    """Available memory of the machine."""
    with suppress(OSError, KeyError, ValueError, IndexError):
        yield 1024 * _read_numbers(_PROC / "meminfo")["MemAvailable:"]
        return
    with suppress(AttributeError, OSError, ValueError):
        yield os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _control_group_memory() -> Iterator[int]:
    """Memory that is left to each control group that this process is in."""
    with suppress(OSError, ValueError):
        for line in (_PROC / "self" / "cgroup").read_text().splitlines():
            _, kind, inside = line.split(":", 2)
            if kind not in _FILES:
                continue
            limit, used, cached = _FILES[kind]
            # In a container its control group may be the root.
            own_group = _GROUPS / kind / inside.lstrip("/")
            for group in {own_group, *own_group.parents} - {*_GROUPS.parents}:
                with suppress(OSError, KeyError, ValueError):  # no limit is "max"
                    maximum = int((group / limit).read_text())
                    in_use = int((group / used).read_text()) - _read_numbers(group / "memory.stat")[cached]
                    yield max(maximum - in_use, 0)


def _read_numbers(path: Path) -> dict[str, int]:
    """Read the first number of each line, by the word before it."""
    return {words[0]: int(words[1]) for words in map(str.split, path.read_text().splitlines()) if len(words) > 1}
