"""How much memory there is, as the system and the groups of processes say."""

from __future__ import annotations

import pytest

from scbatchnorm.cli import _memory


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Files as Linux has them; 8 GB are available, and there are no groups."""
    proc, groups = tmp_path / "proc", tmp_path / "groups"
    (proc / "self").mkdir(parents=True)
    groups.mkdir()
    (proc / "meminfo").write_text("MemTotal:  16000000 kB\nMemAvailable:  8000000 kB\nHugePages_Total:  0\n")
    monkeypatch.setattr(_memory, "_PROC", proc)
    monkeypatch.setattr(_memory, "_GROUPS", groups)
    return tmp_path


def test_of_the_machine(system):
    assert _memory.available_memory() == 8_192_000_000
    (system / "proc" / "meminfo").unlink()
    assert (_memory.available_memory() or 0) > 1_000_000_000, "all memory, where the system says no more"


@pytest.mark.parametrize(
    ("line", "place", "names"),
    [
        ("0::/job/step", "job", ("memory.max", "memory.current", "inactive_file")),
        ("0::/job/step", "job/step", ("memory.max", "memory.current", "inactive_file")),
        ("0::/", "", ("memory.max", "memory.current", "inactive_file")),
        ("4:memory:/job", "memory/job", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")),
        ("4:memory:/job", "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")),
    ],
    ids=["job", "step", "container", "version 1", "container, version 1"],
)
def test_of_groups(system, line, place, names):
    """Files that were read lately are no use of memory."""
    (system / "proc" / "self" / "cgroup").write_text(f"9:cpuset:/\n{line}\n")
    group = system / "groups" / place
    group.mkdir(parents=True, exist_ok=True)
    limit, used, cached = names
    (group / limit).write_text("1000\n")
    (group / used).write_text("700\n")
    (group / "memory.stat").write_text(f"anon 300\n{cached} 400\n")
    assert _memory.available_memory() == 700
    (group / limit).write_text("max\n")
    assert _memory.available_memory() == 8_192_000_000
