"""New cells come to lie among their like, and what the reference lacks is called novel."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
from sklearn.metrics import roc_auc_score

from scbatchnorm import BatchNormAutoencoder
from scbatchnorm.pp import integrate
from scbatchnorm.tl import map_query
from tests.helpers.compare import digest, written
from tests.helpers.simulated import simulated

KEY = "X_scbatchnorm"


def model(**params) -> BatchNormAutoencoder:
    return BatchNormAutoencoder(**({"n_components": 20, "n_latent": 15, "max_steps": 80, "strength": 1} | params))


@pytest.fixture(scope="module")
def cells():
    return simulated()


@pytest.fixture(scope="module")
def whole_reference(cells):
    adata = cells[cells.obs["batch"] != "batch_2"].copy()
    integrate(adata, "batch", model=model())
    return adata


@pytest.fixture
def reference(whole_reference):
    return whole_reference.copy()


@pytest.fixture
def query(cells):
    return cells[cells.obs["batch"] == "batch_2"].copy()


def right(query, column="cell_type_mapped") -> float:
    return float((query.obs[column].astype(str) == query.obs["cell_type"].astype(str)).mean())


def test_cells_lie_among_their_like(reference, query):
    assert map_query(query, reference, batch_key="batch", label_keys="cell_type") is None
    assert right(query) > 0.9
    probability = query.obs["cell_type_mapped_probability"]
    assert probability.between(0, 1.0001).all()
    assert (query.obs["scbatchnorm_novelty"] > 1).mean() < 0.05
    assert query.obs["scbatchnorm_confidence"].between(0, 1).all()
    assert in_reference(query.obsm[KEY], reference) > 0.2
    model = BatchNormAutoencoder.from_anndata(reference)
    unmoved = model.transform(query.X, np.full(query.n_obs, "batch_0"))
    assert in_reference(unmoved, reference) < 0.1


def in_reference(embedding, reference) -> float:
    """Share of the 15 nearest neighbours of new cells that are of the reference."""
    both = np.concatenate([reference.obsm[KEY], embedding])
    distance = np.square(embedding[:, None] - both[None]).sum(axis=2)
    near = np.argsort(distance, axis=1)[:, 1:16]
    return float((near < reference.n_obs).mean())


def test_what_is_written(reference, query):
    kept, before, columns = digest(reference), digest(query), list(query.obs)
    map_query(query, reference, label_keys=["cell_type"])
    after = digest(query)
    assert list(query.obs) == [
        *columns, "scbatchnorm_novelty", "scbatchnorm_confidence", "cell_type_mapped", "cell_type_mapped_probability"
    ]  # fmt: skip
    del before["obs"], after["obs"]
    assert written(before, after) == {f"obsm[{KEY!r}]", "uns['scbatchnorm']"}
    assert digest(reference) == kept
    record = query.uns["scbatchnorm"]
    assert record["reference"]["fingerprint"] == reference.uns["scbatchnorm"]["fingerprint"]
    assert record["genes"]["n_found"] == record["genes"]["n_wanted"] == 200
    assert record["batches"].loc["query"].to_dict()["n_cells"] == query.n_obs
    assert record["batches"].loc["query", "n_anchors"] > 50
    assert list(query.obs["cell_type_mapped"].cat.categories) == ["type_0", "type_1", "type_2", "type_3", "unknown"]


def test_key_added_names_everything(reference, query):
    map_query(query, reference, label_keys="cell_type", key_added="other")
    assert {"other_novelty", "other_confidence", "other_cell_type_mapped"} <= set(query.obs)
    assert "other" in query.obsm
    assert "other" in query.uns
    assert KEY not in query.obsm
    assert not [column for column in query.obs if column.startswith("scbatchnorm")]


@pytest.mark.parametrize("form", ["estimator", "without expression", "h5ad", "zarr"])
def test_forms_of_the_reference(form, reference, query, tmp_path):
    expected = query.copy()
    map_query(expected, reference, label_keys="cell_type")
    given: object = BatchNormAutoencoder.from_anndata(reference)
    if form == "without expression":
        given = ad.AnnData(obs=reference.obs, obsm=dict(reference.obsm), uns=dict(reference.uns))
    elif form != "estimator":
        given = tmp_path / f"reference.{form}"
        reference.write_h5ad(given) if form == "h5ad" else reference.write_zarr(given)
        given = str(given) if form == "h5ad" else given
    map_query(query, given, label_keys=() if form == "estimator" else "cell_type")
    np.testing.assert_array_equal(query.obsm[KEY], expected.obsm[KEY])
    np.testing.assert_array_equal(query.obs["scbatchnorm_novelty"], expected.obs["scbatchnorm_novelty"])
    if form != "estimator":
        assert (query.obs["cell_type_mapped"] == expected.obs["cell_type_mapped"]).all()


def test_known_batches_are_placed_like_the_reference(reference):
    again = reference.copy()
    del again.obsm[KEY], again.uns["scbatchnorm"]
    map_query(again, reference, batch_key="batch", known_batches=["batch_0", "batch_1"])
    np.testing.assert_allclose(again.obsm[KEY], reference.obsm[KEY], atol=1e-4)
    assert again.uns["scbatchnorm"]["same_names"].size == 0
    assert again.uns["scbatchnorm"]["batches"]["known"].all()


def test_a_batch_of_the_same_name_is_new(reference, query):
    expected = query.copy()
    map_query(expected, reference)
    query.obs["day"] = "batch_1"
    map_query(query, reference, batch_key="day")
    np.testing.assert_array_equal(query.obsm[KEY], expected.obsm[KEY])
    assert query.uns["scbatchnorm"]["same_names"].tolist() == ["batch_1"]
    map_query(query, reference, batch_key="day", known_batches="batch_1")
    assert np.abs(query.obsm[KEY] - expected.obsm[KEY]).max() > 0.1


def test_batches_are_mapped_one_by_one(cells, query, reference):
    other = cells[cells.obs["batch"] == "batch_0"].copy()
    both = ad.concat([query, other])
    map_query(both, reference, batch_key="batch")
    map_query(query, reference)
    np.testing.assert_allclose(both.obsm[KEY][: query.n_obs], query.obsm[KEY], atol=1e-4)
    assert list(both.uns["scbatchnorm"]["batches"].index) == ["batch_2", "batch_0"]


def test_genes_are_matched_by_name(reference, query):
    expected = query.copy()
    map_query(expected, reference)
    shuffled = query[:, np.random.default_rng(0).permutation(200)].copy()
    extra = ad.AnnData(np.full((query.n_obs, 1), 0.5, np.float32), obs=query.obs[[]])
    extra.var_names = ["another"]
    map_query(shuffled, reference)
    # Rounding may decide whether two cells are nearest: a few anchors of hundreds.
    np.testing.assert_allclose(shuffled.obsm[KEY], expected.obsm[KEY], atol=0.05)
    more = ad.concat([query, extra], axis=1, merge="same")
    map_query(more, reference)
    np.testing.assert_allclose(more.obsm[KEY], expected.obsm[KEY], atol=1e-3)


def test_missing_genes_are_reported(reference, query):
    part = query[:, :150].copy()
    map_query(part, reference, label_keys="cell_type")
    genes = part.uns["scbatchnorm"]["genes"]
    assert (genes["n_found"], genes["share_found"]) == (150, 0.75)
    assert genes["missing"].tolist() == list(query.var_names[150:])
    assert right(part) > 0.8


def test_a_type_that_the_reference_lacks_is_novel(cells, query):
    reference = cells[(cells.obs["batch"] != "batch_2") & (cells.obs["cell_type"] != "type_1")].copy()
    integrate(reference, "batch", model=model())
    map_query(query, reference, label_keys="cell_type")
    new = query.obs["cell_type"] == "type_1"
    assert roc_auc_score(new, query.obs["scbatchnorm_novelty"]) > 0.95
    assert (query.obs["cell_type_mapped"][new] == "unknown").mean() > 0.5
    assert (
        query.obs["scbatchnorm_novelty"][new].quantile(0.25) > 1 > query.obs["scbatchnorm_novelty"][~new].quantile(0.75)
    )


def test_more_false_alarms_can_be_allowed(reference, query):
    strict = query.copy()
    map_query(strict, reference, false_alarm=0.01)
    map_query(query, reference, false_alarm=0.2)
    assert (query.obs["scbatchnorm_novelty"] > strict.obs["scbatchnorm_novelty"]).all()
    np.testing.assert_array_equal(query.obs["scbatchnorm_confidence"], strict.obs["scbatchnorm_confidence"])


def test_probability_that_is_asked_for(reference, query):
    reference.obs["cell_type"] = np.random.default_rng(0).choice(["a", "b", "c", "d", "e"], reference.n_obs)
    map_query(query, reference, label_keys="cell_type", min_probability=0.6)
    sure = query.obs["cell_type_mapped_probability"] >= 0.6
    assert 0 < sure.mean() < 0.8
    assert (query.obs["cell_type_mapped"][~sure] == "unknown").all()
    assert set(query.obs["cell_type_mapped"][sure & (query.obs["scbatchnorm_novelty"] <= 1)]) <= {
        "a",
        "b",
        "c",
        "d",
        "e",
    }


def test_one_cell(reference, query):
    alone = query[:1].copy()
    with pytest.warns(UserWarning, match=r"query batch 'query' has 1 cells, fewer than the 20 .*known_batches"):
        map_query(alone, reference, label_keys="cell_type")
    assert np.isfinite(alone.obsm[KEY]).all()
    assert alone.obs["scbatchnorm_novelty"].isna().all()
    assert "fewer than the 20" in alone.uns["scbatchnorm"]["warnings"][0]


def test_recalibrated_statistics(reference, query):
    frozen = query.copy()
    map_query(frozen, reference)
    before = digest(reference)
    map_query(query, reference, mode="recalibrate", label_keys="cell_type")
    assert 0 < np.abs(query.obsm[KEY] - frozen.obsm[KEY]).max()
    assert right(query) > 0.9
    assert digest(reference) == before
    assert query.uns["scbatchnorm"]["reference"] | {"batches": 0} == frozen.uns["scbatchnorm"]["reference"] | {
        "batches": 0
    }


@pytest.mark.parametrize("params", [{"norm": "layer"}, {"statistics": "per_batch"}, {"strength": 0}], ids=str)
def test_models_without_statistics_of_all(params, cells, query):
    reference = cells[cells.obs["batch"] != "batch_2"].copy()
    integrate(reference, "batch", model=model(**params, min_steps=30, n_epochs=1))
    map_query(query, reference, label_keys="cell_type")
    assert right(query) > 0.8
    before = digest(query)
    with pytest.raises(ValueError, match=r"mode='recalibrate' needs .*mode='frozen'"):
        map_query(query, reference, mode="recalibrate")
    assert digest(query) == before


def test_representation(cells, query):
    adata = cells.copy()
    sc.pp.pca(adata, n_comps=12)
    new = (adata.obs["batch"] == "batch_2").to_numpy()
    reference, query = adata[~new].copy(), adata[new].copy()
    integrate(reference, "batch", model=model(), use_rep="X_pca")
    map_query(query, reference, label_keys="cell_type")
    assert right(query) > 0.9
    with pytest.raises(ValueError, match="use_rep must name the representation in query.obsm"):
        map_query(query, BatchNormAutoencoder.from_anndata(reference))
    map_query(query, BatchNormAutoencoder.from_anndata(reference), use_rep="X_pca", key_added="again")
    np.testing.assert_array_equal(query.obsm["again"], query.obsm[KEY])
    query.obsm["X_pca"] = query.obsm["X_pca"][:, :5]
    with pytest.raises(ValueError, match="must have the 12 columns of the reference's representation; got 5"):
        map_query(query, reference)


def test_same_seed_same_result(reference, query):
    again = query.copy()
    map_query(query, reference, rng=np.random.default_rng(3))
    map_query(again, reference, rng=3)
    np.testing.assert_array_equal(query.obsm[KEY], again.obsm[KEY])
    np.testing.assert_array_equal(query.obs["scbatchnorm_novelty"], again.obs["scbatchnorm_novelty"])


@pytest.mark.parametrize("form", ["h5ad", "zarr"])
def test_survives_writing_and_a_second_call(form, reference, query, tmp_path):
    query.obs["day"] = np.arange(query.n_obs) % 2 == 0
    map_query(query, reference, batch_key=["batch", "day"], label_keys="cell_type")
    path = tmp_path / f"query.{form}"
    query.write_h5ad(path) if form == "h5ad" else query.write_zarr(path)
    read = ad.read_h5ad(path) if form == "h5ad" else ad.read_zarr(path)
    np.testing.assert_array_equal(read.obsm[KEY], query.obsm[KEY])
    assert read.uns["scbatchnorm"]["params"]["batch_key"].tolist() == ["batch", "day"]
    assert read.uns["scbatchnorm"]["batches"]["n_cells"].sum() == query.n_obs
    map_query(read, reference)
    assert not [column for column in read.obs if "mapped" in column]


def test_copy_view_and_dense(reference, query):
    before = digest(query)
    copied = map_query(query, reference, copy=True)
    assert copied is not None
    assert digest(query) == before
    view = query[: query.n_obs]
    map_query(view, reference)
    np.testing.assert_array_equal(view.obsm[KEY], copied.obsm[KEY])
    assert digest(query) == before
    query.X = query.X.toarray()
    map_query(query, reference)
    np.testing.assert_allclose(query.obsm[KEY], copied.obsm[KEY], atol=1e-3)


def test_joined_with_the_reference(reference, query):
    map_query(query, reference)
    both = ad.concat({"reference": reference, "query": query}, label="origin", join="outer")
    assert both.obsm[KEY].shape == (720, 15)
    assert both.obs["origin"].value_counts().to_dict() == {"reference": reference.n_obs, "query": query.n_obs}
