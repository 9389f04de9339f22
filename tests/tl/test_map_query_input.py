"""What cannot be mapped is refused in words, and nothing is written."""

from __future__ import annotations

import copy

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from scbatchnorm import BatchNormAutoencoder, ModelFileError
from scbatchnorm.pp import integrate
from scbatchnorm.tl import map_query
from tests.helpers.compare import digest


@pytest.fixture(scope="module")
def whole_reference(annotated, brief):
    adata = annotated()
    adata.obs["cell_type"] = np.where(np.arange(90) % 2 == 0, "even", "odd")
    integrate(adata, "batch", model=brief())
    return adata


@pytest.fixture
def reference(whole_reference):
    return whole_reference.copy()


@pytest.fixture
def query(annotated):
    return annotated(60, seed=1)


def counts(query):
    query.X = np.rint(np.expm1(query.X.toarray()))


def renamed(query):
    query.var["symbol"] = query.var_names.to_numpy()
    query.var_names = [f"ENSG{i}" for i in range(40)]


def capitals(query):
    query.var_names = query.var_names.str.upper()


def few(query):
    query.var_names = [*query.var_names[:10], *(f"other{i}" for i in range(30))]


def missing_batch(query):
    query.obs["batch"] = query.obs["batch"].astype(object)
    query.obs.iloc[3, 0] = None


def repeated(query):
    query.var_names = [*query.var_names[:-1], query.var_names[0]]


def not_finite(query):
    query.X[0, 0] = np.nan


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        (counts, {}, ValueError, "adata.X must be log-normalised expression, but looks like raw counts"),
        (not_finite, {}, ValueError, "adata.X must be finite"),
        (renamed, {}, ValueError, r"40 genes .* 0 are found \(0%\).*gene0, .*ENSG0.*query.var\['symbol'\] has 40 of them"),
        (capitals, {}, ValueError, r"0 are found.*differ in capital letters: are they of another species"),
        (few, {}, ValueError, r"10 are found \(25%\).*named alike, by gene symbols or by Ensembl ids"),
        (repeated, {}, ValueError, "adata.var_names must be unique"),
        (missing_batch, {"batch_key": "batch"}, ValueError, "1 of 60 cells have none"),
        (None, {"batch_key": "day"}, KeyError, "batch_key='day' is not a column of adata.obs; columns: batch"),
        (None, {"layer": "log"}, KeyError, "layer='log' is not a key of adata.layers"),
        (None, {"use_rep": "X_pca"}, ValueError, "use_rep='X_pca' is for a reference that was integrated from a repr"),
        (None, {"label_keys": "typ"}, KeyError, "'typ' is not a column of reference.obs; columns: batch, cell_type"),
        (None, {"key": "mine"}, KeyError, "reference has no integration 'mine' in uns; keys: scbatchnorm"),
        (None, {"key_added": "a/b"}, ValueError, "key_added must be a non-empty str without '/'"),
        (None, {"mode": "warm"}, ValueError, "mode must be one of 'frozen', 'recalibrate'; got 'warm'"),
        (None, {"false_alarm": 0.9}, ValueError, "false_alarm must be a number from 0 to 0.5; got 0.9"),
        (None, {"min_probability": "high"}, ValueError, "min_probability must be a number from 0 to 1; got 'high'"),
        (None, {"known_batches": ["d"]}, ValueError, "both have; d is none of the reference: a, b, c"),
        (None, {"known_batches": ["a"]}, ValueError, "both have; a is none of the query: query"),
    ],
)  # fmt: skip
def test_wrong_input(change, options, error, message, reference, query):
    if change is not None:
        change(query)
    before = digest(query), digest(reference)
    with pytest.raises(error, match=message):
        map_query(query, reference, **options)
    assert (digest(query), digest(reference)) == before


def test_query_without_cells(reference, query):
    with pytest.raises(ValueError, match="query must have cells"):
        map_query(query[:0].copy(), reference)


def stripped(reference):
    reference.uns["scbatchnorm"]["weights"] = {}


def edited(reference):
    reference.uns["scbatchnorm"]["weights"]["offsets"][0, 0] += 1


def moved(reference):
    reference.uns["scbatchnorm"]["reference"]["points"][0, 0] += 1


def without_embedding(reference):
    del reference.obsm["X_scbatchnorm"]


