"""The bar is drawn where it was asked for, and importing it says nothing."""

from __future__ import annotations

import types

import IPython
import IPython.display
import pytest

from scbatchnorm import pp
from scbatchnorm._runtime import progress as _progress
from scbatchnorm._runtime.progress import progress_bar
from tests.helpers.processes import run_python


def test_shown_and_hidden(capsys):
    for progress in (True, False, None):  # None: no terminal here
        with progress_bar(3, desc="thing", unit="step", progress=progress) as bar:
            bar.update(3)
        shown = capsys.readouterr().err
        assert ("thing: 100%" in shown and "step/s" in shown) == (progress is True)


def test_import_is_silent_in_notebooks_without_widgets():
    code = (
        "import sys, types, warnings; warnings.simplefilter('error')\n"
        "import IPython; IPython.get_ipython = lambda: types.SimpleNamespace(config={'IPKernelApp': {}})\n"
        "sys.modules['ipywidgets'] = None\n"
        "filters = list(warnings.filters)\n"
        "import scbatchnorm._runtime.progress\n"
        "assert warnings.filters == filters"
    )
    done = run_python("-c", code)
    assert (done.returncode, done.stderr) == (0, "")


class _Cell:
    """The output of a cell in a notebook: what each display shows at last, and how often it was replaced."""

    def __init__(self):
        self.texts, self.updates = [], 0

    def display(self, data, *, raw, display_id):
        assert raw and display_id
        self.texts.append(data["text/plain"])
        return types.SimpleNamespace(update=self._replacing(len(self.texts) - 1))

    def _replacing(self, place):
        def update(data, *, raw):
            assert raw
            self.texts[place] = data["text/plain"]
            self.updates += 1

        return update


@pytest.fixture
def cell(monkeypatch):
    """As in a kernel, where standard output is no terminal."""
    cell = _Cell()
    monkeypatch.setattr(IPython, "get_ipython", lambda: types.SimpleNamespace(kernel=object()))
    monkeypatch.setattr(IPython.display, "display", cell.display)
    return cell


def test_notebooks_get_one_line_that_is_replaced(cell, capsys):
    with progress_bar(3, desc="thing", unit="step", progress=True) as bar:
        assert cell.texts[0].startswith("thing:   0%|")
        for _ in range(3):
            bar.update()
            bar.refresh()
    assert len(cell.texts) == 1 and cell.updates >= 3
    assert cell.texts[0].startswith("thing: 100%|██") and "3/3" in cell.texts[0]
    assert capsys.readouterr() == ("", "")


def test_notebooks_show_by_default_what_takes_a_while(cell, monkeypatch):
    for progress in (None, False):
        with progress_bar(3, desc="short", unit="step", progress=progress) as bar:
            bar.update(3)
    assert cell.texts == []
    monkeypatch.setattr(_progress, "_DELAY", -1.0)  # as if a second had passed
    for progress in (None, False):
        with progress_bar(3, desc=f"long {progress}", unit="step", progress=progress) as bar:
            bar.update(3)
    assert len(cell.texts) == 1 and cell.texts[0].startswith("long None: 100%")


def test_one_bar_for_an_integration(cell, adata, brief):
    pp.integrate(adata, "batch", model=brief(progress=True))
    assert len(cell.texts) == 1 and "6/6" in cell.texts[0]


def test_bars_of_trainings_that_end_early_are_full(cell, adata, brief, monkeypatch):
    monkeypatch.setattr("scbatchnorm._method.training.history.History.is_flat", lambda _: True)
    pp.integrate(adata, "batch", model=brief(progress=True))
    assert adata.uns["scbatchnorm"]["history"]["step"].max() < 6
    assert len(cell.texts) == 1 and cell.texts[0].startswith("scbatchnorm: 100%") and "6/6" not in cell.texts[0]
