"""Whatever happens on the way: the right file, or an error and nothing that looks like it."""

from __future__ import annotations

import errno
import hashlib
import shutil
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from scbatchnorm.datasets import _download, _partial
from tests.datasets.server import BODY, SHA, Server, answer, broken_at, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(_download, "_WAITS", (0, 0))
    with serving() as running:
        yield running


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "set.h5ad"


def fetch(target: Path, *urls: str, checksum: str = SHA, progress: bool | None = None) -> None:
    _download.fetch(target, urls, checksum=checksum, size=len(BODY), progress=progress)


def left(target: Path) -> list[str]:
    """Names of the files in the cache."""
    return sorted(path.name for path in target.parent.iterdir())


def test_a_file_is_downloaded_once(server, target):
    fetch(target, server.url)
    assert target.read_bytes() == BODY
    assert left(target) == ["set.h5ad"]
    fetch(target, server.url)
    assert server.asked == [None]
    assert all(agent.startswith("scbatchnorm/") for agent in server.agents)


def test_md5_is_compared_too(server, target):
    fetch(target, server.url, checksum="md5:" + hashlib.md5(BODY).hexdigest())
    assert target.read_bytes() == BODY
    server.body = BODY[::-1]
    target.write_bytes(BODY[::-1])
    with pytest.raises(OSError, match=r"sent another file: md5:\w{32} instead of md5:\w{32}"):
        fetch(target, server.url, checksum="md5:" + hashlib.md5(BODY).hexdigest())


def test_a_file_that_changed_in_the_cache_is_downloaded_again(server, target):
    target.parent.mkdir()
    for spoilt in (BODY[::-1], BODY[:-1], b""):
        target.write_bytes(spoilt)
        fetch(target, server.url)
        assert target.read_bytes() == BODY
    assert server.asked == [None] * 3


def test_a_broken_transfer_goes_on_where_it_broke(server, target):
    server.spoil = [broken_at(300_000), broken_at(700_000)]
    fetch(target, server.url)
    assert target.read_bytes() == BODY
    assert server.asked == [None, "bytes=300000-", "bytes=700000-"]


def test_what_an_earlier_process_left_is_completed(server, target):
    target.parent.mkdir()
    target.with_name("set.h5ad.part").write_bytes(BODY[:1000])
    fetch(target, server.url)
    assert server.asked == ["bytes=1000-"]
    assert left(target) == ["set.h5ad"]
    target.unlink()
    target.with_name("set.h5ad.part").write_bytes(BODY)  # killed before it was moved
    fetch(target, server.url)
    assert server.asked == ["bytes=1000-"]
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("rest", [b"of another file", BODY[::-1], BODY + b"more"])
def test_what_is_left_of_another_file_does_no_harm(server, target, rest):
    target.parent.mkdir()
    target.with_name("set.h5ad.part").write_bytes(rest)
    fetch(target, server.url)
    assert target.read_bytes() == BODY
    assert server.asked[-1] is None
    assert left(target) == ["set.h5ad"]


def test_a_server_that_sends_no_parts_starts_again(server, target):
    server.parts = False
    server.spoil = [broken_at(300_000)]
    fetch(target, server.url)
    assert target.read_bytes() == BODY
    assert server.asked == [None, "bytes=300000-"]


def test_tries_end_and_are_taken_up_by_the_next_call(server, target):
    server.spoil = [broken_at(300_000)] * 4
    server.parts = False
    with pytest.raises(
        ConnectionError, match=r"could not download set\.h5ad: http://.*/file broke off after 300000 of"
    ):
        fetch(target, server.url)
    assert len(server.asked) == 4, "one that brings something is not counted, and two more"
    assert left(target) == ["set.h5ad.part"]
    server.parts = True
    fetch(target, server.url)
    assert server.asked[4] == "bytes=300000-"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_in_trouble_is_asked_again(server, target, status):
    server.spoil = [answer(status), answer(status)]
    fetch(target, server.url)
    assert target.read_bytes() == BODY
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        (answer(404), "answered 404 Not Found"),
        (answer(403), "answered 403 Forbidden"),
        (answer(202), "answered 202 Accepted and no file"),
        (answer(200, b"<html>Are you a robot?</html>"), "sent another file: 29 bytes instead of 1024000"),
        (answer(200, BODY[::-1]), r"sent another file: sha256:\w{64} instead of sha256:\w{64}"),
    ],
    ids=["missing", "forbidden", "challenge", "page", "changed"],
)
def test_what_will_not_change_is_not_asked_again(server, target, spoilt, message):
    server.spoil = [spoilt]
    with pytest.raises(OSError, match=message) as caught:
        fetch(target, server.url)
    assert f"If you have the file ({SHA}), save it as {target}." in str(caught.value)
    assert not isinstance(caught.value, ConnectionError)
    assert len(server.asked) == 1
    assert left(target) == []


