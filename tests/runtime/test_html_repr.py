"""HTML for notebooks: tables are shown whole, escaped and well-formed."""

from __future__ import annotations

from scbatchnorm._runtime.html_repr import HtmlTable, render_html
from tests.helpers.markup import NASTY, Page


def test_tables_unfold_beyond_ten_rows():
    rows = [[f"row {i}", str(i)] for i in range(13)]
    page = Page(render_html([HtmlTable("Thirteen", ["name", "number"], rows, bold={1}, italic={12})]))
    assert page.summaries == ["3 more"]
    first, rest = page.tables
    assert (first.caption, first.headings) == ("Thirteen", ["name", "number"])
    assert (first.rows, first.folded) == (rows[:10], False)
    assert (rest.caption, rest.headings, rest.rows, rest.folded) == ("", ["name", "number"], rows[10:], True)
    assert page.rows(0) == rows
    assert rest.italic == [False, False, True]
    assert first.bold | rest.bold == {str(i) for i in range(13)}
    assert len(Page(render_html([HtmlTable("Ten", ["name", "number"], rows[:10])])).tables) == 1


def test_text_is_escaped_and_nothing_runs():
    table = HtmlTable(NASTY, [NASTY], [[NASTY]], notes=[NASTY])
    page = Page(render_html([table], title=NASTY, sentences=[NASTY]))  # raises at a tag that is not ours
    assert page.notes == [NASTY, NASTY] and page.items == [NASTY]
    assert (page.tables[0].caption, page.tables[0].headings, page.tables[0].rows) == (NASTY, [NASTY], [[NASTY]])


def test_parts_that_are_empty_are_left_out():
    page = Page(render_html([]))
    assert (page.notes, page.items, page.tables) == ([], [], [])
