"""Cells that a command works on: all of a file in memory, or its expression left where it is and read in blocks."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scbatchnorm.cli import _files, _memory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from anndata import AnnData

    from scbatchnorm._data.store_read import StoreFiles

logger = logging.getLogger(__name__)

# Of the memory that is available, expression may take this share: what is made of it takes as much again, and more.
_SHARE = 0.25
# Bytes that are written for a cell, at the most.
_RESULTS = 512
# Seconds that the scheduler of a cluster has to answer.
_ANSWER = 20


@dataclass(frozen=True)
class Source:
    """Cells, and the files that they were read from if not all of them are in memory."""

    adata: AnnData
    files: StoreFiles | None

    def write(self, target: Path, added: Mapping[str, Sequence[str]]) -> None:
        """All of the file with what was `added`, the keys of each part of the AnnData."""
        if self.files is None:
            _files.write(self.adata, target)
            return
        from scbatchnorm._data.store_copy import copy_store

        parts = {slot: {key: getattr(self.adata, slot)[key] for key in keys} for slot, keys in added.items()}
        copy_store(self.files, target, parts)


def read(
    path: Path,
    target: Path,
    *,
    lazy: bool | None,
    batch_keys: Sequence[str],
    layer: str | None,
    use_rep: str | None,
    whole: bool,
) -> Source:
    """All of a file; or lazily what is needed of it.

    Parameters
    ----------
    path
        The file.
    target
        Where a copy of it with results is going to be written: there must be room for it.
    lazy
        `None`: if memory is short.
    batch_keys, layer, use_rep
        What is needed.
    whole
        Whether it is of little use lazily, so that it may take all memory.
    """
    if not (_is_large(path, layer, whole=whole) if lazy is None else lazy):
        return Source(_files.read(path), None)
    from scbatchnorm._data.store_copy import check_disk_space
    from scbatchnorm._data.store_read import StoreFiles, is_current_format, open_lazily

    with _files.opened(path) as root:
        old = not is_current_format(root)
    if old:
        msg = f"{path} was written before 2020 and cannot be read in blocks. Write it again with anndata, or read all of it into memory: --no-lazy."
        raise ValueError(msg)
    files = StoreFiles.snapshot(path.resolve())
    try:
        with _files.undamaged(path):
            adata = open_lazily(files.path, batch_keys=batch_keys, layer=layer, use_rep=use_rep)
    except OSError as error:
        msg = f"input cannot be read: {path} ({error})."
        raise OSError(msg) from error
    check_disk_space(files, target, name="-o/--output", more=_RESULTS * adata.n_obs)
    logger.info("expression stays in %s and is read in blocks", path)
    return Source(adata, files)


def _is_large(path: Path, layer: str | None, *, whole: bool) -> bool:
    """Whether memory is short for the expression; where it can only be had as a whole, it may take all memory."""
    available = _memory.available()
    if available is None:
        return False
    from scbatchnorm._data.store_read import count_expression_bytes, has_row_blocks, is_current_format

    with _files.opened(path) as root:
        if not is_current_format(root):
            return False
        lazily = not whole and has_row_blocks(root, layer) and importlib.util.find_spec("dask") is not None
        return count_expression_bytes(root) > available * (_SHARE if lazily else 1)


@contextlib.contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """Connected to the Dask scheduler at an address, if there is one."""
    if address is None:
        yield
        return
    try:
        from distributed import Client
    except ImportError as error:
        msg = "--scheduler needs dask.distributed: pip install distributed."
        raise ImportError(msg) from error
    try:
        client = Client(address, timeout=_ANSWER)
    except (OSError, ValueError, TypeError) as error:
        msg = f"--scheduler must be the address of a Dask scheduler, such as tcp://host:8786; {address} does not answer ({error})."
        raise OSError(msg) from error
    with client:
        logger.info("blocks are read by the workers of %s", address)
        yield
