"""The command on faults of the diagnosis, on small data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("benchmarks", reason="benchmarks/ is in the repository, not in the package")

from benchmarks import diagnose
from benchmarks.methods import METHODS, Method
from tests.helpers.diagnosed import cells


@pytest.fixture
def known() -> diagnose.Cells:
    return diagnose.Cells(cells(n=40), "batch", "cell_type")


def test_planted_types_are_in_their_largest_batch(known):
    assert {label for label, _, _ in known.planted()} == {"B cell", "T cell", "NK cell", "monocyte"}
    assert all(label != target for label, _, target in known.planted())


def test_shifted_types_are_flagged_and_left_alone_ones_are_not(known):
    rows = pd.DataFrame(diagnose.shifted(known, known.adata.obsm["X_good"], 0)).groupby("case")
    assert rows["visible"].all().all()
    flagged = rows["flagged"].mean()
    assert flagged["private type onto another"] == 1
    assert flagged["private types on both sides, left alone"] == 0
    assert rows["named"].mean()["private type onto another"] == 1


@pytest.mark.slow
def test_command(tmp_path, monkeypatch, capsys):
    """Integration is replaced by the truth, which nothing is to be said against."""
    adata = cells(n=40)
    truth = Method(lambda adata, batch_key, seed: np.asarray(adata.obsm["X_pca"]), (), "none")
    monkeypatch.setattr(diagnose, "METHODS", METHODS | {"scbatchnorm": truth, "harmony": truth})
    monkeypatch.setattr(diagnose, "prepare", lambda path, batch_key: adata)
    monkeypatch.setattr(diagnose, "null", lambda path, options, seed: iter(()))
    arguments = [str(Path("cells.h5ad")), "--seeds", "1", "--force", "0", "-o", str(tmp_path)]
    assert diagnose.main(arguments) == 0
    rows = pd.read_csv(tmp_path / "diagnose.csv")
    assert not rows[rows["case"].isin(["default", "Harmony"])]["flagged"].any()
    assert "| default | 0/1 |" in capsys.readouterr().out
