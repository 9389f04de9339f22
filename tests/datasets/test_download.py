"""Whatever happens on the way: the right file, or an error and nothing that looks like it."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
import shutil
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from scbatchnorm._runtime.atomic_files import hold_lock
from scbatchnorm.datasets import _download
from scbatchnorm.datasets._download import download_file
from scbatchnorm.datasets._registry import DATASETS
from tests.datasets.server import BODY, SHA, Server, answer, broken_at, serving

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy, and no time between tries."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(_download, "_WAITS", (0, 0, 0))


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "set.h5ad"


def fetch(target: Path, *urls: str, checksum: str = SHA, progress: bool | None = None) -> None:
    entry = dataclasses.replace(DATASETS["kang_2018"], urls=urls, checksum=checksum, size=len(BODY))
    download_file(target, entry, progress=progress)


def left(target: Path) -> list[str]:
    """Names of the files in the cache."""
    return sorted(path.name for path in target.parent.iterdir())


def test_a_file_is_downloaded_once(server, target):
    fetch(target, server.url)
    assert target.read_bytes() == BODY
    assert left(target) == ["set.h5ad"]
    fetch(target, server.url)
    assert server.n_requests == 1
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
    assert server.n_requests == 3


@pytest.mark.parametrize(
    "spoilt", [broken_at(300_000), answer(429), answer(500), answer(503)], ids=["broken", "429", "500", "503"]
)
def test_a_server_in_trouble_is_asked_again(server, target, spoilt):
    server.spoil = [spoilt, spoilt]
    fetch(target, server.url)
    assert target.read_bytes() == BODY
    assert server.n_requests == 3


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        (answer(404), "404 Client Error: Not Found"),
        (answer(403), "403 Client Error: Forbidden"),
        (answer(503), "503 Server Error: Service Unavailable"),
        (broken_at(300_000), r"300000 bytes read, 724000 more expected"),
    ],
    ids=["missing", "forbidden", "down", "broken"],
)
def test_tries_end(server, target, spoilt, message):
    server.spoil = [spoilt] * 3
    with pytest.raises(ConnectionError, match=rf"could not download set\.h5ad: http://.*/file \(.*{message}") as caught:
        fetch(target, server.url)
    assert f"Call again later, or save the file ({SHA}) as {target}." in str(caught.value)
    assert server.n_requests == 3
    assert left(target) == []


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        (answer(202), "sent another file: 0 bytes instead of 1024000"),
        (answer(200, b"<html>Are you a robot?</html>"), "sent another file: 29 bytes instead of 1024000"),
        (answer(200, BODY[::-1]), r"sent another file: sha256:\w{64} instead of sha256:\w{64}"),
    ],
    ids=["challenge", "page", "changed"],
)
def test_another_file_is_not_asked_for_again(server, target, spoilt, message):
    server.spoil = [spoilt]
    with pytest.raises(OSError, match=message) as caught:
        fetch(target, server.url)
    assert f"Call again later, or save the file ({SHA}) as {target}." in str(caught.value)
    assert not isinstance(caught.value, ConnectionError)
    assert server.n_requests == 1
    assert left(target) == []


@pytest.mark.parametrize(
    "spoilt", [answer(404), answer(200, b"<html>"), broken_at(300_000)], ids=["missing", "page", "broken"]
)
def test_the_next_address_is_asked(server, target, spoilt):
    with serving() as other:
        other.spoil = [spoilt]
        fetch(target, other.url, server.url)
        assert (other.n_requests, server.n_requests) == (1, 1)
    assert target.read_bytes() == BODY
    assert left(target) == ["set.h5ad"]


def test_a_failed_download_keeps_what_was_there(server, target):
    target.parent.mkdir()
    target.write_bytes(b"of another version")
    server.spoil = [answer(200, b"<html>")]
    with pytest.raises(OSError, match="sent another file"):
        fetch(target, server.url)
    assert target.read_bytes() == b"of another version"


def test_what_a_killed_download_left_is_removed(server, target):
    leftover = target.with_name(".set.h5ad-0123456789ab.part")
    leftover.mkdir(parents=True)
    (leftover / "set.h5ad").write_bytes(BODY[:1000])
    for name in (".set.h5ad-0123456789ab.part.lock", ".set.h5ad.lock"):
        target.with_name(name).touch()
    fetch(target, server.url)
    assert target.read_bytes() == BODY
    assert left(target) == ["set.h5ad"]


def test_no_network(target):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/file"
        with pytest.raises(ConnectionError, match=r"could not download set\.h5ad: .*refused.*Call again later"):
            fetch(target, url)
    assert left(target) == []


class FullDisk:
    free = 10


def test_a_full_disk_is_named(server, target, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: FullDisk())
    with pytest.raises(OSError, match=r"the disk is full: set\.h5ad takes 1 MB in .*cache\. Give another cache_dir"):
        fetch(target, server.url)
    assert server.n_requests == 0
    monkeypatch.undo()
    monkeypatch.setenv("no_proxy", "*")

    class Full:
        def write(self, data: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_download, "CallbackIOWrapper", lambda *_: Full())
    with pytest.raises(OSError, match="the disk is full"):
        fetch(target, server.url)
    assert server.n_requests == 1
    assert left(target) == []


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_a_folder_that_cannot_be_written_to_is_named(server, target, monkeypatch, code):
    def refused(self, *_, **__):
        raise OSError(code, os.strerror(code), str(self))

    monkeypatch.setattr(Path, "mkdir", refused)
    message = r"the folder cannot be written to: set\.h5ad takes 1 MB in .*cache\. Give another cache_dir"
    with pytest.raises(OSError, match=message) as caught:
        fetch(target, server.url)
    assert caught.value.errno == code
    assert server.n_requests == 0


@pytest.mark.parametrize("below", ["", "cache"])
def test_a_file_in_place_of_the_folder_is_named(server, tmp_path, below):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"there is a file in place of the folder: .* Give another cache_dir"):
        fetch(tmp_path / "file" / below / "set.h5ad", server.url)
    assert server.n_requests == 0


@pytest.mark.parametrize("locks", [True, False])
def test_several_at_once_get_the_file(server, target, monkeypatch, locks):
    def unknown(*_, **__):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    if not locks:
        monkeypatch.setattr(FileLock, "acquire", unknown)
    together = threading.Barrier(6)

    def one(_: int) -> bytes:
        together.wait(60)
        fetch(target, server.url)
        return target.read_bytes()

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(one, range(6))) == {BODY}
    assert left(target) == ["set.h5ad"]
    if locks:
        assert server.n_requests == 1, "one downloads, the others wait"


def test_another_process_that_downloads_is_waited_for(server, target):
    target.parent.mkdir()
    with ThreadPoolExecutor(1) as pool:
        with hold_lock(target.with_name(".set.h5ad.lock")):
            waiting = pool.submit(fetch, target, server.url)
            with pytest.raises(TimeoutError):
                waiting.result(0.1)
            target.write_bytes(BODY)
        waiting.result(60)
    assert left(target) == ["set.h5ad"]
    assert server.n_requests == 0


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
