"""Two dimensions are drawn as they are; UMAPs are computed once, kept, and computed again when they are out of date."""

from __future__ import annotations

import sys
import warnings
from contextlib import nullcontext
from types import SimpleNamespace

import anndata as ad
import numba
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scbatchnorm.pl import _coordinates
from scbatchnorm.pl._coordinates import find_coordinates


@pytest.fixture
def adata() -> ad.AnnData:
    rng = np.random.default_rng(0)
    adata = ad.AnnData(obs=pd.DataFrame(index=[f"cell_{i}" for i in range(30)]))
    adata.obsm["X_map"] = rng.normal(size=(30, 2))
    adata.obsm["X_pca"] = rng.normal(size=(30, 5)).astype(np.float32)
    return adata


@pytest.fixture
def computed(monkeypatch):
    """The UMAPs that are computed, a list of parameters; what they return is made from the seed."""
    calls = []

    def compute(points, params):
        calls.append(params)
        return np.random.default_rng(params["random_state"]).normal(size=(len(points), 2)).astype(np.float32)

    monkeypatch.setattr(_coordinates, "_compute_umap", compute)
    return calls


def find(adata, basis, *, dimensions=None, seed=0):
    (found,) = find_coordinates(adata, [basis], dimensions=dimensions, seed=seed)
    return found


@pytest.mark.parametrize("basis", ["map", "X_map"])
def test_two_dimensions_are_drawn_as_they_are(adata, computed, basis):
    found = find(adata, basis)
    np.testing.assert_array_equal(found.points, adata.obsm["X_map"])
    assert found.names == ("map 1", "map 2")
    assert not computed
    assert set(adata.obsm) == {"X_map", "X_pca"}


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix, pd.DataFrame])
def test_dimensions_of_the_basis_itself(adata, computed, kind):
    values = adata.obsm["X_pca"]
    adata.obsm["X_pca"] = pd.DataFrame(values, index=adata.obs_names) if kind is pd.DataFrame else kind(values)
    found = find(adata, "pca", dimensions=(3, 0))
    np.testing.assert_array_equal(found.points, values[:, [3, 0]])
    assert found.names == ("PCA4", "PCA1")
    assert not computed


def test_umap_is_computed_once_and_kept_with_its_record(adata, computed):
    found = find(adata, "pca", seed=3)
    assert found.names == ("PCA UMAP1", "PCA UMAP2")
    np.testing.assert_array_equal(adata.obsm["X_pca_umap"], found.points)
    params = {"n_neighbors": 15, "min_dist": 0.5, "random_state": 3}
    assert computed == [params]
    record = adata.uns["X_pca_umap"]
    assert record["params"] == {"use_rep": "X_pca", **params}
    assert record["crc32"].dtype == np.uint32
    np.testing.assert_array_equal(find(adata, "X_pca", seed=4).points, found.points)
    np.testing.assert_array_equal(find(adata, "X_pca_umap").points, found.points)
    assert len(computed) == 1


def test_three_dimensions_have_a_umap(adata, computed):
    adata.obsm["X_three"] = adata.obsm["X_pca"][:, :3]
    assert find(adata, "three").names == ("three UMAP1", "three UMAP2")
    assert len(computed) == 1


def test_umap_outlives_a_file(adata, computed, tmp_path):
    found = find(adata, "pca")
    adata.write_h5ad(tmp_path / "cells.h5ad")
    again = find(ad.read_h5ad(tmp_path / "cells.h5ad"), "pca")
    np.testing.assert_array_equal(again.points, found.points)
    assert len(computed) == 1


def test_umap_of_some_of_the_cells_in_another_order_is_that_of_all(adata, computed):
    found = find(adata, "pca")
    rows = np.random.default_rng(1).permutation(30)[:3]
    for part in (adata[rows], adata[rows].copy()):
        np.testing.assert_array_equal(find(part, "pca").points, found.points[rows])
    assert len(computed) == 1


