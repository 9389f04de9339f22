"""The commands on normalisation layers, without the official scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("benchmarks", reason="benchmarks/ is in the repository, not in the package")

from benchmarks import ablation, folding, norms, scoring
from scbatchnorm import BatchNormAutoencoder
from scbatchnorm.nn.network import NETWORK_STATISTICS, NORMS

if TYPE_CHECKING:
    from anndata import AnnData

EXAMPLE = Path(__file__).parents[1] / "data" / "simulated_3batches.h5ad"


def test_every_norm_and_kind_of_statistics_is_a_variant() -> None:
    models = [BatchNormAutoencoder(**parameters) for parameters in norms.VARIANTS.values()]
    assert {model.norm for model in models} == set(NORMS)
    assert {model.statistics for model in models} == set(NETWORK_STATISTICS)
    assert len({(model.norm, model.statistics) for model in models}) == len(models)


def test_norms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables of scores and of null splits; a variant that moves nothing keeps all neighbours, one at random few."""

    def scores(adata: AnnData, embeddings: dict[str, np.ndarray], *, label_key: str, batch_key: str) -> pd.DataFrame:
        totals = [float(np.std(embedding)) for embedding in embeddings.values()]
        return pd.DataFrame(dict.fromkeys(scoring.METRICS, totals), index=list(embeddings))

    def embed(adata: AnnData, parameters: dict, batch_key: str, seed: int) -> np.ndarray:
        if "norm" in parameters:
            return np.random.default_rng(seed).normal(size=(adata.n_obs, 30))
        return np.asarray(adata.obsm["X_pca"])[:, :30]

    for module in (ablation, norms):
        monkeypatch.setattr(module, "require_scib", lambda: None)
    monkeypatch.setattr(ablation, "official_scores", scores)
    monkeypatch.setattr(ablation, "embed", embed)
    command = [str(EXAMPLE), "--seeds", "2", "--variants", "batch, mixed = default", "none", "-o", str(tmp_path)]
    assert norms.main(command) == 0
    rows = pd.read_csv(tmp_path / "norms.csv")
    assert rows["variant"].tolist() == ["unintegrated", *["batch, mixed = default"] * 2, *["none"] * 2]
    nulls = pd.read_csv(tmp_path / "norms_null.csv")
    unmoved, random = nulls[nulls["variant"] != "none"], nulls[nulls["variant"] == "none"]
    assert unmoved["kept"].tolist() == [1, 1]
    assert unmoved["purity"].tolist() == [0, 0]
    assert random["kept"].max() < 0.5
    text = (tmp_path / "norms.md").read_text()
    assert text.count("| batch, mixed = default |") == 6
    assert "| unintegrated |" in text


@pytest.mark.parametrize("norm", folding.NORMS)
def test_folding(norm: str) -> None:
    row = folding.compare(norm, folding.parse(["--cells", "50", "--repeats", "2"]))
    assert float(row["largest difference"]) < 1e-5
    assert float(row["folded, ms"]) > 0


def test_folding_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert folding.main(["--cells", "20", "--repeats", "1", "--batches", "2"]) == 0
    printed = capsys.readouterr().out
    assert "Encoder, 20 cells" in printed
    assert "| whitened |" in printed
