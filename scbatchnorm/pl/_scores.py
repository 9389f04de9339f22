"""The table of scores as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from scbatchnorm._data.checks import join_names
from scbatchnorm.metrics._catalogue import AGGREGATES, BATCH, BIO, CATALOGUE, TOTAL
from scbatchnorm.pl import _sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GROUPS = {"bio": BIO, "batch": BATCH}
_CONTROLS = ("unintegrated", "shuffled")
# In tables of scib-metrics: a column that goes by another name here, and a row that holds no scores.
_ALIASES = {"KBET": "kBET"}
_NO_SCORES = "Metric Type"


def scores(table: pd.DataFrame, *, sort_by: str | None = None, ax: Axes | None = None) -> Axes:
    """Table of scores as a picture: a circle for each metric, a bar for each aggregate, the best row on top.

    Colours and bars have a fixed scale from 0, worst, to 1, best, so that pictures can be compared. Next to a value
    stands how far its 95 % confidence interval reaches, where `table` has one. Controls are below a line, in grey
    italics, and are not ranked: the unintegrated data, and what perfect mixing would score.

    Parameters
    ----------
    table
        Result of :func:`scbatchnorm.metrics.evaluate`, also after a round trip through CSV, or a table of your own:
        a row for each representation and metrics by their titles, such as that of scib-metrics. Without a column
        `kind` no row is a control. Columns that are not metrics are not drawn. With `per_label=True` there is a block
        of labels for each representation. Rename rows with `table.rename(index=...)`.
    sort_by
        Metric or aggregate that orders the rows, best on top; `None`: `"Total"`, or the order of `table` where there
        is none. Its heading is bold.
    ax
        Axes to draw on, which the picture fills; `None` makes a new figure that fits the table: shown in notebooks,
        in scripts `.figure` of what is returned.

    Returns
    -------
    The axes.

    Raises
    ------
    KeyError
        `sort_by` is not a metric of `table`.
    ValueError
        `table` is no table, has no rows or no metrics, or a metric holds something else than numbers.

    Examples
    --------
    >>> import pandas as pd
    >>> import scbatchnorm as sbn
    >>> table = pd.DataFrame({"iLISI": [0.1, 0.8], "cLISI": [1.0, 0.9]}, index=["X_pca", "X_scbatchnorm"])
    >>> ax = sbn.pl.scores(table, sort_by="iLISI")
    >>> [text.get_text() for text in ax.texts if text.get_text().startswith("X_")]
    ['X_scbatchnorm', 'X_pca']
    """
    table = _checked(table)
    names = _metrics(table)
    if sort_by is None:
        sort_by = TOTAL if TOTAL in names else None
    elif sort_by not in names:
        msg = f"sort_by={sort_by!r} is not a metric of table; metrics: {', '.join(names)}."
        raise KeyError(msg)
    columns = _columns(names, sort_by)
    blocks = _blocks(table, sort_by)
    return _sheet.draw(columns, blocks, _notes(table, columns), ax)


def _checked(table: pd.DataFrame) -> pd.DataFrame:
    """A copy with our names, labels in the index, and numbers in all columns that are drawn."""
    if not isinstance(table, pd.DataFrame):
        msg = f"table must be a DataFrame, a row for each representation; got {type(table).__name__}."
        raise ValueError(msg)
    table = table.rename(columns=_ALIASES).drop(index=_NO_SCORES, errors="ignore")
    if "label" in table:
        table = table.set_index("label", append=True)
    names = _metrics(table)
    if not names or not len(table):
        wanted = ", ".join([*(metric.title for metric in CATALOGUE), *AGGREGATES])
        found = join_names(table.columns, most=20) or "none"
        msg = f"table must have rows and at least one of the columns {wanted}; it has {len(table)} rows and the columns: {found}."
        raise ValueError(msg)
    for name in [f"{name}{end}" for name in names for end in ("", " low", " high")]:
        if name in table:
            table[name] = _numbers(table, name)
    return table


def _numbers(table: pd.DataFrame, name: str) -> pd.Series:
    try:
        return pd.to_numeric(table[name]).astype(float)
    except (ValueError, TypeError) as error:
        msg = f"table[{name!r}] must hold numbers, one column of this name; {error}."
        raise ValueError(msg) from error


def _metrics(table: pd.DataFrame) -> list[str]:
    """Columns that are drawn, in the order of drawing."""
    return [name for name in (*(metric.title for metric in CATALOGUE), *AGGREGATES) if name in table]


def _columns(names: list[str], sort_by: str | None) -> list[_sheet.Column]:
    """Headings; a star marks what does not enter the aggregates, if there are aggregates."""
    metrics = {metric.title: metric for metric in CATALOGUE}
    aggregated = any(name in AGGREGATES for name in names)
    columns = []
    for name in names:
        metric = metrics.get(name)
        star = "*" if aggregated and metric is not None and not metric.in_total else ""
        group = "Aggregate" if metric is None else _GROUPS[metric.about]
        heading = _sheet.heading(name + star)
        columns.append(_sheet.Column(name, heading, group, bar=metric is None, bold=name == sort_by))
    return columns


def _blocks(table: pd.DataFrame, sort_by: str | None) -> list[_sheet.Block]:
    """Methods, then controls; of a table per label a block for each representation, controls last, too."""
    kind = _kind(table)
    if table.index.nlevels > 1:
        parts = [(name, rows.droplevel(0)) for name, rows in table.groupby(level=0, sort=False)]
        blocks = [_label_block(str(name), rows, sort_by) for name, rows in parts]
        return sorted(blocks, key=lambda block: block.control)
    controls = pd.concat([table[kind == name] for name in _CONTROLS])
    words = zip(controls.index, _kind(controls), strict=True)
    controls.index = pd.Index([_control_name(str(name), word) for name, word in words])
    methods = _sheet.Block("", _ranked(table[~kind.isin(_CONTROLS)], sort_by), control=False)
    return [
        block for block in (methods, _sheet.Block("Controls, not ranked", controls, control=True)) if len(block.rows)
    ]


def _label_block(name: str, rows: pd.DataFrame, sort_by: str | None) -> _sheet.Block:
    kind = _kind(rows).iloc[0]
    control = kind in _CONTROLS
    title = f"Control: {_control_name(name, kind)}" if control else name
    return _sheet.Block(title, _ranked(rows, sort_by), control=control)


def _kind(table: pd.DataFrame) -> pd.Series:
    return table["kind"] if "kind" in table else pd.Series("representation", index=table.index)


def _control_name(name: str, kind: str) -> str:
    """Name that says what the control is."""
    return name if kind in name.lower() else f"{name}, {kind}"


def _ranked(rows: pd.DataFrame, sort_by: str | None) -> pd.DataFrame:
    return rows if sort_by is None else rows.sort_values(sort_by, ascending=False, kind="stable")


def _notes(table: pd.DataFrame, columns: list[_sheet.Column]) -> list[str]:
    """How to read the picture, and why values are missing: a reason that several rows share stands once."""
    keys = [column.key for column in columns]
    notes = ["0: worst, 1: best."]
    if any(f"{key} low" in table for key in keys):
        notes[0] += " ±: distance to the farther end of the 95 % confidence interval" + (
            ", which the whiskers show." if any(column.bar for column in columns) else "."
        )
    if any(column.heading.endswith("*") for column in columns):
        notes.append("* does not enter the aggregates.")
    if (_kind(table) == "shuffled").any():
        notes.append(
            "shuffled: the same cells with batches permuted within labels (among all, without labels): what perfect mixing would score."
        )
    if table[keys].isna().any(axis=None):
        notes.append("– not defined.")
    return [*notes, *_reasons(table)]


def _reasons(table: pd.DataFrame) -> list[str]:
    """Why values are missing, and where: what holds for several rows stands once."""
    if "notes" not in table:
        return []
    rows: dict[str, list[str]] = {}
    for row, note in table["notes"].dropna().items():
        where = " ".join(map(str, row)) if isinstance(row, tuple) else str(row)
        for reason in filter(None, note.split("; ")):
            rows.setdefault(reason, []).append(where)
    return [
        f"{reason} ({'all rows' if len(where) == len(table) else join_names(where)})" for reason, where in rows.items()
    ]
