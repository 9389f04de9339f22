"""Expression in a Dask array is corrected as in memory, and only when somebody computes it."""

from __future__ import annotations

import pickle
from dataclasses import replace

import anndata as ad
import dask
import dask.array as da
import numpy as np
import pytest
from scipy import sparse

from scbatchnorm import BatchNormAutoencoder, pp, tl
from scbatchnorm._method.strength import Landmarks
from scbatchnorm.tl._correction.in_memory import ExpressionInMemory
from scbatchnorm.tl._correction.lazy import LazyExpression, _ChunkCorrector
from scbatchnorm.tl._correction.regression import correct_towards, fit_regressions
from tests.helpers.lazy import EMPTY_TABLES, lazy, reopened, small_blocks, with_lazy


@pytest.fixture(scope="module")
def integrated(annotated, brief):
    """Integrated by 30 of 40 genes, cells of batches mixed; tests must not change it."""
    adata = annotated()
    adata.var["highly_variable"] = np.arange(40) % 4 > 0
    adata = adata[np.random.default_rng(0).permutation(90)].copy()
    pp.integrate(adata, "batch", model=brief())
    return adata


@pytest.fixture
def adata(integrated):
    return integrated.copy()


@pytest.fixture(autouse=True)
def blocks(monkeypatch):
    small_blocks(monkeypatch, 32)


def values(layer) -> np.ndarray:
    layer = layer.compute() if isinstance(layer, da.Array) else layer
    return layer.toarray() if sparse.issparse(layer) else layer


@pytest.mark.parametrize(
    ("dense", "chunks", "options"),
    [
        (False, (90, 40), {}),
        (False, (37, 40), {"genes": "hvg"}),
        (False, (30, 11), {"threshold": 0.3}),
        (True, (37, 40), {"target": "b"}),
        (True, (30, 11), {"genes": "hvg", "threshold": 0.3}),
        (True, (7, 40), {}),
    ],
    ids=lambda value: str(value),
)
def test_as_in_memory(adata, dense, chunks, options):
    streamed = with_lazy(adata, chunks, dense=dense)
    tl.correct(adata, **options)
    assert tl.correct(streamed, **options) is None
    layer, expected = streamed.layers["scbatchnorm"], adata.layers["scbatchnorm"]
    assert isinstance(layer, da.Array)
    assert layer.dtype == np.float32
    assert layer.chunks == (streamed.X.chunks[0], (40,))
    assert isinstance(layer.compute(), sparse.csr_matrix if "threshold" in options else np.ndarray)
    assert isinstance(layer._meta, sparse.csr_matrix if "threshold" in options else np.ndarray)
    np.testing.assert_allclose(values(layer), values(expected), atol=1e-6)
    record, expected_record = (data.uns["scbatchnorm_correct"] for data in (streamed, adata))
    assert record["params"] == expected_record["params"]
    assert record["n_genes"] == expected_record["n_genes"]
    assert record["batches"].tolist() == expected_record["batches"].tolist()


@pytest.mark.parametrize("mixed", [True, False], ids=["blocks travel", "sums travel"])
@pytest.mark.parametrize("hvg", [True, False])
def test_sums_are_those_in_memory(adata, mixed, hvg):
    """Bit for bit, whichever of a block and of its sums is smaller."""
    if not mixed:
        adata = adata[np.argsort(adata.obs["batch"].to_numpy())].copy()
    model = BatchNormAutoencoder.from_anndata(adata).fitted_
    streamed = with_lazy(adata, (13, 40))
    expected = ExpressionInMemory(adata, model, "scbatchnorm", None, hvg=hvg).sums()
    sums = LazyExpression(streamed, model, "scbatchnorm", None, hvg=hvg, progress=False).sums()
    assert expected is not None
    for name in ("n", "gram", "cross", "squares"):
        np.testing.assert_array_equal(getattr(sums, name), getattr(expected, name))
    assert expected.n.tolist() == [30, 30, 30]


def test_strength_by_state(adata):
    """Cells that are corrected in part, or not at all."""
    model = BatchNormAutoencoder.from_anndata(adata).fitted_
    points = model.reference.points
    states = Landmarks(points, model.reference.codes, (np.arange(len(points)) % 3 / 2).astype(np.float32))
    model = replace(model, strength=replace(model.strength, states=states))
    memory = ExpressionInMemory(adata, model, "scbatchnorm", None, hvg=False)
    streamed = LazyExpression(with_lazy(adata), model, "scbatchnorm", None, hvg=False, progress=False)
    expected, sums = memory.sums(), streamed.sums()
    assert expected is not None
    assert sums is not None
    np.testing.assert_array_equal(sums.cross, expected.cross)
    assert 0 < sums.n.sum() < 80
    correction = correct_towards(fit_regressions(sums), np.arange(3))
    layers = [values(source.corrected(correction, None)) for source in (memory, streamed)]
    np.testing.assert_allclose(layers[0], layers[1], atol=1e-6)
    assert np.abs(layers[0] - adata.X.toarray()).max() > 0.1


def test_nothing_is_corrected_before_it_is_computed(adata, monkeypatch):
    streamed, n_cells, correct_chunk = with_lazy(adata, (20, 40)), list[int](), _ChunkCorrector.__call__

    def recorded(self, chunks, rows, codes):
        n_cells.append(len(codes))
        return correct_chunk(self, chunks, rows, codes)

    monkeypatch.setattr(_ChunkCorrector, "__call__", recorded)
    tl.correct(streamed)
    assert n_cells == []
    streamed.layers["scbatchnorm"][25:30].compute()
    assert n_cells == [20]


