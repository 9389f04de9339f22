"""The command line writes what it says, and answers mistakes with a line on stderr and exit code 2."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from scbatchnorm import cli, datasets, pp


@pytest.fixture(scope="module")
def counts() -> ad.AnnData:
    adata = datasets.simulate_batches(240, n_genes=150, n_types=3)
    adata.obs["day"] = pd.Categorical(np.tile(["monday", "friday"], 120))
    return adata


@pytest.fixture(scope="module")
def source(counts, tmp_path_factory):
    """A file with log-normalised expression, and a PCA-like representation."""
    import scanpy as sc

    adata = counts.copy()
    adata.layers["counts"] = adata.X.copy()
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    adata.obsm["X_pca"] = np.random.default_rng(0).normal(size=(240, 8)).astype(np.float32)
    path = tmp_path_factory.mktemp("cli") / "in.h5ad"
    adata.write_h5ad(path)
    return path


@pytest.fixture
def quick(monkeypatch):
    """Training with few steps: here only what surrounds it is tested."""
    integrate = pp.integrate

    def few_steps(adata, batch_key, *, strength, rng, device="auto", layer=None, use_rep=None, key_added=None):
        from scbatchnorm import BatchNormAutoencoder

        model = BatchNormAutoencoder(strength=strength, rng=rng, device=device, max_steps=30)
        integrate(adata, batch_key, model=model, layer=layer, use_rep=use_rep, key_added=key_added)

    monkeypatch.setattr(pp, "integrate", few_steps)


def run(*arguments) -> int:
    return cli.main([str(argument) for argument in arguments])


@pytest.mark.usefixtures("quick")
def test_integrate_is_pp_integrate(source, tmp_path, capsys):
    target = tmp_path / "out.h5ad"
    assert run("integrate", source, "-o", target, "--batch-key", "batch", "--strength", "1", "--seed", "3") == 0
    expected, found = ad.read_h5ad(source), ad.read_h5ad(target)
    pp.integrate(expected, "batch", strength=1.0, rng=3)
    np.testing.assert_array_equal(found.obsm["X_scbatchnorm"], expected.obsm["X_scbatchnorm"])
    assert found.uns["scbatchnorm"]["params"]["rng"] == 3
    out = capsys.readouterr().out
    assert "strength 1.00: " in out
    assert f"wrote {target}: obsm['X_scbatchnorm'], 240 cells x 30 components, 3 batches" in out


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_reads_and_writes_both_formats(source, tmp_path, suffix):
    first, second = tmp_path / f"first.{suffix}", tmp_path / f"second.{suffix}"
    assert run("integrate", source, "-o", first, "--batch-key", "batch") == 0
    assert run("integrate", first, "-o", second, "--batch-key", "batch", "--key-added", "again") == 0
    adata = ad.read_zarr(second) if suffix == "zarr" else ad.read_h5ad(second)
    assert {"X_scbatchnorm", "again"} <= set(adata.obsm)
    assert {"scbatchnorm", "again"} <= set(adata.uns)
    assert sorted(path.name for path in tmp_path.iterdir()) == [first.name, second.name]


@pytest.mark.usefixtures("quick")
def test_several_batch_columns_and_a_representation(source, tmp_path):
    target = tmp_path / "out.h5ad"
    arguments = ("--batch-key", "batch", "--batch-key", "day", "--use-rep", "X_pca", "--device", "cpu")
    assert run("integrate", source, "-o", target, *arguments) == 0
    adata = ad.read_h5ad(target)
    assert adata.obsm["X_scbatchnorm"].shape == (240, 8)
    assert len(adata.uns["scbatchnorm"]["batch_levels"]) == 6


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("layer", [(), ("--layer", "counts")], ids=["X", "layer"])
def test_normalize(source, counts, tmp_path, layer):
    path, target = source, tmp_path / "out.h5ad"
    if not layer:
        path = tmp_path / "counts.h5ad"
        counts.write_h5ad(path)
    keys = ("--batch-key", "batch", "--batch-key", "day")
    assert run("integrate", path, "-o", target, *keys, "--normalize", *layer) == 0
    adata, prepared = ad.read_h5ad(target), ad.read_h5ad(source)
    np.testing.assert_allclose(adata.X.toarray(), prepared.X.toarray(), rtol=1e-5)
    np.testing.assert_array_equal(adata.layers["counts"].toarray(), counts.X.toarray())
    assert adata.var["highly_variable"].dtype == bool
    assert list(adata.obs) == list(prepared.obs)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_overwrite(source, tmp_path, capsys, suffix):
    target = tmp_path / f"out.{suffix}"
    arguments = ("integrate", source, "-o", target, "--batch-key", "batch")
    assert run(*arguments) == 0
    capsys.readouterr()
    assert run(*arguments) == 2
    assert capsys.readouterr().err == (
        f"scbatchnorm: error: -o/--output exists already: {target}. Give --overwrite to replace it.\n"
    )
    assert run(*arguments, "--overwrite", "--key-added", "new") == 0
    adata = ad.read_zarr(target) if suffix == "zarr" else ad.read_h5ad(target)
    assert "new" in adata.obsm
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


@pytest.mark.usefixtures("quick")
def test_failed_writing_keeps_the_old_file_and_leaves_nothing(source, tmp_path, capsys, monkeypatch):
    target = tmp_path / "out.h5ad"
    target.write_text("old")

    def full(self, path):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ad.AnnData, "write_h5ad", full)
    assert run("integrate", source, "-o", target, "--batch-key", "batch", "--overwrite") == 2
    assert "No space left on device" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5ad"]
    assert target.read_text() == "old"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--batch-key": "donor"}, "batch_key='donor' is not a column of adata.obs; columns: batch, cell_type, day."),
        ({"--layer": "raw"}, "layer='raw' is not a key of adata.layers"),
        ({"--use-rep": "X_x"}, "use_rep='X_x' is not a key of adata.obsm; keys: X_pca."),
        ({"--layer": "counts"}, "looks like raw counts"),
        ({"--key-added": "a/b"}, "key_added must be a non-empty str without '/'"),
        ({"--device": "abacus"}, "device"),
        ({"-o": "no_folder/out.h5ad"}, "the folder of -o/--output does not exist"),
        ({"-o": "out.loom"}, "-o/--output must end in .h5ad or .zarr; got "),
        ({"input": "nothing.h5ad"}, "input does not exist: "),
        ({"input": "folder"}, "input must end in .h5ad or .zarr; got "),
        ({"input": "text.h5ad"}, "input cannot be read: "),
    ],
    ids=[
        "batch key",
        "layer",
        "use rep",
        "counts",
        "key added",
        "device",
        "no output folder",
        "output suffix",
        "no input",
        "input suffix",
        "no HDF5",
    ],  # fmt: skip
)
def test_mistakes(source, tmp_path, capsys, change, message):
    (tmp_path / "text.h5ad").write_text("no HDF5")
    options = {"input": source, "-o": "out.h5ad", "--batch-key": "batch"} | change
    paths = {name: tmp_path / options.pop(name) for name in ("input", "-o")}
    rest = [word for option in options.items() for word in option]
    assert run("integrate", paths["input"], "-o", paths["-o"], *rest) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("scbatchnorm: error: ")
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["text.h5ad"]


def test_normalize_refuses_what_are_no_counts(source, tmp_path, capsys):
    arguments = ("integrate", source, "-o", tmp_path / "out.h5ad", "--batch-key", "batch", "--normalize")
    assert run(*arguments) == 2
    assert (
        "--normalize needs counts, whole numbers that are not negative; adata.X holds others" in capsys.readouterr().err
    )
    assert run(*arguments, "--use-rep", "X_pca") == 2
    assert "--normalize and --use-rep exclude each other" in capsys.readouterr().err
    assert run(*arguments, "--layer", "none") == 2
    assert "layer='none' is not a key of adata.layers; keys: counts" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "required: COMMAND"),
        (("fly",), "invalid choice: 'fly'"),
        (("integrate", "a.h5ad", "-o", "b.h5ad"), "required: --batch-key"),
        (("integrate", "a.h5ad", "--strength", "2"), "must be auto or a number from 0 to 1; got '2'"),
        (("integrate", "a.h5ad", "--strength", "much"), "must be auto or a number from 0 to 1; got 'much'"),
        (("integrate", "a.h5ad", "--seed", "x"), "invalid int value: 'x'"),
    ],
    ids=["nothing", "command", "batch key", "strength", "strength word", "seed"],
)
def test_wrong_options(capsys, arguments, message):
    with pytest.raises(SystemExit) as end:
        run(*arguments)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_version_and_help(capsys):
    for option in ("--version", "--help"):
        with pytest.raises(SystemExit) as end:
            run(option)
        assert end.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith(f"scbatchnorm {version('scbatchnorm')}\n")
    assert "demo" in out
    assert "integrate" in out


@pytest.mark.parametrize("during", ["pp", "training"])
def test_interrupt(source, tmp_path, capsys, monkeypatch, during):
    def interrupted(adata, batch_key, **_):
        if during == "pp":
            raise KeyboardInterrupt
        # Training answers Ctrl-C with the weights it has so far, and says so.
        adata.obsm["X_scbatchnorm"] = np.zeros((240, 2))
        adata.uns["scbatchnorm"] = {"stopped": "interrupted"}

    monkeypatch.setattr(pp, "integrate", interrupted)
    assert run("integrate", source, "-o", tmp_path / "out.h5ad", "--batch-key", "batch") == 130
    assert capsys.readouterr().err == "scbatchnorm: interrupted, nothing was written\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("quick")
def test_verbose_logs_to_stderr_for_the_time_of_the_command(source, tmp_path, capsys):
    import logging

    package = logging.getLogger("scbatchnorm")
    before = (list(package.handlers), package.level)
    assert run("integrate", source, "-o", tmp_path / "out.h5ad", "--batch-key", "batch", "--verbose") == 0
    assert "integrating 240 cells" in capsys.readouterr().err
    assert (package.handlers, package.level) == before


@pytest.mark.slow
def test_demo(tmp_path, capsys):
    folder = tmp_path / "new" / "demo"
    assert run("demo", "-o", folder) == 0
    out = capsys.readouterr().out
    rows = [line.rsplit(maxsplit=5) for line in out.splitlines() if line.startswith(("PCA", "ComBat", "scbatchnorm "))]
    table = {name: values for name, *values in rows}
    assert list(table) == ["PCA (uncorrected)", "ComBat", "scbatchnorm"]
    scores = {name: [float(value) for value in row[:4]] for name, row in table.items()}
    ilisi, _, clisi, label = scores["scbatchnorm"]
    assert ilisi > scores["ComBat"][0] > scores["PCA (uncorrected)"][0]
    assert clisi > scores["PCA (uncorrected)"][2] - 0.02
    assert label > scores["PCA (uncorrected)"][3] - 0.02
    for name in ("umap.png", "training.png", "pbmc_integrated.h5ad"):
        assert f"wrote {folder / name}: " in out
    for name, shape in {"umap.png": (1200, 1575, 4), "training.png": (570, 975, 4)}.items():
        picture = plt.imread(folder / name)
        assert picture.shape == shape
        assert picture.std() > 0.05
    adata = ad.read_h5ad(folder / "pbmc_integrated.h5ad")
    assert {"X_pca", "X_pca_combat", "X_scbatchnorm", "X_umap", "X_umap_before"} <= set(adata.obsm)
    assert plt.get_fignums() == []


def test_demo_refuses_a_file_as_folder(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run("demo", "-o", tmp_path / "file") == 2
    assert "-o/--output must be a folder" in capsys.readouterr().err


def test_as_a_program(tmp_path):
    command = [
        sys.executable,
        "-m",
        "scbatchnorm.cli",
        "integrate",
        "nothing.h5ad",
        "-o",
        "out.h5ad",
        "--batch-key",
        "b",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "scbatchnorm: error: input does not exist: nothing.h5ad.\n"
