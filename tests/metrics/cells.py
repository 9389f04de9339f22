"""Cells for the tests of metrics: types, batches, and how far they are apart."""

from __future__ import annotations

from dataclasses import dataclass, replace

import anndata as ad
import numpy as np
import pandas as pd

NAMES = {"label": np.array(["zebra", "ape", "mole", "cow"]), "batch": np.array(["late", "early", "noon", "dusk"])}


@dataclass(frozen=True)
class Cells:
    """Coordinates after (`X`) and before (`X_pre`) integration, and the codes of label and batch."""

    X: np.ndarray
    X_pre: np.ndarray
    label: np.ndarray
    batch: np.ndarray

    def ordered(self, order: np.ndarray) -> Cells:
        return Cells(self.X[order], self.X_pre[order], self.label[order], self.batch[order])

    def renamed(self) -> Cells:
        """Names whose alphabetical order is not that of the codes."""
        return replace(self, label=NAMES["label"][self.label], batch=NAMES["batch"][self.batch])


def cells(seed=0, n=300, *, d=4, n_labels=3, n_batches=3, labels_apart=2.0, batches_apart=0.7) -> Cells:
    """Clouds around a centre for each label, and for each batch; before integration batches are twice as far apart."""
    rng = np.random.default_rng(seed)
    label, batch = rng.integers(n_labels, size=n), rng.integers(n_batches, size=n)
    label[:n_labels] = np.arange(min(n, n_labels))
    batch[:n_batches] = np.arange(min(n, n_batches))
    of_label, of_batch = rng.normal(size=(n_labels, d))[label], rng.normal(size=(n_batches, d))[batch]
    X = rng.normal(size=(n, d)) + labels_apart * of_label + batches_apart * of_batch
    return Cells(X, X + batches_apart * of_batch + 0.3 * rng.normal(size=(n, d)), label, batch)


def mixed(seed=0, n=240) -> Cells:
    """Two batches drawn from the same two types, which are far apart: nothing is left to mix."""
    label, batch = np.repeat([0, 1], n // 2), np.tile([0, 1], n // 2)
    X = np.random.default_rng(seed).normal(size=(n, 4)) + np.where(label == 0, -50, 50)[:, None] * [1, -1, 1, -1]
    return Cells(X, X + 9 * batch[:, None] * [1, 1, -1, -1], label, batch)


def separate(seed=0, n=240) -> Cells:
    """The same types in two batches on opposite sides of the origin, and each type in one place of each batch."""
    same = mixed(seed, n)
    side = np.where(same.batch == 0, -1, 1)[:, None]
    noise = np.random.default_rng(seed + 1).normal(size=same.X.shape)
    return replace(same, X=side * (100 + 30 * same.label[:, None]) + noise, X_pre=noise)


def annotated(seed=0, n=300, **options) -> ad.AnnData:
    """As AnnData: `obs["batch"]`, `obs["cell_type"]`, `obsm["X_pca"]` before integration, `obsm["X_new"]` after."""
    found = cells(seed, n, **options).renamed()
    obs = pd.DataFrame({"batch": found.batch, "cell_type": found.label}, [f"cell{i}" for i in range(n)], dtype=object)
    adata = ad.AnnData(obs=obs, obsm={"X_pca": found.X_pre, "X_new": found.X})
    adata.strings_to_categoricals()
    return adata
