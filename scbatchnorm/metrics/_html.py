"""The table of scores as HTML, for notebooks."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scbatchnorm._runtime.html_repr import HtmlTable, render_html
from scbatchnorm.metrics._catalogue import AGGREGATES

if TYPE_CHECKING:
    from collections.abc import Sequence

_KIND, _NOTES = "kind", "notes"
_BOUNDS = (" low", " high")


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The same table; notebooks show it as `of` does.

    IPython asks the instance how to show it. A subclass would outlive copies and slices, but anndata writes none to files.
    """
    table._repr_html_ = types.MethodType(of, table)  # type: ignore[attr-defined]
    return table


def of(table: pd.DataFrame) -> str | None:
    """A row for each representation, its scores with half the width of their intervals, controls below in italics."""
    if not pd.get_option("display.notebook_repr_html"):  # as of any other DataFrame
        return None
    if _KIND not in table or not table.columns.is_unique or not table.index.is_unique:
        return pd.DataFrame._repr_html_(table)  # type: ignore[attr-defined]
    controls = (table[_KIND] != "representation").to_numpy()
    table, controls = table.iloc[np.argsort(controls, kind="stable")], np.sort(controls)
    titles = [title for title in table.columns if title not in {_KIND, _NOTES} and not _is_bound(title, table)]
    titles.sort(key=lambda title: title not in AGGREGATES)  # first, for the table is wide
    rows = [[str(name), str(row[_KIND]), *(_score(row, title) for title in titles)] for name, row in table.iterrows()]
    caption = "Scores: 1 is best; in italics controls, judged on the same cells"
    if any(_is_bound(title, table) for title in table.columns):
        caption += "; \u00b1 half the width of the 95 % confidence interval"
    scores = HtmlTable(
        f"{caption}.",
        ["representation", _KIND, *map(str, titles)],
        rows,
        n_names=2,
        bold={place for place, title in enumerate(titles, start=2) if title in AGGREGATES},
        italic=set(np.flatnonzero(controls).tolist()),
        notes=_notes(table),
    )
    return render_html([scores])


def _is_bound(title: object, table: pd.DataFrame) -> bool:
    """Whether a column has an end of the interval of another."""
    return any(str(title).endswith(end) and str(title).removesuffix(end) in table for end in _BOUNDS)


def _score(row: pd.Series, title: str) -> str:
    """A score with three digits, and how far its interval reaches; ends are cut at 0 and 1, so the longer side counts."""
    value = row[title]
    if not isinstance(value, float):
        return str(value)
    if np.isnan(value):
        return "-"
    low, high = (row.get(f"{title}{end}", np.nan) for end in _BOUNDS)
    reach = max(value - low, high - value)
    return f"{value:.3f}" if np.isnan(reach) else f"{value:.3f} \u00b1 {reach:.3f}"


def _notes(table: pd.DataFrame) -> Sequence[str]:
    """Each note once, with the rows that it is about."""
    if _NOTES not in table:
        return []
    about: dict[str, list[str]] = {}
    for name, note in table[_NOTES].items():
        if note:
            about.setdefault(str(note), []).append(str(name))
    return [f"{'all rows' if len(names) == len(table) else ', '.join(names)}: {note}." for note, names in about.items()]
