"""The bar is drawn where it was asked for, and importing it says nothing."""

from __future__ import annotations

import subprocess
import sys

from scbatchnorm import _progress


def test_shown_and_hidden(capsys):
    for progress in (True, False, None):  # None: no terminal here
        with _progress.bar(3, desc="thing", unit="step", progress=progress) as bar:
            bar.update(3)
        shown = capsys.readouterr().err
        assert ("thing: 100%" in shown and "step/s" in shown) == (progress is True)


def test_import_is_silent_in_notebooks_without_widgets():
    code = (
        "import sys, types, warnings; warnings.simplefilter('error')\n"
        "import IPython; IPython.get_ipython = lambda: types.SimpleNamespace(config={'IPKernelApp': {}})\n"
        "sys.modules['ipywidgets'] = None\n"
        "filters = list(warnings.filters)\n"
        "import scbatchnorm._progress\n"
        "assert warnings.filters == filters"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
