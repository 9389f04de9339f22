"""Where tensors live, and how many threads work on them."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.linalg  # noqa: F401 (loads a BLAS of its own)
import torch
from threadpoolctl import ThreadpoolController

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

# Cells that pass a network at once; no result depends on it.
_CHUNK = 8192


class _Process:
    """What the threads of this process share, and what a child made by fork inherits."""

    def __init__(self) -> None:
        # Torch's generators and its number of threads belong to the whole process: one thread at a time changes them.
        self.lock = threading.RLock()
        self.used_torch = False

    def forked(self) -> None:
        """Begin in the child: the threads of the parent are not here, and torch would wait for them for ever."""
        self.lock = threading.RLock()
        if self.used_torch:
            torch.set_num_threads(1)


_process = _Process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_process.forked)


def resolve_device(device: str | torch.device) -> torch.device:
    """The torch device that `device` names; `"auto"` is CUDA where there is one, else the CPU.

    Raises
    ------
    ValueError
        It is no device, or not one of this machine.
    """
    _process.used_torch = True
    if isinstance(device, str) and device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.zeros(1, device=found).cpu()
    except (RuntimeError, TypeError, ValueError, OverflowError, AssertionError, NotImplementedError) as error:
        available = ["auto", "cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        msg = f"device must be 'auto' or a torch device of this machine ({', '.join(available)}); got {device!r}."
        raise ValueError(msg) from error
    return found


@contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """One thread on the CPU for the steps: they are too small to share, and waiting threads slow each other down.

    Another thread of Python that wants the same waits until this one is done.
    """
    if device.type != "cpu":
        yield
        return
    with _process.lock:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)


@cache
def _blas() -> ThreadpoolController:
    """The BLAS libraries of numpy and scipy. They are there from the start, and looking for them takes milliseconds."""
    return ThreadpoolController().select(user_api="blas")


@contextmanager
def one_blas_thread() -> Iterator[int]:
    """One thread of numpy's and scipy's BLAS, whose sums are rounded otherwise by each number of threads; yields how many it had.

    Another thread of Python that wants the same waits until this one is done.
    """
    with _process.lock, _blas().limit(limits=1) as limits:
        yield limits.get_original_num_threads()["blas"] or 1


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's generators, of the CPU and of `device`, at this seed; afterwards they are as the caller left them.

    Another thread of Python that wants the same waits until this one is done.
    """
    with _process.lock, torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            torch.cuda.manual_seed(seed)
        yield


@torch.no_grad()
def run_network(
    network: torch.nn.Module, function: Callable[..., torch.Tensor], points: NDArray[Any], *others: NDArray[Any]
) -> NDArray[Any]:
    """`function` of `points` (cells, components) and `others`, an entry for each cell, in chunks, where `network` lives.

    Parameters
    ----------
    network
        Whose device is used.
    function
        One of its methods.
    points, others
        Its arguments; the first of the others are the batch codes.

    Returns
    -------
    Array on the CPU.
    """
    _process.used_torch = True
    device = next(network.parameters()).device
    out = []
    for start in range(0, len(points), _CHUNK):
        chunk = [torch.from_numpy(values[start : start + _CHUNK]).to(device) for values in (points, *others)]
        out.append(function(*chunk).cpu().numpy())
    return np.concatenate(out)
