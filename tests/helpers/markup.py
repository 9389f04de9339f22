"""What a browser would make of HTML, as far as tests ask."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

# Text that runs, or breaks the page, unless it is escaped.
NASTY = "<script>alert('x')</script> & \"co\""

TAGS = set("div p b ul li table caption thead tbody tr th td details summary".split())


@dataclass
class Drawn:
    """A table: its caption, headings, rows of texts, and which cells are bold or in rows of italics."""

    caption: str = ""
    headings: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    bold: set[str] = field(default_factory=set)
    italic: list[bool] = field(default_factory=list)
    folded: bool = False


class Page(HTMLParser):
    """Parses `text`; raises AssertionError where tags are not closed in order, or where something could run or load."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tables: list[Drawn] = []
        self.items: list[str] = []
        self.notes: list[str] = []
        self.summaries: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS
        assert {name for name, _ in attrs} <= {"style", "scope"}
        style = dict(attrs).get("style") or ""
        assert "background" not in style and "url(" not in style
        self._open.append(tag)
        if tag == "table":
            self.tables.append(Drawn(folded="details" in self._open))
        elif tag == "tr" and "tbody" in self._open:
            self.tables[-1].rows.append([])
            self.tables[-1].italic.append("italic" in style)
        elif tag in {"td", "th"}:
            (self.tables[-1].headings if tag == "th" else self.tables[-1].rows[-1]).append("")
        elif tag in {"li", "p", "summary"}:
            {"li": self.items, "p": self.notes, "summary": self.summaries}[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in reversed(self._open):
            if tag == "b" and "td" in self._open:
                self.tables[-1].bold.add(data)
            elif tag == "caption":
                self.tables[-1].caption += data
            elif tag in {"td", "th", "li", "p", "summary"}:
                texts = {
                    "td": lambda: self.tables[-1].rows[-1],
                    "th": lambda: self.tables[-1].headings,
                    "li": lambda: self.items,
                    "p": lambda: self.notes,
                    "summary": lambda: self.summaries,
                }[tag]()
                texts[-1] += data

    def rows(self, place: int) -> list[list[str]]:
        """Rows of a table, with those that unfold below it."""
        folded = [other for other in self.tables[place + 1 : place + 2] if other.folded]
        return [*self.tables[place].rows, *(row for other in folded for row in other.rows)]
