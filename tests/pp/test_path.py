"""Several strengths from one fit."""

from __future__ import annotations

import numpy as np
import pytest

from scbatchnorm import BatchNormAutoencoder, datasets
from scbatchnorm.metrics import ilisi, knn_preservation
from scbatchnorm.pp import _strength_path as _path
from scbatchnorm.pp import integrate


@pytest.fixture(scope="module")
def planted():
    """Blood cells with planted effects; tests must not change it."""
    return datasets.pbmc_planted()


@pytest.fixture(scope="module")
def integrated(planted):
    adata = planted.copy()
    integrate(adata, "batch", strength=[1, 0, 0.5, 0.5])
    return adata


def test_path_is_measured_at_each_strength(integrated):
    path = integrated.uns["scbatchnorm"]["path"]
    assert path["strength"].tolist() == [0, 0.5, 1]
    assert path["knn_preservation"][0] == 1
    assert path["knn_preservation"].is_monotonic_decreasing
    assert path["ilisi"].is_monotonic_increasing
    assert path["chosen"].sum() == 1


@pytest.mark.slow
def test_numbers_are_those_of_a_fit_with_that_strength(integrated, planted):
    """At full strength: of the embedding that a call with strength 1 gives."""
    alone = planted.copy()
    integrate(alone, "batch", strength=1)
    none = planted.copy()
    integrate(none, "batch", strength=0)
    row = integrated.uns["scbatchnorm"]["path"].iloc[-1]
    batch = planted.obs["batch"].to_numpy()
    assert row["ilisi"] == pytest.approx(ilisi(alone.obsm["X_scbatchnorm"], batch=batch), abs=1e-4)
    before = none.obsm["X_scbatchnorm"][:, : alone.obsm["X_scbatchnorm"].shape[1]]
    expected = knn_preservation(alone.obsm["X_scbatchnorm"], X_pre=before, batch=batch)
    assert row["knn_preservation"] == pytest.approx(expected, abs=1e-4)


def test_the_chosen_strength_is_used(integrated):
    record = integrated.uns["scbatchnorm"]
    path = record["path"]
    assert record["strength"]["value"] == path.loc[path["chosen"], "strength"].item()
    assert "95%" in record["strength"]["reason"]
    model = BatchNormAutoencoder.from_anndata(integrated)
    again = model.transform(integrated[:, model.features_].X, integrated.obs["batch"])
    assert np.array_equal(again, integrated.obsm["X_scbatchnorm"])
    assert record["calibration"]["fingerprint_of_fit"] == record["fingerprint"]


@pytest.mark.parametrize(
    ("mixing", "chosen"),
    [([0.1, 0.3, 0.9, 0.91], 2), ([0.1, 0.2, 0.3, 0.9], 3), ([0.5, 0.5, 0.5, 0.5], 0), ([0.5, 0.4, 0.3, 0.2], 0)],
)
def test_the_smallest_strength_with_nearly_all_of_the_gain(mixing, chosen):
    assert _path._smallest(np.array(mixing)) == chosen


@pytest.mark.parametrize("strength", [[1], [0.5, 0.5], [], [0, 2], [-0.1, 1], [0, np.nan], ["a", 1], None, [[0, 1]]])
def test_bad_paths_are_refused(planted, strength):
    adata = planted.copy()
    with pytest.raises(ValueError, match="strength must be 'auto', a number from 0 to 1, or at least two"):
        integrate(adata, "batch", strength=strength)
    assert "X_scbatchnorm" not in adata.obsm


def test_one_batch_has_no_path(planted):
    adata = planted[planted.obs["batch"] == "protocol A"].copy()
    with pytest.warns(UserWarning, match="one batch only"):
        integrate(adata, "batch", strength=[0, 1])
    assert "path" not in adata.uns["scbatchnorm"]
