"""The commands that measure many cells, on few."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import psutil  # type: ignore[import-untyped]
import pytest
import scanpy as sc

pytest.importorskip("benchmarks", reason="benchmarks/ is in the repository, not in the package")

from benchmarks.scale import __main__ as scale
from benchmarks.scale import isolated, memory, picture, scored, sketch, stores
from scbatchnorm.datasets import simulate_batches

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE: dict[str, Any] = {"n_genes": 300, "n_batches": 2}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("benchmarks") / "scratch"


@pytest.fixture(scope="module")
def store(scratch: Path) -> Path:
    return stores.log_normalised(scratch, 1200, **SIZE)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[isolated.Job]:
    """Runs that take no time: the jobs; what is said of them depends on the sketch and the seed."""
    jobs: list[isolated.Job] = []

    def run(job: isolated.Job, rows: np.ndarray, *, timeout: float) -> isolated.Measured:
        jobs.append(job)
        rng = np.random.default_rng(job.seed)
        return isolated.Measured(rng.normal(size=(len(rows), 3)), 1.0, 2.0, 100.0, 100.0 + len(jobs))

    def scores(cells: ad.AnnData, embedding: np.ndarray) -> dict[str, float]:
        n_fitted = jobs[-1].parameters.get("max_cells_fit") or 1000
        return dict.fromkeys(scored.COLUMNS, 0.5 + n_fitted / 10_000 + jobs[-1].seed / 100)

    monkeypatch.setattr(scale, "run", run)
    monkeypatch.setattr(scored, "scores", scores)
    return jobs


def test_normalised_store_is_what_scanpy_makes_in_memory(store: Path, scratch: Path) -> None:
    expected = simulate_batches(1200, truth=False, **SIZE)
    counts = ad.read_zarr(scratch / "counts_1200x300_2batches.zarr")
    assert (counts.X != expected.X).nnz == 0
    sc.pp.normalize_total(expected, target_sum=1e4)
    sc.pp.log1p(expected)
    found = ad.read_zarr(store)
    np.testing.assert_array_equal(found.X.toarray(), expected.X.toarray())
    assert found.obs.equals(expected.obs)
    changed = store.stat().st_mtime_ns
    assert stores.log_normalised(scratch, 1200, **SIZE) == store
    assert store.stat().st_mtime_ns == changed


def test_counts_that_are_there_are_normalised(store: Path, scratch: Path, tmp_path: Path) -> None:
    (scratch / "counts_1200x300_2batches.zarr").rename(tmp_path / "counts_60x300_2batches.zarr")
    assert len(ad.read_zarr(stores.log_normalised(tmp_path, 60, **SIZE))) == 1200
    (tmp_path / "counts_60x300_2batches.zarr").rename(scratch / "counts_1200x300_2batches.zarr")


def test_sample_has_every_type_of_every_batch(store: Path) -> None:
    drawn = scored.draw(store, 100)
    adata = ad.read_zarr(store)
    assert 80 < len(drawn.rows) < 130
    assert (np.diff(drawn.rows) > 0).all()
    np.testing.assert_array_equal(drawn.cells.X.toarray(), adata.X[drawn.rows].toarray())
    assert drawn.cells.obs.equals(adata.obs.iloc[drawn.rows])
    strata = adata.obs.groupby(["batch", "cell_type"], observed=True).ngroups
    assert drawn.cells.obs.groupby(["batch", "cell_type"], observed=True).ngroups == strata
    np.testing.assert_array_equal(scored.draw(store, 5000).rows, np.arange(1200))


def test_scores_tell_types_apart(store: Path) -> None:
    cells = scored.draw(store, 300).cells
    types = np.eye(6)[cells.obs["cell_type"].cat.codes] * 9 + np.random.default_rng(0).normal(size=(cells.n_obs, 6))
    good = scored.scores(cells, types.astype(np.float32))
    bad = scored.scores(cells, np.random.default_rng(0).normal(size=types.shape).astype(np.float32))
    assert good["Bio conservation"] > bad["Bio conservation"] + 0.3
    assert list(good) == list(scored.COLUMNS)


def test_trace() -> None:
    trace = memory.Trace()
    trace.seconds, trace.mb = [1.0, 2.0, 3.0, 4.0], [10.0, 50.0, 20.0, 90.0]
    assert [trace.at(second) for second in (0, 1, 2.5, 9)] == [10, 10, 50, 90]
    assert trace.peak(2.5, 3.5) == 50  # what was held when it started
    assert trace.peak(0, 1.5) == 10
    assert trace.peak(2.5, 9) == 90


def started(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-S", "-c", code], text=True)


def test_memory_is_that_of_the_children_too() -> None:
    child = "import time; held = bytearray(80_000_000); time.sleep(1)"
    trace = memory.watched(
        started(f"import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', {child!r}])"), timeout=60
    )
    assert 80e6 / 2**20 < max(trace.mb) < 160
    assert trace.mb[0] < 60


def test_what_takes_too_long_ends_with_its_children() -> None:
    code = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(600)']); time.sleep(600)"
    command = started(code)
    process = psutil.Process(command.pid)
    while not (children := process.children()):
        time.sleep(0.01)
    with pytest.raises(TimeoutError, match=r"stopped after 0\.1 s"):
        memory.watched(command, timeout=0.1)
    assert command.returncode < 0
    assert not psutil.wait_procs(children, timeout=10)[1]


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Replaces the interpreter of runs by a script, for imports alone take seconds; `$3` is the folder of the job."""

    def replace(script: str) -> None:
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o700)
        monkeypatch.setattr(sys, "executable", str(path))

    return replace


