"""The benchmark of corrected expression: measures are right, and the command makes a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("benchmarks", reason="benchmarks/ is in the repository, not in the package")

from benchmarks import correct

if TYPE_CHECKING:
    from pathlib import Path

    import anndata as ad


def test_errors() -> None:
    truth = np.random.default_rng(0).uniform(size=(50, 8))
    assert correct.errors(truth, truth)["rmse"] == 0
    moved = correct.errors(truth + np.arange(8), truth)
    assert moved["rmse_gene"] == pytest.approx(3.5)
    assert [moved["rmse_free"], moved["rmse_cell_free"]] == pytest.approx([0, 0])
    assert moved["correlation_gene"] == pytest.approx(1)
    assert moved["correlation_cell"] < 0.5


def test_gene_gene() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(5, 1, (120, 12)) + rng.normal(size=(120, 1))
    labels = np.repeat(["a", "b"], 60)
    same = correct.gene_gene(truth, truth, labels)
    assert same["gene_gene"] == pytest.approx(1)
    assert same["gene_gene_error"] == pytest.approx(0)
    assert correct.gene_gene(rng.permuted(truth, axis=0), truth, labels)["gene_gene_error"] > 0.3


def test_type_means() -> None:
    rng = np.random.default_rng(0)
    truth, groups = rng.normal(size=(60, 5)), np.repeat(["a", "b", "few"], [30, 25, 5])
    noise = np.tile([[1.0], [-1.0]], (30, 5))
    noise[30:55] -= noise[30:55].mean(axis=0)
    assert correct.type_means(truth + noise + np.arange(5), truth, groups) == pytest.approx(0)
    assert correct.type_means(truth + 2.0 * (groups == "a")[:, None], truth, groups) == pytest.approx(1)


def test_fold_changes() -> None:
    adata = correct.planted(1.0, 0)[:, :60].copy()
    kept = correct.fold_changes(adata, adata.X.toarray())
    assert list(kept.values()) == pytest.approx([1, 1])


def test_combat_is_never_negative() -> None:
    adata = correct.planted(1.0, 0)[:, :60].copy()
    found = correct.combat(adata, 0)
    assert found.shape == adata.shape
    assert found.min() == 0
    assert not np.allclose(found, adata.X.toarray(), atol=0.1)


def test_measurement_and_truth_of_the_simulation_are_normalised_alike() -> None:
    adata = correct.simulated(0.0, 0)[::10]
    np.testing.assert_allclose(adata.X.toarray(), adata.layers["truth"].toarray(), atol=1e-5)
    assert (adata.layers["counts"].data % 1 == 0).all()


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def small(strength: float, seed: int) -> ad.AnnData:
        return correct.planted(strength, seed)[:, :80].copy()

    monkeypatch.setitem(correct.DATASETS, "pbmc_planted", small)
    arguments = ["--datasets", "pbmc_planted", "--effects", "1", "--seeds", "2", "--methods", "uncorrected", "combat"]
    assert correct.main([*arguments, "-o", str(tmp_path)]) == 0
    table = pd.read_csv(tmp_path / "correct.csv").groupby("method")["rmse"].mean()
    assert table["combat"] < table["uncorrected"]
    printed = capsys.readouterr().out
    assert "## pbmc_planted, effect 1, 2 seeds" in printed
    assert printed.count("\n| ") == 4
    assert (tmp_path / "correct.md").read_text() in printed
