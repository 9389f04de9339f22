"""Files from the web: whole and the right ones, however often the transfer breaks."""

from __future__ import annotations

import errno
import hashlib
import http.client
import logging
import os
import shutil
import time
import urllib.error
import urllib.request
from importlib.metadata import version
from typing import TYPE_CHECKING

from scbatchnorm._runtime import progress as _progress
from scbatchnorm.datasets import _partial

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from scbatchnorm._runtime.progress import tqdm

_logger = logging.getLogger(__name__)
_BLOCK = 2**18
_TIMEOUT = 60
# Seconds before each further round over the addresses; rounds that brought something are not counted.
_WAITS = (1, 2, 4, 8)
# Answers after which another try may help.
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}
_DISK_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


class _BrokenError(Exception):
    """The transfer ended early, or did not begin; another try may go on."""


class _RefusedError(Exception):
    """An address will not give the file, however often it is asked."""


def fetch(target: Path, urls: Sequence[str], *, checksum: str, size: int, progress: bool | None) -> None:
    """Have the file with this checksum and size at `target`.

    A file that is there and has the checksum is left alone. Any other one is replaced once the right one is whole.
    What a broken transfer left is kept beside it, and completed the next time.
    """
    if _is_right(target, checksum, size):
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _partial.held(target) as part:
            if _is_right(target, checksum, size):  # whoever held it before has finished it
                return
            if size - part.stat().st_size > shutil.disk_usage(part.parent).free:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            with _progress.progress_bar(size, desc=target.name, unit="B", progress=progress) as bar:
                _from_any(urls, part, checksum, size, bar, target)
            part.replace(target)
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        msg = f"the disk is full: {target.name} takes {size / 1e6:.0f} MB in {target.parent}. Give another cache_dir."
        raise OSError(error.errno, msg) from error
    _logger.info("downloaded %s to %s", target.name, target)


def _is_right(path: Path, checksum: str, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size and _checksum(path, checksum) == checksum


def _checksum(path: Path, like: str) -> str:
    """Checksum of a file by the algorithm of another one, `"md5:..."`."""
    algorithm = like.partition(":")[0]
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False))
    return f"{algorithm}:{digest.hexdigest()}"


def _from_any(urls: Sequence[str], part: Path, checksum: str, size: int, bar: tqdm, target: Path) -> None:
    """Complete `part` from the first address that has the file; they are asked in turn."""
    left, problems, waits = list(urls), dict[str, str](), list(_WAITS)
    most = part.stat().st_size
    while left:
        for url in tuple(left):
            try:
                _from_one(url, part, checksum, size, bar)
                return
            except _RefusedError as error:
                problems[url] = str(error)
                left.remove(url)
            except _BrokenError as error:
                problems[url] = str(error)
        there = part.stat().st_size
        if left and there <= most:
            if not waits:
                msg = f"{_said(target, problems)} Call again to go on at {there / 1e6:.0f} of {size / 1e6:.0f} MB."
                raise ConnectionError(msg)
            time.sleep(waits.pop(0))
        most = max(most, there)
    msg = f"{_said(target, problems)} If you have the file ({checksum}), save it as {target}."
    raise OSError(msg)


def _said(target: Path, problems: dict[str, str]) -> str:
    return f"could not download {target.name}: " + "; ".join(f"{url} {what}" for url, what in problems.items()) + "."


def _from_one(url: str, part: Path, checksum: str, size: int, bar: tqdm) -> None:
    """Complete `part` from one address and compare its checksum; a wrong file is emptied."""
    resumed = part.stat().st_size > 0
    _transfer(url, part, size, bar)
    found = _checksum(part, checksum)
    if found == checksum:
        return
    os.truncate(part, 0)
    if resumed:  # what was there may have been of another file
        _from_one(url, part, checksum, size, bar)
        return
    msg = f"sent another file: {found} instead of {checksum}"
    raise _RefusedError(msg)


def _transfer(url: str, part: Path, size: int, bar: tqdm) -> None:
    """Append to `part` what is missing."""
    if part.stat().st_size > size:
        os.truncate(part, 0)
    there = part.stat().st_size
    if there == size:
        return
    headers = {"User-Agent": f"scbatchnorm/{version('scbatchnorm')}"}  # some servers refuse Python's own
    if there:
        headers["Range"] = f"bytes={there}-"
    with _open(urllib.request.Request(url, headers=headers)) as response, part.open("ab") as file:
        if response.status not in {200, 206}:
            msg = f"answered {response.status} {response.reason} and no file"
            raise _RefusedError(msg)
        resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {there}-")
        start = there if resumed else 0  # not every server sends parts
        length = response.headers.get("Content-Length")
        if length is not None and start + int(length) != size:
            msg = f"sent another file: {start + int(length)} bytes instead of {size}"
            raise _RefusedError(msg)
        file.truncate(start)
        there = start
        bar.n = bar.initial = there
        while block := _read(response):
            file.write(block)
            there += len(block)
            bar.update(len(block))
            if there > size:
                break
    if there < size:
        msg = f"broke off after {there} of {size} bytes"
        raise _BrokenError(msg)


def _open(request: urllib.request.Request) -> http.client.HTTPResponse:
    """The answer to a request, errors in our words."""
    try:
        return urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        said = f"answered {error.code} {error.reason}"
        if error.code in _TRANSIENT:
            raise _BrokenError(said) from error
        raise _RefusedError(said) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        msg = f"cannot be reached ({reason})"
        raise _BrokenError(msg) from error


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(_BLOCK)
    except (OSError, http.client.HTTPException) as error:
        msg = f"broke off ({error})"
        raise _BrokenError(msg) from error
