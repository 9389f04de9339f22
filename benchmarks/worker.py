"""One method, one seed, one process, so that its time and memory are its own.

``python -m benchmarks.worker PREPARED.h5ad METHOD SEED OUT`` writes ``OUT/embedding.npy`` and ``OUT/report.json``;
:func:`run_isolated` starts that and reads it.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_ROOT = Path(__file__).resolve().parents[1]
_STATUS = Path("/proc/self/status")
# Those of torch and OpenMP, of numpy's and scipy's BLAS, of numba.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True)
class Outcome:
    """What came back from a process; `embedding` is None if it failed, and `reason` says why."""

    embedding: np.ndarray | None
    seconds: float = float("nan")  # the method alone
    process_seconds: float = float("nan")  # with start, imports and reading
    peak_mb: float = float("nan")  # of the process during the call, data and imports included
    added_mb: float = float("nan")  # the part above what data and imports held before
    reason: str = ""


def run_isolated(
    data: Path, method: str, seed: int, *, batch_key: str, timeout: float, threads: int | None = None
) -> Outcome:
    """Run a method in its own process, with so many `threads` if given; a failure is an outcome, not an exception."""
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH", "")]))
    limits = {} if threads is None else dict.fromkeys(_THREADS, str(threads))
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.worker", str(data), method, str(seed), folder, batch_key]
        start = time.perf_counter()
        try:
            done = subprocess.run(
                command,
                env={**os.environ, **limits, "PYTHONPATH": path},
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Outcome(None, reason=f"stopped after {timeout:g} s")
        process_seconds = time.perf_counter() - start
        if done.returncode:
            return Outcome(None, process_seconds=process_seconds, reason=failure(done.returncode, done.stderr))
        report = json.loads(Path(folder, "report.json").read_text())
        return Outcome(np.load(Path(folder, "embedding.npy")), process_seconds=process_seconds, **report)


def failure(returncode: int, stderr: str) -> str:
    """Why a process ended as it did, in a line."""
    if returncode < 0:
        number = -returncode
        hint = " (out of memory?)" if number == signal.SIGKILL else ""
        return f"ended by {signal.Signals(number).name}{hint}"
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return lines[-1][:300] if lines else f"exit status {returncode}"


def _memory_mb(field: str) -> float:
    """`VmHWM` (peak) or `VmRSS` (now) of this process in MB."""
    # Not ru_maxrss where it can be helped: Linux hands it down from the parent process through exec.
    if _STATUS.exists():
        for line in _STATUS.read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def _start_peak() -> float:
    """Forget the peak of imports and reading where the system can; memory held now in MB."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _memory_mb("VmRSS")


def main(data: str, method: str, seed: str, out: str, batch_key: str) -> None:
    """Run the method and write embedding and report."""
    import anndata as ad

    from benchmarks.methods import METHODS

    chosen = METHODS[method]
    for module in chosen.modules:
        importlib.import_module(module)
    adata = ad.read_h5ad(data)
    before = _start_peak()
    start = time.perf_counter()
    embedding = chosen.embed(adata, batch_key, int(seed))
    seconds = time.perf_counter() - start
    peak = _memory_mb("VmHWM")
    if embedding.shape[0] != adata.n_obs or not np.isfinite(embedding).all():
        msg = f"{method} returned an embedding of shape {embedding.shape} with non-finite values or cells missing."
        raise ValueError(msg)
    np.save(Path(out, "embedding.npy"), embedding)
    report = {"seconds": seconds, "peak_mb": peak, "added_mb": max(peak - before, 0.0)}
    Path(out, "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
