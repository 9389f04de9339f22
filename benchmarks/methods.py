"""The methods of the comparison: each takes the prepared data and returns an embedding.

All start from the same data (:func:`benchmarks.scoring.prepare`) and run with their authors' defaults. Imports are inside the
functions, so that one missing package only costs its own method.
"""

from __future__ import annotations

import contextlib
import importlib
import io
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.isolated import Timed, timed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from anndata import AnnData


@dataclass(frozen=True)
class Method:
    """What the runner has to know about a method."""

    embed: Callable[[AnnData, str, int], np.ndarray]  # (adata, batch_key, seed) -> (cells, dimensions)
    modules: tuple[str, ...]  # imported before the clock starts
    distribution: str  # whose version is recorded
    stochastic: bool = True  # repeated over seeds
    deep: bool = False  # minutes instead of seconds

    def missing(self) -> str:
        """Why it cannot run here, empty if it can."""
        absent = [name for name in self.modules if find_spec(name.partition(".")[0]) is None]
        if not absent:
            return ""
        return f"{', '.join(absent)} not installed: pip install 'scbatchnorm[bench]'"

    def installed_version(self) -> str:
        """Version of the distribution, empty if unknown."""
        try:
            return version(self.distribution)
        except PackageNotFoundError:
            return ""


def scbatchnorm(adata: AnnData, batch_key: str, seed: int) -> np.ndarray:
    """Ours, with default parameters."""
    import scbatchnorm as sbn

    sbn.pp.integrate(adata, batch_key, rng=seed)
    return np.asarray(adata.obsm["X_scbatchnorm"])


def unintegrated(adata: AnnData, batch_key: str, seed: int) -> np.ndarray:
    """The PCA everybody starts from."""
    return np.asarray(adata.obsm["X_pca"])


def harmony(adata: AnnData, batch_key: str, seed: int) -> np.ndarray:
    """Harmony 2 on the PCA; called directly, for scanpy's wrapper fails with harmonypy 2."""
    import harmonypy

    result = harmonypy.run_harmony(adata.obsm["X_pca"], adata.obs, [batch_key], random_state=seed, verbose=False)
    corrected = np.asarray(result.Z_corr)
    # The orientation of Z_corr changed between versions.
    return corrected if corrected.shape[0] == adata.n_obs else corrected.T


def scanorama(adata: AnnData, batch_key: str, seed: int) -> np.ndarray:
    """Scanorama on the highly variable genes, 100 dimensions; cells may come in any order."""
    import scanorama as package

    genes = adata[:, adata.var["highly_variable"]]
    rows = [np.flatnonzero(adata.obs[batch_key] == level) for level in adata.obs[batch_key].cat.categories]
    values, names = [genes.X[part] for part in rows], [genes.var_names.to_numpy()] * len(rows)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints even when told not to
        parts, _ = package.integrate(values, names, dimred=100, seed=seed, verbose=False)
    embedding = np.empty((adata.n_obs, parts[0].shape[1]))
    embedding[np.concatenate(rows)] = np.concatenate(parts)
    return embedding


def combat(adata: AnnData, batch_key: str, seed: int) -> np.ndarray:
    """ComBat (scanpy) on the highly variable genes, then PCA."""
    import scanpy as sc

    genes = adata[:, adata.var["highly_variable"]].copy()
    genes.X = genes.X.toarray()
    sc.pp.combat(genes, batch_key)
    sc.pp.pca(genes, n_comps=adata.obsm["X_pca"].shape[1], mask_var=None, random_state=0)
    return np.asarray(genes.obsm["X_pca"])


def scvi(adata: AnnData, batch_key: str, seed: int) -> np.ndarray:
    """Run scVI on the counts of the highly variable genes (2 layers, 30 latent, negative binomial, default epochs)."""
    import scvi as package

    package.settings.seed = seed
    genes = adata[:, adata.var["highly_variable"]].copy()
    package.model.SCVI.setup_anndata(genes, layer="counts", batch_key=batch_key)
    model = package.model.SCVI(genes, n_layers=2, n_latent=30, gene_likelihood="nb")
    model.train(enable_progress_bar=False)
    return np.asarray(model.get_latent_representation())


METHODS = {
    "scbatchnorm": Method(scbatchnorm, ("scbatchnorm.pp",), "scbatchnorm"),
    "unintegrated": Method(unintegrated, ("scanpy",), "scanpy", stochastic=False),
    "harmony": Method(harmony, ("harmonypy",), "harmonypy"),
    "scanorama": Method(scanorama, ("scanorama",), "scanorama"),
    "combat": Method(combat, ("scanpy",), "scanpy", stochastic=False),
    "scvi": Method(scvi, ("scvi",), "scvi-tools", deep=True),
}


def embed_file(data: Path, method: str, seed: int, batch_key: str) -> Timed:
    """Embedding of a prepared file by a method; the clock runs in the method alone."""
    import anndata as ad

    return embed_timed(method, ad.read_h5ad(data), batch_key, seed)


def embed_timed(method: str, adata: AnnData, batch_key: str, seed: int) -> Timed:
    """Embedding by a method, whose packages are imported before the clock starts; an error if it is none."""
    chosen = METHODS[method]
    for module in chosen.modules:
        importlib.import_module(module)
    found = timed(chosen.embed, adata, batch_key, seed)
    return replace(found, value=check_embedding(method, found.value, adata.n_obs))


def check_embedding(method: str, embedding: np.ndarray, n_cells: int) -> np.ndarray:
    """The embedding, if it has all cells and finite values."""
    if embedding.shape[0] != n_cells or not np.isfinite(embedding).all():
        msg = f"{method} returned an embedding of shape {embedding.shape} with non-finite values or cells missing."
        raise ValueError(msg)
    return embedding
