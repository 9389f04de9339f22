"""The benchmark of the optimiser: variances against ones written out by hand; scoring is replaced, for it compiles for a minute."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("benchmarks", reason="benchmarks/ is in the repository, not in the package")

from benchmarks import optimiser, scoring
from scbatchnorm import BatchNormAutoencoder
from scbatchnorm._method.parameters import check_parameters
from scbatchnorm._method.training import history as _history

if TYPE_CHECKING:
    from anndata import AnnData

EXAMPLE = Path(__file__).parents[1] / "data" / "simulated_3batches.h5ad"
OPTIONS = Namespace(seeds=2, batch_key="batch", label_key="cell_type")


@pytest.fixture(scope="module")
def ordered() -> AnnData:
    return optimiser.prepare_sorted(EXAMPLE, batch_key="batch", label_key="cell_type")


def test_cells_are_sorted_by_batch_and_type(ordered: AnnData) -> None:
    pairs = list(zip(ordered.obs["batch"].astype(str), ordered.obs["cell_type"].astype(str), strict=True))
    assert pairs == sorted(pairs)
    unsorted = scoring.prepare(EXAMPLE)
    assert sorted(ordered.obs_names) == sorted(unsorted.obs_names)
    np.testing.assert_array_equal(ordered.obsm["X_pca"], unsorted[ordered.obs_names].obsm["X_pca"])


def test_every_variant_is_an_estimator_of_its_own() -> None:
    chosen = optimiser.variants()
    for parameters in chosen.values():
        check_parameters(BatchNormAutoencoder(**parameters))  # raises where a name or a value is not allowed
    models = [repr(sorted(BatchNormAutoencoder(**parameters).get_params().items())) for parameters in chosen.values()]
    assert len(set(models)) == len(models) == 15  # the default, which every grid has, once
    assert chosen["default"] == {}
    assert all("default" in optimiser.named(grid) for grid in optimiser.GRIDS.values())


def test_learning_rates_are_multiples_of_the_default() -> None:
    default = BatchNormAutoencoder().learning_rate
    rates = {
        (parameters.get("norm", "batch"), parameters.get("learning_rate", default) / default)
        for parameters in optimiser.named(optimiser.GRIDS["Learning rate"]).values()
    }
    assert rates == {(norm, factor) for norm in ("batch", "none") for factor in (0.25, 1, 4, 16)}


def test_variance_ratio_is_that_of_every_minibatch_and_component() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(50, 3)) * [1, 5, 20] + [0, 100, -3]
    minibatches = [np.arange(5), np.arange(5, 20), np.arange(20, 50)]
    ratios = []
    for j in range(3):
        squares = 0.0
        for cells in minibatches:
            mean = sum(points[i, j] for i in cells) / len(cells)
            squares += sum((points[i, j] - mean) ** 2 for i in cells)
        mean = sum(points[:, j]) / 50
        ratios.append(squares / sum((points[i, j] - mean) ** 2 for i in range(50)))
    assert optimiser.variance_ratio(points, minibatches) == pytest.approx(np.mean(ratios), rel=1e-12)


def test_variance_ratio_of_extremes() -> None:
    points = np.repeat([[0.0, 3.0], [1.0, 5.0]], 10, axis=0)
    assert optimiser.variance_ratio(points, [np.arange(20)]) == 1
    assert optimiser.variance_ratio(points, [np.arange(10), np.arange(10, 20)]) == 0  # alike in each minibatch


def test_variances_of_sorted_cells(ordered: AnnData) -> None:
    rows = optimiser.variance_file(ordered, "example", OPTIONS)
    assert len(rows) == 4 * 3 * 2
    np.testing.assert_allclose(rows["perfect"], 1 - 1 / rows["size"])
    ratio = rows.groupby(["minibatches", "size"])["ratio"].mean()
    assert ratio["mixed", 32] == pytest.approx(1 - 1 / 32, abs=0.01)
    assert ratio["shuffled", 32] == pytest.approx(1 - 1 / 32, abs=0.01)
    assert ratio["consecutive", 32] < ratio["single", 32] < 0.97
    # In order there is no chance in it: 600 cells in pieces of nearly 32.
    points = ordered.obsm["X_pca"][:, :30].astype(float)
    pieces = np.array_split(np.arange(600), 19)
    by_hand = sum(len(piece) * points[piece].var(axis=0) for piece in pieces) / 600 / points.var(axis=0)
    one = rows[(rows["minibatches"] == "consecutive") & (rows["size"] == 32)]
    np.testing.assert_allclose(one["ratio"], by_hand.mean(), rtol=1e-9)


def test_ending_is_that_of_the_last_refresh() -> None:
    history = pd.DataFrame(
        {
            "step": [10, 20, 30, 40],
            "refresh": [0, 0, 1, 1],
            "reconstruction": [9.0, 8.0, 3.0, 1.0],
            "anchors": [5.0, 4.0, 0.5, 0.3],
        }
    )
    assert optimiser.ending(history) == pytest.approx({"steps": 40, "reconstruction": 2, "anchors": 0.4, "loss": 2.4})
    assert np.isnan(list(optimiser.ending(_history.empty_history()).values())).all()


def test_ends_are_counted() -> None:
    runs = pd.DataFrame(
        {"stopped": ["completed", "converged", "converged", "not trained"], "steps": [800, 320, 400, np.nan]}
    )
    assert optimiser.ends(runs) == "1 completed at 800, 2 converged at 320 to 400, 1 not trained"


def test_train_takes_the_parameters(ordered: AnnData) -> None:
    adata = ordered[::4].copy()
    embedding, end = optimiser.train(adata, {"min_steps": 10, "n_epochs": 1, "strength": 1.0}, "batch", 0)
    assert embedding.shape == (150, 30)
    assert end["stopped"] == "completed"
    assert end["steps"] == 10
    assert end["loss"] == pytest.approx(end["reconstruction"] + end["anchors"])
    assert "X_scbatchnorm" not in adata.obsm


def test_optimiser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def scores(adata: AnnData, embeddings: dict[str, np.ndarray], *, label_key: str, batch_key: str) -> pd.DataFrame:
        totals = [float(embedding[0, 0]) for embedding in embeddings.values()]
        return pd.DataFrame(dict.fromkeys(scoring.METRICS, totals), index=list(embeddings))

    def train(
        adata: AnnData, parameters: dict[str, Any], batch_key: str, seed: int
    ) -> tuple[np.ndarray, dict[str, Any]]:
        total = len(parameters) + seed / 10
        return np.full((2, 2), total), {"stopped": "completed", "steps": 800, "loss": total / 2}

    monkeypatch.setattr(optimiser, "official_scores", scores)
    monkeypatch.setattr(optimiser, "require_scib", lambda: None)
    monkeypatch.setattr(optimiser, "train", train)
    assert optimiser.main([str(EXAMPLE), "--seeds", "2", "-o", str(tmp_path)]) == 0
    rows = pd.read_csv(tmp_path / "optimiser.csv")
    assert len(rows) == 1 + 2 * 15
    # Every run has the score of its own embedding.
    own = rows[rows["variant"] != "unintegrated"]
    expected = [
        len(optimiser.variants()[name]) + seed / 10 for name, seed in zip(own["variant"], own["seed"], strict=True)
    ]
    np.testing.assert_allclose(own["Total"], expected)
    assert len(pd.read_csv(tmp_path / "variance.csv")) == 4 * 3 * 2
    text = (tmp_path / "optimiser.md").read_text()
    assert text.strip() in capsys.readouterr().out
    assert text.count("| default | 0.050 ± 0.071 |") == len(optimiser.GRIDS)
    assert "| learning_rate=0.064, norm=none | 2.050 ± 0.071 |" in text
    assert "| 2 completed at 800 |" in text
    assert "| consecutive, 32 |" in text
