"""The commands on metrics and their intervals, without the official scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("benchmarks", reason="benchmarks/ is in the repository, not in the package")

from benchmarks import intervals, judging, scoring
from scbatchnorm import metrics
from scbatchnorm.metrics._catalogue import CATALOGUE
from tests.metrics.cells import annotated

EXAMPLE = Path(__file__).parents[1] / "data" / "simulated_3batches.h5ad"


def test_the_ten_metrics_are_those_of_scib():
    titles = {metric.title.replace("kBET", "KBET") for metric in CATALOGUE if metric.in_total}
    assert titles == {*scoring.BIO, *scoring.BATCH}


def test_judging(tmp_path, monkeypatch, capsys):
    """Differences are from what scib-metrics says, here ours with .25 added to every total."""
    adata = annotated()
    for key in ("X_harmony", "X_scbatchnorm"):
        adata.obsm[key] = adata.obsm["X_new"]

    def scores(adata, embeddings, *, label_key, batch_key):
        table = metrics.evaluate(
            adata,
            list(embeddings),
            batch_key=batch_key,
            label_key=label_key,
            n_bootstrap=0,
            flavor="scib",
            progress=False,
        )
        table = table.loc[list(embeddings)].rename(columns={"kBET": "KBET"})[list(scoring.METRICS)]
        return table.assign(Total=table["Total"] + 0.25)

    monkeypatch.setattr(judging, "require_scib", lambda: None)
    monkeypatch.setattr(judging, "official_scores", scores)
    monkeypatch.setattr(judging, "represent", lambda path, batch_key: adata)
    assert judging.main([str(EXAMPLE), "-o", str(tmp_path)]) == 0
    rows = pd.read_csv(tmp_path / "judging.csv", index_col=[0, 1, 2])
    assert set(rows.index.get_level_values("of")) == {"scib-metrics", "ours, scib", "ours, default"}
    same = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| ours, scib: "))
    values = [float(value) for value in same.split("|")[2:-1]]
    assert values[:-1] == [0.0] * (len(scoring.METRICS) - 1)
    assert values[-1] == 0.25


def test_judging_of_simulated_cells(capsys):
    assert judging.main(["--simulate", "300"]) == 0
    assert "| 0 | 300 |" in capsys.readouterr().out


def test_intervals_of_samples():
    """Normal scores: a ratio of 1 if intervals say what samples do."""
    rng = np.random.default_rng(0)
    value = 0.5 + 0.01 * rng.normal(size=4000)
    rows = pd.DataFrame({"iLISI": value, "iLISI low": value - 1.96 * 0.01, "iLISI high": value + 1.96 * 0.01})
    assert intervals.compare(rows, 0)["ratio"].loc["iLISI"] == pytest.approx(1, abs=0.05)
    # Of half of all cells samples differ less than they would elsewhere.
    assert intervals.compare(rows, 0.5)["ratio"].loc["iLISI"] == pytest.approx(np.sqrt(0.5), abs=0.05)
    # An end that is cut off is not taken for the width.
    assert intervals.compare(rows.assign(**{"iLISI high": value}), 0)["ratio"].loc["iLISI"] == pytest.approx(
        1, abs=0.05
    )


def test_samples_keep_the_composition():
    strata = pd.Series(np.repeat(["a", "b", "rare"], [600, 395, 5]))
    rows = intervals.sample(strata, 100, np.random.default_rng(0))
    assert len(set(rows)) == len(rows)
    assert strata.iloc[rows].value_counts().to_dict() == pytest.approx({"a": 60, "b": 39.5, "rare": 1}, abs=1)
