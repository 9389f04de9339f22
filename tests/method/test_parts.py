"""How a minibatch is dealt over processes, and what launchers and signals say, in one process."""

from __future__ import annotations

import os
import pickle
import runpy
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scbatchnorm._method.training.parts import Part
from scbatchnorm._runtime import interrupt as _interrupt
from scbatchnorm._runtime import launcher as _launch
from scbatchnorm._runtime import processes as _processes
from scbatchnorm._runtime.errors import LostProcessError
from scbatchnorm.nn.distributed import exchange

if TYPE_CHECKING:
    from scbatchnorm._runtime.processes import Group

CPU = torch.device("cpu")
PLACES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK", "SLURM_LOCALID")


@dataclass
class Place:
    rank: int
    size: int


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 12), st.integers(1, 5), st.integers(0, 99))
def test_every_cell_and_anchor_is_dealt_once(n_cells, size, seed):
    """Partners go with their cells, and the places of the anchors are those among all."""
    rng = np.random.default_rng(seed)
    cells, anchored = rng.permutation(50)[:n_cells], rng.random(n_cells) < 0.6
    partner = 100 + cells[anchored]
    pairs = np.arange(len(partner))
    parts = [
        Part.of(
            cast("Group", Place(rank, size)), _interrupt.Request(), cells, anchored, partner, pairs=pairs, device=CPU
        )
        for rank in range(size)
    ]
    assert sorted(np.concatenate([part.cells for part in parts])) == sorted(cells)
    places = np.concatenate([part.place.numpy() for part in parts])
    assert sorted(places) == list(range(len(partner)))
    assert max(len(part.cells) for part in parts) - min(len(part.cells) for part in parts) <= 1
    for part in parts:
        np.testing.assert_array_equal(part.partner, 100 + part.cells[part.anchored])
        np.testing.assert_array_equal(part.partner, partner[part.place.numpy()])
        assert (part.n_cells, len(part.all_pairs)) == (n_cells, len(partner))


def test_launchers_are_known_by_the_environment(monkeypatch):
    for name in PLACES:
        monkeypatch.delenv(name, raising=False)
    assert not _launch.is_launched()
    for size, several in (("1", False), ("2", True), ("two", False)):
        monkeypatch.setenv("WORLD_SIZE", size)
        assert _launch.is_launched() is several
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(
        ValueError, match="WORLD_SIZE=2 says .* but MASTER_ADDR, MASTER_PORT of the environment is not set"
    ):
        _launch.check()
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("MASTER_PORT", "1")
    _launch.check()
    assert _launch.local_rank() == 0
    monkeypatch.setenv("SLURM_LOCALID", "3")
    assert _launch.local_rank() == 3
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert _launch.local_rank() == 2


def test_alone_there_is_no_group():
    with _processes.joined(CPU) as group:
        assert group is None
        assert _processes.current() is None


class Awkward(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one}, {two}")


@pytest.mark.parametrize("error", [ValueError("what"), KeyError("k"), Awkward(1, 2), KeyboardInterrupt()])
def test_errors_are_told_in_words_at_least(error):
    told = pickle.loads(pickle.dumps(_processes.portable(error)))
    if isinstance(error, Awkward):
        assert (type(told), str(told)) == (RuntimeError, "Awkward: 1, 2")
    else:
        assert (type(told), told.args) == (type(error), error.args)


def test_what_torch_says_is_said_in_words():
    with pytest.raises(LostProcessError, match=r"does not answer, in a test \(Connection closed\). See what"):
        with exchange("in a test"):
            msg = "Connection\nclosed. This is typically your fault"
            raise RuntimeError(msg)
    with pytest.raises(ValueError, match="own"), exchange("in a test"):
        msg = "own"
        raise ValueError(msg)


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as on Unix")
def test_signals_after_an_agreed_end_want_the_same():
    """Ctrl-C reaches all processes, but not at the same moment."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with _interrupt.requests() as request:
        with pytest.raises(_interrupt.AgreedInterrupt):
            request.agree()
        os.kill(os.getpid(), signal.SIGINT)
        assert request.signal == signal.SIGINT
    signal.signal(signal.SIGINT, before)


def test_module_is_the_command_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["scbatchnorm", "--version"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("scbatchnorm", run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("scbatchnorm ")
