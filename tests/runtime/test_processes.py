"""Two processes that train together: one step is that of one process, a fit ends alike in both, and nobody waits for the dead."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed

import scbatchnorm as sbn
from scbatchnorm import cli
from scbatchnorm._method.training import trainer as _trainer
from scbatchnorm._method.training.parts import ALONE, Part
from scbatchnorm._runtime import interrupt as _interrupt
from scbatchnorm._runtime import processes as _processes

CPU = torch.device("cpu")
STEPS = 12
# Cells of a minibatch, and parameters. Of one cell and its partner process 1 has nothing.
ONE_STEP: list[tuple[int, dict[str, Any]]] = [
    *((9, {"statistics": statistics}) for statistics in ("mixed", "per_batch")),
    *((1, {"statistics": statistics}) for statistics in ("mixed", "per_batch", "anchored")),
    (7, {"norm": "none", "adversary_norm": "spectral"}),
    (2, {"norm": "layer", "anchor_weight": 0.0}),
]
FITS: dict[str, dict[str, Any]] = {
    "mixed": {},
    "per_batch": {"statistics": "per_batch"},
    "layer": {"norm": "layer"},
    "dropout": {"dropout": 0.2},
}


def model(**changes):
    params = {"n_components": 8, "strength": 1.0, "n_hidden": 16, "n_epochs": 1, "min_steps": STEPS, "n_refreshes": 2}
    return sbn.BatchNormAutoencoder(**(params | {"progress": False} | changes))


def expression():
    """Log-normalised expression of two types in three batches, of which the last is shifted; and the batches."""
    rng = np.random.default_rng(0)
    rate = np.where(np.arange(90)[:, None] % 2 == np.arange(40) % 2, 2.0, 0.5)
    rate[60::2, :13] += 4
    rate[61::2, 26:] += 4
    return np.log1p(rng.poisson(rate)).astype(np.float32), np.repeat(["a", "b", "c"], 30)


def step_of(changes, n_cells, group):
    """Losses, gradients and parameters after one step on `n_cells` cells, in float64, by this process or by both."""
    settings = _trainer.Settings.of(model(**changes))
    rng = np.random.default_rng(0)
    codes = np.arange(40) % 3
    x = rng.normal(size=(40, 5)) + codes[:, None]
    counterparts = rng.uniform(size=(40, 3)) * (codes[:, None] != np.arange(3))
    cells: Any = rng.permutation(40)[:n_cells]
    anchored: Any = np.arange(n_cells) % 3 != 1
    partner = (cells[anchored] + 1) % 40
    pairs = codes[cells[anchored]] * 3 + codes[partner]
    torch.manual_seed(0)
    trainer = _trainer.Trainer(5, 3, 10, settings, CPU)
    for parameter in trainer.parameters:  # not where it starts: there most gradients are zero
        parameter.data += 0.1 * torch.randn(len(parameter), generator=torch.Generator().manual_seed(1))
    trainer.step_number = 5
    part, together = ALONE, contextlib.nullcontext()
    if group is not None:
        part = Part.of(group, _interrupt.Request(), cells, anchored, partner, pairs=pairs, device=CPU)
        cells, anchored, partner = part.cells, part.anchored, part.partner
        together = group.synchronised(trainer.network)
    joint = np.concatenate([cells, partner])
    points, batch, weights = (torch.from_numpy(values[joint]) for values in (x, codes, counterparts))
    with together:
        losses = trainer.step(points, batch, weights, torch.from_numpy(anchored), len(cells), part)
    flat = trainer._flat()
    buffers = [buffer.double().flatten() for buffer in trainer.network.buffers()]
    return [torch.tensor(losses), *[w.grad for w in flat], *[w.detach() for w in flat], *buffers]


def steps():
    """Largest difference between a step of both processes and one of this process alone."""
    torch.set_default_dtype(torch.float64)
    found = []
    with _processes.joined(CPU) as group:
        for n_cells, changes in ONE_STEP:
            both, alone = (step_of(changes, n_cells, which) for which in (group, None))
            found.append(max(float((a - b).abs().max()) for a, b in zip(both, alone, strict=True) if len(a)))
    torch.set_default_dtype(torch.float32)
    return found


def fitted(fit, X):
    return [fit.fingerprint(), fit.stopped_, fit.history_.to_json(), fit.transform(*X).tolist()]


def error_of(call):
    """What `call` raises, in words."""
    try:
        call()
    except (ValueError, ArithmeticError, OSError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


@contextlib.contextmanager
def at_step(number, do):
    """Call `do` before the `number`-th step."""
    step = _trainer.Trainer.step

    def stepping(self, *args):
        if self.step_number + 1 == number:
            do()
        return step(self, *args)

    _trainer.Trainer.step = stepping  # type: ignore[method-assign]
    try:
        yield
    finally:
        _trainer.Trainer.step = step  # type: ignore[method-assign]


def kill(number):
    return lambda: os.kill(os.getpid(), number)


def errors(rank, X, folder):
    """What both are told where one of them is at fault."""

    def fail():
        msg = "of process 1"
        raise MemoryError(msg)

    found = {
        "norm": error_of(lambda: model(norm="switchable").fit(*X)),
        "alike": error_of(lambda: model(n_hidden=16 + rank).fit(*X)),
        "process 0": error_of(lambda: model(checkpoint=folder / "missing" / "file" if rank == 0 else None).fit(*X)),
        "diverged": error_of(lambda: model(learning_rate=1e30).fit(*X)),
    }
    with at_step(5 if rank else -1, fail), pytest.raises(MemoryError, match="of process 1"):
        model().fit(*X)
    return found


def resumed(rank, X, folder):
    """A fit that a signal to process 1 ends, and the one that goes on from there."""
    folder.joinpath(str(rank)).mkdir()
    named = {"checkpoint": folder / str(rank) / "checkpoint"}
    with at_step(STEPS // 2 + 3 if rank else -1, kill(signal.SIGINT)):
        with pytest.warns(UserWarning, match="interrupted at step 9") if rank == 0 else contextlib.nullcontext():
            interrupted = model(**named).fit(*X)
    return {"interrupted": fitted(interrupted, X), "resumed": fitted(model(**named).fit(*X), X)}


def command(rank, port, *arguments):
    """Exit code of the command line and what it says."""
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        code = cli.main(["integrate", *map(str, arguments), "--batch-key", "batch", "--strength", "1"])
    return [code, said.getvalue()]


def process(rank, folder, ports):
    """One of the two, which writes what it found to a file."""
    torch.set_num_threads(1)
    X = expression()
    store = f"file://{folder}/store"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2, timeout=timedelta(seconds=60))
    found = {"steps": steps(), "fits": {name: fitted(model(**changes).fit(*X), X) for name, changes in FITS.items()}}
    found["none"] = fitted(model(strength=0.0).fit(*X), X)
    found["errors"] = errors(rank, X, folder)
    found |= resumed(rank, X, folder)
    distributed.destroy_process_group()
    source, out = folder / "in.h5ad", folder / "out.h5ad"
    _trainer.Settings.n_steps = lambda *_: STEPS  # type: ignore[method-assign]
    found["command"] = command(rank, ports[0], source if rank == 0 else "not read here", "-o", out)
    found["command, error"] = command(rank, ports[1], folder / "missing.h5ad", "-o", out)

    def write():
        (folder / f"{rank}.json").write_text(json.dumps(found | {"ended": time.time()}))

    write()  # process 1 does not live to see the end
    with at_step(8 if rank else -1, kill(signal.SIGKILL)):
        found["command, killed"] = command(rank, ports[2], source, "-o", folder / "never.h5ad", "--seed", 1)
    write()


def free_ports(n):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [str(each.getsockname()[1]) for each in sockets]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each of two processes found, and their exit codes."""
    import anndata as ad

    folder = tmp_path_factory.mktemp("processes")
    X, batch = expression()
    adata = ad.AnnData(np.tile(X, (2, 1)))
    adata.obs["batch"] = np.tile(batch, 2)
    adata.write_h5ad(folder / "in.h5ad")
    arguments = [str(folder), *free_ports(3)]
    started = [
        subprocess.Popen([sys.executable, __file__, str(rank), *arguments], stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    said = [each.communicate(timeout=300)[1] for each in started]
    assert [each.returncode for each in started] == [0, -signal.SIGKILL], "\n".join(said)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def both(found, name):
    first, second = (each[name] for each in found)
    assert first == second
    return first


@pytest.mark.slow
def test_two_processes_are_one(found):
    """Uneven minibatches, parts without cells or without anchors: losses, gradients, weights and statistics of a step."""
    for differences in (each["steps"] for each in found):
        assert max(differences) < 1e-9


@pytest.mark.slow
def test_all_end_with_the_same_model(found):
    """Bitwise the same; of the fit of one process the rounding of float32 is left, amplified by the steps."""
    fits = both(found, "fits")
    X = expression()
    for name, changes in FITS.items():
        fingerprint, stopped, _, embedding = fits[name]
        alone = model(**changes).fit(*X)
        assert stopped == "completed"
        assert fingerprint != alone.fingerprint()
        far = np.abs(np.array(embedding) - alone.transform(*X)).max()
        assert far < (0.5 if name == "dropout" else 0.02)  # other cells lose other units
    assert both(found, "none")[1] == "not trained"


@pytest.mark.slow
def test_all_raise_the_error_of_one(found):
    errors = both(found, "errors")
    assert errors["norm"].startswith("ValueError: norm='switchable' cannot be trained by several processes")
    assert "process 1 differs from process 0 in n_hidden." in errors["alike"]
    assert errors["process 0"].startswith("FileNotFoundError") and "checkpoint" in errors["process 0"]
    assert errors["diverged"].startswith("TrainingDivergedError: training diverged at step")


@pytest.mark.slow
def test_signal_to_one_ends_all_at_the_same_step(found):
    """And another fit goes on from the last refresh, as if nothing had been."""
    interrupted = both(found, "interrupted")
    assert interrupted[1] == "interrupted"
    assert json.loads(interrupted[2])["step"].popitem()[1] == STEPS // 2 + 3
    assert both(found, "resumed") == both(found, "fits")["mixed"]


@pytest.mark.slow
def test_command_is_led_by_process_0(found):
    """The other reads nothing and says nothing, unless something is wrong."""
    assert [each["command"][0] for each in found] == [0, 0]
    assert "90 cells" not in found[0]["command"][1]
    assert "180 cells x 30 components, 3 batches" in found[0]["command"][1]
    assert found[1]["command"][1] == ""
    code, said = both(found, "command, error")
    assert code == 2
    assert "input does not exist" in said


@pytest.mark.slow
def test_nobody_waits_for_the_dead(found):
    code, said = found[0]["command, killed"]
    assert code == 2
    assert "another process has ended or does not answer, in step 8 of 12 of training" in said
    assert "start all processes again" in said
    assert found[0]["ended"] - found[1]["ended"] < 60


if __name__ == "__main__":
    process(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
