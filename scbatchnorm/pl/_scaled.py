"""Text and lines that are parts of a drawing: in proportion to it, however large its axes become."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.textpath import text_to_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.backend_bases import RendererBase
    from matplotlib.transforms import Bbox

_HINTED = 1.08  # screens round the widths of letters, mostly up


class ScaledText(Text):
    """Text with a size in units of its axes instead of points.

    Parameters
    ----------
    x, y
        Position in the axes' units.
    text
        The text, taken literally.
    units
        Size of the font in the axes' units.
    """

    def __init__(self, x: float, y: float, text: str, *, units: float) -> None:
        super().__init__(x, y, text, parse_math=False, usetex=False)
        self._units = units

    def get_window_extent(self, renderer: RendererBase | None = None, dpi: float | None = None) -> Bbox:
        """As for matplotlib's text."""
        self._fit()
        return super().get_window_extent(renderer, dpi)

    def draw(self, renderer: RendererBase) -> None:
        """As for matplotlib's text."""
        self._fit()
        super().draw(renderer)

    def _fit(self) -> None:
        size = _points(self, self._units)
        if not np.isclose(size, self.get_fontsize()):
            self.set_fontsize(size)


class ScaledLine(Line2D):
    """Line with a width in units of its axes instead of points.

    Parameters
    ----------
    x, y
        Its points in the axes' units, shape (points,).
    units
        Width in the axes' units.
    color
        Its colour.
    """

    def __init__(self, x: Sequence[float], y: Sequence[float], *, units: float, color: str) -> None:
        super().__init__(x, y, color=color)
        self._units = units

    def draw(self, renderer: RendererBase) -> None:
        """As for matplotlib's line."""
        width = _points(self, self._units)
        if not np.isclose(width, self.get_linewidth()):
            self.set_linewidth(width)
        super().draw(renderer)


def _points(artist: Text | Line2D, units: float) -> float:
    """Points that `units` of the axes are now: layouts move axes until the picture is drawn."""
    (x0, _), (x1, _) = artist.get_transform().transform([(0, 0), (1, 0)])
    return float(units * abs(x1 - x0) * 72 / artist.figure.dpi)


def width(text: str, size: float, *, bold: bool = False, italic: bool = False) -> float:
    """Width of the widest line, in the units of `size`."""
    font = FontProperties(size=size, weight="bold" if bold else "normal", style="italic" if italic else "normal")
    lines = (text_to_path.get_text_width_height_descent(line, font, ismath=False)[0] for line in text.split("\n"))
    return _HINTED * float(max(lines))


def wrapped(text: str, most: float, size: float) -> list[str]:
    """Lines of whole words, no wider than `most`; a word that is wider has a line of its own."""
    lines: list[str] = []
    for word in text.split():
        if lines and width(f"{lines[-1]} {word}", size) <= most:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines
