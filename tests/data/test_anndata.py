"""Reading from AnnData: batches, features and keys."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scbatchnorm import pp, tl
from scbatchnorm._data.adata import Keys, read_batches, read_features, write_integration

# What str arrays of numpy hold: they drop NUL at the end.
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6)
LABEL = st.one_of(TEXT, st.integers(-5, 5), st.booleans(), st.floats(-2, 2))


def holding(*columns) -> ad.AnnData:
    obs = pd.DataFrame({f"key{i}": pd.Series(column, dtype=object) for i, column in enumerate(columns)})
    return ad.AnnData(obs=obs.set_axis(obs.index.astype(str)))


@given(st.lists(LABEL, min_size=1, max_size=30))
def test_batches_are_told_apart_as_pandas_tells_them_apart(values):
    batches = read_batches(holding(values), "key0")
    assert batches.levels.dtype.kind == "U"
    expected = pd.factorize(pd.Series(values, dtype=object))[0]
    assert (batches.codes == expected).all()
    assert (pd.factorize(batches.names)[0] == expected).all()


@given(st.lists(TEXT, min_size=1, max_size=30))
def test_words_name_themselves(values):
    assert read_batches(holding(values), "key0").names.tolist() == values


@given(st.lists(st.tuples(st.text("a| ", max_size=4), st.text("a| ", max_size=4)), min_size=1, max_size=30))
def test_combinations_are_told_apart_whatever_the_names(pairs):
    batches = read_batches(holding(*zip(*pairs, strict=True)), ["key0", "key1"])
    expected = pd.factorize(pd.Series(pairs, dtype=object))[0]
    assert (batches.codes == expected).all()
    assert (pd.factorize(batches.names)[0] == expected).all()


def test_names_of_combinations():
    adata = holding(["a", "a", "b"], [1, 2, 2])
    assert read_batches(adata, ["key0", "key1"]).names.tolist() == ["a | 1", "a | 2", "b | 2"]
    assert read_batches(adata, ("key1", "key0")).names.tolist() == ["1 | a", "2 | a", "2 | b"]
    assert read_batches(adata, ["key0"]).names.tolist() == ["a", "a", "b"]


def test_order_and_number_of_categories_do_not_matter():
    adata = holding(["b", "a", "b"])
    adata.obs["key0"] = pd.Categorical(adata.obs["key0"], categories=["z", "a", "b"])
    assert read_batches(adata, "key0").names.tolist() == ["b", "a", "b"]


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT])
@pytest.mark.parametrize("key", ["key0", ["key1", "key0"]])
def test_cells_without_a_batch_are_counted_and_named(missing, key):
    adata = holding(["a", missing, "b", missing], ["x"] * 4)
    with pytest.raises(ValueError, match=r"batch_key='key0' .* 2 of 4 cells have none .*: 1, 3\. Remove them"):
        read_batches(adata, key)


def test_keys():
    assert Keys.of(None) == Keys("X_scbatchnorm", "scbatchnorm", "scbatchnorm")
    assert Keys.of("mine") == Keys("mine", "mine", "mine")


def test_features_of_genes(adata):
    adata.var["use"] = np.arange(40) < 5
    found = read_features(adata, layer=None, use_rep=None, mask_var="use")
    assert found.names.tolist() == [f"gene{i}" for i in range(5)]
    assert found.mask is not None
    assert found.mask.tolist() == adata.var["use"].tolist()
    np.testing.assert_array_equal(found.blocks.all().toarray(), adata.X[:, :5].toarray())


@pytest.mark.parametrize("other", [None, {}, "data.h5ad", pd.DataFrame(), ad.AnnData], ids=str)
def test_what_is_no_anndata(other):
    with pytest.raises(TypeError, match=r"adata must be an AnnData; got "):
        read_batches(other, "batch")
    with pytest.raises(TypeError, match=r"adata must be an AnnData; got "):
        read_features(other, layer=None, use_rep=None, mask_var=None)


@pytest.mark.parametrize("value", [[1], {"a": 1}, {1}, np.zeros(2)], ids=str)
def test_batches_that_cannot_be_told_apart(value):
    with pytest.raises(ValueError, match=r"batch_key='key0' must hold values that can be told apart.*unhashable"):
        read_batches(holding(["a", value, "b"]), "key0")


@pytest.mark.parametrize("name", [["log"], np.array(["log"]), 3, {"log"}], ids=repr)
def test_keys_that_are_no_words(name, adata):
    with pytest.raises(KeyError, match=r"layer=.* is not a key of adata\.layers"):
        read_features(adata, layer=name, use_rep=None, mask_var=None)
    with pytest.raises(KeyError, match=r"use_rep=.* is not a key of adata\.obsm"):
        read_features(adata, layer=None, use_rep=name, mask_var=None)


@pytest.mark.parametrize("value", [[1], {}, "True", None, np.nan, 2, pd.NA], ids=repr)
def test_choices_of_genes_that_are_none(value, adata):
    choices = np.array([True, 1, 0.0, np.True_] * 10, dtype=object)
    adata.var["use"] = choices
    found = read_features(adata, layer=None, use_rep=None, mask_var="use")
    assert found.names.tolist() == [f"gene{i}" for i in range(40) if i % 4 != 2]
    choices[5] = value
    adata.var["use"] = choices
    with pytest.raises(ValueError, match=r"adata\.var\['use'\] must hold True or False for each gene"):
        read_features(adata, layer=None, use_rep=None, mask_var="use")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_coordinates_that_are_not_finite_are_not_written(value, adata):
    embedding = np.zeros((90, 2), np.float32)
    embedding[3, 1] = value
    with pytest.raises(
        ValueError, match="the model gives 1 of 90 cells coordinates that are not finite; nothing was written"
    ):
        write_integration(adata, Keys.of(None), embedding=embedding, loadings=None, record={})
    assert not adata.obsm
    assert not adata.uns


@pytest.mark.parametrize(
    "call",
    [
        lambda adata: pp.assess(adata, "batch"),
        lambda adata: pp.integrate(adata, "batch"),
        lambda adata: tl.correct(adata),
        lambda adata: tl.diagnose(adata, "batch", use_rep="X_pca"),
        lambda adata: tl.map_query(adata, adata),
        lambda adata: tl.mixing(adata, "batch", use_rep="X_pca"),
    ],
    ids=["assess", "integrate", "correct", "diagnose", "map_query", "mixing"],
)
def test_parts_of_open_files_are_refused_at_once(prepared, tmp_path, call):
    """Results could not be written there, as would be found out at the end only."""
    prepared.write_h5ad(tmp_path / "a.h5ad")
    backed = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
    with pytest.raises(ValueError, match=r"part of a backed AnnData, .* Read it first: adata = adata\.to_memory\(\)"):
        call(backed[:50])
    backed.file.close()


def test_copies_of_parts_of_open_files(prepared, brief, tmp_path):
    prepared.write_h5ad(tmp_path / "a.h5ad")
    backed = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
    found = pp.integrate(backed[:70], "batch", model=brief(), copy=True)
    assert found is not None and not found.isbacked
    assert found.obsm["X_scbatchnorm"].shape == (70, 8)
    backed.file.close()