def other_embedding(reference):
    reference.obsm["X_scbatchnorm"] = reference.obsm["X_scbatchnorm"][:, :3]


def without_labels(reference):
    reference.obs["cell_type"] = None


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda r: r.uns.clear(), KeyError, "reference has no integration 'scbatchnorm' in uns; keys: none. Run pp.integ"),
        (stripped, ValueError, r"adata.uns\['scbatchnorm'\] does not hold a model .*or not all of it"),
        (edited, ValueError, "do not have the fingerprint they were written with"),
        (moved, ValueError, "its reference cells do not have the fingerprint"),
        (without_embedding, KeyError, r"must have its embedding in obsm\['X_scbatchnorm'\]"),
        (other_embedding, ValueError, r"must be the embedding that its model gives, 8 components, .*got shape \(90, 3\)"),
        (without_labels, ValueError, r"reference.obs\['cell_type'\] must have a value for at least one cell"),
    ],
)  # fmt: skip
def test_wrong_reference(change, error, message, reference, query):
    reference.uns = copy.deepcopy(dict(reference.uns))
    change(reference)
    before = digest(query)
    with pytest.raises(error, match=message):
        map_query(query, reference, label_keys="cell_type")
    assert digest(query) == before


def test_wrong_kinds_of_reference(reference, query, brief, tmp_path):
    model = BatchNormAutoencoder.from_anndata(reference)
    with pytest.raises(ValueError, match=r"label_keys=\['cell_type'\] needs the cells of the reference"):
        map_query(query, model, label_keys="cell_type")
    with pytest.raises(ValueError, match="reference must be fitted"):
        map_query(query, brief())
    with pytest.raises(TypeError, match="reference must be an integrated AnnData.* got dict"):
        map_query(query, {})
    for name in ("none.h5ad", "none.pt"):
        with pytest.raises(FileNotFoundError, match="reference does not exist"):
            map_query(query, tmp_path / name)
    (tmp_path / "model.pt").write_text("nothing")
    with pytest.raises(ModelFileError, match="is no model that scbatchnorm wrote"):
        map_query(query, tmp_path / "model.pt")
    (tmp_path / "broken.h5ad").write_text("nothing")
    with pytest.raises(OSError, match="reference cannot be read"):
        map_query(query, tmp_path / "broken.h5ad")


def test_saved_model_is_a_reference(reference, query, tmp_path):
    """Like the AnnData it is of, but for the labels."""
    BatchNormAutoencoder.from_anndata(reference).save(tmp_path / "model.safetensors")
    expected = map_query(query, reference, copy=True)
    assert expected is not None
    for path in (tmp_path / "model.safetensors", str(tmp_path / "model.safetensors")):
        mapped = map_query(query, path, copy=True)
        assert mapped is not None
        np.testing.assert_array_equal(mapped.obsm["X_scbatchnorm"], expected.obsm["X_scbatchnorm"])
        pd.testing.assert_frame_equal(mapped.obs, expected.obs)
    with pytest.raises(ValueError, match="needs the cells of the reference, which a model alone does not have"):
        map_query(query, tmp_path / "model.safetensors", label_keys="cell_type")


def test_labels_that_are_missing_do_not_vote(reference, query):
    reference.obs["cell_type"] = reference.obs["cell_type"].where(np.arange(90) < 60, None)
    map_query(query, reference, label_keys="cell_type", min_probability=0)
    assert set(query.obs["cell_type_mapped"]) <= {"even", "odd", "unknown"}


@pytest.mark.parametrize("values", [np.arange(60) % 2 == 0, np.arange(60) % 2, np.arange(60) % 2 / 2], ids=["bool", "int", "float"])  # fmt: skip
def test_batches_that_are_no_words(values, reference, query):
    query.obs["day"] = values
    map_query(query, reference, batch_key="day")
    assert len(query.uns["scbatchnorm"]["batches"]) == 2


def test_unused_categories_and_index(reference, query):
    query.obs["batch"] = query.obs["batch"].cat.add_categories("none")
    query.obs_names = query.obs_names[::-1]
    map_query(query, reference, batch_key="batch")
    assert sorted(query.uns["scbatchnorm"]["batches"].index) == ["a", "b", "c"]
    assert isinstance(query, ad.AnnData)
