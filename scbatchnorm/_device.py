"""Where tensors live, and how many threads work on them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


def resolve_device(device: str | torch.device) -> torch.device:
    """The torch device that `device` names; `"auto"` is CUDA where there is one, else the CPU.

    Raises
    ------
    ValueError
        It is no device, or not one of this machine.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.zeros(1, device=found).cpu()
    except (RuntimeError, TypeError, AssertionError, NotImplementedError) as error:
        available = ["auto", "cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        msg = f"device must be 'auto' or a torch device of this machine ({', '.join(available)}); got {device!r}."
        raise ValueError(msg) from error
    return found


@contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """One thread on the CPU for the steps: they are too small to share, and waiting threads slow each other down."""
    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
