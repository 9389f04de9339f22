"""Input of a command: a whole file in memory, or with expression that is read from the file in blocks."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scbatchnorm.cli._files import open_root, read_anndata, report_damage, write_anndata
from scbatchnorm.cli._memory import available_memory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from anndata import AnnData

    from scbatchnorm._data.store_read import StoreFiles

logger = logging.getLogger(__name__)

# Share of the available memory that expression may take; the integration takes at least as much again.
_MEMORY_SHARE = 0.25
# Most bytes of results for a cell.
_RESULT_BYTES = 512
# Seconds to wait for the scheduler of a cluster.
_TIMEOUT = 20


@dataclass(frozen=True)
class Source:
    """Annotated data, and the files of expression that is not in memory."""

    adata: AnnData
    files: StoreFiles | None

    def write(self, target: Path, added: Mapping[str, Sequence[str]]) -> None:
        """Write the whole file with the results: attribute of the AnnData -> keys that were `added`."""
        if self.files is None:
            write_anndata(self.adata, target)
            return
        from scbatchnorm._data.store_copy import copy_store

        parts = {slot: {key: getattr(self.adata, slot)[key] for key in keys} for slot, keys in added.items()}
        copy_store(self.files, target, parts)


def read_source(
    path: Path,
    target: Path,
    *,
    lazy: bool | None,
    batch_keys: Sequence[str],
    layer: str | None,
    use_rep: str | None,
    whole: bool,
) -> Source:
    """Read a whole file, or with lazy expression what is needed of it.

    Parameters
    ----------
    path
        The file.
    target
        Where a copy of the file with results will be written; there must be space for it.
    lazy
        Whether expression is read in blocks; `None`: if memory is short.
    batch_keys, layer, use_rep
        Parts of the file that are needed.
    whole
        Whether the command needs all expression at once, so that it may take all memory.
    """
    if not (_is_large(path, layer, whole=whole) if lazy is None else lazy):
        return Source(read_anndata(path), None)
    from scbatchnorm._data.store_copy import check_disk_space
    from scbatchnorm._data.store_read import StoreFiles, is_current_format, open_lazily

    with open_root(path) as root:
        old = not is_current_format(root)
    if old:
        msg = f"{path} was written before 2020 and cannot be read in blocks. Write it again with anndata, or read all of it into memory: --no-lazy."
        raise ValueError(msg)
    files = StoreFiles.snapshot(path.resolve())
    try:
        with report_damage(path):
            adata = open_lazily(files.path, batch_keys=batch_keys, layer=layer, use_rep=use_rep)
    except OSError as error:
        msg = f"input cannot be read: {path} ({error})."
        raise OSError(msg) from error
    check_disk_space(files, target, name="-o/--output", more=_RESULT_BYTES * adata.n_obs)
    logger.info("expression stays in %s and is read in blocks", path)
    return Source(adata, files)


def _is_large(path: Path, layer: str | None, *, whole: bool) -> bool:
    """Whether memory is short for the expression, which may take all memory if it cannot be read in blocks."""
    available = available_memory()
    if available is None:
        return False
    from scbatchnorm._data.store_read import count_expression_bytes, has_row_blocks, is_current_format

    with open_root(path) as root:
        if not is_current_format(root):
            return False
        lazily = not whole and has_row_blocks(root, layer) and importlib.util.find_spec("dask") is not None
        return count_expression_bytes(root) > available * (_MEMORY_SHARE if lazily else 1)


@contextlib.contextmanager
def connect_cluster(address: str | None) -> Iterator[None]:
    """Connect to the Dask scheduler at `address` unless it is `None`."""
    if address is None:
        yield
        return
    try:
        from distributed import Client
    except ImportError as error:
        msg = "--scheduler needs dask.distributed: pip install distributed."
        raise ImportError(msg) from error
    try:
        client = Client(address, timeout=_TIMEOUT)
    except (OSError, ValueError, TypeError) as error:
        msg = f"--scheduler must be the address of a Dask scheduler, such as tcp://host:8786; {address} does not answer ({error})."
        raise OSError(msg) from error
    with client:
        logger.info("blocks are read by the workers of %s", address)
        yield
