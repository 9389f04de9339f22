"""The command line says what it can do, and answers at once what it cannot."""

from __future__ import annotations

import warnings
from importlib.metadata import version

import pytest

from scbatchnorm.cli import _main, demo
from tests.cli.conftest import run
from tests.helpers.processes import run_python


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((), "required: COMMAND"), (("fly",), "invalid choice: 'fly'")],
    ids=["nothing", "command"],
)
def test_wrong_options(capsys, arguments, message):
    with pytest.raises(SystemExit) as end:
        run(*arguments)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_version_and_help(capsys):
    for option in ("--version", "--help"):
        with pytest.raises(SystemExit) as end:
            run(option)
        assert end.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith(f"scbatchnorm {version('scbatchnorm')}\n")
    assert "demo" in out
    assert "integrate" in out
    assert "evaluate" in out


@pytest.mark.usefixtures("quick")
def test_verbose_logs_to_stderr_for_the_time_of_the_command(source, tmp_path, capsys):
    import logging

    package = logging.getLogger("scbatchnorm")
    before = (list(package.handlers), package.level)
    assert run("integrate", source, "-o", tmp_path / "out.h5ad", "--batch-key", "batch", "--verbose") == 0
    assert "integrating 240 cells" in capsys.readouterr().err
    assert (package.handlers, package.level) == before


def test_as_a_program(tmp_path):
    source, target = tmp_path / "nothing.h5ad", tmp_path / "out.h5ad"
    done = run_python("-m", "scbatchnorm.cli", "integrate", source, "-o", target, "--batch-key", "b")
    assert done.returncode == 2
    assert done.stderr == f"scbatchnorm: error: input does not exist: {source}.\n"


LIGHT = """
import sys
from scbatchnorm.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
heavy = {"anndata", "matplotlib", "numpy", "pandas", "scanpy", "torch"} & set(sys.modules)
sys.exit(f"imported {sorted(heavy)}" if heavy else 0)
"""


@pytest.mark.parametrize("arguments", [("--help",), *((name, "--help") for name in _main.COMMANDS), ("fly",)])
def test_help_and_wrong_options_answer_at_once(arguments):
    done = run_python("-c", LIGHT, *arguments)
    assert done.returncode == 0, done.stderr
    assert "usage: scbatchnorm" in done.stdout + done.stderr


def test_messages_are_lines_about_the_data(monkeypatch, capsys):
    """Of a warning the place in the code is left out, of an error its line breaks."""

    def stops(args):
        warnings.warn("look\nhere", UserWarning, stacklevel=1)
        msg = "no\ncells"
        raise KeyError(msg)

    monkeypatch.setattr(demo, "run", stops)
    before = warnings.showwarning
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert run("demo") == 2
    assert capsys.readouterr().err == "scbatchnorm: warning: look here\nscbatchnorm: error: no cells\n"
    assert warnings.showwarning is before
