"""What comes of model files, checkpoints and records in AnnData that were changed."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any
from unittest import mock

import anndata as ad
import numpy as np

from benchmarks.fuzz import damage, examples, headers, hostile, isolated, values
from scbatchnorm import BatchNormAutoencoder, ModelFileError, TrainingDivergedError, pp
from scbatchnorm._persistence.checkpoint import Checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from scbatchnorm._data.types import Floats, Labels

REFUSED, IDENTICAL = "refused", "identical"
# What only a file can come to that somebody has made on purpose: another model, which works, overflows, or takes no cells.
USABLE, NOT_FINITE, NO_CELLS = "works", "overflows", "takes no cells"
# And a record, which holds plain values that may be edited.
ANNOTATED, RENAMED = "same embedding", "other names"
DIFFERENT, NO_NAME = "DIFFERENT", "UNCLEAR ERROR"
GOOD = frozenset({REFUSED, IDENTICAL, USABLE, NOT_FINITE, NO_CELLS, ANNOTATED, RENAMED})
# Parts of a portrait that nothing is computed with.
_ANNOTATION = frozenset({"params", "strength", "history", "shift_history", "calibration", "stopped"})
#: All that is done to model files.
FILES = [*damage.DAMAGES, "length", *headers.EDITS, *hostile.ATTACKS]


def _changed(data: bytes, kind: str, rng: np.random.Generator) -> bytes:
    """The bytes of a file after an accident, or edited without a new checksum."""
    if kind in damage.DAMAGES:
        return damage.DAMAGES[kind](data, rng)
    return headers.length(data, rng) if kind == "length" else headers.edited(data, kind, rng)


class Files:
    """Loads changed model files, which it writes to a folder."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.seed = seed
        self.path = folder / "model.safetensors"
        self.examples = [
            (examples.saved(model, folder), examples.portrait(model, X, batch), X, batch)
            for model, X, batch in examples.fitted().values()
        ]
        self.opened = [hostile.opened(data, "model", folder) for data, *_ in self.examples]

    def kind(self, number: int) -> str:
        """What is done in this case."""
        return FILES[number % len(FILES)]

    def file(self, number: int) -> tuple[bytes, int]:
        """The changed file of this number, and of which example it is."""
        rng, kind = np.random.default_rng([self.seed, number]), self.kind(number)
        which = int(rng.integers(len(self.examples)))
        if kind in hostile.ATTACKS:
            return hostile.sealed("model", *hostile.attacked(kind, *self.opened[which], rng)), which
        whole = self.examples[which][0]
        changed = _changed(whole, kind, rng)
        return (damage.flip(whole, rng) if changed == whole else changed), which

    def __call__(self, number: int) -> tuple[str, str]:
        """Outcome and detail."""
        data, which = self.file(number)
        self.path.write_bytes(data)
        try:
            model = BatchNormAutoencoder.load(self.path)
        except ModelFileError as error:
            return (isolated.MEMORY if "allocate" in str(error) else REFUSED), str(error)
        if model.get_params()["checkpoint"] is not None:
            return DIFFERENT, f"a fit of it would write to {model.checkpoint!r}"
        if self.kind(number) in hostile.ATTACKS:
            try:
                return (USABLE if examples.use(model) else NOT_FINITE), ""
            except ValueError as error:
                return (NO_CELLS if "cells must lie within" in str(error) else NO_NAME), isolated.described(error)
        _, whole, X, batch = self.examples[which]
        different = examples.differences(whole, examples.portrait(model, X, batch))
        return (DIFFERENT, ", ".join(different)) if different else (IDENTICAL, "")