def test_a_run_is_watched_from_outside(tmp_path: Path, python: Callable[[str], None]) -> None:
    np.save(tmp_path / "embedding.npy", np.eye(3))
    code = (
        "import json, pathlib, sys, time; time.sleep(0.5); start = time.monotonic(); held = bytearray(60 * 2**20); "
        "time.sleep(1); del held; stop = time.monotonic(); held = bytearray(200 * 2**20); time.sleep(0.3); "
        "pathlib.Path(sys.argv[1], 'report.json').write_text(json.dumps({'start': start, 'stop': stop}))"
    )
    python(
        f'cp {tmp_path / "embedding.npy"} "$3"; grep -q \'"seed": 4\' "$3/job.json" || exit 1\n{sys.executable} -S -c "{code}" "$3"'
    )
    found = isolated.run(isolated.Job("x.zarr", in_memory=False, seed=4), np.arange(3), timeout=60)
    assert found.reason == ""
    np.testing.assert_array_equal(found.embedding, np.eye(3))
    assert 1 <= found.seconds < found.process_seconds - 0.7
    # What was held before and after the call does not count.
    assert found.before_mb < 40
    assert 60 < found.peak_mb < 140


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_job(store: Path, tmp_path: Path, in_memory: bool) -> None:
    parameters = {"n_epochs": 1, "min_steps": 6, "n_refreshes": 2, "n_components": 8, "n_hidden": 16, "progress": False}
    peer = isolated.Job(str(store), in_memory=True, method="unintegrated")
    ours = isolated.Job(str(store), in_memory=False, seed=1, parameters=parameters)
    (tmp_path / "job.json").write_text(json.dumps(asdict(peer if in_memory else ours)))
    np.save(tmp_path / "rows.npy", np.array([3, 5]))
    isolated.main(tmp_path)
    assert np.load(tmp_path / "embedding.npy").shape == (2, 50 if in_memory else 8)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["start"] <= report["stop"] <= time.monotonic()


@pytest.mark.parametrize(
    ("script", "reason"),
    [("echo one >&2; echo 'KeyError: two' >&2; exit 1", "KeyError: two"), ("kill -9 $$", r"ended by SIGKILL \(out of")],
)
def test_a_run_that_fails_says_why(python: Callable[[str], None], script: str, reason: str) -> None:
    python(script)
    failed = isolated.run(isolated.Job("x.zarr", in_memory=False), np.arange(3), timeout=60)
    assert failed.embedding is None
    assert re.match(reason, failed.reason)


def test_main(store: Path, scratch: Path, tmp_path: Path, measured: list[isolated.Job], capsys: Any) -> None:
    arguments = ["--cells", "400", "1200", "--genes", "300", "--batches", "2", "--scratch", str(scratch)]
    assert scale.main([*arguments, "--sample", "100", "-o", str(tmp_path)]) == 0
    assert [Path(job.data).name for job in measured] == ["log_400x300_2batches.zarr", "log_1200x300_2batches.zarr"]
    rows = pd.read_csv(tmp_path / "scale.csv")
    assert rows["cells"].to_list() == [400, 1200]
    assert rows["Total"].to_list() == [0.6, 0.6]
    text = (tmp_path / "scale.md").read_text()
    assert "scbatchnorm, zarr: 1311 bytes a cell from 400 to 1200 cells." in text  # 1 MB for 800 cells
    assert text in capsys.readouterr().out
    assert not any(job.in_memory for job in measured)


