"""Our results in the hands of others: scanpy, scib-metrics, scikit-learn, torch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scanpy as sc
import torch
from scanpy.tools._ingest import Ingest
from sklearn import config_context
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from scbatchnorm import nn, pp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anndata import AnnData

    from scbatchnorm import BatchNormAutoencoder

    Brief = Callable[..., BatchNormAutoencoder]


@pytest.fixture(scope="module")
def whole(annotated: Callable[..., AnnData], brief: Brief) -> AnnData:
    """Integrated cells of two types; tests must not change it."""
    adata = annotated()
    adata.obs["cell_type"] = np.where(np.arange(adata.n_obs) % 2, "odd", "even")
    adata.strings_to_categoricals()
    pp.integrate(adata, "batch", model=brief())
    return adata


@pytest.fixture
def integrated(whole: AnnData) -> AnnData:
    return whole.copy()


@pytest.mark.filterwarnings("ignore:n_jobs value 1 overridden:UserWarning")  # umap, as it is called by scanpy
def test_scanpy_goes_on_from_the_embedding(integrated):
    sc.pp.neighbors(integrated, use_rep="X_scbatchnorm")
    assert integrated.uns["neighbors"]["params"]["use_rep"] == "X_scbatchnorm"
    sc.tl.umap(integrated, maxiter=30)
    assert integrated.obsm["X_umap"].shape == (90, 2)
    assert np.isfinite(integrated.obsm["X_umap"]).all()
    sc.tl.leiden(integrated, flavor="igraph", n_iterations=2, resolution=0.3)
    types_in_cluster = integrated.obs.groupby("leiden", observed=True)["cell_type"].nunique()
    assert (types_in_cluster == 1).all()


def exact_index(ingest: Ingest, _: object) -> None:
    """Exact neighbours in place of pynndescent's, which scanpy 1.11 sets up in a way that pynndescent 0.7 refuses."""
    search = NearestNeighbors().fit(ingest._rep)
    ingest._nnd_idx = SimpleNamespace(query=lambda X, k, _: search.kneighbors(X, k)[::-1])


def test_scanpy_ingests_on_the_embedding(integrated, monkeypatch):
    monkeypatch.setattr(Ingest, "_init_pynndescent", exact_index)
    reference, query = (integrated[integrated.obs["batch"].isin(which)].copy() for which in (["a", "b"], ["c"]))
    known = query.obs.pop("cell_type")
    sc.pp.neighbors(reference, use_rep="X_scbatchnorm")
    sc.tl.ingest(query, reference, obs="cell_type", embedding_method=())
    assert (query.obs["cell_type"].astype(str) == known.astype(str)).mean() > 0.9
    np.testing.assert_array_equal(query.obsm["rep"], query.obsm["X_scbatchnorm"])


def exact_neighbors(X: np.ndarray, k: int) -> Any:
    """Exact search: the one of scib-metrics takes half a minute to compile."""
    from scib_metrics.nearest_neighbors import NeighborsResults

    distances, indices = NearestNeighbors(n_neighbors=min(k, len(X))).fit(X).kneighbors(X)
    return NeighborsResults(indices=indices, distances=distances)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # jax and chex warn of themselves
def test_scib_metrics_scores_the_embedding(integrated):
    benchmark = pytest.importorskip("scib_metrics.benchmark", reason="an extra: scbatchnorm[bench]")
    sc.pp.pca(integrated, n_comps=8)
    judge = benchmark.Benchmarker(
        integrated,
        batch_key="batch",
        label_key="cell_type",
        embedding_obsm_keys=["X_pca", "X_scbatchnorm"],
        bio_conservation_metrics=benchmark.BioConservation(
            isolated_labels=False,
            nmi_ari_cluster_labels_leiden=False,
            nmi_ari_cluster_labels_kmeans=False,
            clisi_knn=False,
        ),
        batch_correction_metrics=benchmark.BatchCorrection(
            bras=False, kbet_per_label=False, graph_connectivity=False, ilisi_knn=False
        ),
        progress_bar=False,
    )
    judge.prepare(neighbor_computer=exact_neighbors)
    judge.benchmark()
    table = judge.get_results(min_max_scale=False)
    scores = table.loc[["X_pca", "X_scbatchnorm"], ["Batch correction", "Bio conservation"]].astype(float)
    assert np.isfinite(scores).all(axis=None)
    assert scores.loc["X_scbatchnorm", "Batch correction"] > scores.loc["X_pca", "Batch correction"]


@pytest.fixture
def routed() -> Iterator[None]:
    with config_context(enable_metadata_routing=True):
        yield


def routing(model: BatchNormAutoencoder) -> BatchNormAutoencoder:
    """Asks a pipeline for the batches, when it is fitted and when it transforms."""
    return model.set_fit_request(batch=True).set_transform_request(batch=True)


@pytest.mark.usefixtures("routed")
def test_a_step_before_a_classifier(brief, X, batch):
    """The labels are those of the classifier; batches are routed."""
    labels = np.arange(90) % 2
    steps = FunctionTransformer(np.log1p), routing(brief()), KNeighborsClassifier(5)
    pipeline = make_pipeline(*steps).fit(np.expm1(X), labels, batch=batch)
    Z = brief().fit_transform(np.log1p(np.expm1(X)), batch)
    np.testing.assert_array_equal(pipeline[:-1].transform(np.expm1(X), batch=batch), Z)
    assert pipeline.score(np.expm1(X), labels, batch=batch) > 0.95
    again = clone(pipeline)
    assert not hasattr(again[1], "network_")
    np.testing.assert_array_equal(
        again.fit(np.expm1(X), labels, batch=batch)[1].transform(X, batch), pipeline[1].transform(X, batch)
    )


