"""A fit by several processes: process 0 does all of it but the steps of training, in which the others assist."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from scbatchnorm._method.training.rounds import Round, Steps
from scbatchnorm._runtime import device as _device
from scbatchnorm._runtime import interrupt as _interrupt
from scbatchnorm._runtime import processes as _processes
from scbatchnorm._runtime import progress as _progress
from scbatchnorm._runtime.errors import TrainingDivergedError
from scbatchnorm.nn.network import MINIBATCH_NORMS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch

    from scbatchnorm._data.types import Codes
    from scbatchnorm._estimator import BatchNormAutoencoder
    from scbatchnorm._runtime.processes import Group

Result = TypeVar("Result")

# Parameters that may differ between processes.
_OWN = ("progress", "checkpoint", "device", "rng")


@dataclass(frozen=True)
class _Call:
    """What all processes are to call alike: described in words, by what a user knows it by."""

    content: dict[str, str]


@dataclass(frozen=True)
class _Ended:
    """Process 0 is done: what the model has learned, and what went wrong all the same."""

    learned: dict[str, Any] = field(default_factory=dict)
    rng: np.random.Generator | None = None
    diverged: str = ""


@dataclass(frozen=True)
class _Failed:
    """Process 0 is not going on."""

    error: BaseException


def fit(
    model: BatchNormAutoencoder,
    learn: Callable[[], Result],
    codes: Codes,
    rng: np.random.Generator,
    device: torch.device,
) -> Result | None:
    """`learn()`; if torch.distributed has several processes, one does that, and all end with the same model.

    Parameters
    ----------
    model
        Whose fit it is.
    learn
        Sets what `model` learns.
    codes
        Batches of the cells, shape (cells,): they and the parameters must be the same in all processes.
    rng
        Source of randomness, afterwards in the same state everywhere.
    device
        Where this process trains.

    Returns
    -------
    What `learn` returns, in the process that called it; `None` in the others.

    Raises
    ------
    ValueError
        Processes do not call alike, or the parameter `norm` has statistics that processes cannot share.
    LostProcessError
        A process has ended, or does not answer.
    """
    if _processes.current() is not None:  # a command leads
        _check_norm(model)
        return learn()
    with _processes.joined(device) as group:
        if group is None:
            return learn()
        _check_norm(model)
        call = _Call(_described(model, codes))
        if group.rank == 0:
            with _leading(group):
                _compare(group, call)
                result, diverged = _tried(learn)
                learned = {name: value for name, value in vars(model).items() if name.endswith("_")}
                group.tell_who_is_left(_Ended(learned, rng, str(diverged or "")))
            if diverged is not None:
                raise diverged
            return result
        ended = _assist(group, device, call)
        for name, value in ended.learned.items():
            setattr(model, name, value)
        if ended.rng is not None:
            rng.bit_generator.state = ended.rng.bit_generator.state
        if ended.diverged:
            raise TrainingDivergedError(ended.diverged, model)
        return None


def command(run: Callable[[], int], device: str) -> int:
    """Exit code of `run()` in the process 0 of those that a launcher has started; the others assist its fit."""
    with _processes.launched(device) as group:
        if group is None:
            return run()
        if group.rank == 0:
            with _leading(group):
                code = run()
                group.tell_who_is_left(_Ended())
            return code
        _assist(group, _device.resolve_device(device), None)
        return 0


@contextmanager
def _leading(group: Group) -> Iterator[None]:
    """Whatever ends the block, the others are told."""
    try:
        yield
    except BaseException as error:
        group.tell_who_is_left(_Failed(_processes.portable(error)))
        raise


def _tried(learn: Callable[[], Result]) -> tuple[Result | None, TrainingDivergedError | None]:
    """What `learn()` returns, or its error if the model is fitted all the same."""
    try:
        return learn(), None
    except TrainingDivergedError as error:
        return None, error


def _compare(group: Group, call: _Call) -> None:
    """Raise unless all processes call alike."""
    group.tell(call)
    for rank, difference in enumerate(group.answers("")):
        if difference:
            msg = (
                f"processes that train together must call fit alike, and process {rank} differs from process 0 in {difference}. To fit "
                "something else in each process, do so before torch.distributed is initialised."
            )
            raise ValueError(msg)


def _assist(group: Group, device: torch.device, call: _Call | None) -> _Ended:
    """Do what process 0 tells until it has ended; `call` is what this process was asked to do, if that is known."""
    word = group.hear()
    if isinstance(word, _Call):
        mine = word if call is None else call
        group.answers(", ".join(name for name in word.content if word.content[name] != mine.content.get(name)))
        word = group.hear()
    if isinstance(word, Round):
        with _device.seeded(0, device), _interrupt.requests() as request:
            trainer = word.trainer(device)
            bar = _progress.bar(trainer.n_steps, desc="scbatchnorm", unit="step", progress=False)
            steps = Steps(trainer, word.rng, bar, request, group)
            while isinstance(word, Round):
                steps.assist(word)
                word = group.hear()
    if isinstance(word, _Failed):
        raise word.error
    return word


def _described(model: BatchNormAutoencoder, codes: Codes) -> dict[str, str]:
    """What must be the same in all processes."""
    params = {name: repr(value) for name, value in model.get_params(deep=False).items() if name not in _OWN}
    data = {
        "the number of cells": str(len(codes)),
        "the number of features": str(model.n_features_in_),
        "the batches": hashlib.sha256(
            np.ascontiguousarray(codes).tobytes() + repr(model.batches_).encode()
        ).hexdigest(),
    }
    return params | data


def _check_norm(model: BatchNormAutoencoder) -> None:
    """Raise unless several processes can train the layers of `model`."""
    if model.norm in MINIBATCH_NORMS and model.norm != "batch":
        msg = (
            f"norm={model.norm!r} cannot be trained by several processes: statistics of minibatches are shared for norm='batch' only. Use "
            "that, a norm that looks at each cell alone ('layer', 'group', 'instance'), 'none', or a single process."
        )
        raise ValueError(msg)