class Checkpoints:
    """Goes on from changed checkpoints, which it writes to a folder."""

    kinds = [*damage.DAMAGES, "length", *headers.EDITS, *hostile.COMMON]

    def __init__(self, seed: int, folder: Path) -> None:
        self.seed, self.path = seed, folder / "checkpoint"
        X, batch = examples.expression(), examples.batches(["a", "b", "c"])
        params: list[dict[str, Any]] = [{}, {"norm": "switchable", "record_shift": True}]
        self.fits = [({"n_refreshes": 3, "checkpoint": self.path} | extra, X, batch) for extra in params]
        self.whole: list[dict[str, Any]] = []
        self.stages: list[list[bytes]] = []
        for fit in self.fits:
            stages: list[bytes] = []
            keep = Checkpoint.keep

            def noted(checkpoint: Checkpoint, *state: Any, keep: Any = keep, stages: list[bytes] = stages) -> None:
                keep(checkpoint, *state)
                stages.append(self.path.read_bytes())

            with mock.patch.object(Checkpoint, "keep", noted):
                self.whole.append(self._fit(fit))
            self.stages.append(stages)
            for stage in stages:
                self.path.write_bytes(stage)
                if self._fit(fit) != self.whole[-1]:
                    msg = "a checkpoint that nobody has changed leads to another model"
                    raise RuntimeError(msg)
            self.path.unlink()

    def _fit(self, fit: tuple[dict[str, Any], Floats, Labels]) -> dict[str, Any]:
        params, X, batch = fit
        return examples.portrait(examples.brief(**params).fit(X, batch), X, batch)

    def kind(self, number: int) -> str:
        """What is done in this case."""
        return self.kinds[number % len(self.kinds)]

    def __call__(self, number: int) -> tuple[str, str]:
        """Outcome and detail."""
        rng, kind = np.random.default_rng([self.seed, number]), self.kind(number)
        which = int(rng.integers(len(self.fits)))
        data = self.stages[which][int(rng.integers(len(self.stages[which])))]
        if kind in hostile.COMMON:
            content, arrays = hostile.opened(data, "checkpoint", self.path.parent)
            hostile.COMMON[kind](content, arrays, rng)
            self.path.write_bytes(hostile.sealed("checkpoint", content, arrays))
        else:
            self.path.write_bytes(_changed(data, kind, rng))
        try:
            found = self._fit(self.fits[which])
        except TrainingDivergedError as error:
            return (REFUSED if kind in hostile.COMMON else NO_NAME), str(error)
        except ValueError as error:
            return (REFUSED if "checkpoint=" in str(error) else NO_NAME), isolated.described(error)
        different = examples.differences(self.whole[which], found)
        if different and kind in hostile.COMMON:
            return USABLE, ", ".join(different)
        return (DIFFERENT, ", ".join(different)) if different else (IDENTICAL, "")


class Records:
    """Restores models from changed records in `uns`."""

    kinds = ["value", "gone", "renamed", "of an array", "shape of an array", "type of an array", "column of a table"]

    def __init__(self, seed: int, _folder: Path) -> None:
        self.seed = seed
        self.examples = []
        for params in ({}, {"strength": 0}, {"statistics": "per_batch", "minibatch_size": 48, "record_shift": True}):
            adata = ad.AnnData(examples.expression())
            adata.obs["batch"] = examples.batches(["a", "b", "c"])
            pp.integrate(adata, "batch", model=examples.brief(**params))
            batch = adata.obs["batch"].to_numpy()
            model = BatchNormAutoencoder.from_anndata(adata)
            self.examples.append((adata, examples.portrait(model, adata.X, batch), adata.X, batch))

    def kind(self, number: int) -> str:
        """What is done in this case."""
        return f"record: {self.kinds[number % len(self.kinds)]}"

    def _changed(self, record: dict[str, Any], kind: str, rng: np.random.Generator) -> dict[str, Any]:
        if kind == "record: column of a table":
            name = str(rng.choice(["history", "shift_history"]))
            frame = record[name].copy()
            column = str(rng.choice(frame.columns))
            edits = [
                frame.drop(columns=column), frame.rename(columns={column: "other"}), frame[frame.columns[::-1]],
                frame.assign(**{column: "x"}), frame.assign(**{column: np.nan}), frame.assign(more=1), frame.iloc[:0],
                frame.to_dict("list"), frame.to_numpy(), None, frame.T,
            ]  # fmt: skip
            return record | {name: edits[int(rng.integers(len(edits)))]}
        if "array" not in kind:
            path = values.any_path(record, rng)
            if kind == "record: value":
                return values.replaced(record, path, values.any_value(rng))
            if kind == "record: gone":
                return values.without(record, path)
            return values.renamed(record, path, str(values.any_value(rng)))
        record = copy.deepcopy(record)
        holder = record[str(rng.choice(["weights", "weights", "reference"]))]
        arrays = {name: value for name, value in holder.items() if isinstance(value, np.ndarray)}
        hostile.COMMON[kind.replace("record: of", "record: numbers of").replace("record", "hostile")]({}, arrays, rng)
        holder |= arrays
        return record

    def __call__(self, number: int) -> tuple[str, str]:
        """Outcome and detail."""
        rng = np.random.default_rng([self.seed, number])
        adata, whole, X, batch = self.examples[int(rng.integers(len(self.examples)))]
        record = self._changed(adata.uns["scbatchnorm"], self.kind(number), rng)
        try:
            model = BatchNormAutoencoder.from_anndata(ad.AnnData(uns={"scbatchnorm": record}))
        except (ValueError, KeyError) as error:
            message = str(error)
            return (REFUSED if "adata.uns['scbatchnorm']" in message else NO_NAME), isolated.described(error)
        if not set(model.batches_) >= set(batch):
            return RENAMED, "batches"
        different = set(examples.differences(whole, examples.portrait(model, X, batch)))
        if different - _ANNOTATION - {"features"}:
            return DIFFERENT, ", ".join(different)
        if "features" in different:
            return RENAMED, "features"
        return (ANNOTATED, ", ".join(different)) if different else (IDENTICAL, "")
