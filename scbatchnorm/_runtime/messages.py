"""Messages to the caller: warnings that point at the user's line, and the log line that names what was written."""

from __future__ import annotations

import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from logging import Logger

_PACKAGE = str(Path(__file__).parents[1])


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Issue a warning at the innermost caller outside this package."""
    level = 2
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1  # type: ignore[assignment]
    warnings.warn(message, category, stacklevel=level)


def log_written(logger: Logger, keys: Mapping[str, Iterable[str]], start: float, *, detail: str = "") -> None:
    """Log the keys that were written, by attribute of the AnnData, since `start` (`time.perf_counter`).

    For example "added obsm['X'] in 1.2 s".
    """
    written = ", ".join(f"{attribute}[{name!r}]" for attribute, names in keys.items() for name in names)
    logger.info("added %s in %.1f s%s", written, time.perf_counter() - start, f": {detail}" if detail else "")