def test_graph_has_the_correction_once(adata):
    """In one task of its own, for a cluster sends each task by itself; and the graph is all that a worker needs."""
    streamed = with_lazy(adata, (3, 40), dense=True)
    tl.correct(streamed)
    layer = streamed.layers["scbatchnorm"]
    for collection in (layer, *dask.optimize(layer)):
        tasks = [pickle.dumps(task) for task in dict(collection.__dask_graph__()).values()]
        assert len(tasks) > 30
        assert sum(b"Correction" in task for task in tasks) == 1  # the name of its class
    again = pickle.loads(pickle.dumps(layer))
    np.testing.assert_array_equal(again.compute(), layer.compute())


@pytest.mark.parametrize(
    "suffix", [pytest.param("zarr", marks=pytest.mark.slow), pytest.param("h5ad", marks=EMPTY_TABLES)]
)
def test_read_lazily_and_written(adata, tmp_path, suffix):
    opened = reopened(adata, tmp_path / f"a.{suffix}")
    tl.correct(adata, threshold=0.1)
    copied = tl.correct(opened, threshold=0.1, copy=True)
    assert copied is not None
    assert "scbatchnorm" not in opened.layers
    tl.correct(opened, threshold=0.1)
    assert isinstance(opened.layers["scbatchnorm"], da.Array)
    (opened.write_zarr if suffix == "zarr" else opened.write_h5ad)(tmp_path / f"b.{suffix}")
    again = ad.read_zarr(tmp_path / "b.zarr") if suffix == "zarr" else ad.read_h5ad(tmp_path / "b.h5ad")
    np.testing.assert_allclose(values(again.layers["scbatchnorm"]), values(adata.layers["scbatchnorm"]), atol=1e-6)
    np.testing.assert_array_equal(values(copied.layers["scbatchnorm"]), values(again.layers["scbatchnorm"]))
    assert again.obs.equals(adata.obs)
    assert again.uns["scbatchnorm"]["history"].equals(adata.uns["scbatchnorm"]["history"])


def test_layer_and_part_of_the_cells(annotated, brief):
    adata = annotated()
    adata.layers["log"], adata.X = adata.X.copy(), None
    pp.integrate(adata, "batch", model=brief(), layer="log")
    streamed = adata.copy()
    streamed.layers["log"] = lazy(adata.layers["log"], (25, 40))
    part, streamed = adata[10:80, ::-1].copy(), streamed[10:80, ::-1]
    tl.correct(part)
    tl.correct(streamed)
    np.testing.assert_allclose(values(streamed.layers["scbatchnorm"]), part.layers["scbatchnorm"], atol=1e-6)


def test_strength_0_reads_nothing(annotated, brief, monkeypatch):
    adata = annotated()
    pp.integrate(adata, "batch", model=brief(strength=0.0))
    streamed = with_lazy(adata)
    with monkeypatch.context() as patch:
        patch.setattr("scbatchnorm._data.dask_blocks.DaskBlocks.map", lambda *_, **__: pytest.fail("reads"))
        tl.correct(streamed)
    np.testing.assert_array_equal(values(streamed.layers["scbatchnorm"]), adata.X.toarray())
    assert streamed.uns["scbatchnorm_correct"]["n_genes"] == 0


def wrong(adata, place: tuple[int, int], value: float):
    X = adata.X.toarray()
    X[place] = value
    adata = adata.copy()
    adata.X = sparse.csr_matrix(X)
    return with_lazy(adata, (50, 40))


@pytest.mark.parametrize(
    ("place", "value", "options", "words"),
    [
        ((70, 4), np.nan, {}, r"adata\.X, block 2 \(rows 64 to 89\), must be finite.*'row 70', feature 'gene4'"),
        ((40, 5), -1, {}, r"adata\.X, block 1 \(rows 32 to 63\), must be log-normalised.*'row 40', feature 'gene5'"),
        ((40, 4), -1, {}, r"adata\.X, block 1 \(rows 32 to 63\), must be log-normalised.*gene 'gene4'.*genes='hvg'"),
        ((40, 5), -1, {"genes": "hvg"}, r"block 1 \(rows 32 to 63\), must be log-normalised"),
    ],
    ids=["NaN", "negative", "negative, not integrated", "negative, only integrated"],
)
def test_bad_values_are_found(adata, place, value, options, words):
    streamed = wrong(adata, place, value)
    with pytest.raises(ValueError, match=words):
        tl.correct(streamed, **options)
    assert "scbatchnorm" not in streamed.layers
    assert "scbatchnorm_correct" not in streamed.uns


def test_negative_values_of_genes_that_are_not_corrected(adata):
    streamed = wrong(adata, (40, 4), -1)
    tl.correct(streamed, genes="hvg")
    assert values(streamed.layers["scbatchnorm"])[40, 4] == -1


def test_raw_counts(adata):
    streamed = adata.copy()
    streamed.X = lazy(np.rint(adata.X.toarray() * 3), (50, 40))
    with pytest.raises(ValueError, match="looks like raw counts"):
        tl.correct(streamed)


def test_what_became_bad_later_is_found_when_it_is_computed(annotated, brief):
    adata = annotated()
    pp.integrate(adata, "batch", model=brief(strength=0.0))
    streamed = wrong(adata, (70, 4), np.inf)
    tl.correct(streamed)
    with pytest.raises(ValueError, match=r"rows 50 to 89\), must be finite.*'row 70', feature 'gene4'"):
        streamed.layers["scbatchnorm"].compute()
