"""The line in the log that names what was written."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from logging import Logger


def log_written(logger: Logger, places: Mapping[str, Iterable[str]], start: float, *, detail: str = "") -> None:
    """Keys that were written, by attribute of the AnnData, since `start` (`time.perf_counter`): "added obsm['X'] in 1.2 s"."""
    written = ", ".join(f"{attribute}[{key!r}]" for attribute, keys in places.items() for key in keys)
    logger.info("added %s in %.1f s%s", written, time.perf_counter() - start, f": {detail}" if detail else "")
