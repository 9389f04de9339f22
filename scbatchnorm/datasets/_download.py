"""Download of registered files: whole and the right ones, or an error that says what to do next."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import time
from importlib.metadata import version
from typing import TYPE_CHECKING

import pooch
import requests
from tqdm.utils import CallbackIOWrapper

from scbatchnorm._runtime.atomic_files import hold_lock, replace_atomically
from scbatchnorm._runtime.progress import progress_bar

if TYPE_CHECKING:
    from pathlib import Path

    from scbatchnorm.datasets._registry import Dataset

_logger = logging.getLogger(__name__)
_CHUNK = 2**18
# Seconds without an answer.
_TIMEOUT = 60
# Seconds before each round over the addresses.
_WAITS = (0, 1, 4)
_PROBLEMS = {
    **dict.fromkeys((errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)), "the disk is full"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "the folder cannot be written to"),
    **dict.fromkeys((errno.EEXIST, errno.ENOTDIR), "there is a file in place of the folder"),
}


class _WrongFileError(OSError):
    """An address sent another file than the registered one."""


def download_file(target: Path, entry: Dataset, *, progress: bool | None) -> None:
    """Have the file of a data set at `target`.

    A file that is there and has the checksum is left alone. Any other one is replaced once the right one is whole.
    One process or thread downloads, others wait for it. What a killed download left is removed.
    """
    if _has_checksum(target, entry):
        return
    folder = target.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with hold_lock(target.with_name(f".{target.name}.lock")):
            if _has_checksum(target, entry):  # whoever held the lock before has downloaded it
                return
            if entry.size > shutil.disk_usage(folder).free:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            with replace_atomically(target) as (new,):
                _download_from_any(target, new, entry, progress=progress)
    except OSError as error:
        if error.errno not in _PROBLEMS:
            raise
        problem = _PROBLEMS[error.errno]
        msg = f"{problem}: {target.name} takes {entry.size / 1e6:.0f} MB in {folder}. Give another cache_dir."
        raise OSError(error.errno, msg) from error
    _logger.info("downloaded %s to %s", target.name, target)


def _has_checksum(path: Path, entry: Dataset) -> bool:
    """Whether there is a file with the registered size and checksum."""
    return path.is_file() and path.stat().st_size == entry.size and _compute_checksum(path, entry) == entry.checksum


def _compute_checksum(path: Path, entry: Dataset) -> str:
    """Checksum of a file, `"md5:..."`, by the algorithm of the registered one."""
    algorithm = entry.checksum.partition(":")[0]
    return f"{algorithm}:{pooch.file_hash(str(path), alg=algorithm)}"


def _download_from_any(target: Path, new: Path, entry: Dataset, *, progress: bool | None) -> None:
    """Write the file to `new`; addresses are asked in turn, and again unless they sent another file."""
    urls, problems = list(entry.urls), dict[str, str]()
    for wait in _WAITS:
        if urls:
            time.sleep(wait)
        for url in tuple(urls):
            try:
                _download(url, new, entry, progress=progress)
                return
            except requests.RequestException as error:
                problems[url] = str(error)
            except _WrongFileError as error:
                problems[url] = str(error)
                urls.remove(url)
    reasons = "; ".join(f"{url} ({problem})" for url, problem in problems.items())
    msg = f"could not download {target.name}: {reasons}. Call again later, or save the file ({entry.checksum}) as {target}."
    raise ConnectionError(msg) if urls else OSError(msg)


def _download(url: str, new: Path, entry: Dataset, *, progress: bool | None) -> None:
    """Write what one address sends to `new`, and compare it with the registered file."""
    # Not `pooch.retrieve`: it writes to standard error, and what it has downloaded stays when it is killed.
    download = pooch.HTTPDownloader(
        chunk_size=_CHUNK,
        timeout=_TIMEOUT,
        headers={"User-Agent": f"scbatchnorm/{version('scbatchnorm')}"},  # some servers refuse Python's own
    )
    with progress_bar(entry.size, desc=new.name, unit="B", progress=progress) as bar, new.open("wb") as file:
        download(url, CallbackIOWrapper(bar.update, file, "write"), None)
    n_bytes = new.stat().st_size
    if n_bytes != entry.size:
        msg = f"sent another file: {n_bytes} bytes instead of {entry.size}"
        raise _WrongFileError(msg)
    checksum = _compute_checksum(new, entry)
    if checksum != entry.checksum:
        msg = f"sent another file: {checksum} instead of {entry.checksum}"
        raise _WrongFileError(msg)