@pytest.mark.usefixtures("routed")
def test_a_search_over_the_steps(brief, X, batch):
    pipeline = make_pipeline(routing(brief()), KNeighborsClassifier(5))
    grid = {"batchnormautoencoder__n_components": [4, 8], "kneighborsclassifier__n_neighbors": [3]}
    search = GridSearchCV(pipeline, grid, cv=KFold(2, shuffle=True, random_state=0), error_score="raise")
    search.fit(X, np.arange(90) % 2, batch=batch)
    assert search.best_score_ > 0.9
    assert search.best_estimator_.predict(X, batch=batch).shape == (90,)


def test_batch_is_the_second_argument_or_named(brief, X, batch):
    expected = brief().fit(X, batch).fingerprint()
    assert brief().fit(X, batch=batch).fingerprint() == expected
    assert brief().fit(X, np.arange(90) % 2, batch=batch).fingerprint() == expected, "labels are not used"
    np.testing.assert_array_equal(brief().fit_transform(X, batch=batch), brief().fit_transform(X, batch))


def test_set_output(brief, X, batch):
    model = brief().set_output(transform="pandas")
    table = model.fit_transform(X, batch)
    assert table.columns.to_list() == list(model.get_feature_names_out())
    np.testing.assert_array_equal(table, brief().fit_transform(X, batch))


class Plain(torch.nn.Module):
    """A plain model with one of our layers."""

    def __init__(self, norm: torch.nn.Module, *, batches: bool) -> None:
        super().__init__()
        self.inner, self.norm, self.outer, self.batches = torch.nn.Linear(6, 4), norm, torch.nn.Linear(4, 2), batches

    def forward(self, x: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        h = self.inner(x)
        return self.outer(torch.relu(self.norm(h, batch) if self.batches else self.norm(h)))


def plain(norm: str) -> Plain:
    """The model with weights of its own seed."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return {
            "mixed": lambda: Plain(nn.MixedBatchNorm(4), batches=False),
            "per_batch": lambda: Plain(nn.MixedBatchNorm(4, 3, statistics="per_batch"), batches=True),
            "switchable": lambda: Plain(nn.SwitchableNorm(4), batches=False),
            "batch_layer": lambda: Plain(nn.BatchLayerNorm(4), batches=False),
            "whitened": lambda: Plain(nn.WhitenedBatchNorm(4), batches=False),
            "layer": lambda: Plain(nn.LayerNorm(4), batches=False),
            "group": lambda: Plain(nn.GroupNorm(4, 2), batches=False),
            "instance": lambda: Plain(nn.InstanceNorm(4, 2), batches=False),
        }[norm]()


NORMS = ["mixed", "per_batch", "switchable", "batch_layer", "whitened", "layer", "group", "instance"]
CELLS, BATCH = torch.randn(60, 6, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 3


def train(model: torch.nn.Module, steps: int) -> list[float]:
    """Losses of a training as anybody writes it."""
    optimizer, y, losses = torch.optim.SGD(model.parameters(), lr=0.1), (CELLS[:, 0] > 0).long(), []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(CELLS, BATCH), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("norm", NORMS)
def test_layers_in_a_plain_model(norm, tmp_path):
    model, again = plain(norm), plain(norm)
    losses = train(model, 20)
    assert losses[-1] < losses[0]
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    again.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(CELLS, BATCH), model.eval()(CELLS, BATCH), rtol=0, atol=0)
    assert model.double()(CELLS.double(), BATCH).dtype is torch.float64


@pytest.fixture
def compiler() -> Iterator[None]:
    try:
        torch.compile(torch.nn.Identity(), backend="eager")(torch.ones(1))
    except RuntimeError as error:
        pytest.skip(f"torch.compile is not available: {error}")
    yield
    torch.compiler.reset()


class Compiled(torch.nn.Module):
    """All layers side by side: compiled once."""

    def __init__(self) -> None:
        super().__init__()
        self.models = torch.nn.ModuleList(plain(norm) for norm in NORMS)

    def forward(self, x: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        return torch.stack([model(x, batch) for model in self.models]).sum(0)


@pytest.mark.slow
@pytest.mark.usefixtures("compiler")
def test_layers_are_compiled():
    """In one graph, with the values, gradients and statistics of the model as it is."""
    model, expected = Compiled(), Compiled()
    compiled: Any = torch.compile(model, backend="eager", fullgraph=True)
    assert train(compiled, 2) == pytest.approx(train(expected, 2), rel=1e-5)
    for (name, value), same in zip(model.state_dict().items(), expected.state_dict().values(), strict=True):
        torch.testing.assert_close(value, same, rtol=1e-4, atol=1e-6, msg=name)
    with torch.no_grad():
        expected.eval()
        torch.testing.assert_close(compiled.eval()(CELLS, BATCH), expected(CELLS, BATCH), rtol=1e-4, atol=1e-5)
