"""The command writes what pp.integrate gives, and answers mistakes with a line on stderr and exit code 2."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest

from scbatchnorm import BatchNormAutoencoder, pp
from tests.cli.conftest import run


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
@pytest.mark.parametrize("suffix", ["h5ad", pytest.param("zarr", marks=pytest.mark.slow)])
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
@pytest.mark.parametrize("suffix", ["h5ad", pytest.param("zarr", marks=pytest.mark.slow)])
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
        (("integrate", "a.h5ad", "-o", "b.h5ad"), "required: --batch-key"),
        (
            ("integrate", "a.h5ad", "--strength", "2"),
            "must be auto, a number from 0 to 1, or several of them with commas; got '2'",
        ),
        (
            ("integrate", "a.h5ad", "--strength", "much"),
            "must be auto, a number from 0 to 1, or several of them with commas; got 'much'",
        ),
        (("integrate", "a.h5ad", "--strength", "0,2"), "must be auto, a number from 0 to 1, or several"),
        (("integrate", "a.h5ad", "--seed", "x"), "invalid int value: 'x'"),
    ],
    ids=["batch key", "strength", "strength word", "strengths", "seed"],
)
def test_wrong_options(capsys, arguments, message):
    with pytest.raises(SystemExit) as end:
        run(*arguments)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


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
    if during == "training":
        code = run(
            "integrate", source, "-o", tmp_path / "out.h5ad", "--batch-key", "batch", "--checkpoint", tmp_path / "c"
        )
        assert code == 130
        assert capsys.readouterr().err == (
            f"scbatchnorm: interrupted, nothing was written; the same command goes on from {tmp_path / 'c'}\n"
        )


@pytest.mark.usefixtures("quick")
def test_model_and_checkpoint(source, tmp_path, capsys):
    """The model alone is enough to map onto; the checkpoint makes the same command end at once."""
    model, checkpoint, out = (tmp_path / name for name in ("model.safetensors", "checkpoint", "out.h5ad"))
    arguments = ["integrate", source, "-o", out, "--batch-key", "batch", "--strength", "1"]
    assert run(*arguments, "--save-model", model, "--checkpoint", checkpoint) == 0
    assert f"wrote {model}: the model" in capsys.readouterr().out
    written = ad.read_h5ad(out)
    loaded = BatchNormAutoencoder.load(model)
    np.testing.assert_array_equal(loaded.transform(written.X, written.obs["batch"]), written.obsm["X_scbatchnorm"])
    assert run(*arguments, "--save-model", model) == 2
    assert "-o/--output exists already" in capsys.readouterr().err
    before = checkpoint.read_bytes()
    assert run(*arguments, "--save-model", model, "--checkpoint", checkpoint, "--overwrite") == 0
    assert checkpoint.read_bytes() == before
    assert BatchNormAutoencoder.load(model).fingerprint() == loaded.fingerprint()
    assert run("map", source, "--reference", model, "-o", tmp_path / "mapped.h5ad", "--batch-key", "batch") == 0
    assert ad.read_h5ad(tmp_path / "mapped.h5ad").obsm["X_scbatchnorm"].shape == written.obsm["X_scbatchnorm"].shape


def test_checkpoint_of_several_strengths(source, tmp_path, capsys):
    code = run(
        "integrate",
        source,
        "-o",
        tmp_path / "out.h5ad",
        "--batch-key",
        "batch",
        "--strength",
        "0,1",
        "--checkpoint",
        tmp_path / "c",
    )
    assert code == 2
    assert "--checkpoint needs a single --strength" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
