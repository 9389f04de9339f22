"""The benchmark commands without the peers: scoring is replaced, for it compiles for a minute."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("benchmarks", reason="benchmarks/ is in the repository, not in the package")

from benchmarks import ablation, null, report, run, scoring, worker
from benchmarks.methods import METHODS, Method

if TYPE_CHECKING:
    from anndata import AnnData

EXAMPLE = Path(__file__).parents[1] / "data" / "simulated_3batches.h5ad"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("benchmarks") / "prepared.h5ad"
    scoring.prepare(EXAMPLE).write_h5ad(path)
    return path


@pytest.fixture
def quick_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores that take no time: the total is the standard deviation of the embedding."""

    def scores(adata: AnnData, embeddings: dict[str, np.ndarray], *, label_key: str, batch_key: str) -> pd.DataFrame:
        totals = [float(np.std(embedding)) for embedding in embeddings.values()]
        return pd.DataFrame(dict.fromkeys(scoring.METRICS, totals), index=list(embeddings))

    for module in (run, ablation):
        monkeypatch.setattr(module, "official_scores", scores)
        monkeypatch.setattr(module, "require_scib", lambda: None)


def test_prepare() -> None:
    adata = scoring.prepare(EXAMPLE)
    assert adata.obsm["X_pca"].shape == (600, 50)
    assert adata.var["highly_variable"].all()  # fewer than 2 000 genes: all of them
    np.testing.assert_allclose(np.expm1(adata.X).sum(axis=1), 1e4, rtol=1e-4)
    assert (adata.layers["counts"].data % 1 == 0).all()


def test_prepare_names_the_columns_there_are() -> None:
    with pytest.raises(KeyError, match=r"batch_key='donor' is not a column of `adata.obs`\. Available: \['batch'"):
        scoring.prepare(EXAMPLE, batch_key="donor")


def test_worker_measures_a_method(prepared: Path) -> None:
    outcome = worker.run_isolated(prepared, "unintegrated", 0, batch_key="batch", timeout=300)
    assert outcome.reason == ""
    assert outcome.embedding is not None
    assert outcome.embedding.shape == (600, 50)
    assert 0 <= outcome.seconds < outcome.process_seconds
    assert 0 <= outcome.added_mb < outcome.peak_mb


def test_worker_reports_a_failure(prepared: Path) -> None:
    outcome = worker.run_isolated(prepared, "combat", 0, batch_key="no_such_column", timeout=300)
    assert outcome.embedding is None
    assert "no_such_column" in outcome.reason


def test_worker_stops_what_takes_too_long(prepared: Path) -> None:
    outcome = worker.run_isolated(prepared, "combat", 0, batch_key="batch", timeout=0.01)
    assert outcome.embedding is None
    assert outcome.reason == "stopped after 0.01 s"


@pytest.mark.usefixtures("quick_scores")
def test_run_goes_on_where_a_method_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(METHODS, "harmony", Method(METHODS["harmony"].embed, ("no_such_package",), "no-such-package"))
    status = run.main([str(EXAMPLE), "--methods", "unintegrated", "harmony", "--seeds", "2", "-o", str(tmp_path)])
    rows = pd.read_csv(tmp_path / "scores.csv")
    assert status == 0
    assert rows["method"].to_list() == ["unintegrated", "harmony"]
    assert rows["status"].to_list() == ["ok", "failed"]
    assert rows["Total"].notna().to_list() == [True, False]
    assert "no_such_package not installed: pip install 'scbatchnorm[bench]'" in rows["reason"][1]
    table = (tmp_path / "scores.md").read_text()
    assert table.strip() in capsys.readouterr().out
    assert "- simulated_3batches, harmony, seed 0: no_such_package not installed" in table


def test_run_refuses_files_of_one_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run.parse([str(EXAMPLE), str(EXAMPLE)])
    assert "must have different names" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run.parse([str(tmp_path / "absent.h5ad")])
    assert "no such file" in capsys.readouterr().err


def test_every_ablation_is_a_model() -> None:
    from scbatchnorm import BatchNormAutoencoder

    chosen = ablation.variants("all")
    assert len(chosen) == 7 + 8
    for parameters in [*chosen.values(), *ablation.GRID.values()]:
        BatchNormAutoencoder().set_params(**parameters)  # raises where there is no such parameter


@pytest.mark.usefixtures("quick_scores")
def test_ablation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        ablation, "embed", lambda adata, parameters, batch_key, seed: np.arange(3) * (len(parameters) + 1 + seed)
    )
    assert ablation.main([str(EXAMPLE), "--seeds", "2", "-o", str(tmp_path)]) == 0
    rows = pd.read_csv(tmp_path / "ablation.csv")
    assert len(rows) == 1 + 2 * 15
    table = (tmp_path / "ablation.md").read_text()
    assert "| unintegrated |" in table
    assert "| batch |" in table  # row of the grid


def test_totals_have_no_mean_without_every_dataset() -> None:
    rows = pd.DataFrame(
        {
            "dataset": ["one", "one", "two", "two", "one"],
            "method": ["a", "a", "a", "a", "b"],
            "seed": [0, 1, 0, 1, 0],
            "Total": [0.4, 0.6, 0.8, 0.8, 0.9],
        }
    )
    table = report.totals_table(rows, "method")
    assert list(table.loc["a"]) == ["0.500 ± 0.141", "0.800 ± 0.000", "0.650 ± 0.071"]
    assert list(table.loc["b"]) == ["0.900", "-", "-"]
    assert report.markdown(table, index_name="method").splitlines()[0] == "| method | one | two | mean |"


@pytest.mark.parametrize("kind", null.SPLITS)
def test_split(kind: str) -> None:
    labels = np.repeat(["a", "b", "c"], [400, 300, 300])
    rows, second = null.split(labels, kind, seed=0)
    assert len(rows) == len(second)
    assert abs(second.mean() - (0.15 if kind == "85:15" else 0.5)) < 0.2
    here, there = set(labels[rows][~second]), set(labels[rows][second])
    assert here == ({"a", "c"} if kind == "a type removed from each" else {"a", "b", "c"})
    assert there == ({"b", "c"} if "removed" in kind else {"a", "b", "c"})


def test_kept_neighbours_and_purity() -> None:
    before = np.array([[1, 2], [0, 2], [0, 1]])
    assert null.kept(before, before[:, ::-1]) == 1
    assert null.kept(before, np.array([[1, 3], [0, 3], [0, 3]])) == 0.5
    assert null.purity(before, np.array(["x", "x", "y"])) == pytest.approx(1 / 3)


def test_null(tmp_path: Path) -> None:
    assert null.main([str(EXAMPLE), "--methods", "scbatchnorm", "--seeds", "1", "-o", str(tmp_path)]) == 0
    rows = pd.read_csv(tmp_path / "null.csv")
    assert rows["split"].to_list() == list(null.SPLITS)
    assert rows["kept"].between(0, 1).all()
    assert rows["strength"].between(0, 1).all()
