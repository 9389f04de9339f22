"""HTML representations for notebooks: a title, sentences and tables; text is escaped, styles are inline, nothing runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jinja2 import Environment, StrictUndefined

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

# Rows of a table that are visible at once; a click unfolds the others.
_N_VISIBLE = 10

# Colours are those of the page; the line is grey with an opacity, visible on white and on black.
_TEMPLATE = """
{% macro style(column, table) %}padding: 2px 10px; white-space: nowrap; text-align: {{ "left" if column < table.n_names else "right" }}{% endmacro %}
{% macro grid(table, start, stop) %}
<table style="border-collapse: collapse; margin: 0.6em 0; font-variant-numeric: tabular-nums">
{% if start == 0 %}
<caption style="text-align: left; caption-side: top; padding: 4px 0">{{ table.caption }}</caption>
{% endif %}
<thead><tr style="border-bottom: 1px solid rgba(128, 128, 128, 0.5)">
{% for text in table.headings %}
<th scope="col" style="{{ style(loop.index0, table) }}">{{ text }}</th>
{% endfor %}
</tr></thead>
<tbody>
{% for row in table.rows[start:stop] %}
<tr{% if start + loop.index0 in table.italic %} style="font-style: italic"{% endif %}>
{% for text in row %}
<td style="{{ style(loop.index0, table) }}">{% if loop.index0 in table.bold %}<b>{{ text }}</b>{% else %}{{ text }}{% endif %}</td>
{% endfor %}
</tr>
{% endfor %}
</tbody>
</table>
{% endmacro %}
<div style="overflow-x: auto; line-height: 1.4">
{% if title %}
<p style="font-size: 1.15em; margin: 0.3em 0"><b>{{ title }}</b></p>
{% endif %}
{% if sentences %}
<ul style="margin: 0.3em 0; max-width: 60em">
{% for sentence in sentences %}
<li>{{ sentence }}</li>
{% endfor %}
</ul>
{% endif %}
{% for table in tables %}
{{ grid(table, 0, n_visible) }}
{% if table.rows | length > n_visible %}
<details style="margin: 0.3em 0"><summary>{{ table.rows | length - n_visible }} more</summary>
{{ grid(table, n_visible, none) }}
</details>
{% endif %}
{% for note in table.notes %}
<p style="font-size: 0.9em; margin: 0.3em 0; max-width: 60em">{{ note }}</p>
{% endfor %}
{% endfor %}
</div>
"""


@dataclass(frozen=True)
class HtmlTable:
    """A table of texts: `n_names` columns of names, aligned left, then columns of values, aligned right.

    `bold` columns and `italic` rows are given by their positions; `notes` are sentences below the table.
    """

    caption: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    n_names: int = 1
    bold: Collection[int] = ()
    italic: Collection[int] = ()
    notes: Sequence[str] = ()


def render_html(tables: Sequence[HtmlTable], *, title: str = "", sentences: Sequence[str] = ()) -> str:
    """One element with the title, a list of the sentences and the tables; it scrolls where the page is narrower."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(_TEMPLATE)
    return template.render(tables=tables, title=title, sentences=sentences, n_visible=_N_VISIBLE)
