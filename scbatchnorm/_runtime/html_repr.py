"""Pieces of HTML for notebooks: text is escaped, colours are those of the page, and nothing runs."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

# Rows that are shown at once; the others unfold.
ROWS = 10
# Grey with an opacity is seen on white and on black.
_LINE = "1px solid rgba(128, 128, 128, 0.5)"
_CELL = "padding: 2px 10px; white-space: nowrap;"


def block(*parts: str) -> str:
    """One element of all parts, which scrolls where the page is narrower."""
    return f'<div style="overflow-x: auto; line-height: 1.4">{"".join(parts)}</div>'


def heading(text: str) -> str:
    """What comes first, in bold."""
    return f'<p style="font-size: 1.15em; margin: 0.3em 0"><b>{_escaped(text)}</b></p>'


def note(text: str) -> str:
    """A sentence below, smaller."""
    return f'<p style="font-size: 0.9em; margin: 0.3em 0; max-width: 60em">{_escaped(text)}</p>'


def bullets(sentences: Sequence[str]) -> str:
    """A list; nothing if there are none."""
    items = "".join(f"<li>{_escaped(sentence)}</li>" for sentence in sentences)
    return f'<ul style="margin: 0.3em 0; max-width: 60em">{items}</ul>' if items else ""


def table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    caption: str,
    n_names: int = 1,
    bold: Collection[int] = (),
    italic: Collection[int] = (),
) -> str:
    """A table with `n_names` columns of names on the left; `bold` columns, `italic` rows. What is beyond `ROWS` rows unfolds."""
    drawn = [
        f"<tr{_ITALIC if place in italic else ''}>{_cells(row, n_names, bold, 'td')}</tr>"
        for place, row in enumerate(rows)
    ]
    head = f'<thead><tr style="border-bottom: {_LINE}">{_cells(headings, n_names, bold, "th")}</tr></thead>'
    title = f'<caption style="text-align: left; caption-side: top; padding: 4px 0">{_escaped(caption)}</caption>'
    first = _grid(title, head, drawn[:ROWS])
    if len(drawn) <= ROWS:
        return first
    n_more = len(drawn) - ROWS
    return f'{first}<details style="margin: 0.3em 0"><summary>{n_more} more</summary>{_grid("", head, drawn[ROWS:])}</details>'


_ITALIC = ' style="font-style: italic"'


def _grid(title: str, head: str, rows: Sequence[str]) -> str:
    style = "border-collapse: collapse; margin: 0.6em 0; font-variant-numeric: tabular-nums"
    return f'<table style="{style}">{title}{head}<tbody>{"".join(rows)}</tbody></table>'


def _cells(texts: Sequence[str], n_names: int, bold: Collection[int], tag: str) -> str:
    cells = []
    for place, text in enumerate(texts):
        style = f"{_CELL} text-align: {'left' if place < n_names else 'right'}"
        inside = f"<b>{_escaped(text)}</b>" if tag == "td" and place in bold else _escaped(text)
        scope = ' scope="col"' if tag == "th" else ""
        cells.append(f'<{tag}{scope} style="{style}">{inside}</{tag}>')
    return "".join(cells)


def _escaped(text: object) -> str:
    return html.escape(str(text))