@pytest.mark.parametrize("cells", [slice(0, 1), slice(None)], ids=["one cell", "all cells"])
def test_umap_of_a_changed_representation_is_computed_again(adata, computed, cells):
    find(adata, "pca", seed=1)
    adata.obsm["X_pca"][cells, 2] += 0.01
    found = find(adata, "pca", seed=2)
    assert [params["random_state"] for params in computed] == [1, 2]
    np.testing.assert_array_equal(adata.obsm["X_pca_umap"], found.points)
    find(adata, "pca", seed=3)
    assert len(computed) == 2


@pytest.mark.parametrize("record", [None, {"params": {"n_neighbors": 5}}], ids=["no record", "other record"])
def test_umap_of_the_user_is_drawn_as_it_is(adata, computed, record):
    adata.obsm["X_pca_umap"] = own = np.arange(60.0).reshape(30, 2)
    if record is not None:
        adata.uns["X_pca_umap"] = record
    np.testing.assert_array_equal(find(adata, "pca").points, own)
    assert not computed
    assert adata.obsm["X_pca_umap"] is own
    assert adata.uns.get("X_pca_umap") == record


def test_view_is_not_written_to(adata, computed):
    view = adata[:20]
    found = find(view, "pca")
    assert found.points.shape == (20, 2)
    assert view.is_view
    assert (set(view.obsm), dict(view.uns)) == ({"X_map", "X_pca"}, {})
    find(view, "pca")
    assert len(computed) == 2


def test_several_bases(adata, computed):
    adata.obsm["X_other"] = adata.obsm["X_pca"] * 2
    found = find_coordinates(adata, ["pca", "map", "other", "pca"], dimensions=None, seed=5)
    assert [place.names[0] for place in found] == ["PCA UMAP1", "map 1", "other UMAP1", "PCA UMAP1"]
    assert found[0] is found[3]
    assert len(computed) == 2


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_cannot_be_drawn_are_counted(adata, computed, value):
    adata.obsm["X_bad"] = adata.obsm["X_pca"].copy()
    adata.obsm["X_bad"][[4, 7], 2] = value
    message = (
        r"basis='bad' must be finite; 2 of 30 cells .*NaN or infinite.* adata\.obsm\['X_bad'\], the first is 'cell_4'"
    )
    with pytest.raises(ValueError, match=message):
        find_coordinates(adata, ["pca", "bad"], dimensions=None, seed=0)
    assert not computed
    with pytest.raises(ValueError, match="2 of 30 cells"):
        find(adata, "bad", dimensions=(0, 2))
    assert find(adata, "bad", dimensions=(0, 1)).points.shape == (30, 2)
    adata.obsm["X_pca_umap"] = np.full((30, 2), value)
    with pytest.raises(ValueError, match=r"basis='pca' must be finite; 30 of 30 cells .* adata\.obsm\['X_pca_umap'\]"):
        find(adata, "pca")


def test_wrong_keys_and_shapes(adata, computed):
    with pytest.raises(KeyError, match=r"basis='tsne' is not a key of adata\.obsm; keys: X_map, X_pca\."):
        find_coordinates(adata, ["pca", "tsne"], dimensions=None, seed=0)
    for basis, call in (("X_umap", "sc.tl.umap"), ("scbatchnorm", "sbn.pp.integrate")):
        with pytest.raises(KeyError, match=rf"keys: X_map, X_pca\. Run {call}\(adata.*\) first\."):
            find(adata, basis)
    adata.obsm["X_line"] = np.zeros((30, 1))
    with pytest.raises(ValueError, match=r"at least 2 dimensions; adata\.obsm\['X_line'\] has shape \(30, 1\)"):
        find(adata, "line")
    adata.obsm["X_pca_umap"] = np.zeros((30, 3))
    with pytest.raises(ValueError, match=r"adata\.obsm\['X_pca_umap'\], which must have 2 dimensions; .* \(30, 3\)"):
        find(adata, "pca")
    assert not computed


