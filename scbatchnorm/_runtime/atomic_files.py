"""Files that are whole: whatever happens while one is written, the old one or the new one is there."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

try:
    import fcntl
except ImportError:  # where files cannot be locked, what killed writers leave behind stays
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator

_SUFFIX = ".part"
# Beside what is written, which may have any name but these.
_LOCK = ".scbatchnorm-lock"
_OLD = ".scbatchnorm-old"


def check_target(name: str, path: Path, *, overwrite: bool, hint: str, folder: bool = False) -> None:
    """Raise if writing to `path` is bound to fail, or would replace what it must not.

    Parameters
    ----------
    name
        What messages call the path.
    path
        Where is to be written.
    overwrite, hint
        Whether an existing file may be replaced, and how to allow it.
    folder
        Whether a folder is written.
    """
    parent = Path(os.path.realpath(path)).parent
    if not parent.is_dir():
        msg = f"the folder of {name} does not exist: {parent}."
        raise FileNotFoundError(msg)
    if not os.access(parent, os.W_OK):
        msg = f"the folder of {name} cannot be written to: {parent}."
        raise PermissionError(msg)
    if path.is_dir() and not folder:
        msg = f"{name} must be a file; {path} is a folder."
        raise IsADirectoryError(msg)
    if path.exists() and not (path.is_file() or path.is_dir()):
        msg = f"{name} must be a regular file; {path} is a device, a pipe or a socket."
        raise OSError(msg)
    if path.exists() and not overwrite:
        msg = f"{name} exists already: {path}. Give {hint} to replace it."
        raise FileExistsError(msg)


def write(target: Path, data: bytes) -> None:
    """Replace the file `target`, or what it is a link to, by `data`."""
    with staged(target) as (new,):
        new.write_bytes(data)


@contextlib.contextmanager
def staged(*targets: Path) -> Iterator[list[Path]]:
    """Paths to write to in place of `targets`; synchronised and moved there at the end, one after the other.

    Nothing else is left behind, and what writers that were killed left of the same targets is removed. Permissions are
    those that a new file gets (umask).
    """
    targets = tuple(Path(os.path.realpath(target)) for target in targets)
    with contextlib.ExitStack() as stack:
        folders = [stack.enter_context(_folder(target)) for target in targets]
        news = [folder / target.name for folder, target in zip(folders, targets, strict=True)]
        yield news
        for new in news:
            _synchronise(new)
        for new, folder, target in zip(news, folders, targets, strict=True):
            if target.is_dir():
                # A folder is not replaced in one step; `recover` puts it back if this is the last thing that happens.
                target.rename(folder / _OLD)
            new.replace(target)
            _synchronise_folder(target.parent)


@contextlib.contextmanager
def _folder(target: Path) -> Iterator[Path]:
    """A folder beside `target` that nobody removes as long as this process lives; removed afterwards."""
    recover(target)
    folder, lock = _locked(target)
    try:
        yield folder
    finally:
        if lock is not None:
            os.close(lock)
        shutil.rmtree(folder, ignore_errors=True)


def _locked(target: Path) -> tuple[Path, int | None]:
    """A new folder, and the open file that is locked in it."""
    while True:
        folder = target.parent / f".{target.name}-{secrets.token_hex(6)}{_SUFFIX}"
        folder.mkdir()
        if fcntl is None:
            return folder, None
        try:
            lock = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            continue
        with contextlib.suppress(OSError):  # not every file system has locks; nothing is removed there
            fcntl.flock(lock, fcntl.LOCK_EX)
        if os.fstat(lock).st_nlink:
            return folder, lock
        # Somebody took the folder for a leftover in the moment before it was locked.
        os.close(lock)


def recover(target: Path) -> None:
    """Remove what killed writers of `target` left; a folder that they had moved away comes back."""
    if fcntl is None:
        return
    for folder in target.parent.glob(f".{_escaped(target.name)}-*{_SUFFIX}"):
        try:
            lock = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError:
            continue
        # Who lives holds the lock.
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if (folder / _OLD).exists() and not target.exists():
                (folder / _OLD).rename(target)
            shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _escaped(name: str) -> str:
    """`name` as a pattern that matches itself only."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _synchronise(path: Path) -> None:
    """Have a file, or all files of a folder, on the disk and not in its queue."""
    for part in [path, *path.rglob("*")] if path.is_dir() else [path]:
        if part.is_file():
            with part.open("rb") as file:
                os.fsync(file.fileno())


def _synchronise_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, where the system can."""
    with contextlib.suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
