"""Integrated cells with all that a report needs, and what a browser would see in it."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

from scbatchnorm import pp
from tests.helpers import diagnosed

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


def integrated(model: Any, **options: Any) -> Any:
    """128 cells, integrated by `model`, with UMAPs that need no computing."""
    adata = diagnosed.cells(n=16)
    pp.integrate(adata, "batch", model=model, **options)
    key = options.get("key_added") or "X_scbatchnorm"
    for rep in ("X_pca", "X_good", key):
        adata.obsm[f"{rep}_umap"] = adata.obsm[rep][:, :2].copy()
    return adata


class Page(HTMLParser):
    """Elements of a page as (tag, attributes, text inside), and that all are closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[dict[str, Any]] = []
        self.elements: list[dict[str, Any]] = []
        self.feed(html)
        self.close()
        assert not self.open, f"not closed: {[each['tag'] for each in self.open]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = {"tag": tag, "text": "", **dict(attrs)}
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()["tag"] == tag

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element["text"] += data

    def all(self, tag: str, **attributes: str) -> list[dict[str, Any]]:
        return [
            each
            for each in self.elements
            if each["tag"] == tag and all(each.get(name) == value for name, value in attributes.items())
        ]

    def text(self, identifier: str) -> str:
        (element,) = (each for each in self.elements if each.get("id") == identifier)
        return " ".join(element["text"].split())
