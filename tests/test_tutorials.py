"""Every notebook in tutorials/ runs from top to bottom."""

from __future__ import annotations

from pathlib import Path

import pytest

TUTORIALS = sorted((Path(__file__).parents[1] / "tutorials").glob("*.ipynb"))


def test_there_are_tutorials():
    assert TUTORIALS


@pytest.mark.slow
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("default")  # of the client; the notebook runs in a process of its own
def test_tutorial_runs(path, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="runs notebooks: pip install 'scbatchnorm[dev]'")
    pytest.importorskip("ipykernel", reason="runs notebooks: pip install 'scbatchnorm[dev]'")
    import nbformat

    # A notebook shows its pictures inline, whatever the tests use.
    monkeypatch.delenv("MPLBACKEND", raising=False)
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()  # raises CellExecutionError with the cell and its traceback
    assert all(cell.get("execution_count") for cell in notebook.cells if cell.cell_type == "code")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_tutorial_is_small(path):
    assert path.stat().st_size < 400_000
