"""One bar for everything that takes a while."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    # In notebooks without ipywidgets tqdm warns on import, and then draws in text.
    warnings.filterwarnings("ignore", message="IProgress not found")
    from tqdm.auto import tqdm

__all__ = ["bar", "tqdm"]


def bar(total: int, *, desc: str, unit: str, progress: bool | None) -> tqdm:
    """Progress bar over `total` steps; `progress=None` shows it in terminals and notebooks."""
    return tqdm(total=total, desc=desc, unit=unit, disable=None if progress is None else not progress)
