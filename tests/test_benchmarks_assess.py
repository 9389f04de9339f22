"""The benchmark of verdicts, on small data."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

pytest.importorskip("benchmarks", reason="benchmarks/ is in the repository, not in the package")

from benchmarks import assess

EXAMPLE = Path(__file__).parents[1] / "data" / "simulated_3batches.h5ad"


@pytest.mark.slow
def test_verdicts(tmp_path):
    arguments = [str(EXAMPLE), "--kinds", "whole", "50:50", "--runs", "2", "--seeds", "1", "-o", str(tmp_path)]
    assert assess.main([*arguments, "--no-strength"]) == 0
    rows = pd.read_csv(tmp_path / "assess.csv")
    verdicts = rows.set_index(["kind", "groups by"])["verdict"]
    assert verdicts["whole"].to_dict() == {
        "clusters": "correct",
        "labels": "correct",
        "batch as covariate": "confounded",
    }
    assert (verdicts["50:50"] == "none").all()
    assert len(verdicts["50:50"]) == 4
    assert "| simulated_3batches, 50:50, labels | 2 | 2 | 0 | 0 |" in (tmp_path / "assess.md").read_text()


def test_agreement_with_the_strength():
    rows = {"data": "d", "kind": "k", "groups by": "labels", "effect": 0.0, "largest": 0.0, "seconds": 0.0}
    table = pd.DataFrame(
        [
            rows | {"verdict": verdict, "strength": strength}
            for verdict, strength in [("none", 0), ("none", 1), ("correct", 1)]
        ]
    )
    (line,) = [line for line in assess.summary(table).splitlines() if line.startswith("| d, k, labels")]
    assert [cell.strip() for cell in line.split("|")][8:10] == ["2", "2"]
