"""The command writes what tl.correct gives, and answers mistakes with a line on stderr and exit code 2."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest

from scbatchnorm import BatchNormAutoencoder, pp, tl
from tests.cli.conftest import run


@pytest.fixture(scope="module")
def integrated(source, tmp_path_factory):
    """A file with two integrations: one that corrects, and one of strength 0."""
    adata = ad.read_h5ad(source)
    adata.var["highly_variable"] = np.arange(adata.n_vars) % 2 == 0
    pp.integrate(adata, "batch", model=BatchNormAutoencoder(strength=1.0, max_steps=20))
    pp.integrate(adata, "batch", strength=0.0, key_added="none")
    path = tmp_path_factory.mktemp("correct") / "in.h5ad"
    adata.write_h5ad(path)
    return path


def test_correct_is_tl_correct(integrated, tmp_path, capsys):
    target = tmp_path / "out.h5ad"
    assert run("correct", integrated, "-o", target, "--target", "batch_1", "--threshold", "0.2", "--genes", "hvg") == 0
    expected, found = ad.read_h5ad(integrated), ad.read_h5ad(target)
    tl.correct(expected, target="batch_1", threshold=0.2, genes="hvg")
    assert (found.layers["scbatchnorm"] != expected.layers["scbatchnorm"]).nnz == 0
    out = capsys.readouterr().out
    assert "strength 1.00: set by the caller" in out
    assert f"wrote {target}: layers['scbatchnorm'], 75 of 150 genes corrected" in out


def test_strength_0_is_said(integrated, tmp_path, capsys):
    target = tmp_path / "out.h5ad"
    assert run("correct", integrated, "-o", target, "--key", "none", "--key-added", "same") == 0
    out = capsys.readouterr().out
    assert "layers['same'], expression copied unchanged, for the strength is 0" in out
    adata = ad.read_h5ad(target)
    np.testing.assert_array_equal(adata.layers["same"], adata.X.toarray())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--target", "day"), "target='day' must be 'average' or a batch with cells in adata; batches: batch_"),
        (("--threshold", "-1"), "threshold must be None or a number of at least 0; got -1.0"),
        (("--key", "mine"), "key='mine' is not a key of adata.uns"),
        (("--key-added", "counts"), "key_added='counts' is a layer that tl.correct did not write"),
    ],
    ids=["target", "threshold", "key", "key added"],
)
def test_mistakes(integrated, tmp_path, capsys, options, message):
    assert run("correct", integrated, "-o", tmp_path / "out.h5ad", *options) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("scbatchnorm: error: ")
    assert message in captured.err
    assert captured.out == ""
    assert not list(tmp_path.iterdir())


def test_input_that_was_not_integrated(source, tmp_path, capsys):
    assert run("correct", source, "-o", tmp_path / "out.h5ad") == 2
    assert "Run pp.integrate first" in capsys.readouterr().err
