"""Every notebook in tutorials/ runs from top to bottom, as users run it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

TUTORIALS = sorted((Path(__file__).parents[1] / "tutorials").glob("*.ipynb"))

# What a new kernel has: no names, the usual settings, an empty folder.
AFRESH = """
%reset -f
import os
import matplotlib as mpl
os.chdir({folder!r})
mpl.rc_file_defaults()
%reset -f
"""


def test_there_are_tutorials():
    assert TUTORIALS


@pytest.fixture(scope="module")
def kernel():
    """One for all, for libraries take long to load, and UMAP to be compiled."""
    nbclient = pytest.importorskip("nbclient", reason="runs notebooks: pip install 'scbatchnorm[dev]'")
    pytest.importorskip("ipykernel", reason="runs notebooks: pip install 'scbatchnorm[dev]'")
    import nbformat

    with pytest.MonkeyPatch.context() as patch:
        # A notebook shows its pictures inline, whatever the tests use.
        patch.delenv("MPLBACKEND", raising=False)
        client: Any = nbclient.NotebookClient(nbformat.v4.new_notebook(), timeout=600, startup_timeout=300)
        with client.setup_kernel():
            yield client


@pytest.mark.slow
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("default")  # of the client; the notebook runs in a process of its own
def test_tutorial_runs(path, kernel, tmp_path):
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    prelude = AFRESH.format(folder=str(tmp_path))
    kernel.nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(prelude), *notebook.cells])
    for index, cell in enumerate(kernel.nb.cells):
        cell.pop("execution_count", None)  # of when it was written
        kernel.execute_cell(cell, index)  # raises CellExecutionError with the cell and its traceback
    assert all(cell.get("execution_count") for cell in notebook.cells if cell.cell_type == "code")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_tutorial_is_small(path):
    assert path.stat().st_size < 400_000
