"""The command writes what metrics.evaluate gives, and reads no more than that needs."""

from __future__ import annotations

import inspect

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from scbatchnorm import metrics, pl
from tests.cli.conftest import run

SIGNATURE = inspect.signature(metrics.evaluate)
KEYS = ("--rep", "X_pca", "--batch-key", "batch")
QUICK = ("--metrics", "ilisi", "--n-bootstrap", "0")


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def asked(monkeypatch) -> dict:
    """What metrics.evaluate is asked for."""
    found: dict = {}

    def evaluate(*args, **options):
        bound = SIGNATURE.bind(*args, **options)
        bound.apply_defaults()
        found.update(bound.arguments)
        msg = "asked"
        raise ValueError(msg)

    monkeypatch.setattr(metrics, "evaluate", evaluate)
    return found


@pytest.mark.parametrize("suffix", ["h5ad", pytest.param("zarr", marks=pytest.mark.slow)])
def test_evaluate_is_metrics_evaluate(source, tmp_path, capsys, suffix):
    adata, path = ad.read_h5ad(source), tmp_path / f"in.{suffix}"
    adata.obsm["X_true"] = np.eye(3)[adata.obs["cell_type"].cat.codes]
    adata.write_h5ad(path) if suffix == "h5ad" else adata.write_zarr(path)
    options = ("--rep", "X_true", "--label-key", "cell_type", "--n-bootstrap", "5", "--seed", "3")
    figure = ("--figure", tmp_path / "scores.png")
    assert run("evaluate", path, *KEYS, *options, "-o", tmp_path / "scores.csv", *figure) == 0
    expected = metrics.evaluate(
        adata, ["X_pca", "X_true"], batch_key="batch", label_key="cell_type", n_bootstrap=5, rng=3
    )
    found = pd.read_csv(tmp_path / "scores.csv", index_col="representation", dtype={"notes": str}).fillna({"notes": ""})
    pd.testing.assert_frame_equal(found, expected)
    out = capsys.readouterr().out
    total = [line.split() for line in out.splitlines() if line.startswith("Total")]
    assert total[0][1:4] == [f"{expected['Total'].iloc[0]:.3f}", "±", total[0][3]]
    assert f"wrote {tmp_path / 'scores.csv'}: the scores\nwrote {tmp_path / 'scores.png'}: their picture\n" in out
    assert plt.imread(tmp_path / "scores.png").std() > 0.05
    assert names(tmp_path) == [path.name, "scores.csv", "scores.png"]


