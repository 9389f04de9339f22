"""The environment variables by which a launcher (torchrun, Accelerate, Ray, a line of a SLURM script) names the processes."""

from __future__ import annotations

import os

_SIZE = "WORLD_SIZE"
_NEEDED = ("RANK", "MASTER_ADDR", "MASTER_PORT")
# Number of the process on its machine.
_LOCAL = ("LOCAL_RANK", "SLURM_LOCALID")


def is_launched() -> bool:
    """Whether this process was started beside others."""
    size = os.environ.get(_SIZE, "")
    return size.isdecimal() and int(size) > 1


def check() -> None:
    """Raise ValueError unless everything is there that processes find each other by."""
    if missing := [name for name in _NEEDED if not os.environ.get(name)]:
        msg = (
            f"{_SIZE}={os.environ.get(_SIZE)} says that there are several processes, but {', '.join(missing)} of the environment is not set. "
            f"Start them with torchrun, or set {', '.join((_SIZE, *_NEEDED))}."
        )
        raise ValueError(msg)


def local_rank() -> int:
    """Number of this process on its machine, which is the number of its GPU."""
    return next((int(os.environ[name]) for name in _LOCAL if os.environ.get(name, "").isdecimal()), 0)
