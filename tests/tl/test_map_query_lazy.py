"""New cells in a Dask array are mapped as in memory, bit for bit, in few passes over them."""

from __future__ import annotations

import anndata as ad
import dask.array as da
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scbatchnorm import pp
from scbatchnorm._data.dask_blocks import DaskBlocks
from scbatchnorm._method import pca as _principal
from scbatchnorm._method.anchors import sketch_batches
from scbatchnorm.tl import map_query
from scbatchnorm.tl._mapping import query_batches
from tests.helpers.lazy import EMPTY_TABLES, lazy, reopened, small_blocks, with_lazy

KEY = "X_scbatchnorm"


@pytest.fixture(scope="module")
def reference(annotated, brief):
    """Tests must not change it."""
    adata = annotated(180)
    adata.obs["cell_type"] = pd.Categorical(np.array(["even", "odd"])[np.arange(180) % 2])
    pp.integrate(adata, "batch", model=brief())
    return adata


@pytest.fixture(scope="module")
def cells(annotated):
    """Three batches of 64 cells and one of 8, mixed; some cells have what the reference lacks."""
    adata = annotated(200, seed=1)
    X = adata.X.toarray()
    X[150:170, :6] += 3
    adata.X = sparse.csr_matrix(X)
    adata.obs["sample"] = np.array(["s0", "s1", "c", "tiny"])[np.arange(200) // 64]
    return adata[np.random.default_rng(0).permutation(200)].copy()


@pytest.fixture
def query(cells):
    return cells.copy()


@pytest.fixture(autouse=True)
def blocks(monkeypatch):
    """Small ones, and sketches of 50 cells, so that they are drawn."""
    small_blocks(monkeypatch, 32)
    monkeypatch.setattr(
        "scbatchnorm.tl._mapping.query_batches.sketch_batch",
        lambda n_cells, rng: sketch_batches(np.zeros(n_cells, int), 50, rng),
    )


@pytest.fixture
def passes(monkeypatch):
    """What was done in each pass over blocks, and over how many."""
    passes, read = [], DaskBlocks.map

    def recorded(self, function, *, what, starts=None):
        passes.append((what, len(self.starts if starts is None else starts)))
        return read(self, function, what=what, starts=starts)

    monkeypatch.setattr(DaskBlocks, "map", recorded)
    return passes


def assert_same(mapped: ad.AnnData, expected: ad.AnnData) -> None:
    np.testing.assert_array_equal(mapped.obsm[KEY], expected.obsm[KEY])
    columns = [column for column in expected.obs if column.startswith("scbatchnorm") or "mapped" in column]
    pd.testing.assert_frame_equal(mapped.obs[columns], expected.obs[columns])
    pd.testing.assert_frame_equal(mapped.uns["scbatchnorm"]["batches"], expected.uns["scbatchnorm"]["batches"])


@pytest.mark.filterwarnings("ignore:query batch 'tiny' has 8 cells")
@pytest.mark.parametrize(
    ("dense", "chunks", "options"),
    [
        (False, (200, 40), {"label_keys": "cell_type"}),
        (False, (37, 11), {"batch_key": "sample", "label_keys": "cell_type"}),
        (True, (37, 40), {"batch_key": "sample", "known_batches": "c"}),
        (True, (200, 11), {"batch_key": "sample", "mode": "recalibrate"}),
    ],
    ids=["one batch", "several", "known", "recalibrate"],
)
def test_as_in_memory(query, reference, passes, dense, chunks, options):
    streamed = with_lazy(query, chunks, dense=dense)
    map_query(query, reference, **options)
    assert passes == []
    map_query(streamed, reference, **options)
    assert [what for what, _ in passes] == ["components", "sketch", "novelty"]
    assert max(n for _, n in passes) == 7
    assert_same(streamed, query)
    assert isinstance(streamed.X, da.Array)
    assert type(streamed.obsm[KEY]) is np.ndarray
    assert (streamed.obs["scbatchnorm_novelty"] > 1).sum() > 5


@pytest.mark.filterwarnings("ignore:query batch 'tiny' has 8 cells")
@pytest.mark.parametrize("change", ["other draws", "few at once", "covariance"])
def test_however_sketches_are_read(query, reference, passes, monkeypatch, change):
    """Also if the prediction of their cells is wrong, they are too many to be in memory at once, or a decomposition draws less."""
    if change == "covariance":
        monkeypatch.setattr(_principal, "_TALL", 1)
    map_query(query, reference, batch_key="sample")
    streamed = with_lazy(query)
    if change == "other draws":
        monkeypatch.setattr("scbatchnorm.tl._mapping.query_batches.count_normal_draws", lambda n_cells, n_features: [])
    if change == "few at once":
        monkeypatch.setattr(query_batches, "_BATCHES_AT_ONCE", 2)
    map_query(streamed, reference, batch_key="sample")
    assert_same(streamed, query)
    expected = {"other draws": (3, 1), "few at once": (2, 2), "covariance": (1, 1)}[change]
    assert tuple(sum(what == name for what, _ in passes) for name in ("sketch", "novelty")) == expected


@EMPTY_TABLES
@pytest.mark.filterwarnings("ignore:query batch 'tiny' has 8 cells")
def test_read_lazily(query, reference, tmp_path):
    """Query and reference; the result can be written, and mapped again."""
    opened, of_reference = reopened(query, tmp_path / "q.h5ad"), reopened(reference, tmp_path / "r.h5ad")
    map_query(query, reference, batch_key="sample", label_keys="cell_type")
    copied = map_query(opened, of_reference, batch_key="sample", label_keys="cell_type", copy=True)
    assert copied is not None
    assert KEY not in opened.obsm
    assert not isinstance(opened.obs, pd.DataFrame)
    map_query(opened, of_reference, batch_key="sample", label_keys="cell_type")
    for mapped in (copied, opened):
        assert isinstance(mapped.X, da.Array)
        assert_same(mapped, query)
    opened.write_h5ad(tmp_path / "mapped.h5ad")
    again = ad.experimental.read_lazy(tmp_path / "mapped.h5ad")
    map_query(again, of_reference, batch_key="sample")
    assert "cell_type_mapped" not in again.obs
    np.testing.assert_array_equal(again.obsm[KEY], query.obsm[KEY])


@pytest.mark.slow
def test_read_lazily_from_zarr(query, reference, tmp_path):
    opened = reopened(query, tmp_path / "q.zarr")
    map_query(query, reference, label_keys="cell_type")
    map_query(opened, reopened(reference, tmp_path / "r.zarr"), label_keys="cell_type")
    assert_same(opened, query)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda X: np.where(np.arange(200)[:, None] == 70, np.nan, X),
            r"adata\.X, block 2 \(rows 64 to 95\), must be finite",
        ),
        (
            lambda X: np.where(np.arange(200)[:, None] == 70, -X, X),
            r"block 2 \(rows 64 to 95\), must be log-normalised.*'row 70'",
        ),
        (lambda X: np.rint(3 * X), "looks like raw counts"),
    ],
    ids=["NaN", "negative", "counts"],
)
def test_bad_values(query, reference, change, words):
    query.X = lazy(change(query.X.toarray()), (50, 40))
    columns = list(query.obs)
    with pytest.raises(ValueError, match=words):
        map_query(query, reference)
    assert list(query.obs) == columns
    assert KEY not in query.obsm
    assert "scbatchnorm" not in query.uns
