"""One report for the tests that only look."""

from __future__ import annotations

import functools

import pytest

from scbatchnorm import metrics, pl
from scbatchnorm.pl._report import compute, page
from tests.pl.report.made import Page, integrated


@pytest.fixture(scope="session")
def reported(brief, tmp_path_factory):
    """An AnnData, the file of its report, and the page."""
    adata = integrated(brief())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compute, "evaluate", functools.partial(metrics.evaluate, n_bootstrap=2))
        path = pl.report(
            adata, tmp_path_factory.mktemp("report") / "report.html", label_key="cell_type", progress=False
        )
    return adata, path, Page(path.read_text(encoding="utf-8"))


@pytest.fixture
def quick(monkeypatch):
    """Reports with few samples for intervals, and of the pictures only the cells: the others take seconds."""
    monkeypatch.setattr(compute, "evaluate", functools.partial(metrics.evaluate, n_bootstrap=2))
    for name in ("draw_composition", "draw_training"):
        monkeypatch.setattr(page, name, lambda _: [])
    monkeypatch.setattr(page, "draw_change", lambda *_: [])
