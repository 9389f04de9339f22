"""The command prints what tl.diagnose says, and writes what it is asked for."""

from __future__ import annotations

import anndata as ad
import pandas as pd
import pytest

from scbatchnorm import tl
from tests.cli.conftest import run
from tests.helpers.diagnosed import cells, onto


@pytest.fixture
def integrated(tmp_path):
    adata = cells(n=40)
    adata.obsm["X_bad"] = onto(adata, "B cell", "T cell", "x")
    adata.write_h5ad(tmp_path / "in.h5ad")
    return tmp_path / "in.h5ad"


def test_diagnose_is_tl_diagnose(integrated, tmp_path, capsys):
    table, figure, target = (tmp_path / name for name in ("states.tsv", "change.png", "out.h5ad"))
    options = ("--batch-key", "batch", "--rep", "X_bad", "--label-key", "cell_type", "--control-gene", "gene0")
    assert run("diagnose", integrated, *options, "--table", table, "--figure", figure, "-o", target) == 0
    found = tl.diagnose(
        ad.read_h5ad(integrated), "batch", use_rep="X_bad", label_key="cell_type", control_genes=["gene0"]
    )
    out = capsys.readouterr().out
    assert repr(found) in out
    assert "verdict: 1 pair of states merged" in out
    assert f"wrote {table}: the clusters" in out
    states = pd.read_csv(table, sep="\t", index_col=0, keep_default_na=False)
    assert states.at["x: B cell", "merged_with"] == "x: T cell"
    assert figure.read_bytes()[:4] == b"\x89PNG"
    assert ad.read_h5ad(target).uns["scbatchnorm_diagnose"]["verdict"] == found.verdict


def test_mistakes_are_named(integrated, tmp_path, capsys):
    assert run("diagnose", integrated, "--batch-key", "batch") == 2
    assert "key='scbatchnorm' is not a key of adata.uns" in capsys.readouterr().err
    assert run("diagnose", integrated, "--batch-key", "batch", "--figure", tmp_path / "a.txt") == 2
    assert "--figure must end in .png or .pdf or .svg" in capsys.readouterr().err
    assert run("diagnose", integrated, "--batch-key", "batch", "-o", integrated) == 2
    assert "exists already" in capsys.readouterr().err
