"""A model that corrects some cell states only: fitted, stored, read back, inverted."""

from __future__ import annotations

import math

import anndata as ad
import numpy as np
import pytest

from scbatchnorm import BatchNormAutoencoder
from scbatchnorm.nn import lipschitz_bound
from tests.helpers.records import record_of, restored
from tests.helpers.states import typed


@pytest.fixture(scope="module")
def cells():
    """Coordinates, types and batches; type 1 is displaced in the second batch."""
    points, types = typed(1200)
    batch = np.random.default_rng(100).integers(2, size=1200)
    points[:, 3] += 1.5 * ((types == 1) & (batch == 1))
    return points, types, batch


@pytest.fixture(scope="module")
def model(cells):
    points, _, batch = cells
    return BatchNormAutoencoder(stem="identity", min_steps=60, n_epochs=1, progress=False).fit(points, batch)


def test_other_states_stay(model, cells):
    points, types, batch = cells
    moved = np.linalg.norm(model.transform(points, batch) - points, axis=1)
    assert 0 < model.strength_.value < 0.5
    assert np.median(moved[types != 1]) < 1e-5
    assert np.median(moved[types == 1]) > 0.3


def test_cells_do_not_depend_on_their_company(model, cells):
    points, _, batch = cells
    whole = model.transform(points, batch)
    np.testing.assert_allclose(model.transform(points[5:9], batch[5:9]), whole[5:9], atol=1e-5)


def test_inverse_undoes_it(model, cells):
    """In a cell's own batch: better than taking its embedding for what was measured."""
    points, types, batch = cells
    embedding = model.transform(points, batch)
    back = model.inverse_transform(embedding, batch)
    np.testing.assert_allclose(back[types == 0], points[types == 0], atol=0.3)
    affected = types == 1
    assert np.abs(back - points)[affected].mean() < 0.8 * np.abs(embedding - points)[affected].mean()


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_it_survives_files(model, cells, suffix, tmp_path):
    points, _, batch = cells
    adata = ad.AnnData(points, uns={"scbatchnorm": record_of(model)})
    path = tmp_path / f"model.{suffix}"
    getattr(adata, f"write_{suffix}")(path)
    again = BatchNormAutoencoder.from_anndata(getattr(ad, f"read_{suffix}")(path))
    assert again.fingerprint() == model.fingerprint()
    assert np.array_equal(again.transform(points, batch), model.transform(points, batch))


def test_changed_states_are_refused(model):
    record = record_of(model)
    record["weights"]["strength.values"] = record["weights"]["strength.values"] * np.float32(0.9)
    with pytest.raises(ValueError, match="fingerprint"):
        restored(record)


def test_there_is_no_lipschitz_bound(model):
    assert lipschitz_bound(model) == math.inf
