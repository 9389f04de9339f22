"""Files are whole, whatever happens; nothing is left behind."""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from scbatchnorm._runtime.atomic_files import (
    check_output_path,
    hold_lock,
    remove_leftovers,
    replace_atomically,
    write_atomically,
)
from tests.helpers.processes import run_python

fcntl = pytest.importorskip("fcntl")


def check(path, *, overwrite=False, folder=False):
    check_output_path("path", path, overwrite=overwrite, hint="overwrite=True", folder=folder)


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
            write_atomically(target, b"data")
            assert stat.S_IMODE(target.stat().st_mode) == mode
    finally:
        os.umask(before)


def test_links_stay_links(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "file", tmp_path / "link"
    link.symlink_to(target)
    for data in (b"first", b"second"):
        write_atomically(link, data)
        assert link.is_symlink()
        assert target.read_bytes() == data
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["elsewhere", "file", "link"]


def test_hard_links_keep_what_they_had(tmp_path):
    """Somebody who has the old file open, or under another name, keeps it whole."""
    target, other = tmp_path / "file", tmp_path / "other"
    target.write_bytes(b"old")
    os.link(target, other)
    with target.open("rb") as opened:
        write_atomically(target, b"new")
        assert opened.read() == b"old"
    assert (other.read_bytes(), target.read_bytes()) == (b"old", b"new")


def test_several_targets_are_all_or_nothing(tmp_path):
    targets = [tmp_path / "a.csv", tmp_path / "b.zarr"]
    for text in ("first", "second"):
        with replace_atomically(*targets) as (table, store):
            table.write_text(text)
            store.mkdir()
            (store / text).touch()
            assert table.parent.parent == tmp_path, "on the same disk, so that moving is at once"
        assert targets[0].read_text() == text
        assert [path.name for path in targets[1].iterdir()] == [text]
    with pytest.raises(KeyboardInterrupt), replace_atomically(*targets) as (table, _):
        table.write_text("third")
        raise KeyboardInterrupt
    assert targets[0].read_text() == "second"
    assert sorted(tmp_path.iterdir()) == targets


@pytest.mark.parametrize("name", ["file", "with space", "[a]*?.x", "Ω", ".lock", ".hidden.part"])
def test_names_of_all_sorts(tmp_path, name):
    target = tmp_path / name
    for data in (b"1", b"2"):
        write_atomically(target, data)
        assert target.read_bytes() == data
    assert list(tmp_path.iterdir()) == [target]


KILLED = """
import os, signal, sys
from pathlib import Path
from scbatchnorm._runtime.atomic_files import replace_atomically
with replace_atomically(Path(sys.argv[1])) as (new,):
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
    write_atomically(target, b"old")
    assert len(killed(target, "file")) == 1
    assert target.read_bytes() == b"old"
    write_atomically(other, b"not concerned")
    assert len([path for path in tmp_path.iterdir() if path.name.endswith(".part")]) == 1
    write_atomically(target, b"new")
    assert target.read_bytes() == b"new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "file2"]


def test_folder_that_was_moved_away_comes_back(tmp_path):
    """A folder cannot be replaced in one step: killed between the two, the old one is restored by whoever writes next."""
    target = tmp_path / "store.zarr"
    target.mkdir()
    (target / "old").touch()
    assert len(killed(target, "folder")) == 1
    assert not target.exists()
    with pytest.raises(KeyboardInterrupt), replace_atomically(target):
        raise KeyboardInterrupt
    assert [path.name for path in target.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [target]


def test_what_is_being_written_is_no_leftover(tmp_path):
    target = tmp_path / "file"
    with replace_atomically(target) as (slow,):
        slow.write_bytes(b"slow")
        write_atomically(target, b"quick")
        assert target.read_bytes() == b"quick"
    assert target.read_bytes() == b"slow"
    assert list(tmp_path.iterdir()) == [target]


def test_lock_taken_for_a_leftover_is_made_anew(tmp_path, monkeypatch):
    """In the moment after its file is made and before it is locked."""
    target, lock = tmp_path / "file", fcntl.flock
    taken: list[bool] = []

    def late(descriptor, how):
        if not taken:
            taken.append(True)
            remove_leftovers(target)
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    write_atomically(target, b"data")
    assert taken
    assert target.read_bytes() == b"data"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS])
def test_file_systems_without_locks(tmp_path, monkeypatch, code):
    def unknown(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", unknown)
    for name in (".file-0123456789ab.part", ".file-0123456789ab.part.lock"):
        (tmp_path / name).mkdir() if name.endswith(".part") else (tmp_path / name).touch()
    write_atomically(tmp_path / "file", b"data")
    assert (tmp_path / "file").read_bytes() == b"data"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".file-0123456789ab.part",
        ".file-0123456789ab.part.lock",
        "file",
    ]


def test_many_writers_of_one_file(tmp_path):
    """Each reader finds one of the versions, whole."""
    target, versions = tmp_path / "file", [bytes([n]) * 100_000 for n in range(4)]
    write_atomically(target, versions[0])
    stop = time.monotonic() + 0.5

    def write(data):
        while time.monotonic() < stop:
            write_atomically(target, data)

    writers = [threading.Thread(target=write, args=(data,)) for data in versions]
    for writer in writers:
        writer.start()
    while time.monotonic() < stop:
        assert target.read_bytes() in versions
    for writer in writers:
        writer.join(60)
        assert not writer.is_alive()
    assert list(tmp_path.iterdir()) == [target]


def test_leftovers_of_longer_names_stay(tmp_path):
    """A name may begin like another one, and what was moved away comes back under its own name only."""
    longer = tmp_path / "store-b"
    longer.mkdir()
    (longer / "old").touch()
    assert len(killed(longer, "folder")) == 1
    remove_leftovers(tmp_path / "store")
    assert not (tmp_path / "store").exists()
    remove_leftovers(longer)
    assert [path.name for path in longer.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [longer]


def test_one_at_a_time_holds_a_lock(tmp_path):
    path, holders, most = tmp_path / "lock", [0], [0]

    def hold(_):
        for _ in range(5):
            with hold_lock(path):
                holders[0] += 1
                most[0] = max(most[0], holders[0])
                with pytest.raises(TimeoutError), hold_lock(path, wait=False):
                    pass
                holders[0] -= 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(hold, range(4)))
    assert most == [1]
    assert not list(tmp_path.iterdir())


def test_folder_that_disappeared_is_not_made(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone"):
        write_atomically(tmp_path / "gone" / "file", b"data")
    assert not list(tmp_path.iterdir())
