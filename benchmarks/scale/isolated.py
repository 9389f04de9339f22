"""One call on one store in a process of its own, whose time and memory, with its children, are watched from outside.

``python -m benchmarks.scale.isolated FOLDER`` does what ``FOLDER/job.json`` says and writes the embedding of the cells of
``FOLDER/rows.npy`` and ``FOLDER/report.json``; :func:`run` starts that, watches and reads it.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.scale import memory
from benchmarks.worker import failure

if TYPE_CHECKING:
    from anndata import AnnData

_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Job:
    """What is called, on what."""

    data: str  # store with log-normalised values
    in_memory: bool  # read before the clock starts, otherwise X is lazy
    method: str = "scbatchnorm"
    seed: int = 0
    parameters: dict[str, Any] = field(default_factory=dict)  # of BatchNormAutoencoder


@dataclass(frozen=True)
class Measured:
    """What came back; `embedding` is None if it failed, and `reason` says why."""

    embedding: np.ndarray | None = None  # of the rows that were asked for
    seconds: float = float("nan")  # the call alone
    process_seconds: float = float("nan")  # with start, imports and reading
    before_mb: float = float("nan")  # held by the process tree when the call started
    peak_mb: float = float("nan")  # held at most during the call
    reason: str = ""


def run(job: Job, rows: np.ndarray, *, timeout: float) -> Measured:
    """Do it; a failure is an outcome, not an exception."""
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH", "")]))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "job.json").write_text(json.dumps(asdict(job)))
        np.save(folder / "rows.npy", rows)
        start = time.monotonic()
        # A file, for nobody empties a pipe here.
        with (folder / "stderr").open("w") as stderr:
            command = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.scale.isolated", name],
                env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.DEVNULL, stderr=stderr, text=True,
            )  # fmt: skip
            try:
                trace = memory.watched(command, timeout=timeout)
            except TimeoutError as error:
                return Measured(reason=str(error))
        seconds = time.monotonic() - start
        if command.returncode:
            reason = failure(command.returncode, (folder / "stderr").read_text())
            return Measured(process_seconds=seconds, reason=reason)
        report = json.loads((folder / "report.json").read_text())
        return Measured(
            embedding=np.load(folder / "embedding.npy"),
            seconds=report["stop"] - report["start"],
            process_seconds=seconds,
            before_mb=trace.at(report["start"]),
            peak_mb=trace.peak(report["start"], report["stop"]),
        )


def _opened(job: Job) -> AnnData:
    """The cells, as the method is to get them."""
    from scbatchnorm._data.store_write import read_store

    path = Path(job.data)
    if not job.in_memory:
        return read_store(path)
    import anndata as ad

    adata = ad.read_zarr(path) if path.suffix == ".zarr" else ad.read_h5ad(path)
    adata.var["highly_variable"] = True
    if job.method != "scbatchnorm":  # the others start from components
        import scanpy as sc

        sc.pp.pca(adata, n_comps=min(50, adata.n_vars - 1), random_state=0)
    return adata


def _embed(job: Job, adata: AnnData) -> np.ndarray:
    from benchmarks.methods import METHODS

    if not job.parameters:
        return METHODS[job.method].embed(adata, "batch", job.seed)
    import scbatchnorm as sbn

    model = sbn.BatchNormAutoencoder(rng=job.seed, **job.parameters)
    sbn.pp.integrate(adata, "batch", model=model)
    return np.asarray(adata.obsm["X_scbatchnorm"])


def main(folder: Path) -> None:
    """Do the job of a folder."""
    from benchmarks.methods import METHODS

    job = Job(**json.loads((folder / "job.json").read_text()))
    rows = np.load(folder / "rows.npy")
    for module in METHODS[job.method].modules:
        importlib.import_module(module)
    adata = _opened(job)
    time.sleep(0.1)  # for a sample of the memory before the call
    start = time.monotonic()
    embedding = _embed(job, adata)
    stop = time.monotonic()
    if embedding.shape[0] != adata.n_obs or not np.isfinite(embedding).all():
        msg = f"{job.method} returned an embedding of shape {embedding.shape} with non-finite values or cells missing."
        raise ValueError(msg)
    np.save(folder / "embedding.npy", embedding[rows])
    (folder / "report.json").write_text(json.dumps({"start": start, "stop": stop}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
