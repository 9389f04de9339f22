"""Every public function that takes an AnnData: how it is called, where it reads a matrix, and what it writes."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from scbatchnorm import BatchNormAutoencoder, metrics, nn, pl, pp, tl

if TYPE_CHECKING:
    from collections.abc import Callable

N_CELLS, N_GENES = 64, 16
BATCHES = np.repeat(["a", "b"], N_CELLS // 2)
TYPES = np.tile(["B", "T"], N_CELLS // 2)


@dataclass(frozen=True)
class Use:
    """A function with the arguments that make it read the matrix at `place`, and what it writes.

    `state` is what was done to the AnnData before; `writes` are slots and how the docstring names them.
    """

    call: Callable[..., Any]
    place: str = "X"  # "X", "layer", a key of obsm; "" where no matrix is looked at
    state: str = "bare"
    writes: dict[str, str] = field(default_factory=dict)
    values: str = "full"
    dense_only: bool = False  # refuses sparse representations
    on_views: bool = True  # whether it writes to views
    refuses: bool = True  # whether it looks at the values of the matrix
    copies: bool = False  # whether it has `copy`
    brief: bool = False  # a few containers are enough: another use, or no use, of the same matrix


def model() -> BatchNormAutoencoder:
    """Trains for a moment; the network is in use."""
    return BatchNormAutoencoder(
        n_components=6, n_latent=4, strength=1.0, n_hidden=8, n_layers=1, n_epochs=1, min_steps=3, n_refreshes=1, progress=False,
    )  # fmt: skip


def values(kind: str, n_columns: int) -> np.ndarray:
    """Values of two types in two batches that float16 holds, of which the `kind` says how many are not 0."""
    rng = np.random.default_rng(7)
    apart = np.where((np.arange(N_CELLS) % 2)[:, None] == np.arange(n_columns) % 2, 10, 3)
    apart = apart + 5 * (np.arange(N_CELLS) >= N_CELLS // 2)[:, None] * (np.arange(n_columns) < n_columns // 3)
    found = rng.poisson(apart)
    if kind == "0 and 1":
        return np.ascontiguousarray(found > np.median(found, axis=0), dtype=np.float32)
    if kind == "apart":  # hardly two pairs of cells at the same distance
        found = found + rng.integers(0, 2**7, found.shape) / 2**3
    found = found * (rng.random(found.shape) < (0.3 if kind == "mostly zero" else 0.8))
    return np.ascontiguousarray(found if kind == "whole" else found / 8, dtype=np.float32)


def bare(kind: str = "full") -> ad.AnnData:
    obs = pd.DataFrame({"batch": BATCHES, "cell_type": TYPES}, index=[f"cell{i}" for i in range(N_CELLS)])
    adata = ad.AnnData(values(kind, N_GENES), obs=obs.astype("category"))
    adata.var_names = [f"gene{i}" for i in range(N_GENES)]
    adata.layers["log"], adata.layers["other"] = values("mostly zero", N_GENES), adata.X[::-1].copy()
    adata.obsm["X_pca"] = values("apart", 6)
    adata.obsm["X_two"] = values("apart", 2)
    return adata


def integrated() -> ad.AnnData:
    adata = bare()
    del adata.layers["other"]
    pp.integrate(adata, "batch", model=model())
    pp.integrate(adata, "batch", model=model(), layer="log", key_added="of_layer")
    pp.integrate(adata, "batch", model=model(), use_rep="X_pca", key_added="of_rep")
    path = {"strength": [0.0, 1.0], "ilisi": [0.2, 0.7], "knn_preservation": [1.0, 0.6], "chosen": [False, True]}
    adata.uns["scbatchnorm"]["path"] = pd.DataFrame(path)
    return adata


def judged(adata: ad.AnnData) -> ad.AnnData:
    adata = adata.copy()
    pp.assess(adata, "batch", label_key="cell_type", n_permutations=99)
    tl.correct(adata)
    tl.mixing(adata, "batch", label_key="cell_type")
    tl.diagnose(adata, "batch")
    return adata


INTEGRATED = {
    "obsm['X_scbatchnorm']": "adata.obsm['X_scbatchnorm'",
    "varm['scbatchnorm']": "adata.varm['scbatchnorm'",
    "uns['scbatchnorm']": "adata.uns['scbatchnorm'",
}
OF_REP = {name: text for name, text in INTEGRATED.items() if "varm" not in name}
CORRECTED = {
    "layers['scbatchnorm']": "adata.layers['scbatchnorm'",
    "uns['scbatchnorm_correct']": "adata.uns['scbatchnorm_correct'",
}
DIAGNOSED = {
    "uns['scbatchnorm_diagnose']": "adata.uns['scbatchnorm_diagnose'",
    "obs['diagnose_state']": "adata.obs['diagnose_state'",
    "obs['diagnose_kept']": "adata.obs['diagnose_kept'",
}  # fmt: skip
DIAGNOSED_OWN = DIAGNOSED | {
    "obs['diagnose_displacement']": "adata.obs['diagnose_displacement'",
    "obs['diagnose_displacement_own']": "adata.obs['diagnose_displacement_own'",
}
DIAGNOSED_GENES = {
    "var['diagnose_signal_before']": "adata.var['diagnose_signal_before'",
    "var['diagnose_signal_after']": "adata.var['diagnose_signal_after'",
}
DIAGNOSED_SHIFT = {
    "var['diagnose_shift']": "adata.var['diagnose_shift'",
    "var['diagnose_variance_lost']": "adata.var['diagnose_variance_lost'",
    "varm['diagnose_shift']": "adata.varm['diagnose_shift'",
}
MAPPED = {
    "obsm['X_scbatchnorm']": "query.obsm['X_scbatchnorm'",
    "uns['scbatchnorm']": "query.uns['scbatchnorm'",
    "obs['scbatchnorm_novelty']": "query.obs['scbatchnorm_novelty'",
    "obs['scbatchnorm_confidence']": "query.obs['scbatchnorm_confidence'",
}
MAPPED_LABELS = {
    "obs['cell_type_mapped']": "query.obs[label_key + '_mapped'",
    "obs['cell_type_mapped_probability']": "query.obs[label_key + '_mapped_probability'",
}
MIXED = {
    f"obs['mixing_{name}']": f"adata.obs['mixing_{name}'" for name in ("ilisi", "cilisi", "clisi", "knn_preservation")
}
MIXED |= {"uns['mixing']": "adata.uns['mixing'"}

EVALUATE: dict[str, Any] = {
    "batch_key": "batch",
    "label_key": "cell_type",
    "n_bootstrap": 0,
    "progress": False,
    "metrics": ["ilisi", "silhouette_label"],
}


def loaded(adata: ad.AnnData, key: str = "scbatchnorm") -> BatchNormAutoencoder:
    return BatchNormAutoencoder.from_anndata(adata, key=key)


def mapped(reference: ad.AnnData, **options: Any) -> ad.AnnData:
    """New cells, placed in what is the `reference`."""
    query = bare()
    tl.map_query(query, reference, label_keys="cell_type", **options)
    return query


def uses(reference: ad.AnnData) -> dict[str, Use]:
    """All of them, by the name of the function and what it is given; `reference` is `integrated()`."""

    def onto(**options: Any) -> Callable[..., Any]:
        return partial(tl.map_query, reference=reference, label_keys="cell_type", batch_key="batch", **options)

    def integrate(**options: Any) -> Callable[..., Any]:
        return partial(pp.integrate, batch_key="batch", model=model(), **options)

    return {
        "pp.assess": Use(
            lambda adata: pp.assess(adata, "batch", label_key="cell_type", n_permutations=99),
            place="X_pca", writes={"uns['scbatchnorm_assess']": "adata.uns['scbatchnorm_assess']"}, dense_only=True,
        ),
        "pp.integrate": Use(integrate(), writes=INTEGRATED, copies=True),
        "pp.integrate, mostly zero": Use(integrate(), writes=INTEGRATED, values="mostly zero", brief=True, copies=True),
        "pp.integrate, layer": Use(integrate(layer="log"), place="layer", writes=INTEGRATED, brief=True, copies=True),
        "pp.integrate, use_rep": Use(integrate(use_rep="X_pca"), place="X_pca", writes=OF_REP, brief=True, copies=True),
        "tl.concordance": Use(lambda adata: tl.concordance(adata, "batch", "cell_type", corrected="log")),
        "tl.concordance, layer": Use(
            lambda adata: tl.concordance(adata, "batch", "cell_type", corrected="log", layer="other"),
            place="layer", brief=True,
        ),
        "tl.correct": Use(tl.correct, state="integrated", writes=CORRECTED, copies=True),
        "tl.correct, mostly zero": Use(tl.correct, state="integrated", writes=CORRECTED, values="mostly zero", brief=True, copies=True),
        "tl.correct, layer": Use(partial(tl.correct, key="of_layer", genes="hvg", threshold=0.1), place="layer", state="integrated", writes=CORRECTED, brief=True, copies=True),
        "tl.diagnose": Use(lambda adata: tl.diagnose(adata, "batch", label_key="cell_type"), state="integrated", brief=True, writes=DIAGNOSED_OWN | DIAGNOSED_GENES | DIAGNOSED_SHIFT),
        "tl.diagnose, use_rep": Use(
            lambda adata: tl.diagnose(adata, "batch", use_rep="X_pca", unintegrated="X_two"),
            place="X_pca", writes=DIAGNOSED | DIAGNOSED_GENES, dense_only=True, brief=True,
        ),
        "tl.diagnose, layer": Use(
            lambda adata: tl.diagnose(adata, "batch", use_rep="X_pca", unintegrated="X_two", layer="log"),
            place="layer", writes=DIAGNOSED | DIAGNOSED_GENES, brief=True,
        ),
        "tl.diagnose, of a representation": Use(
            lambda adata: tl.diagnose(adata, "batch", key="of_rep"),
            place="X_pca", state="integrated", writes=DIAGNOSED_OWN | DIAGNOSED_GENES, dense_only=True, brief=True,
        ),
        "tl.map_query": Use(onto(), writes=MAPPED | MAPPED_LABELS, copies=True),
        "tl.map_query, layer": Use(onto(layer="log"), place="layer", writes=MAPPED | MAPPED_LABELS, brief=True, copies=True),
        "tl.map_query, use_rep": Use(onto(key="of_rep"), place="X_pca", writes=MAPPED | MAPPED_LABELS, brief=True, copies=True),
        "tl.map_query, reference": Use(mapped, state="integrated", brief=True, refuses=False),
        "tl.mixing": Use(
            partial(tl.mixing, batch_key="batch", use_rep="X_two", label_key="cell_type"),
            place="X_pca", writes=MIXED, dense_only=True, copies=True,
        ),
        "metrics.evaluate": Use(lambda adata: metrics.evaluate(adata, ["X_pca", "X_two"], **EVALUATE), place="X_pca", dense_only=True, brief=True),
        "nn.covariate_shift": Use(lambda adata: nn.covariate_shift(loaded(reference), adata), state="integrated", brief=True),
        "nn.covariate_shift, of a representation": Use(
            lambda adata: nn.covariate_shift(loaded(reference, "of_rep"), adata, key="of_rep"), place="X_pca", state="integrated", brief=True,
        ),
        "BatchNormAutoencoder.from_anndata": Use(loaded, place="", state="integrated", brief=True),
        "pl.change": Use(pl.change, place="", state="judged", brief=True),
        "pl.composition": Use(lambda adata: pl.composition(adata, "batch", "cell_type", ax=Figure().subplots()), place="", state="judged", brief=True),
        "pl.embedding": Use(
            lambda adata: pl.embedding(adata, "pca", color="batch", dimensions=(0, 1)),
            place="X_pca", writes={"uns['batch_colors']": 'adata.uns[f"{color}_colors"]'}, on_views=False, brief=True,
        ),
        "pl.history": Use(pl.history, place="", state="judged", brief=True),
        "pl.mixing": Use(lambda adata: pl.mixing(adata, basis="two"), place="", state="judged", brief=True),
        "pl.statistics": Use(pl.statistics, state="judged", brief=True),
        "pl.strength": Use(pl.strength, place="", state="judged", brief=True),
    }  # fmt: skip
