"""Training, saving and the command line, killed at any moment: nothing is lost, and nothing is half written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anndata as ad
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from scbatchnorm import BatchNormAutoencoder
from tests.stress import killing
from tests.stress.effort import FACTOR, tries
from tests.stress.examples import brief, differences, portrait
from tests.stress.killing import Moment, Process, moments, while_writing

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.stress

N_CELLS, STEPS = 150, 60


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("number", range(len(killing.FITS)))
def test_training(number: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A fit with a checkpoint that is killed again and again ends as one that was not, and leaves nothing but the checkpoint."""

    def seen(result: Path) -> dict[str, Any]:
        X, batch = killing.cells(N_CELLS)
        return portrait(BatchNormAutoencoder.load(result), X[::7], batch[::7])

    result = tmp_path_factory.mktemp("whole") / "result"
    Process(result.parent, killing.fit, number, None, result, N_CELLS, STEPS).finish()
    whole = seen(result)

    @tries(2)
    @given(kills=st.lists(moments(longest=0.3, longest_writing=0.02, visits=3), min_size=1, max_size=4))
    def holds(kills: list[Moment]) -> None:
        folder, result = tmp_path_factory.mktemp("checkpoints"), tmp_path_factory.mktemp("killed") / "result"
        arguments = (number, folder / "fit", result, N_CELLS, STEPS)
        for moment in kills:
            if not Process(folder, killing.fit, *arguments).kill(moment):
                break
            event("killed with half a file beside" if len(names_in(folder) - {"fit"}) else "killed")
        if not result.exists():
            Process(folder, killing.fit, *arguments).finish()
        assert differences(whole, seen(result)) == []
        assert names_in(folder) == {"fit"}

    holds()


def saved_versions(folder: Path, n: int) -> tuple[list[Path], list[str]]:
    """Files of some models, of different sizes, and their fingerprints."""
    models = [brief(rng=i, n_hidden=16 * (i + 1)).fit(*killing.cells(90)) for i in range(n)]
    paths = [folder / f"version{i}" for i in range(n)]
    for model, path in zip(models, paths, strict=True):
        model.save(path)
    return paths, [model.fingerprint() for model in models]


def is_whole(target: Path, fingerprints: list[str]) -> bool:
    """Whether one of these models is at `target`, all of it; an error if something else is."""
    return BatchNormAutoencoder.load(target).fingerprint() in fingerprints


def test_saving(tmp_path: Path) -> None:
    """Where one model is saved over the other there is always a whole one, and the next save leaves nothing else."""
    versions, fingerprints = saved_versions(tmp_path, 3)
    folder = tmp_path / "models"
    folder.mkdir()
    target = folder / "model.safetensors"
    first = BatchNormAutoencoder.load(versions[0])
    first.save(target)

    @tries(6)
    @given(moment=while_writing(0.03, visits=20))
    def holds(moment: Moment) -> None:
        assert Process(folder, killing.save_on, versions, target, None).kill(moment)
        event("killed with half a file beside" if len(names_in(folder)) > 1 else "killed")
        assert is_whole(target, fingerprints)
        first.save(target, overwrite=True)
        assert names_in(folder) == {target.name}

    holds()


def test_saving_at_once(tmp_path: Path) -> None:
    """Two processes that save to one path at the same time, while it is read."""
    versions, fingerprints = saved_versions(tmp_path, 2)
    folder = tmp_path / "models"
    folder.mkdir()
    target = folder / "model.safetensors"
    BatchNormAutoencoder.load(versions[0]).save(target)
    writers = [Process(folder, killing.save_on, [version], target, 20 * FACTOR) for version in versions]
    while any(writer.is_alive() for writer in writers):
        assert is_whole(target, fingerprints)
    for writer in writers:
        writer.finish()
    assert names_in(folder) == {target.name}


def test_half_a_file_is_seen(tmp_path: Path) -> None:
    """What a writer without care leaves behind is not taken for a whole file, nor a model that nobody wrote."""
    (version, *_), fingerprints = saved_versions(tmp_path, 1)
    assert is_whole(version, fingerprints)
    assert not is_whole(version, ["another"])
    assert Process(tmp_path, killing.save_carelessly, version).kill(Moment(writing=True, visit=1, seconds=0))
    with pytest.raises(ValueError, match="damaged"):
        is_whole(version, fingerprints)


@pytest.mark.parametrize(("form", "exists"), [("h5ad", False), ("h5ad", True), ("zarr", False)])
def test_command_line(form: str, exists: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    """`scbatchnorm integrate` that is killed leaves its output absent or whole; the next run is whole and leaves nothing else."""
    pytest.importorskip("zarr")
    X, batch = killing.cells(3000)
    source = tmp_path_factory.mktemp("cells") / "cells.h5ad"
    ad.AnnData(X, obs={"batch": batch}).write_h5ad(source)

    @tries(2)
    @given(moment=while_writing(0.05 if form == "h5ad" else 0.3))
    def holds(moment: Moment) -> None:
        folder = tmp_path_factory.mktemp("results")
        target = folder / f"result.{form}"
        if exists:
            ad.AnnData(X[:9], uns={"old": 1}).write_h5ad(target)
        arguments = [
            str(source),
            "-o",
            str(target),
            "--batch-key",
            "batch",
            "--strength",
            "0",
            *["--overwrite"] * exists,
        ]
        event(f"killed: {Process(folder, killing.integrate, arguments).kill(moment)}")
        if exists or target.exists():
            adata = ad.read_zarr(target) if form == "zarr" else ad.read_h5ad(target)
            assert "X_scbatchnorm" in adata.obsm or (exists and "old" in adata.uns)
        if exists or not target.exists():
            Process(folder, killing.integrate, arguments).finish()
        adata = ad.read_zarr(target) if form == "zarr" else ad.read_h5ad(target)
        assert "X_scbatchnorm" in adata.obsm
        assert names_in(folder) == {target.name}

    holds()
