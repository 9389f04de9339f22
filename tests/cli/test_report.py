"""`scbatchnorm report` writes what pl.report does, with all options."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from scbatchnorm import pl
from tests.cli.conftest import run
from tests.pl.report.made import integrated


@pytest.fixture
def called(monkeypatch):
    """Arguments of the call of pl.report, which is not made."""
    calls = []
    signature = inspect.signature(pl.report)

    def report(*args, **options):
        bound = signature.bind(*args, **options)
        bound.apply_defaults()
        calls.append(bound.arguments)
        return Path(bound.arguments["path"])

    monkeypatch.setattr(pl, "report", report)
    return calls


@pytest.fixture
def source(brief, tmp_path):
    integrated(brief()).write_h5ad(tmp_path / "in.h5ad")
    return tmp_path / "in.h5ad"


def test_defaults_are_those_of_the_function(source, tmp_path, called, capsys):
    assert run("report", source, "-o", tmp_path / "r.html") == 0
    (arguments,) = called
    for name, parameter in inspect.signature(pl.report).parameters.items():
        if parameter.default is not parameter.empty:
            value = arguments[name]
            assert (tuple(value) if isinstance(value, list) else value) == parameter.default, name
    assert f"wrote {tmp_path / 'r.html'}: the report" in capsys.readouterr().out


def test_all_options_arrive(source, tmp_path, called):
    options = (
        "--batch-key",
        "batch",
        "--batch-key",
        "lane",
        "--label-key",
        "cell_type",
        "--rep",
        "X_good",
        "--compare",
        "X_pca",
    )
    more = ("--covariate-key", "sex", "--control-gene", "XIST", "--title", "Ours", "--unintegrated", "X_lsi")
    last = ("--max-cells-drawn", 500, "--seed", 3, "--overwrite")
    (tmp_path / "r.html").touch()
    assert run("report", source, "-o", tmp_path / "r.html", *options, *more, *last) == 0
    wanted = {
        "batch_key": ["batch", "lane"], "label_key": "cell_type", "use_rep": "X_good", "compare": ["X_pca"], "covariate_keys": ["sex"],
        "control_genes": ["XIST"], "title": "Ours", "unintegrated": "X_lsi", "max_cells_drawn": 500, "rng": 3, "overwrite": True,
    }  # fmt: skip
    assert {name: called[0][name] for name in wanted} == wanted


def test_mistakes_are_named_before_anything_is_read(source, tmp_path, capsys):
    assert run("report", source, "-o", tmp_path / "r.pdf") == 2
    assert "-o/--output must end in .html" in capsys.readouterr().err
    assert run("report", tmp_path / "no.h5ad", "-o", tmp_path / "r.html") == 2
    assert "input does not exist" in capsys.readouterr().err
    assert run("report", source, "-o", tmp_path / "r.html", "--key", "other") == 2
    assert "key='other'" in capsys.readouterr().err
    assert not (tmp_path / "r.html").exists()
