"""What belongs to the whole process, and so to the user: threads, generators, settings, files. To see what a call has changed."""

from __future__ import annotations

import contextlib
import gc
import locale
import logging
import multiprocessing
import os
import random
import signal
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numba
import numpy as np
import pandas as pd
import scanpy as sc
import sklearn
import torch
from threadpoolctl import threadpool_info
from tqdm import tqdm


def snapshot() -> dict[str, Any]:
    """Everything by name, as values that can be compared."""
    state = _threads() | _generators() | _torch() | _logs() | _settings() | _process()
    assert len(state) > 50
    return state


def changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What is no longer what it was; libraries and loggers that a call was the first to load are nothing of that kind."""
    return {name: (value, after.get(name)) for name, value in before.items() if after.get(name) != value}


def _threads() -> dict[str, Any]:
    pools = {f"threads of {pool['filepath']}": pool["num_threads"] for pool in threadpool_info()}
    return pools | {
        "torch threads": torch.get_num_threads(),
        "torch threads between operations": torch.get_num_interop_threads(),
        "torch threads of a new thread": _in_a_new_thread(torch.get_num_threads),
        "numba threads": numba.get_num_threads(),
    }


def _in_a_new_thread(function) -> Any:
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join(60)
    return found[0]


def _generators() -> dict[str, Any]:
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002 (the legacy state is what is watched)
    return {
        "generator of torch": torch.get_rng_state().numpy().tobytes(),
        "generators of CUDA": [state.numpy().tobytes() for state in torch.cuda.get_rng_state_all()],
        "generator of numpy": (kind, np.asarray(keys).tobytes(), *rest),
        "generator of Python": random.getstate(),
    }


def _torch() -> dict[str, Any]:
    return {
        "torch dtype": torch.get_default_dtype(),
        "torch device": str(torch.get_default_device()),
        "torch gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "torch anomaly detection": torch.is_anomaly_enabled(),
        "torch determinism": torch.get_deterministic_debug_mode(),
        "torch precision": torch.get_float32_matmul_precision(),
        "cudnn": (torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
    }


def _logs() -> dict[str, Any]:
    loggers = {"root": logging.root} | {
        name: logger for name, logger in logging.root.manager.loggerDict.items() if isinstance(logger, logging.Logger)
    }
    state = {
        f"logger {name}": (each.level, list(each.handlers), list(each.filters), each.propagate, each.disabled)
        for name, each in loggers.items()
    }
    return state | {"logging disabled": logging.root.manager.disable}


def _settings() -> dict[str, Any]:
    return {
        "rcParams": dict(mpl.rcParams),
        "pyplot figures": plt.get_fignums(),
        "warning filters": list(warnings.filters),
        "warnings shown by": warnings.showwarning,
        "numpy errors": (np.geterr(), np.geterrcall()),
        "numpy printing": str(np.get_printoptions()),
        "pandas options": pd.describe_option("", _print_desc=False),
        "scanpy settings": str(sc.settings),
        "sklearn settings": sklearn.get_config(),
        "progress bars": len(getattr(tqdm, "_instances", ())),
    }


def _process() -> dict[str, Any]:
    hooks = {f"sys.{name}": getattr(sys, name) for name in ("excepthook", "displayhook", "stdout", "stderr", "path")}
    signals = {f"handler of {s.name}": signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    umask = os.umask(0)
    os.umask(umask)
    return (
        hooks
        | signals
        | {
            "sys.path": list(sys.path),
            "hook of threads": threading.excepthook,
            "tracing": (sys.gettrace(), sys.getprofile(), sys.getrecursionlimit(), sys.getswitchinterval()),
            "garbage collection": (gc.isenabled(), gc.get_threshold(), gc.get_freeze_count()),
            "environment": dict(os.environ),
            "locale": locale.setlocale(locale.LC_ALL),
            "umask": umask,
            "directory": Path.cwd(),
            "files in it": sorted(Path().iterdir()),
            "python threads": sorted(map(str, threading.enumerate())),
            "child processes": _children(),
            "start of processes": multiprocessing.get_start_method(allow_none=True),
            "open files": _files(),
        }
    )


def _children() -> list[str]:
    """Ids of the children, of all threads, where the system tells; elsewhere those that Python started."""
    tasks = Path("/proc/self/task")
    if tasks.is_dir():
        found: list[str] = []
        for path in tasks.glob("*/children"):
            with contextlib.suppress(OSError):  # a thread that has ended meanwhile
                found += path.read_text().split()
        return sorted(found)
    return sorted(str(child.pid) for child in multiprocessing.active_children())


def _files() -> list[str]:
    """Files, pipes and sockets that are open, where the system tells."""
    found = []
    for link in Path("/proc/self/fd").glob("*"):
        try:
            found.append((link.name, link.readlink()))
        except OSError:  # that of the folder that is read here
            continue
    # Matplotlib keeps the fonts open that it has drawn with.
    return sorted(
        f"{number} {path}" for number, path in found if path.suffix != ".ttf" and path.parts[1:2] != ("proc",)
    )