@pytest.mark.parametrize("dimensions", [(0, 5), (1, 1), (0,), (0, 1, 2), (-1, 0)])
def test_wrong_dimensions(adata, dimensions):
    message = r"dimensions must be two of the 5 of adata\.obsm\['X_pca'\], counted from 0; got \("
    with pytest.raises(ValueError, match=message):
        find(adata, "pca", dimensions=dimensions)


@pytest.mark.parametrize("n_cells", [0, 1, 3])
def test_too_few_cells_for_a_umap(adata, computed, n_cells):
    few = adata[:n_cells].copy()
    with pytest.raises(ValueError, match=rf"at least 4 cells; adata has {n_cells}\. .* dimensions=\(0, 1\)"):
        find(few, "pca")
    assert len(find(few, "pca", dimensions=(0, 1)).points) == n_cells


@pytest.mark.parametrize("fails", [False, True])
def test_warnings_and_threads_stay_inside(adata, monkeypatch, fails):
    class UMAP:
        def __init__(self, **params):
            assert params.pop("precomputed_knn") == (None, None, None)
            assert params == {"n_neighbors": 15, "min_dist": 0.5, "random_state": 2, "n_jobs": 1}

        def fit_transform(self, points):
            numba.set_num_threads(1)
            warnings.warn("Graph is not fully connected", UserWarning, stacklevel=2)
            if fails:
                raise MemoryError
            return points[:, :2]

    threads: list[int] = []
    monkeypatch.setattr(numba, "get_num_threads", lambda: 7)
    monkeypatch.setattr(numba, "set_num_threads", threads.append)
    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=UMAP))
    with pytest.raises(MemoryError) if fails else nullcontext():
        find(adata, "pca", seed=2)
    assert threads == [1, 7]
    assert ("X_pca_umap" in adata.obsm) is not fails
    assert ("X_pca_umap" in adata.uns) is not fails


def test_neighbours_of_many_cells_are_exact():
    """Where UMAP would search approximately; every third cell is in the same place as two others."""
    points = np.random.default_rng(0).normal(size=(4200, 2)).astype(np.float32)
    points[2::3] = points[1::3] = points[::3]
    indices, distances = _coordinates._find_neighbors(points, 5)
    assert (indices[:, 0] == np.arange(4200)).all()
    assert (distances[:, 0] == 0).all()
    assert all(len(set(row)) == 5 for row in indices.tolist())
    some = np.arange(0, 4200, 97)
    wanted = np.sort(np.linalg.norm(points[some, None] - points[None], axis=2), axis=1)[:, :5]
    np.testing.assert_allclose(distances[some], wanted, atol=2e-3)
    found = np.linalg.norm(points[some, None] - points[indices[some]], axis=2)
    np.testing.assert_allclose(found, wanted, atol=2e-3)
    assert _coordinates._find_neighbors(points[:4095], 5) == (None, None, None)


@pytest.mark.slow
@pytest.mark.parametrize("n_cells", [4, 5, 16, 60])
def test_umap_itself(n_cells):
    """Far clusters, of which UMAP warns, are apart; the result depends on the seed alone."""
    rng = np.random.default_rng(0)
    cluster = np.arange(n_cells) % 2
    points = rng.normal(size=(n_cells, 5)) + 1000 * cluster[:, None]
    adata, other = (ad.AnnData(obs=pd.DataFrame(index=np.arange(n_cells).astype(str))) for _ in range(2))
    adata.obsm["X_rep"], other.obsm["X_rep"] = points, points
    state, threads = repr(np.random.get_state()), numba.get_num_threads()  # noqa: NPY002 (the legacy state is what is watched)
    found = find(adata, "rep", seed=1).points
    assert found.shape == (n_cells, 2)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(find(other, "rep", seed=1).points, found)
    del other.obsm["X_rep_umap"]
    assert not np.array_equal(find(other, "rep", seed=2).points, found)
    assert repr(np.random.get_state()) == state  # noqa: NPY002
    assert numba.get_num_threads() == threads
    if n_cells == 60:
        distance = np.linalg.norm(found[:, None] - found[None], axis=2)
        np.fill_diagonal(distance, np.inf)
        assert (cluster[distance.argmin(axis=1)] == cluster).all()
