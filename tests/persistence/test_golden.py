"""What earlier versions wrote is read, and does what it did then."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest

from scbatchnorm import BatchNormAutoencoder
from tests.golden.make import HERE, MODELS, batch_names

VERSIONS = sorted(path for path in HERE.iterdir() if (path / "expected.npz").exists())
FILES = [path for folder in VERSIONS for path in sorted(folder.glob("*.safetensors"))]


def test_there_are_golden_files():
    assert {path.stem for path in (HERE / "0.1.0").glob("*.safetensors")} == {*MODELS, "by_state"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_model_files(path):
    """The coordinates are those of then, up to the rounding of another machine."""
    model = BatchNormAutoencoder.load(path)
    name = path.stem
    with np.load(path.parent / "expected.npz") as expected:
        if name == "by_state":
            X, batch = expected["points"], expected["point_batch"]
        else:
            X, batch = expected["X"], batch_names(name, expected["codes"])
        embedding = model.transform(X, batch)
        np.testing.assert_allclose(embedding, expected[name], rtol=1e-4, atol=1e-4)
    assert model.calibration_["fingerprint_of_fit"] == model.fingerprint()
    assert np.isfinite(model.inverse_transform(embedding, batch)).all()
    if path.parent == VERSIONS[-1]:
        for parameter, value in MODELS.get(name, {}).items():
            assert getattr(model, parameter) == value


@pytest.mark.parametrize("folder", VERSIONS, ids=lambda path: path.name)
def test_integrated_files(folder):
    adata = ad.read_h5ad(folder / "integrated.h5ad")
    model = BatchNormAutoencoder.from_anndata(adata)
    embedding = model.transform(adata.X, adata.obs["batch"])
    np.testing.assert_allclose(embedding, adata.obsm["X_scbatchnorm"], rtol=1e-4, atol=1e-4)
