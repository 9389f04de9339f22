"""A call of every public function that works, and one that is refused."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import pandas as pd
import scanpy as sc
import torch

import scbatchnorm as sbn
from scbatchnorm import BatchNormAutoencoder, metrics, nn, pl, pp, tl
from scbatchnorm.datasets._registry import DATASETS
from scbatchnorm.pl._report import compute
from tests.helpers import diagnosed
from tests.test_conventions import NAMESPACES, PUBLIC

if TYPE_CHECKING:
    from pathlib import Path


class Given:
    """Data and models that calls start from; each call has copies of its own."""

    def __init__(self, brief: Callable[..., BatchNormAutoencoder], folder: Path) -> None:
        self.model, self.folder = brief, folder
        adata = diagnosed.cells(n=16)
        sc.pp.pca(adata, n_comps=8)
        pp.integrate(adata, "batch", model=brief(record_shift=True, norm="switchable"))
        tl.correct(adata)
        tl.mixing(adata, "batch", label_key="cell_type")
        tl.diagnose(adata, "batch")
        path = {"strength": [0.0, 1.0], "ilisi": [0.1, 0.4], "knn_preservation": [1.0, 0.9], "chosen": [False, True]}
        adata.uns["scbatchnorm"]["path"] = pd.DataFrame(path)
        self.whole = adata
        self.X, self.batch = np.asarray(adata.X), adata.obs["batch"].to_numpy()
        self.label, self.Z, self.Z_pre = adata.obs["cell_type"], adata.obsm["X_good"], adata.obsm["X_pca"]
        self.fitted = BatchNormAutoencoder.from_anndata(adata)
        assert self.fitted.network_ is not None
        self.network = self.fitted.network_
        self.fitted.save(folder / "model")
        self.table = metrics.evaluate(adata, "X_good", batch_key="batch", metrics=["ilisi"], n_bootstrap=0)

    @property
    def adata(self) -> Any:
        return self.whole.copy()

    @property
    def query(self) -> Any:
        query = self.whole[self.batch == "y"].copy()
        query.obsm.clear()
        query.uns.clear()
        query.obs["batch"] = "z"
        return query


Call = Callable[[Given], object]


def layer(kind: type[torch.nn.Module], *values: Any, batches: bool = False) -> Call:
    """Makes a layer and lets cells pass."""
    codes = (torch.arange(6) % 2,) if batches else ()
    return lambda g: kind(*values)(torch.ones(6, 4), *codes)


def same(name: str) -> tuple[Call, Call]:
    """A metric of embedding, batch and label by name, and what it must refuse."""
    function = getattr(metrics, name)
    others = [p for p in ("batch", "label", "X_pre") if p in inspect.signature(function).parameters]

    def call(g: Given, points: np.ndarray) -> object:
        return function(points, **{p: {"batch": g.batch, "label": g.label, "X_pre": g.Z_pre}[p] for p in others})

    return lambda g: call(g, g.Z), lambda g: call(g, g.Z * np.nan)


# What works, and what must raise.
CALLS: dict[str, tuple[Call, Call]] = {
    "pp.assess": (lambda g: pp.assess(g.adata, "batch", n_permutations=99), lambda g: pp.assess(g.adata, "donor")),
    "pp.integrate": (
        lambda g: pp.integrate(g.adata, "batch", model=g.model()),
        lambda g: pp.integrate(g.adata, "batch", model=g.model(n_epochs=-1)),
    ),
    "tl.concordance": (
        lambda g: tl.concordance(g.adata, "batch", "cell_type"),
        lambda g: tl.concordance(g.adata, "batch", "type"),
    ),
    "tl.correct": (lambda g: tl.correct(g.adata, key_added="new"), lambda g: tl.correct(g.adata, target="donor")),
    "tl.diagnose": (
        lambda g: tl.diagnose(g.adata, "batch", label_key="cell_type"),
        lambda g: tl.diagnose(g.adata, "batch", use_rep="X_bad"),
    ),
    "tl.map_query": (
        lambda g: tl.map_query(g.query, g.adata, batch_key="batch", label_keys="cell_type"),
        lambda g: tl.map_query(g.query, g.adata, batch_key="batch", label_keys="type"),
    ),
    "tl.mixing": (lambda g: tl.mixing(g.adata, "batch"), lambda g: tl.mixing(g.adata, "batch", use_rep="X_bad")),
    "pl.change": (lambda g: pl.change(g.adata), lambda g: pl.change(g.adata, "other")),
    "pl.composition": (
        lambda g: pl.composition(g.adata, "batch", "cell_type"),
        lambda g: pl.composition(g.adata, "batch", "type"),
    ),
    "pl.embedding": (
        lambda g: pl.embedding(g.adata, ["X_pca", "X_good"], color=["batch", "cell_type"], dimensions=(0, 1)),
        lambda g: pl.embedding(g.adata, "X_pca", color=["batch", "type"], dimensions=(0, 1)),
    ),
    "pl.history": (lambda g: pl.history(g.adata), lambda g: pl.history(g.adata, key="other")),
    "pl.mixing": (
        lambda g: pl.mixing(_flat(g.adata), basis="X_flat"),
        lambda g: pl.mixing(g.adata, basis="X_bad"),
    ),
    "pl.report": (lambda g: _report(g, "X_good"), lambda g: _report(g, "X_bad")),
    "pl.scores": (lambda g: pl.scores(g.table), lambda g: pl.scores(g.table, sort_by="beauty")),
    "pl.statistics": (lambda g: pl.statistics(g.adata), lambda g: pl.statistics(g.adata, key="other")),
    "pl.strength": (lambda g: pl.strength(g.adata), lambda g: pl.strength(g.adata, key="other")),
    **{
        f"metrics.{name}": same(name)
        for name in metrics.__all__
        if name not in {"Neighbors", "evaluate", "isolated_labels"}
    },
    "metrics.isolated_labels": (
        lambda g: metrics.isolated_labels(g.Z, batch=g.batch, label=g.label, most_batches=2),
        lambda g: metrics.isolated_labels(g.Z, batch=g.batch, label=g.label, score="beauty"),  # type: ignore[arg-type]
    ),
    "metrics.evaluate": (
        lambda g: _evaluate(g, metrics="all", n_bootstrap=2, n_jobs=2),
        lambda g: _evaluate(g, metrics="beauty"),
    ),
    "metrics.Neighbors": (
        lambda g: metrics.Neighbors.from_embedding(g.Z, k=5),
        lambda g: metrics.Neighbors.from_embedding(g.Z, k=-5),
    ),
    "nn.Autoencoder": (
        lambda g: nn.Autoencoder(4, 2, n_hidden=5, n_layers=1)(torch.ones(6, 4), torch.arange(6) % 2),
        lambda g: nn.Autoencoder(4, 2, n_hidden=5, n_layers=1, statistics="all"),  # type: ignore[arg-type]
    ),
    "nn.BatchLayerNorm": (layer(nn.BatchLayerNorm, 4), layer(nn.BatchLayerNorm, 5)),
    "nn.GroupNorm": (layer(nn.GroupNorm, 4, 2), layer(nn.GroupNorm, 4, 3)),
    "nn.InstanceNorm": (layer(nn.InstanceNorm, 4, 2), layer(nn.InstanceNorm, 4, 3)),
    "nn.LayerNorm": (layer(nn.LayerNorm, 4), layer(nn.LayerNorm, 5)),
    "nn.MixedBatchNorm": (layer(nn.MixedBatchNorm, 4, 2, batches=True), layer(nn.MixedBatchNorm, 5, 2, batches=True)),
    "nn.SwitchableNorm": (layer(nn.SwitchableNorm, 4, 2), layer(nn.SwitchableNorm, 4, 3)),
    "nn.SyncMixedBatchNorm": (layer(nn.SyncMixedBatchNorm, 4), layer(nn.SyncMixedBatchNorm, 5)),
    "nn.WhitenedBatchNorm": (layer(nn.WhitenedBatchNorm, 4), layer(nn.WhitenedBatchNorm, 5)),
    "nn.covariate_shift": (
        lambda g: nn.covariate_shift(g.fitted, g.X, g.batch),
        lambda g: nn.covariate_shift(g.fitted, g.X, g.label),
    ),
    "nn.discriminator": (
        lambda g: nn.discriminator(4, 2, 5, norm="spectral")(torch.ones(6, 4)),
        lambda g: nn.discriminator(4, 2, 5, norm="batch"),  # type: ignore[arg-type]
    ),
    "nn.fold_batchnorm": (lambda g: nn.fold_batchnorm(g.network), lambda g: nn.fold_batchnorm(nn.MixedBatchNorm(4))),
    "nn.learned_shares": (lambda g: nn.learned_shares(g.fitted), lambda g: nn.learned_shares(g.model())),
    "nn.lipschitz_bound": (lambda g: nn.lipschitz_bound(g.fitted), lambda g: nn.lipschitz_bound(g.model())),
    "nn.recalibrate": (
        lambda g: nn.recalibrate(norm := nn.MixedBatchNorm(4), lambda: norm(torch.ones(6, 4))),
        lambda g: nn.recalibrate(norm := nn.MixedBatchNorm(4), lambda: norm(torch.ones(6, 5))),
    ),
    "datasets.available": (lambda g: sbn.datasets.available(), lambda g: sbn.datasets.available("all")),  # type: ignore[call-arg]
    "datasets.load": (lambda g: _load(g, "kang_2018"), lambda g: _load(g, "kang")),
    "datasets.pbmc_planted": (
        lambda g: sbn.datasets.pbmc_planted(),
        lambda g: sbn.datasets.pbmc_planted(batch_strength=-1),
    ),
    "datasets.simulate_batches": (
        lambda g: sbn.datasets.simulate_batches(60, n_genes=20, n_types=2),
        lambda g: sbn.datasets.simulate_batches(0),
    ),
    "BatchNormAutoencoder.fit": (
        lambda g: g.model(dropout=0.1).fit(g.X, g.batch),
        lambda g: g.model().fit(g.X, g.batch[1:]),
    ),
    "BatchNormAutoencoder.fit_transform": (
        lambda g: g.model().fit_transform(g.X, g.batch),
        lambda g: g.model().fit_transform(g.X * np.nan, g.batch),
    ),
    "BatchNormAutoencoder.transform": (
        lambda g: g.fitted.transform(g.X, g.batch),
        lambda g: g.fitted.transform(g.X, g.label),
    ),
    "BatchNormAutoencoder.inverse_transform": (
        lambda g: g.fitted.inverse_transform(g.whole.obsm["X_scbatchnorm"]),
        lambda g: g.fitted.inverse_transform(g.X),
    ),
    "BatchNormAutoencoder.recalibrate": (
        lambda g: BatchNormAutoencoder.from_anndata(g.whole).recalibrate(g.X, g.batch),
        lambda g: g.fitted.recalibrate(g.X[:1], g.batch[:1]),
    ),
    "BatchNormAutoencoder.from_anndata": (
        lambda g: BatchNormAutoencoder.from_anndata(g.adata),
        lambda g: BatchNormAutoencoder.from_anndata(g.adata, key="other"),
    ),
    "BatchNormAutoencoder.save": (
        lambda g: g.fitted.save(g.folder / "model", overwrite=True),
        lambda g: g.fitted.save(g.folder / "model"),
    ),
    "BatchNormAutoencoder.load": (
        lambda g: BatchNormAutoencoder.load(g.folder / "model"),
        lambda g: BatchNormAutoencoder.load(g.folder / "other"),
    ),
    "BatchNormAutoencoder.fingerprint": (lambda g: g.fitted.fingerprint(), lambda g: g.model().fingerprint()),
    "BatchNormAutoencoder.get_feature_names_out": (
        lambda g: g.fitted.get_feature_names_out(),
        lambda g: g.model().get_feature_names_out(),
    ),
}
# A network of torch draws its weights from torch's generator, as torch's own do: that is how users seed it.
DRAWN = {"nn.Autoencoder", "nn.discriminator"}
WRONG = (ValueError, TypeError, KeyError, RuntimeError, OSError)


def _load(g: Given, name: str) -> Any:
    """From a cache that has the file, as far as the checksum is concerned."""
    cached = g.folder / "kang_2018.h5ad"
    adata = g.adata
    adata.obs["replicate"] = adata.obs["batch"]
    adata.write_h5ad(cached)
    entry = dataclasses.replace(
        DATASETS["kang_2018"],
        checksum="sha256:" + hashlib.sha256(cached.read_bytes()).hexdigest(),
        size=cached.stat().st_size,
    )
    with mock.patch.dict(DATASETS, {"kang_2018": entry}):
        return sbn.datasets.load(name, cache_dir=g.folder)


def _flat(adata: Any) -> Any:
    adata.obsm["X_flat"] = adata.obsm["X_good"][:, :2]
    return adata


def _report(g: Given, rep: str) -> object:
    """A report with few samples for intervals, and without having to compute UMAPs."""
    adata = g.adata
    for key in ("X_pca", "X_good"):
        adata.obsm[f"{key}_umap"] = adata.obsm[key][:, :2]
    with mock.patch.object(compute, "evaluate", functools.partial(metrics.evaluate, n_bootstrap=2)):
        return pl.report(adata, g.folder / "r.html", use_rep=rep, batch_key="batch", overwrite=True, progress=False)


def _evaluate(g: Given, **options: Any) -> pd.DataFrame:
    return metrics.evaluate(g.adata, "X_good", batch_key="batch", label_key="cell_type", progress=False, **options)


def public() -> set[str]:
    """Names of all that users call."""
    classes = {
        f"{namespace}.{name}"
        for namespace in NAMESPACES
        for name in getattr(sbn, namespace).__all__
        if inspect.isclass(getattr(getattr(sbn, namespace), name))
    }
    return {str(each.id) for each in PUBLIC if not str(each.id).startswith("BatchNormAutoencoder.set_")} | classes