def test_defaults_are_those_of_the_function(source, asked):
    assert run("evaluate", source, *KEYS) == 2
    defaults = {name: p.default for name, p in SIGNATURE.parameters.items() if p.default is not p.empty}
    assert len(defaults) == len(SIGNATURE.parameters) - 3
    del asked["adata"]
    assert asked == {"use_rep": ["X_pca"], "batch_key": "batch"} | defaults


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("--batch-key=day", {"batch_key": ["batch", "day"]}),
        ("--label-key=cell_type", {"label_key": "cell_type"}),
        ("--unintegrated=none", {"unintegrated": None}),
        ("--metrics=all", {"metrics": "all"}),
        ("--metrics=ilisi, clisi", {"metrics": ["ilisi", "clisi"]}),
        ("--no-controls", {"controls": False}),
        ("--per-label", {"per_label": True}),
        ("--n-bootstrap=7", {"n_bootstrap": 7}),
        ("--max-cells=5000", {"max_cells": 5000}),
        ("--max-cells=none", {"max_cells": None}),
        ("--flavor=scib", {"flavor": "scib"}),
        ("--jobs=1", {"n_jobs": 1}),
        ("--seed=5", {"rng": 5}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_options_reach_the_function(source, asked, option, expected):
    assert run("evaluate", source, *KEYS, option) == 2
    assert {name: asked[name] for name in expected} == expected


def test_table_alone(source, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("evaluate", source, *KEYS, *QUICK) == 0
    out = capsys.readouterr().out
    assert out.startswith("                         X_pca\n                  unintegrated\nBatch correction\n  iLISI")
    assert "wrote" not in out
    assert not names(tmp_path)


def test_per_label_with_tabs_and_picture(source, tmp_path):
    files = ("-o", tmp_path / "scores.tsv", "--figure", tmp_path / "scores.svg")
    assert run("evaluate", source, *KEYS, *QUICK, "--label-key", "cell_type", "--per-label", *files) == 0
    found = pd.read_csv(tmp_path / "scores.tsv", sep="\t", index_col=["representation", "label"])
    assert list(found.columns) == ["kind", "cells", "batches", "iLISI"]
    assert found["cells"].sum() == 240
    assert "<svg" in (tmp_path / "scores.svg").read_text()


def test_expression_is_not_read(source, tmp_path):
    """It may be larger than the memory."""
    import h5py

    path = tmp_path / "in.h5ad"
    path.write_bytes(source.read_bytes())
    with h5py.File(path, "r+") as file:
        for name in ("X", "layers/counts", "var"):
            del file[name]
            file.create_group(name).attrs["encoding-type"] = "nobody can read this"
    assert run("evaluate", path, *KEYS, *QUICK) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--rep": "X_x"}, "--rep X_x is not a key of obsm; keys: X_pca."),
        ({"--unintegrated": "X_x"}, "--unintegrated X_x (give 'none' to do without) is not a key of obsm; keys: X_pca."),
        ({"--batch-key": "donor"}, "batch_key='donor' is not a column of adata.obs; columns: batch, cell_type, day."),
        ({"--label-key": "leiden"}, "label_key='leiden' is not a column of adata.obs; columns: batch, cell_type, day."),
        ({"--metrics": "mixing"}, "metrics must be 'default', 'all' or names of metrics; got ['mixing']. Names: "),
        ({"--n-bootstrap": "-1"}, "n_bootstrap must be an integer of at least 0; got -1."),
        ({"--max-cells": "7"}, "max_cells must be an integer of at least 1000; got 7."),
        ({"-o": "scores.txt"}, "-o/--output must end in .csv or .tsv; got "),
        ({"--figure": "scores.doc"}, "--figure must end in .png or .pdf or .svg; got "),
        ({"--figure": "no_folder/scores.png"}, "the folder of --figure does not exist: "),
        ({"input": "nothing.h5ad"}, "input does not exist: "),
    ],
    ids=[
        "rep", "unintegrated", "batch key", "label key", "metric", "bootstrap", "cells", "table suffix", "figure suffix",
        "no figure folder", "no input",
    ],
)  # fmt: skip
def test_mistakes(source, tmp_path, capsys, change, message):
    options = {"input": source, "-o": "scores.csv", "--rep": "X_pca", "--batch-key": "batch"} | change
    options |= {name: tmp_path / options[name] for name in ("input", "-o", "--figure") if name in options}
    path = options.pop("input")
    assert run("evaluate", path, *[word for option in options.items() for word in option]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("scbatchnorm: error: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert not names(tmp_path)


def test_files_are_checked_before_anything_is_computed(source, tmp_path, asked, capsys):
    (tmp_path / "scores.png").write_text("old")
    files = ("-o", tmp_path / "scores.csv", "--figure", tmp_path / "scores.png")
    assert run("evaluate", source, *KEYS, *files) == 2
    assert capsys.readouterr().err == (
        f"scbatchnorm: error: --figure exists already: {tmp_path / 'scores.png'}. Give --overwrite to replace it.\n"
    )
    assert not asked


def test_both_files_or_none(source, tmp_path, capsys, monkeypatch):
    target = tmp_path / "scores.csv"
    target.write_text("old")
    files = ("-o", target, "--figure", tmp_path / "scores.png", "--overwrite")

    def fails(table):
        msg = "no picture"
        raise ValueError(msg)

    with monkeypatch.context() as patch:
        patch.setattr(pl, "scores", fails)
        assert run("evaluate", source, *KEYS, *QUICK, *files) == 2
    captured = capsys.readouterr()
    assert captured.err == "scbatchnorm: error: no picture\n"
    assert "iLISI" in captured.out, "what was computed is still shown"
    assert (names(tmp_path), target.read_text()) == (["scores.csv"], "old")
    assert run("evaluate", source, *KEYS, *QUICK, *files) == 0
    assert target.read_text().startswith("representation,kind,iLISI")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--batch-key", "b"), "required: --rep"),
        (("--rep", "X"), "required: --batch-key"),
        (("--flavor", "vanilla"), "invalid choice: 'vanilla'"),
        (("--n-bootstrap", "many"), "invalid int value: 'many'"),
    ],
    ids=["rep", "batch key", "flavor", "bootstrap"],
)
def test_wrong_options(capsys, arguments, message):
    with pytest.raises(SystemExit) as end:
        run("evaluate", "a.h5ad", *arguments)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_interrupt(source, tmp_path, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(metrics, "evaluate", interrupted)
    assert run("evaluate", source, *KEYS, "-o", tmp_path / "scores.csv") == 130
    assert capsys.readouterr().err == "scbatchnorm: interrupted, nothing was written\n"
    assert not names(tmp_path)
