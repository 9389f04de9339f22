"""Cells of four types in two batches, before and after an integration, for the tests of the diagnosis."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd

from scbatchnorm.tl._diagnosis.findings import Findings, compare_embeddings

TYPES = ("B cell", "T cell", "NK cell", "monocyte")
GENES = 40


def cells(*, n: int = 60, without: tuple[tuple[str, str], ...] = (), seed: int = 0) -> ad.AnnData:
    """`n` cells of each type in each batch, but none of a type in a batch of `without`.

    `X_pca` has a batch effect that is the same for all cells, `X_good` is without it. Genes follow the first components.
    """
    rng = np.random.default_rng(seed)
    centre = {name: 8 * np.eye(12, dtype=np.float32)[place] for place, name in enumerate(TYPES)}
    rows = [(name, batch) for batch in ("x", "y") for name in TYPES if (name, batch) not in without]
    names, batches = (np.repeat([row[part] for row in rows], n) for part in (0, 1))
    good = np.stack([centre[name] for name in names]) + rng.normal(size=(len(names), 12)).astype(np.float32)
    shift = np.zeros(12, dtype=np.float32)
    shift[-1] = 6
    loadings = np.zeros((12, GENES), dtype=np.float32)
    loadings[np.arange(GENES) % 4, np.arange(GENES)] = 0.2
    X = np.clip(good @ loadings + 0.3 * rng.normal(size=(len(names), GENES)), 0, None).astype(np.float32)
    obs = pd.DataFrame({"batch": batches, "cell_type": names}, index=[f"cell{i}" for i in range(len(names))])
    obs = obs.astype("category")
    var = pd.DataFrame(index=[f"gene{i}" for i in range(GENES)])
    obsm = {"X_pca": good + np.where((batches == "y")[:, None], shift, 0), "X_good": good}
    return ad.AnnData(X, obs=obs, var=var, obsm=obsm)


def onto(adata: ad.AnnData, moved: str, target: str, batch: str | None = None) -> np.ndarray:
    """`X_good` with the cells of one type moved onto the centre of another, in a batch or in all."""
    points, label = adata.obsm["X_good"].copy(), adata.obs["cell_type"].to_numpy()
    here = np.ones(len(label), dtype=bool) if batch is None else (adata.obs["batch"] == batch).to_numpy()
    points[(label == moved) & here] += points[label == target].mean(axis=0) - points[label == moved].mean(axis=0)
    return points


def compare(adata: ad.AnnData, after: np.ndarray) -> Findings:
    """Findings of an embedding of such cells."""
    codes = (adata.obs["batch"] == "y").to_numpy().astype(np.intp)
    return compare_embeddings(adata.obsm["X_pca"], after, codes, np.random.default_rng(0))


def types_of(adata: ad.AnnData, findings: Findings, pairs: pd.DataFrame) -> list[set[str]]:
    """The most frequent types of both states of each pair."""
    labels, codes = adata.obs["cell_type"].to_numpy(), findings.states.codes
    main = [max(TYPES, key=lambda t: (labels[codes == s] == t).sum()) for s in range(findings.states.n_states)]
    return [{main[row["first"]], main[row["second"]]} for _, row in pairs.iterrows()]
