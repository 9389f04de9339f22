"""Files are whole, whatever happens; nothing is left behind."""

from __future__ import annotations

import os
import stat
import threading
import time

import pytest

from scbatchnorm._runtime import atomic_files as _atomic
from tests.helpers.processes import run_python

fcntl = pytest.importorskip("fcntl")


def check(path, *, overwrite=False, folder=False):
    _atomic.check_target("path", path, overwrite=overwrite, hint="overwrite=True", folder=folder)


def test_what_may_be_written_to(tmp_path):
    check(tmp_path / "new")
    old = tmp_path / "old"
    old.write_text("old")
    check(old, overwrite=True)
    with pytest.raises(FileExistsError, match=r"path exists already: .*old\. Give overwrite=True to replace it"):
        check(old)
    with pytest.raises(FileNotFoundError, match=r"the folder of path does not exist: .*nowhere"):
        check(tmp_path / "nowhere" / "new")
    with pytest.raises(IsADirectoryError, match="path must be a file; .* is a folder"):
        check(tmp_path, overwrite=True)
    check(tmp_path, overwrite=True, folder=True)


def test_pipes_are_refused(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for target in (pipe, tmp_path / "link"):
        if target != pipe:
            target.symlink_to(pipe)
        with pytest.raises(OSError, match="path must be a regular file; .* is a device, a pipe or a socket"):
            check(target, overwrite=True)


def test_folder_without_permission(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(PermissionError, match=f"the folder of path cannot be written to: {tmp_path}"):
        check(tmp_path / "new")


@pytest.mark.parametrize("umask, mode", [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_are_those_of_any_new_file(tmp_path, umask, mode):
    target = tmp_path / "file"
    before = os.umask(umask)
    try:
        for _ in range(2):
            _atomic.write(target, b"data")
            assert stat.S_IMODE(target.stat().st_mode) == mode
    finally:
        os.umask(before)


def test_links_stay_links(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "file", tmp_path / "link"
    link.symlink_to(target)
    for data in (b"first", b"second"):
        _atomic.write(link, data)
        assert link.is_symlink()
        assert target.read_bytes() == data
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["elsewhere", "file", "link"]


def test_hard_links_keep_what_they_had(tmp_path):
    """Somebody who has the old file open, or under another name, keeps it whole."""
    target, other = tmp_path / "file", tmp_path / "other"
    target.write_bytes(b"old")
    os.link(target, other)
    with target.open("rb") as opened:
        _atomic.write(target, b"new")
        assert opened.read() == b"old"
    assert (other.read_bytes(), target.read_bytes()) == (b"old", b"new")


def test_several_targets_are_all_or_nothing(tmp_path):
    targets = [tmp_path / "a.csv", tmp_path / "b.zarr"]
    for text in ("first", "second"):
        with _atomic.staged(*targets) as (table, store):
            table.write_text(text)
            store.mkdir()
            (store / text).touch()
            assert table.parent.parent == tmp_path, "on the same disk, so that moving is at once"
        assert targets[0].read_text() == text
        assert [path.name for path in targets[1].iterdir()] == [text]
    with pytest.raises(KeyboardInterrupt), _atomic.staged(*targets) as (table, _):
        table.write_text("third")
        raise KeyboardInterrupt
    assert targets[0].read_text() == "second"
    assert sorted(tmp_path.iterdir()) == targets


@pytest.mark.parametrize("name", ["file", "with space", "[a]*?.x", "Ω", ".lock", ".hidden.part"])
def test_names_of_all_sorts(tmp_path, name):
    target = tmp_path / name
    for data in (b"1", b"2"):
        _atomic.write(target, data)
        assert target.read_bytes() == data
    assert list(tmp_path.iterdir()) == [target]


KILLED = """
import os, signal, sys
from pathlib import Path
from scbatchnorm._runtime import atomic_files as _atomic
with _atomic.staged(Path(sys.argv[1])) as (new,):
    if sys.argv[2] == "folder":
        new.mkdir()
        rename = Path.rename
        def killed(self, target):
            rename(self, target)
            os.kill(os.getpid(), signal.SIGKILL)
        Path.rename = killed
    else:
        new.write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(target, what):
    assert run_python("-c", KILLED, target, what).returncode == -9
    return [path for path in target.parent.iterdir() if path.name.endswith(".part")]


def test_leftovers_of_the_killed_are_removed(tmp_path):
    target, other = tmp_path / "file", tmp_path / "file2"
    _atomic.write(target, b"old")
    assert len(killed(target, "file")) == 1
    assert target.read_bytes() == b"old"
    _atomic.write(other, b"not concerned")
    assert len([path for path in tmp_path.iterdir() if path.name.endswith(".part")]) == 1
    _atomic.write(target, b"new")
    assert target.read_bytes() == b"new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "file2"]


def test_folder_that_was_moved_away_comes_back(tmp_path):
    """A folder cannot be replaced in one step: killed between the two, the old one is restored by whoever writes next."""
    target = tmp_path / "store.zarr"
    target.mkdir()
    (target / "old").touch()
    assert len(killed(target, "folder")) == 1
    assert not target.exists()
    with pytest.raises(KeyboardInterrupt), _atomic.staged(target):
        raise KeyboardInterrupt
    assert [path.name for path in target.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [target]


def test_what_is_being_written_is_no_leftover(tmp_path):
    target = tmp_path / "file"
    with _atomic.staged(target) as (slow,):
        slow.write_bytes(b"slow")
        _atomic.write(target, b"quick")
        assert target.read_bytes() == b"quick"
    assert target.read_bytes() == b"slow"
    assert list(tmp_path.iterdir()) == [target]


def test_folder_taken_for_a_leftover_is_made_anew(tmp_path, monkeypatch):
    """In the moment between its beginning and its lock."""
    target, lock = tmp_path / "file", fcntl.flock
    taken: list[bool] = []

    def late(descriptor, how):
        if not taken and how == fcntl.LOCK_EX:
            taken.append(True)
            _atomic.recover(target)
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    _atomic.write(target, b"data")
    assert taken
    assert target.read_bytes() == b"data"
    assert list(tmp_path.iterdir()) == [target]


def test_file_systems_without_locks(tmp_path, monkeypatch):
    def unknown(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unknown)
    (tmp_path / ".file-0.part").mkdir()
    _atomic.write(tmp_path / "file", b"data")
    assert (tmp_path / "file").read_bytes() == b"data"
    assert (tmp_path / ".file-0.part").exists()


def test_many_writers_of_one_file(tmp_path):
    """Each reader finds one of the versions, whole."""
    target, versions = tmp_path / "file", [bytes([n]) * 100_000 for n in range(4)]
    _atomic.write(target, versions[0])
    stop = time.monotonic() + 0.5

    def write(data):
        while time.monotonic() < stop:
            _atomic.write(target, data)

    writers = [threading.Thread(target=write, args=(data,)) for data in versions]
    for writer in writers:
        writer.start()
    while time.monotonic() < stop:
        assert target.read_bytes() in versions
    for writer in writers:
        writer.join(60)
        assert not writer.is_alive()
    assert list(tmp_path.iterdir()) == [target]
