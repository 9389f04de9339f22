"""One bar for everything that takes a while."""

from __future__ import annotations

import io
import sys
import warnings
from typing import Any

with warnings.catch_warnings():
    # In notebooks without ipywidgets tqdm warns on import.
    warnings.filterwarnings("ignore", message="IProgress not found")
    from tqdm.auto import tqdm

__all__ = ["progress_bar", "tqdm"]

# In notebooks, seconds that something takes before it is worth a bar.
_DELAY = 1.0


def progress_bar(total: int, *, desc: str, unit: str, progress: bool | None) -> tqdm:
    """Progress bar over `total` steps, bytes in thousands; `progress=None` shows it in terminals and notebooks."""
    disable = None if progress is None else not progress
    options: dict[str, Any] = {"total": total, "desc": desc, "unit": unit, "unit_scale": unit == "B"}
    if _in_notebook():
        # By its name: importing tqdm.notebook would load IPython everywhere.
        widgets = any(base.__name__ == "tqdm_notebook" for base in tqdm.__mro__)
        kind = tqdm if widgets else _LineBar
        return kind(**options, disable=bool(disable), delay=_DELAY if progress is None else 0.0)
    return tqdm(**options, disable=disable)


def _in_notebook() -> bool:
    """Whether this is a process of a notebook, whose output is no terminal although somebody looks at it."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


class _LineBar(tqdm):
    """For notebooks without ipywidgets: one line of output that is replaced, not a growing standard error."""

    monitor_interval = 0  # a thread of tqdm's that would draw from outside the cell
    _handle: Any = None

    def __init__(self, **options: Any) -> None:
        super().__init__(file=io.StringIO(), ascii=False, **options)

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Draw the bar, or replace what was drawn."""
        del pos
        from IPython.display import display

        drawn = {"text/plain": str(self) if msg is None else msg}
        if self._handle is None:
            self._handle = display(drawn, raw=True, display_id=True)
        else:
            self._handle.update(drawn, raw=True)
