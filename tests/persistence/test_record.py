"""A result in AnnData is the model, also after a file."""

from __future__ import annotations

import copy

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from scbatchnorm import BatchNormAutoencoder
from scbatchnorm.pp import integrate
from tests.helpers.records import restored


def through_a_file(adata: ad.AnnData, folder, form: str) -> ad.AnnData:
    path = folder / f"data.{form}"
    if form == "h5ad":
        adata.write_h5ad(path)
        return ad.read_h5ad(path)
    adata.write_zarr(path)
    return ad.read_zarr(path)


def leaves(value, name="record"):
    """Names and values of all entries that are not dicts."""
    if isinstance(value, dict):
        for key, entry in value.items():
            assert isinstance(key, str)
            assert "/" not in key
            yield from leaves(entry, f"{name}.{key}")
    else:
        yield name, value


@pytest.fixture(scope="module")
def record(annotated, brief):
    """What `integrate` leaves in `uns`; copy it before a change."""
    adata = annotated()
    integrate(adata, "batch", model=brief())
    return adata.uns["scbatchnorm"]


@pytest.mark.parametrize(
    ("form", "params"),
    [
        ("h5ad", {}),
        ("zarr", {}),
        ("h5ad", {"strength": 0}),
        ("h5ad", {"n_latent": 5}),
        pytest.param("zarr", {"n_latent": 5, "strength": 0}, marks=pytest.mark.slow),
        ("h5ad", {"strength": "auto"}),
        ("h5ad", {"statistics": "per_batch", "minibatch_size": 48}),
        pytest.param("zarr", {"norm": "switchable", "record_shift": True}, marks=pytest.mark.slow),
        pytest.param(
            "zarr", {"norm": "whitened", "dropout": 0.1, "adversary_norm": "spectral"}, marks=pytest.mark.slow
        ),
        ("h5ad", {"rng": None, "progress": None}),
        ("h5ad", {"n_hidden": np.int64(12), "learning_rate": np.float32(1e-3), "rng": np.int64(3)}),
    ],
    ids=str,
)  # other models, as files of their own, in test_io.py
def test_file_holds_the_model(form, params, adata, brief, tmp_path):
    model = brief(**params)
    integrate(adata, "batch", model=model)
    read = through_a_file(adata, tmp_path, form)
    again = BatchNormAutoencoder.from_anndata(read)
    check_is_fitted(again)
    np.testing.assert_array_equal(again.transform(read.X, read.obs["batch"]), adata.obsm["X_scbatchnorm"])
    expected = BatchNormAutoencoder.from_anndata(adata)
    for batch in (None, read.obs["batch"]):
        Z = adata.obsm["X_scbatchnorm"]
        np.testing.assert_array_equal(again.inverse_transform(Z, batch), expected.inverse_transform(Z, batch))
    assert again.get_params() == model.get_params()
    assert again.features_.tolist() == adata.var_names.tolist()
    assert again.batches_.tolist() == ["a", "b", "c"]
    assert again.n_features_in_ == 40
    assert again.stopped_ == expected.stopped_
    assert again.strength_.value == expected.strength_.value
    assert again.strength_.reason == expected.strength_.reason
    pd.testing.assert_frame_equal(again.history_, expected.history_, check_index_type=False)


def test_restored_parameters_fit_again(adata, brief, tmp_path):
    integrate(adata, "batch", model=brief())
    again = BatchNormAutoencoder.from_anndata(through_a_file(adata, tmp_path, "h5ad"))
    integrate(adata, "batch", model=clone(again), key_added="again")
    np.testing.assert_array_equal(adata.obsm["again"], adata.obsm["X_scbatchnorm"])


@pytest.mark.parametrize(
    "column",
    [
        lambda b: b == "c",
        lambda b: np.searchsorted(["a", "b", "c"], b),
        lambda b: np.searchsorted(["a", "b", "c"], b) / 2,
        lambda b: pd.Series(np.searchsorted(["a", "b", "c"], b)).astype("category").array,
    ],
    ids=["bool", "int", "float", "categories of int"],
)
def test_batches_that_are_no_words(column, adata, batch, brief, tmp_path):
    """The column that was integrated is the one that the model takes back."""
    adata.obs["batch"] = column(batch)
    integrate(adata, "batch", model=brief())
    read = through_a_file(adata, tmp_path, "h5ad")
    for holder in (adata, read):
        again = BatchNormAutoencoder.from_anndata(holder)
        np.testing.assert_array_equal(again.transform(read.X, holder.obs["batch"]), adata.obsm["X_scbatchnorm"])


@pytest.mark.parametrize("form", ["h5ad", pytest.param("zarr", marks=pytest.mark.slow)])
def test_everything_can_be_written(form, adata, batch, brief, tmp_path):
    adata.obs["flag"] = batch == "c"
    adata.obs["number"] = np.arange(90) % 2
    adata.var["highly_variable"] = np.arange(40) < 30
    integrate(adata, "batch", model=brief(rng=np.random.default_rng(0)))
    integrate(adata, ["flag", "number"], model=brief(), key_added="several columns")
    integrate(adata, "batch", model=brief(), use_rep="X_scbatchnorm", key_added="representation")
    read = through_a_file(adata, tmp_path, form)
    for key in ("scbatchnorm", "several columns", "representation"):
        assert BatchNormAutoencoder.from_anndata(read, key=key).n_features_in_ == len(adata.uns[key]["features"])
    assert read.uns["several columns"]["batch_key"].tolist() == ["flag", "number"]
    assert read.uns["scbatchnorm"]["params"]["rng"] is None


