"""Several processes that train together: which they are, how they talk, and what happens if one is lost.

Process 0 leads: it tells the others what to do, one word after the other, and they answer. Words travel over a group of
their own that waits for days, for reading and the stem may take long, but notices at once if the other end is gone.
"""

from __future__ import annotations

import copy
import gc
import time
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed

from scbatchnorm._runtime import launcher as _launch
from scbatchnorm._runtime.device import resolve_device
from scbatchnorm._runtime.errors import LostProcessError
from scbatchnorm.nn.distributed import exchange, synchronised

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from torch import nn

# How long one waits for words; for anything else: a step of training, an answer, and for all to be there.
_WORDS, _STEP = timedelta(days=30), timedelta(minutes=10)
# Seconds between two looks whether a word has come: more and more, as it takes longer.
_LOOK, _SELDOM = 0.001, 0.1


@dataclass
class Group:
    """The processes that train together."""

    rank: int
    size: int
    words: distributed.ProcessGroup
    replies: distributed.ProcessGroup
    tensors: distributed.ProcessGroup | None

    def tell(self, word: object) -> None:
        """Say something to all others; process 0 does."""
        with exchange("when it was told what to do"):
            distributed.broadcast(torch.ones(1), src=0, group=self.words, async_op=True).wait(_STEP)
            distributed.broadcast_object_list([word], src=0, group=self.words)

    def tell_who_is_left(self, word: object) -> None:
        """Say the last word; who does not hear it any more does not have to."""
        with suppress(LostProcessError):
            self.tell(word)

    def hear(self) -> Any:
        """What process 0 says next, however long that takes."""
        heard: list[Any] = [None]
        with exchange("while this process waited for the one that leads"):
            work, pause = distributed.broadcast(torch.ones(1), src=0, group=self.words, async_op=True), _LOOK
            while not work.is_completed():  # a wait inside of torch would hear no signal
                time.sleep(pause)
                pause = min(1.2 * pause, _SELDOM)
            work.wait()
            distributed.broadcast_object_list(heard, src=0, group=self.words)
        return heard[0]

    def answers(self, mine: object) -> list[Any]:
        """What each process answers; process 0 is told, the others get nothing."""
        found: list[Any] | None = [None] * self.size if self.rank == 0 else None
        with exchange("when it was to answer"):
            distributed.gather_object(mine, found, dst=0, group=self.replies)
        return found or []

    def add(self, tensor: torch.Tensor) -> torch.Tensor:
        """`tensor`, which becomes its sum over all processes."""
        with exchange("in a step of training"):
            distributed.all_reduce(tensor, group=self.tensors)
        return tensor

    def synchronised(self, network: nn.Module) -> AbstractContextManager[None]:
        """Layers of `network` have the statistics of the minibatches of all processes, for the time of a block."""
        return nullcontext() if self.tensors is None else synchronised(network, self.tensors)

    def leave(self) -> None:
        """Take part in no step any more; who waits for this process there gets an error, not only after the timeout."""
        if self.tensors is not None:
            distributed.destroy_process_group(self.tensors)
            self.tensors = None
            gc.collect()  # connections are closed when nothing refers to them

    def close(self) -> None:
        """Say and hear no more."""
        self.leave()
        for group in (self.replies, self.words):
            distributed.destroy_process_group(group)


def portable(error: BaseException) -> BaseException:
    """`error`, or what it says, as another process can raise it."""
    parts = (*error.args, *vars(error).values())
    try:
        same = copy.copy(error)
    except Exception:  # noqa: BLE001 - whatever its class does
        same = None
    if same is None or not all(part is None or isinstance(part, str | int | float) for part in parts):
        return RuntimeError(f"{type(error).__name__}: {error}")
    return same


_current: ContextVar[Group | None] = ContextVar("scbatchnorm_processes", default=None)


def current() -> Group | None:
    """The group that trains together at this moment, if there is one."""
    return _current.get()


@contextmanager
def joined(device: torch.device) -> Iterator[Group | None]:
    """The group of all processes of torch.distributed; `None` where there is no other process.

    Parameters
    ----------
    device
        Where this process trains.

    Raises
    ------
    LostProcessError
        Not all processes come.
    """
    if (group := current()) is not None:
        yield group
        return
    if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
        yield None
        return
    with exchange("before training: all must call the same function"):
        group = _formed("nccl" if device.type == "cuda" and "nccl" in distributed.get_backend() else "gloo")
    token = _current.set(group)
    try:
        yield group
    finally:
        _current.reset(token)
        group.close()


def _formed(backend: str) -> Group:
    """A new group of all processes, whose tensors travel by this `backend`."""
    return Group(
        rank=distributed.get_rank(),
        size=distributed.get_world_size(),
        tensors=distributed.new_group(backend=backend, timeout=_STEP),
        replies=distributed.new_group(backend="gloo", timeout=_STEP),
        words=distributed.new_group(backend="gloo", timeout=_WORDS),
    )


@contextmanager
def launched(device: str) -> Iterator[Group | None]:
    """The group that the environment variables of a launcher name, see `_launch`.

    Parameters
    ----------
    device
        As of `BatchNormAutoencoder`.

    Raises
    ------
    ValueError
        Variables are missing.
    LostProcessError
        Not all processes come.
    """
    if distributed.is_available() and distributed.is_initialized():  # whoever calls the command line as a function
        with joined(resolve_device(device)) as group:
            yield group
        return
    _launch.check()
    if torch.cuda.is_available():
        torch.cuda.set_device(_launch.local_rank() % torch.cuda.device_count())
    where = resolve_device(device)
    with exchange("at the start"):
        distributed.init_process_group("cpu:gloo,cuda:nccl" if where.type == "cuda" else "gloo", timeout=_STEP)
    try:
        with joined(where) as group:
            yield group
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()