def test_the_next_address_has_the_rest(server, target):
    with serving() as other:
        other.spoil = [broken_at(300_000), answer(404)]
        fetch(target, other.url, server.url)
        assert (other.asked, server.asked) == ([None], ["bytes=300000-"])
    assert target.read_bytes() == BODY


def test_a_page_in_place_of_the_file_spoils_nothing(server, target):
    with serving() as other:
        server.spoil = [broken_at(300_000)]
        other.spoil = [answer(200, b"<html>")]
        fetch(target, server.url, other.url)
    assert server.asked == [None, "bytes=300000-"]


def test_no_network(target, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(_download, "_WAITS", (0,))
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/file"
        with pytest.raises(ConnectionError, match=r"cannot be reached \(.*refused.*Call again to go on at 0 of 1 MB"):
            fetch(target, url)
    assert left(target) == []


class FullDisk:
    free = 10


def test_a_full_disk_is_named(server, target, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: FullDisk())
    with pytest.raises(OSError, match=r"the disk is full: set\.h5ad takes 1 MB in .*cache\. Give another cache_dir"):
        fetch(target, server.url)
    assert not server.asked

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.undo()
    monkeypatch.setattr(_download, "_transfer", full)
    with pytest.raises(OSError, match="the disk is full"):
        fetch(target, server.url)
    assert left(target) == []


@pytest.mark.parametrize("locks", [True, False])
def test_several_at_once_get_the_file(server, target, monkeypatch, locks):
    if not locks:
        monkeypatch.setattr(_partial, "fcntl", None)
    server.spoil = [broken_at(300_000)]
    together = threading.Barrier(6)

    def one(_: int) -> bytes:
        together.wait()
        fetch(target, server.url)
        return target.read_bytes()

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(one, range(6))) == {BODY}
    assert left(target) == ["set.h5ad"]
    if locks:
        assert server.asked == [None, "bytes=300000-"], "one downloads, the others wait"


OTHER = """
import fcntl, os, sys
part = open(sys.argv[1], "ab")
fcntl.flock(part, fcntl.LOCK_EX)
print("held", flush=True)
part.write(sys.stdin.buffer.read())
part.flush()
os.replace(sys.argv[1], sys.argv[2])
"""


def test_another_process_that_downloads_is_waited_for(server, target):
    pytest.importorskip("fcntl", reason="files cannot be locked here")
    target.parent.mkdir()
    command = [sys.executable, "-S", "-c", OTHER, f"{target}.part", str(target)]
    with (
        ThreadPoolExecutor(1) as pool,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other,
    ):
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        waiting = pool.submit(fetch, target, server.url)
        with pytest.raises(TimeoutError):
            waiting.result(0.1)
        other.communicate(BODY)
        waiting.result(60)
    assert target.read_bytes() == BODY
    assert left(target) == ["set.h5ad"]
    assert not server.asked


def test_the_bar_is_shown_where_it_is_wanted(server, target, capfd):
    fetch(target, server.url)
    assert capfd.readouterr() == ("", ""), "no terminal here"
    target.unlink()
    server.spoil = [broken_at(300_000)]
    fetch(target, server.url, progress=True)
    shown = capfd.readouterr().err
    assert "set.h5ad: 100%" in shown
    assert "1.02M/1.02M" in shown
    fetch(target, server.url, progress=True)
    assert capfd.readouterr() == ("", ""), "nothing to download"
