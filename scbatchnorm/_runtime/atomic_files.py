"""Files that are whole: whatever happens while one is written, the old one or the new one is there."""

from __future__ import annotations

import contextlib
import glob
import os
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

if TYPE_CHECKING:
    from collections.abc import Iterator

# Temporary folders are called ".NAME-0123456789ab.part", and the file that is locked while one is used, with ".lock".
_SUFFIX = ".part"
_LOCK_SUFFIX = ".lock"
# Where a folder that is being replaced lies meanwhile, in the temporary folder of the new one.
_OLD = ".scbatchnorm-old"


def check_output_path(name: str, path: Path, *, overwrite: bool, hint: str, folder: bool = False) -> None:
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


def write_atomically(target: Path, data: bytes) -> None:
    """Replace the file `target`, or what it is a link to, by `data`."""
    with replace_atomically(target) as (new,):
        new.write_bytes(data)


@contextlib.contextmanager
def replace_atomically(*targets: Path) -> Iterator[list[Path]]:
    """Paths to write to in place of `targets`; synchronised and moved there at the end, one after the other.

    Nothing else is left behind, and what writers that were killed left of the same targets is removed. Permissions are
    those that a new file gets (umask).
    """
    targets = tuple(Path(os.path.realpath(target)) for target in targets)
    with contextlib.ExitStack() as stack:
        folders = [stack.enter_context(_temporary_folder(target)) for target in targets]
        news = [folder / target.name for folder, target in zip(folders, targets, strict=True)]
        yield news
        for new in news:
            _synchronise(new)
        for new, folder, target in zip(news, folders, targets, strict=True):
            if target.is_dir():
                # A folder is not replaced in one step; `remove_leftovers` puts it back if this is the last that happens.
                target.rename(folder / _OLD)
            new.replace(target)
            _synchronise_folder(target.parent)


@contextlib.contextmanager
def _temporary_folder(target: Path) -> Iterator[Path]:
    """A folder beside `target` that nobody removes as long as this process lives; removed afterwards."""
    remove_leftovers(target)
    folder = target.with_name(f".{target.name}-{secrets.token_hex(6)}{_SUFFIX}")
    with hold_lock(folder.with_name(folder.name + _LOCK_SUFFIX)):
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(target: Path) -> None:
    """Remove what killed writers of `target` left; a folder that they had moved away comes back."""
    for path in target.parent.glob(f".{glob.escape(target.name)}-{'[0-9a-f]' * 12}{_SUFFIX}{_LOCK_SUFFIX}"):
        # Who lives holds the lock. Where files cannot be locked, what is left stays.
        with contextlib.suppress(OSError), hold_lock(path, wait=False):
            folder = path.with_suffix("")
            if (folder / _OLD).exists() and not target.exists():
                (folder / _OLD).rename(target)
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def hold_lock(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of the file `path`, which is made for it and removed at the end.

    With `wait` this waits for whoever holds it, and goes on without a lock where the file system has none. Without
    `wait` it raises OSError in both cases.
    """
    path.parent.stat()  # raises if the folder is missing: the lock would make it
    lock = FileLock(path, fallback_to_soft=False)
    try:
        lock.acquire(blocking=wait)
    except OSError:
        if not wait:
            raise
    try:
        yield
    finally:
        # While it is held, so that the file is not another's; whoever waits for a file that is gone makes a new one.
        with contextlib.suppress(OSError):
            path.unlink()
        lock.release()


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
