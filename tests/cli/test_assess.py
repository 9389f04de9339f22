"""The command prints the report of pp.assess, writes it, and reads no more than that needs."""

from __future__ import annotations

import inspect
import json

import anndata as ad
import numpy as np
import pytest

from scbatchnorm import pp
from tests.cli.conftest import run
from tests.helpers.assessment import annotated

SIGNATURE = inspect.signature(pp.assess)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    adata = annotated([80, 80, 2], shift=3)
    adata.obs["batch"] = adata.obs["batch"].map("b{}".format)
    adata.obs["condition"] = np.where(adata.obs["batch"] == "b0", "x", "y")
    path = tmp_path_factory.mktemp("cli") / "in.h5ad"
    adata.write_h5ad(path)
    return path


def test_assess_is_pp_assess(source, tmp_path, capsys):
    options = ("--label-key", "type", "--covariate-key", "condition", "--seed", "3", "--n-permutations", "199")
    assert run("assess", source, "--batch-key", "batch", *options, "-o", tmp_path / "a.json") == 0
    adata = ad.read_h5ad(source)
    expected = pp.assess(adata, "batch", label_key="type", covariate_keys=["condition"], n_permutations=199, rng=3)
    out = capsys.readouterr().out
    assert out.startswith(f"{expected!r}\n\nwrote {tmp_path / 'a.json'}: the assessment\n")
    found = json.loads((tmp_path / "a.json").read_text())
    assert (found["verdict"], found["reasons"]) == ("confounded", list(expected.reasons))
    assert found["effects"]["A"]["effect"] == pytest.approx(expected.effects.loc["A", "effect"])
    assert found["batches"]["b2"]["effect"] is None
    assert found["association"]["condition"]["status"] == "confounded"
    assert found["design"]["condition"]["y"] == {"b0": 0, "b1": 80, "b2": 2}
    assert found["label_key"] == "type"


def test_defaults_are_those_of_the_function(source, monkeypatch):
    asked: dict = {}

    def assess(*args, **options):
        asked.update(SIGNATURE.bind(*args, **options).arguments)
        msg = "asked"
        raise ValueError(msg)

    monkeypatch.setattr(pp, "assess", assess)
    assert run("assess", source, "--batch-key", "batch") == 2
    defaults = {name: p.default for name, p in SIGNATURE.parameters.items() if p.default is not p.empty}
    assert {name: asked[name] for name in defaults} == defaults | {"covariate_keys": []}
    assert run("assess", source, "--batch-key", "batch", "--batch-key", "type", "--covariate-key", "condition") == 2
    assert (asked["batch_key"], asked["covariate_keys"]) == (["batch", "type"], ["condition"])


def test_report_alone(source, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("assess", source, "--batch-key", "batch") == 0
    out = capsys.readouterr().out
    assert out.startswith("Verdict: correct")
    assert "wrote" not in out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--rep", "X_x"), "--rep X_x is not a key of obsm; keys: X_pca."),
        (("--label-key", "typ"), "label_key='typ' is not a column of adata.obs; columns: batch, type, condition."),
        (("-o", "a.csv"), "-o/--output must end in .json; got a.csv."),
        (("--n-permutations", "3"), "n_permutations must be an integer of at least 99; got 3."),
    ],
    ids=["rep", "label", "suffix", "permutations"],
)
def test_mistakes(source, capsys, options, message):
    assert run("assess", source, "--batch-key", "batch", *options) == 2
    captured = capsys.readouterr()
    assert captured.err == f"scbatchnorm: error: {message}\n"
    assert captured.out == ""


def test_without_components(source, tmp_path, capsys):
    adata = ad.read_h5ad(source)
    del adata.obsm["X_pca"]
    adata.write_h5ad(tmp_path / "in.h5ad")
    assert run("assess", tmp_path / "in.h5ad", "--batch-key", "batch") == 2
    assert "--rep X_pca (sc.pp.pca makes it) is not a key of obsm; keys: none." in capsys.readouterr().err


def test_files_are_not_replaced_unasked(source, tmp_path, capsys):
    target = tmp_path / "a.json"
    target.write_text("old")
    assert run("assess", source, "--batch-key", "batch", "-o", target) == 2
    assert "exists already" in capsys.readouterr().err
    assert target.read_text() == "old"
    assert run("assess", source, "--batch-key", "batch", "-o", target, "--overwrite") == 0
    assert json.loads(target.read_text())["verdict"] == "correct"
