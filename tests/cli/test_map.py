"""The command writes what tl.map_query gives."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest

from scbatchnorm import BatchNormAutoencoder, pp, tl
from tests.cli.conftest import run


@pytest.fixture(scope="module")
def files(source, tmp_path_factory):
    """An integrated file, and one with the cells of another batch."""
    adata, folder = ad.read_h5ad(source), tmp_path_factory.mktemp("map")
    new = (adata.obs["batch"] == "batch_2").to_numpy()
    reference = adata[~new].copy()
    pp.integrate(reference, "batch", model=BatchNormAutoencoder(max_steps=30, strength=1))
    reference.write_h5ad(folder / "reference.h5ad")
    adata[new].write_h5ad(folder / "query.h5ad")
    return folder / "query.h5ad", folder / "reference.h5ad"


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_map_is_map_query(files, tmp_path, capsys, suffix):
    path, reference = files
    target = tmp_path / f"out.{suffix}"
    options = ("--batch-key", "day", "--batch-key", "batch", "--label-key", "cell_type", "--seed", "2")
    assert run("map", path, "--reference", reference, *options, "-o", target) == 0
    expected = ad.read_h5ad(path)
    tl.map_query(expected, reference, batch_key=["day", "batch"], label_keys=["cell_type"], rng=2)
    found = ad.read_h5ad(target) if suffix == "h5ad" else ad.read_zarr(target)
    np.testing.assert_array_equal(found.obsm["X_scbatchnorm"], expected.obsm["X_scbatchnorm"])
    assert found.obs["cell_type_mapped"].tolist() == expected.obs["cell_type_mapped"].tolist()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "150 of the reference's 150 features found"
    assert [line.partition(":")[0] for line in lines[1:3]] == ["batch monday | batch_2", "batch friday | batch_2"]
    assert lines[3].startswith("obs['cell_type_mapped']: ")
    assert lines[4].startswith(f"wrote {target}: obsm['X_scbatchnorm'], 80 cells x 30 components")


def test_options_reach_map_query(files, tmp_path, capsys):
    path, reference = files
    options = ("--mode", "recalibrate", "--key-added", "other", "--label-key", "cell_type", "--label-key", "day")
    assert run("map", path, "--reference", reference, *options, "-o", tmp_path / "out.h5ad") == 0
    found = ad.read_h5ad(tmp_path / "out.h5ad")
    assert found.uns["other"]["params"]["mode"] == "recalibrate"
    assert {"other_cell_type_mapped", "other_day_mapped", "other_novelty"} <= set(found.obs)
    assert "obs['other_day_mapped']" in capsys.readouterr().out
    assert run("map", reference, "--reference", reference, "--batch-key", "batch", "--known-batch", "batch_0", "-o", tmp_path / "b.h5ad") == 0  # fmt: skip
    assert "a batch of the reference" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--reference", "nothing.h5ad"), "reference does not exist: nothing.h5ad"),
        (("--label-key", "typ"), "label_keys: 'typ' is not a column of reference.obs"),
        (("--layer", "counts"), "looks like raw counts"),
        (("--key", "mine"), "reference has no integration 'mine'"),
    ],
)
def test_errors_are_one_line_and_nothing_is_written(files, options, message, tmp_path, capsys):
    path, reference = files
    assert run("map", path, "--reference", reference, *options, "-o", tmp_path / "out.h5ad") == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
