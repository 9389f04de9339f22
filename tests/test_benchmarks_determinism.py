"""The commands on determinism and imports, without fits and without the official scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("benchmarks", reason="benchmarks/ is in the repository, not in the package")

from benchmarks import determinism, imports
from benchmarks.worker import Outcome

POINTS = np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32)


def test_difference_is_in_standard_deviations():
    assert determinism.difference(POINTS, POINTS.copy())["equal"]
    moved = 10 * POINTS
    moved[0, 0] += 10
    found = determinism.difference(10 * POINTS, moved)
    assert not found["equal"]
    assert found["largest"] == pytest.approx(1, abs=0.1)
    assert found["median"] == 0
    assert found["neighbours"] > 0.9
    assert determinism.difference(POINTS, POINTS[:, :3])["largest"] == np.inf
    assert determinism.overlap(POINTS, POINTS[::-1]) < 0.3


@pytest.mark.parametrize("status", [0, 1])
def test_one_thread_is_compared_with_several(status, tmp_path, monkeypatch, capsys):
    """Exit status 1 if the same again gives something else."""
    turns = []

    def fit(data, method, seed, *, batch_key, timeout, threads):
        turns.append((threads, seed))
        offset = seed + 0.001 * (threads - 1) + status * len(turns)
        return Outcome(np.random.default_rng(0).normal(size=(60, 4)) + offset * np.arange(4), seconds=1.0)

    def scores(adata, embeddings, *, label_key, batch_key):
        totals = pd.DataFrame({"Total": [values[0, 3] for values in embeddings.values()]}, index=list(embeddings))
        for values in embeddings.values():
            values[:] = 0
        return totals

    monkeypatch.setattr(determinism, "run_isolated", fit)
    monkeypatch.setattr(determinism, "official_scores", scores)
    example = str(Path(__file__).parents[1] / "data" / "simulated_3batches.h5ad")
    assert determinism.main([example, "-o", str(tmp_path)]) == status
    assert turns == [(1, 0), (1, 0), (2, 0), (2, 0), (1, 1), (1, 2)]
    row = pd.read_csv(tmp_path / "determinism.csv").iloc[0]
    assert row["again, 1 thread"] == row["again, 2 threads"] == (status == 0)
    assert not row["equal"]
    if status == 0:
        assert row["total"] == pytest.approx(0.003)
        assert row["total, seeds"] == pytest.approx(3)
    assert "| simulated_3batches |" in capsys.readouterr().out


@pytest.mark.parametrize(("ours", "status"), [(1.2, 0), (1.4, 1)])
def test_ratio_of_imports(ours, status, monkeypatch, capsys):
    base = {"torch", "scanpy"}
    found = {
        "nothing else": (1.0, base),
        "scbatchnorm": (ours, base | {"scbatchnorm"}),
        "scbatchnorm and all its parts": (2.0, base | {"scbatchnorm", "numba", "sympy"}),
        "torch's compiler": (1.9, base | {"sympy"}),
    }
    monkeypatch.setattr(imports, "fresh", {imports._IMPORTS[name]: run for name, run in found.items()}.__getitem__)
    assert imports.main(["--turns", "1"]) == status
    out = capsys.readouterr().out
    assert f"and scbatchnorm: {ours:.2f} s, {ours:.2f} times that" in out
    assert "its compiler and scanpy: numba\n" in out
