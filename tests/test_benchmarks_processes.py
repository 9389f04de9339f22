"""The command on processes, without fits and without the official scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("benchmarks", reason="benchmarks/ is in the repository, not in the package")

from benchmarks import processes


def test_one_process_is_compared_with_several(tmp_path, monkeypatch, capsys):
    turns = []

    def run(data, n_processes, seed, options):
        turns.append((n_processes, seed))
        offset = 0.001 * (n_processes - 1) + seed
        return np.random.default_rng(seed).normal(size=(60, 4)) + offset * np.arange(4), float(len(turns))

    def scores(adata, embeddings, *, label_key, batch_key):
        return pd.DataFrame({"Total": {"seed 0": 0.5, "seed 1": 0.6, "seed 2": 0.7, "several": 0.52}})

    monkeypatch.setattr(processes, "run", run)
    monkeypatch.setattr(processes, "official_scores", scores)
    example = str(Path(__file__).parents[1] / "data" / "simulated_3batches.h5ad")
    assert processes.main([example, "-o", str(tmp_path)]) == 0
    assert turns == [(1, 0), (2, 0), (1, 0), (2, 0), (1, 1), (1, 2)]
    row = pd.read_csv(tmp_path / "processes.csv").iloc[0]
    assert row["largest"] == pytest.approx(0.003, rel=0.3)
    assert row["neighbours"] > 0.99 > 0.9 > row["neighbours, seeds"]
    assert (row["total"], row["total, seeds"]) == (pytest.approx(0.02), pytest.approx(0.1))
    assert (row["seconds, 1"], row["seconds, 2"]) == (2, 3)
    assert "| simulated_3batches |" in capsys.readouterr().out


@pytest.mark.parametrize("option", [["--processes", "1"], ["--seeds", "1"], ["--repeats", "0"]])
def test_nothing_to_compare_is_an_error(option):
    with pytest.raises(SystemExit, match="2"):
        processes.parse(option)
