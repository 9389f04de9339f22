"""What is left of training, saving and the command line after they were killed."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import multiprocessing
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np

from benchmarks.fuzz import examples, killing
from benchmarks.fuzz.values import some
from scbatchnorm import BatchNormAutoencoder, cli
from scbatchnorm._method import fit as _fitting
from scbatchnorm._persistence import checkpoint as _checkpoint
from scbatchnorm._persistence import file as _file
from scbatchnorm.cli import _source

if TYPE_CHECKING:
    from scbatchnorm._data.types import Floats, Labels

# Kills of one fit before it may end.
_PER_FIT = 6
_FITS: list[dict[str, Any]] = [{}, {"norm": "switchable", "record_shift": True}, {"statistics": "per_batch"}]


def _cells(n_cells: int) -> tuple[Floats, Labels]:
    return examples.expression(n_cells, 60), examples.batches(["a", "b", "c"], n_cells)


def _estimator(params: dict[str, Any], steps: int) -> BatchNormAutoencoder:
    return examples.brief(n_refreshes=6, min_steps=steps, n_hidden=32, **params)


def _fit(place: killing.Place, params: dict[str, Any], size: tuple[int, int], result: Path) -> None:
    """In a process: fit, and leave the model in a file."""
    model = _estimator(params, size[1])
    with place.at(
        stem=(BatchNormAutoencoder, "_prepare"),
        training=(_fitting, "train_network"),
        writing=(_checkpoint, "write_container"),
    ):
        model.fit(*_cells(size[0]))
    model.save(result, overwrite=True)


def _portrait(path: Path, n_cells: int) -> dict[str, Any]:
    X, batch = _cells(n_cells)
    return examples.portrait(BatchNormAutoencoder.load(path), X[::7], batch[::7])


def training(n_kills: int, seed: int, *, n_cells: int = 600, steps: int = 400, per_fit: int = _PER_FIT) -> Counter[str]:
    """Kill fits that keep a checkpoint, and start them again, until they end; what was seen how often."""
    rng, seen = np.random.default_rng(seed), Counter[str]()
    wholes: dict[int, dict[str, Any]] = {}
    while sum(n for name, n in seen.items() if name.startswith("killed while")) < n_kills:
        which = seen["fits"] % len(_FITS)
        with tempfile.TemporaryDirectory() as parent:
            folder, result = Path(parent, "checkpoints"), Path(parent, "result")
            folder.mkdir()
            if which not in wholes:
                child, _ = killing.started(_fit, _FITS[which], (n_cells, steps), result)
                killing.ended(child)
                wholes[which] = _portrait(result, n_cells)
                result.unlink()
            params = _FITS[which] | {"checkpoint": folder / "fit"}
            for kill in range(min(per_fit, n_kills)):
                child, place = killing.started(_fit, params, (n_cells, steps), result)
                where = some(["stem", "training"] if kill == 0 else ["training", "writing", "writing"], rng)
                visit = int(rng.integers(1, 4)) if where == "writing" else 1
                longest = {"stem": 0.02, "training": 0.8, "writing": 0.02}[where]
                found = killing.killed(child, place, where, visit, rng.uniform(0, longest))
                if found is None:
                    break
                seen[f"killed while {found}"] += 1
                seen["killed with half a file beside"] += len(list(folder.iterdir())) > (folder / "fit").exists()
            if not result.exists():
                child, _ = killing.started(_fit, params, (n_cells, steps), result)
                killing.ended(child)
            seen["fits"] += 1
            different = examples.differences(wholes[which], _portrait(result, n_cells))
            seen["bitwise as uninterrupted" if not different else f"DIFFERENT: {', '.join(different)}"] += 1
            left = [path.name for path in folder.iterdir()]
            seen["nothing left but the checkpoint" if left == ["fit"] else f"LEFT: {left}"] += 1
    return seen


def _save_on(place: killing.Place, versions: list[Path], target: Path, times: int | None) -> None:
    """In a process: save models one after the other, for ever or so many times."""
    models = [BatchNormAutoencoder.load(version) for version in versions]
    done = 0
    with place.at(writing=(_file, "write_container")):
        while _alive() if times is None else done < times:
            models[done % len(models)].save(target, overwrite=True)
            done += 1


def _alive() -> bool:
    """Whether the process that started this one still exists: nobody else would end it."""
    parent = multiprocessing.parent_process()
    return parent is not None and parent.is_alive()


def _versions(folder: Path, n: int) -> tuple[list[Path], list[str]]:
    """Files of some models, of different sizes, and their fingerprints."""
    X, batch = _cells(90)
    models = [examples.brief(rng=i, n_hidden=16 * (i + 1)).fit(X, batch) for i in range(n)]
    paths = [folder / f"version{i}" for i in range(n)]
    for model, path in zip(models, paths, strict=True):
        model.save(path)
    return paths, [model.fingerprint() for model in models]


def _read(target: Path, fingerprints: list[str]) -> str:
    """What is to be seen in the place of a model."""
    if not target.exists():
        return "MISSING"
    try:
        known = BatchNormAutoencoder.load(target).fingerprint() in fingerprints
    except ValueError as error:
        return f"BROKEN: {error}"
    return "a whole version in place" if known else "UNKNOWN"


def saving(n_kills: int, seed: int) -> Counter[str]:
    """Kill processes that save one model over the other; what was seen how often."""
    rng, seen = np.random.default_rng(seed), Counter[str]()
    with tempfile.TemporaryDirectory() as parent:
        versions, fingerprints = _versions(Path(parent), 3)
        folder = Path(parent, "models")
        folder.mkdir()
        target = folder / "model.safetensors"
        first = BatchNormAutoencoder.load(versions[0])
        first.save(target)
        for _ in range(n_kills):
            child, place = killing.started(_save_on, versions, target, None)
            found = killing.killed(child, place, "writing", int(rng.integers(1, 20)), rng.uniform(0, 0.03))
            seen[f"killed while {found}"] += 1
            seen["killed with half a file beside"] += len(list(folder.iterdir())) > 1
            seen[_read(target, fingerprints)] += 1
            first.save(target, overwrite=True)
            left = [path.name for path in folder.iterdir()]
            seen["nothing left after the next save" if left == [target.name] else f"LEFT: {left}"] += 1
    return seen


def racing(n_saves: int) -> Counter[str]:
    """Two processes that save to one path at the same time, while it is read; what was seen how often."""
    seen = Counter[str]()
    with tempfile.TemporaryDirectory() as parent:
        versions, fingerprints = _versions(Path(parent), 2)
        folder = Path(parent, "models")
        folder.mkdir()
        target = folder / "model.safetensors"
        BatchNormAutoencoder.load(versions[0]).save(target)
        children = [killing.started(_save_on, [version], target, n_saves)[0] for version in versions]
        while any(child.is_alive() for child in children):
            seen[_read(target, fingerprints)] += 1
        for child in children:
            killing.ended(child)
            seen["saves"] += n_saves
        left = [path.name for path in folder.iterdir()]
        seen["nothing left" if left == [target.name] else f"LEFT: {left}"] += 1
    return seen


def _integrate(place: killing.Place, arguments: list[str]) -> None:
    """In a process: the command line."""
    with contextlib.redirect_stdout(io.StringIO()), place.at(writing=(_source, "write_anndata")):
        status = cli.main(arguments)
    sys.exit(status)


def commands(n_kills: int, seed: int) -> Counter[str]:
    """Kill `scbatchnorm integrate` while it writes; what was seen how often."""
    rng, seen = np.random.default_rng(seed), Counter[str]()
    forms = [("h5ad", False), ("h5ad", True), *([("zarr", False)] if importlib.util.find_spec("zarr") else [])]
    with tempfile.TemporaryDirectory() as parent:
        X, batch = _cells(3000)
        source, folder = Path(parent, "cells.h5ad"), Path(parent, "results")
        folder.mkdir()
        ad.AnnData(X, obs={"batch": batch}).write_h5ad(source)
        for kill in range(n_kills):
            form, exists = forms[kill % len(forms)]
            target = folder / f"result{kill}.{form}"
            if exists:
                ad.AnnData(X[:9], uns={"old": 1}).write_h5ad(target)
            arguments = ["integrate", str(source), "-o", str(target), "--batch-key", "batch", "--strength", "0"]
            arguments += ["--overwrite"] if exists else []
            child, place = killing.started(_integrate, arguments)
            longest = 0.05 if form == "h5ad" else 0.3
            seen[f"killed while {killing.killed(child, place, 'writing', 1, rng.uniform(0, longest))}"] += 1
            seen["killed with half a file beside"] += any(path.suffix == ".part" for path in folder.iterdir())
            seen[_integrated(target, old=exists)] += 1
            if not target.exists() or exists:
                child, _ = killing.started(_integrate, arguments)
                killing.ended(child)
            seen["after the next run: " + _integrated(target, old=False)] += 1
            left = [path.name for path in folder.iterdir() if path.suffix in {".part", ".lock"}]
            seen["nothing left after the next run" if not left else f"LEFT: {left}"] += 1
    return seen


def _integrated(target: Path, *, old: bool) -> str:
    """What is to be seen in the place of a result."""
    if not target.exists():
        return "MISSING" if old else "no output"
    try:
        adata = ad.read_zarr(target) if target.suffix == ".zarr" else ad.read_h5ad(target)
    except (OSError, ValueError, KeyError) as error:
        return f"BROKEN: {error}"
    if "X_scbatchnorm" in adata.obsm:
        return "a whole output"
    return "the old output" if old and "old" in adata.uns else "UNKNOWN"


def wrong(seen: Counter[str]) -> bool:
    """Whether something was seen that must not be."""
    return any(name.split(":")[0].split()[0].isupper() for name, n in seen.items() if n)