def test_record_holds_only_what_files_can_hold(record):
    for name, value in leaves(record):
        assert value is None or type(value) in {str, int, float, bool, np.ndarray, pd.DataFrame}, name
        if isinstance(value, np.ndarray):
            assert value.dtype.kind in "fiUb", name
            assert value.ndim > 0, name


def test_record_does_not_share_memory_with_a_model(annotated, brief):
    adata = annotated()
    integrate(adata, "batch", model=brief())
    model = BatchNormAutoencoder.from_anndata(adata)
    for name, value in leaves(adata.uns["scbatchnorm"]["weights"]):
        if value.dtype.kind == "f":
            value[:] = np.nan
        assert name
    np.testing.assert_array_equal(model.transform(adata.X, adata.obs["batch"]), adata.obsm["X_scbatchnorm"])


def test_missing_key_lists_the_keys(adata):
    with pytest.raises(KeyError, match=r"key='scbatchnorm' .*keys: none\. Run pp\.integrate"):
        BatchNormAutoencoder.from_anndata(adata)
    adata.uns["pca"] = {}
    with pytest.raises(KeyError, match=r"key='mine' .*keys: pca"):
        BatchNormAutoencoder.from_anndata(adata, key="mine")


def test_newer_format_is_refused(record):
    newer = record | {"format": 99, "versions": {"scbatchnorm": "7.1.0"}}
    with pytest.raises(ValueError, match=r"the record was written in format 99 by scbatchnorm 7\.1\.0.*upgrade"):
        restored(newer)


def test_older_format_is_refused(record):
    older = record | {"format": 1, "versions": {"scbatchnorm": "0.0.1"}}
    with pytest.raises(ValueError, match=r"in format 1 by scbatchnorm 0\.0\.1; .* run pp\.integrate again"):
        restored(older)


@pytest.mark.parametrize("garbage", [None, 1, "text", [], {}, {"format": "x"}, {"format": 1}, np.zeros(3)], ids=str)
def test_garbage_is_refused(garbage, adata):
    adata.uns["scbatchnorm"] = garbage
    with pytest.raises(ValueError, match=r"adata.uns\['scbatchnorm'\] does not hold a model"):
        BatchNormAutoencoder.from_anndata(adata)


UNNECESSARY = {"batch_key", "named", "versions"}


def test_incomplete_records_are_refused(record):
    for name in set(record) - UNNECESSARY:
        with pytest.raises(ValueError, match="the record does not hold a model"):
            restored({key: value for key, value in record.items() if key != name})
    # torch does without the count of minibatches, which nothing uses.
    for name in (name for name in record["weights"] if not name.endswith("num_batches_tracked")):
        weights = {key: value for key, value in record["weights"].items() if key != name}
        with pytest.raises(ValueError, match="the record does not hold a model"):
            restored(record | {"weights": weights})
    without_network = {key: value for key, value in record["weights"].items() if not key.startswith("network.")}
    with pytest.raises(ValueError, match="the record does not hold a model"):
        restored(record | {"weights": without_network})
    restored({key: value for key, value in record.items() if key not in UNNECESSARY})


@pytest.mark.parametrize(
    "changed",
    [
        {"params": {"n_hidden": 17}},
        {"params": {"norm": "other"}},
        {"params": {"unknown": 1}},
        {"strength": {"value": "much"}},
        {"weights": {"stem.scale": np.array([])}},
        {"weights": {"network.unknown": np.zeros(1)}},
        {"weights": {"stem.components": np.zeros((40, 7), np.float32)}},
        {"weights": {"offsets": np.zeros((2, 8), np.float32)}},
        {"weights": {"stem.mean": np.zeros(39, np.float32)}},
        {"features": np.array(["gene1"])},
        {"batch_levels": np.array(["a", "b"])},
    ],
    ids=str,
)
def test_garbled_records_are_refused(changed, record):
    garbled = copy.deepcopy(record)
    for name, entry in changed.items():
        garbled[name] = garbled[name] | entry if isinstance(entry, dict) else entry
    with pytest.raises(ValueError, match="the record does not hold a model"):
        restored(garbled)


def test_changed_weights_are_noticed(record):
    """One number of the arrays, or the fingerprint itself: the model would not be the one that was written."""
    for name in ("stem.mean", "offsets", "network.encoder.0.weight", "network.encoder.1.running_var"):
        changed = copy.deepcopy(record)
        changed["weights"][name].flat[0] += 1e-3
        with pytest.raises(ValueError, match="do not have the fingerprint they were written with"):
            restored(changed)
    with pytest.raises(ValueError, match="fingerprint"):
        restored(record | {"fingerprint": "0" * 64})


def test_reading_leaves_the_generators_alone(record):
    before = torch.get_rng_state()
    model = restored(record)
    model.transform(np.zeros((2, 40), np.float32), ["a", "b"])
    assert torch.equal(torch.get_rng_state(), before)


def test_checkpoint_is_no_part_of_a_model(adata, brief, record, tmp_path):
    """Its path is of one machine, and may tell names; and nobody who fits a model of others writes where that says."""
    path = tmp_path / "checkpoint"
    integrate(adata, "batch", model=brief(checkpoint=str(path)))
    assert path.exists()
    assert adata.uns["scbatchnorm"]["params"]["checkpoint"] is None
    assert BatchNormAutoencoder.from_anndata(adata).checkpoint is None
    with pytest.raises(ValueError, match="checkpoint is '/etc/other', and no model that is written has one"):
        restored(record | {"params": record["params"] | {"checkpoint": "/etc/other"}})