def test_peers_are_measured_in_memory(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        scale.parse(["--methods", "scbatchnorm", "harmony"])
    assert "only scbatchnorm reads from stores; for harmony give --store memory" in capsys.readouterr().err
    assert scale.parse(["--methods", "harmony", "--store", "memory"]).methods == ["harmony"]


def test_sketch(store: Path, scratch: Path, tmp_path: Path, measured: list[isolated.Job]) -> None:
    arguments = ["--cells", "1200", "--genes", "300", "--batches", "2", "--sizes", "100", "900", "all", "--seeds", "2"]
    assert sketch.main([*arguments, "--scratch", str(scratch), "--sample", "100", "-o", str(tmp_path)]) == 0
    assert [job.parameters["max_cells_fit"] for job in measured] == [100, 900, None] * 2
    assert [job.seed for job in measured] == [0] * 3 + [1] * 3
    assert len(pd.read_csv(tmp_path / "sketch.csv")) == 6
    text = (tmp_path / "sketch.md").read_text()
    assert "| 100 | 0.5150 ± 0.0071 | 0.5150 ± 0.0071 | 0.5150 ± 0.0071 | -0.0900 ± 0.0000 |" in text
    assert (tmp_path / "sketch.png").stat().st_size > 10_000
    with pytest.raises(SystemExit):
        sketch.parse(["--sizes", "none"])


def test_trend_is_what_is_fixed_and_what_a_cell_adds() -> None:
    cells = np.array([1e4, 1e5, 3e5, 1e6, 3e6])
    values = 40 + 2e-4 * cells
    values[0] = 500  # small data are another matter
    assert picture.trend(cells, values) == pytest.approx((40, 2e-4))
    assert picture.trend(np.array([1e6, 1e3]), np.array([5.0, 5.0])) == pytest.approx((5, 0))


def test_picture(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "cells": [10_000, 1_000_000, 3_000_000, 10_000, 3_000_000],
            "store": ["zarr", "zarr", "zarr", "memory", "zarr"],
            "method": "scbatchnorm",
            "seconds": [20, 300, 900, 18, np.nan],
            "peak_mb": [800, 1500, 2000, 800, np.nan],
            "reason": ["", "", "", "", "ended by SIGKILL"],
        }
    )
    table.to_csv(tmp_path / "scale.csv", index=False)
    published = pd.DataFrame(
        {
            "tool": ["T"],
            "cells": [1e6],
            "seconds": [3600],
            "gigabytes": [np.nan],
            "hardware": ["one GPU"],
            "source": ["paper"],
        }
    )
    figure = picture.draw(pd.read_csv(tmp_path / "scale.csv"), published, to=1e8, times_cores=10)
    seconds, held = ({line.get_label(): np.asarray(line.get_xydata()) for line in ax.get_lines()} for ax in figure.axes)
    assert seconds["scbatchnorm, from zarr: measured"].tolist() == [[1e4, 20 / 60], [1e6, 5], [3e6, 15]]
    assert seconds["T: published, one GPU"].tolist() == [[1e6, 60]]
    assert "T: published, one GPU" not in held
    beyond = seconds["extrapolated, not measured: fixed + a share for each cell"]
    assert beyond[0] == pytest.approx([3e6, 15])
    assert beyond[-1] == pytest.approx([1e8, 500])
    spread = seconds["extrapolated, not measured: 10 times the cores, shares divided evenly"]
    assert spread[-1] == pytest.approx([1e8, 50])
    assert held["scbatchnorm, from zarr: measured"][-1] == pytest.approx([3e6, 2000 * 2**20 / 1e9])
    assert [ax.get_ylabel() for ax in figure.axes] == ["wall time [minutes]", "peak memory [GB]"]


def test_picture_from_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = "cells,store,method,seconds,peak_mb,reason\n10000,memory,scbatchnorm,20,800,\n"
    (tmp_path / "scale.csv").write_text(row)
    assert picture.main([str(tmp_path / "scale.csv"), "-o", str(tmp_path / "x.png")]) == 0
    assert (tmp_path / "x.png").stat().st_size > 10_000
    with pytest.raises(SystemExit):
        picture.parse([str(tmp_path / "absent.csv")])
    assert "no such file" in capsys.readouterr().err


def test_published_figures_have_sources() -> None:
    published = pd.read_csv(picture._PUBLISHED)
    assert published.columns.to_list() == ["tool", "cells", "seconds", "gigabytes", "hardware", "source"]
    assert published[["tool", "cells", "hardware", "source"]].notna().all(axis=None)
    assert (published["seconds"].notna() | published["gigabytes"].notna()).all()
