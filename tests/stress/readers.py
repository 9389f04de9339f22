"""What comes of model files, checkpoints and records in AnnData that were changed.

Every function returns what happened, in words, and raises for what must not happen. They run in a process of their own.
"""

from __future__ import annotations

import functools
import resource
import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import anndata as ad
import numpy as np

from scbatchnorm import BatchNormAutoencoder, ModelFileError, TrainingDivergedError, pp
from tests.stress import examples
from tests.stress.examples import batches, brief, differences, expression, portrait

if TYPE_CHECKING:
    import os

    from scbatchnorm._data.types import Floats, Labels

# Memory that an example may ask for beyond what the process has when it begins.
_GIGABYTES = 2.0
REFUSED, IDENTICAL = "refused", "identical"
# Parts of a portrait that nothing is computed with.
_ANNOTATION = frozenset({"params", "strength", "history", "shift_history", "calibration", "stopped"})
#: Parameters of the fits whose checkpoints are changed.
FITS: tuple[dict[str, Any], ...] = ({}, {"norm": "switchable", "record_shift": True})
#: Parameters of the fits whose records are changed.
RECORDED: tuple[dict[str, Any], ...] = (
    {},
    {"strength": 0},
    {"statistics": "per_batch", "minibatch_size": 48, "record_shift": True},
)


def prepare() -> None:
    """Make all examples, then limit the memory of this process."""
    warnings.simplefilter("ignore")
    _models(), _checkpoints(), records()
    status = Path("/proc/self/status")
    if sys.platform != "linux" or not status.exists():
        return
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmSize:"))
    limit = int(line.split()[1]) * 1024 + int(_GIGABYTES * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


@functools.cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()  # removed when the process ends


def _folder() -> Path:
    return Path(_temporary().name)


@functools.cache
def _models() -> dict[str, tuple[bytes, dict[str, Any], Floats, Labels]]:
    """File, portrait, and some cells with their batches, of every model."""
    found = {}
    for name, (model, X, batch) in examples.fit_models().items():
        path = _folder() / "whole"
        model.save(path, overwrite=True)
        found[name] = (path.read_bytes(), portrait(model, X, batch), X, batch)
    return found


def model_files() -> dict[str, bytes]:
    """The file of every model."""
    return {name: data for name, (data, *_) in _models().items()}


def load_changed(data: bytes, name: str, hostile: bool) -> str:
    """Load a changed file of the model of this name: refused, the same model, or, made on purpose, another one."""
    path = _folder() / "model.safetensors"
    path.write_bytes(data)
    try:
        model = BatchNormAutoencoder.load(path)
    except ModelFileError as error:
        assert "allocate" not in str(error), str(error)
        return REFUSED
    assert model.get_params()["checkpoint"] is None, "a fit of it would write to a file"
    if hostile:
        return _use(model)
    _, whole, X, batch = _models()[name]
    different = differences(whole, portrait(model, X, batch))
    assert not different, f"another model: {different}"
    return IDENTICAL


def _use(model: BatchNormAutoencoder) -> str:
    """Embed some cells and go back, whatever the model."""
    rng = np.random.default_rng(0)
    X = rng.gamma(1.0, size=(7, model.n_features_in_)).astype(np.float32)
    batch = model.batches_[rng.integers(len(model.batches_), size=7)]
    try:
        embedding = model.transform(X, batch)
        finite = np.isfinite(embedding).all() and np.isfinite(model.inverse_transform(embedding, batch)).all()
    except ValueError as error:
        if "cells must lie within" not in str(error):
            raise
        return "takes no cells"
    return "works" if finite else "overflows"


@functools.cache
def _checkpoints() -> list[tuple[list[bytes], dict[str, Any]]]:
    """Every checkpoint that each of `FITS` writes, and the portrait of its model."""
    found = []
    for number in range(len(FITS)):
        stages: list[bytes] = []
        whole = _fit(number, stages)
        for stage in stages:
            (_folder() / "checkpoint").write_bytes(stage)
            assert _fit(number) == whole, "a checkpoint that nobody has changed leads to another model"
        (_folder() / "checkpoint").unlink()
        found.append((stages, whole))
    return found


def checkpoint_files() -> list[list[bytes]]:
    """The checkpoints of each of `FITS`."""
    return [stages for stages, _ in _checkpoints()]


def _fit(number: int, stages: list[bytes] | None = None) -> dict[str, Any]:
    """Portrait of the model of a fit that goes on from the checkpoint if there is one; notes what it writes there."""
    path, X, batch = _folder() / "checkpoint", expression(), batches(["a", "b", "c"])
    model = brief(n_refreshes=3, checkpoint=path, **FITS[number])
    if stages is None:
        return portrait(model.fit(X, batch), X, batch)
    replace = Path.replace

    def noted(source: Path, target: str | os.PathLike[str]) -> Path:
        if target == path:
            stages.append(source.read_bytes())
        return replace(source, target)

    with mock.patch.object(Path, "replace", noted):
        return portrait(model.fit(X, batch), X, batch)


def resume_changed(data: bytes, number: int, hostile: bool) -> str:
    """Go on from a changed checkpoint: refused by name, the uninterrupted fit, or, made on purpose, another one."""
    (_folder() / "checkpoint").write_bytes(data)
    try:
        found = _fit(number)
    except TrainingDivergedError:
        assert hostile
        return REFUSED
    except ValueError as error:
        assert "checkpoint=" in str(error), str(error)
        return REFUSED
    different = differences(_checkpoints()[number][1], found)
    assert hostile or not different, f"another model: {different}"
    return "another fit" if different else IDENTICAL


@functools.cache
def records() -> list[dict[str, Any]]:
    """The records of `RECORDED` in `uns`."""
    return [adata.uns["scbatchnorm"] for adata, _ in _recorded()]


@functools.cache
def _recorded() -> list[tuple[ad.AnnData, dict[str, Any]]]:
    """Integrated data, and the portrait of the model that their record gives."""
    found = []
    for params in RECORDED:
        adata = ad.AnnData(expression())
        adata.obs["batch"] = batches(["a", "b", "c"])
        pp.integrate(adata, "batch", model=brief(**params))
        model = BatchNormAutoencoder.from_anndata(adata)
        found.append((adata, portrait(model, adata.X, adata.obs["batch"].to_numpy())))
    return found


def restore_changed(record: dict[str, Any], number: int) -> str:
    """Restore a changed record: refused by name, or a model whose coordinates are the same."""
    adata, whole = _recorded()[number]
    batch = adata.obs["batch"].to_numpy()
    try:
        model = BatchNormAutoencoder.from_anndata(ad.AnnData(uns={"scbatchnorm": record}))
    except (ValueError, KeyError) as error:
        assert "adata.uns['scbatchnorm']" in str(error), str(error)
        return REFUSED
    if not set(model.batches_) >= set(batch):
        return "other names of batches"
    different = set(differences(whole, portrait(model, adata.X, batch)))
    assert different <= _ANNOTATION | {"features"}, f"another model: {different}"
    if "features" in different:
        return "other names of features"
    return "same embedding" if different else IDENTICAL
