"""Whatever is called, and however it ends: threads, generators, settings and files of the process are as before."""

from __future__ import annotations

import gc
import logging
import threading
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch

from scbatchnorm._method.training import trainer as _trainer
from tests.helpers import process_state
from tests.helpers.calls import CALLS, DRAWN, WRONG, Given, public
from tests.helpers.processes import run_python

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from scbatchnorm import BatchNormAutoencoder


def test_every_public_function_is_called():
    assert set(CALLS) == public()


@pytest.fixture(scope="module")
def given(brief: Callable[..., BatchNormAutoencoder], tmp_path_factory: pytest.TempPathFactory) -> Given:
    return Given(brief, tmp_path_factory.mktemp("models"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty folder, and a number of threads that is not that of the steps of training, whatever the environment asks for."""
    monkeypatch.chdir(tmp_path)
    usual = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(usual)


@pytest.fixture
def unchanged(capfd: pytest.CaptureFixture[str]) -> Callable[..., AbstractContextManager[None]]:
    """Makes a context that compares the process before and after, but for what is `allowed` to change, and wants nothing printed."""

    @contextmanager
    def compare(allowed: str = "") -> Iterator[None]:
        before = process_state.snapshot()
        capfd.readouterr()
        yield
        printed = capfd.readouterr()
        if process_state.changes(before, process_state.snapshot()):
            gc.collect()  # seconds all in all; what nobody holds any more is not left behind
        changed = process_state.changes(before, process_state.snapshot())
        assert not {name: values for name, values in changed.items() if name != allowed}
        assert printed == ("", "")

    return compare


@pytest.mark.parametrize("name", CALLS)
def test_what_works(given, unchanged, name):
    with unchanged(allowed="generator of torch" if name in DRAWN else ""):
        CALLS[name][0](given)


@pytest.mark.parametrize("name", CALLS)
def test_what_is_refused(given, unchanged, name):
    with unchanged(allowed="generator of torch" if name in DRAWN else ""), pytest.raises(WRONG):
        CALLS[name][1](given)


class Failure(Exception):
    """None of ours."""


def test_failure_in_the_middle_of_training(given, unchanged, monkeypatch):
    def fail(*_: object) -> None:
        raise Failure

    monkeypatch.setattr(_trainer, "reverse_gradient", fail)
    with unchanged(), pytest.raises(Failure):
        given.model(dropout=0.1).fit(given.X, given.batch)


def test_changes_are_seen():
    """Of each kind one."""
    with warnings.catch_warnings(), mpl.rc_context(), np.errstate(), pd.option_context("display.width", 77):
        before = process_state.snapshot()
        assert not process_state.changes(before, process_state.snapshot())
        state, logger = torch.get_rng_state(), logging.getLogger("scbatchnorm")
        warnings.simplefilter("ignore")
        mpl.rcParams["figure.dpi"] = 7
        np.seterr(all="ignore")
        pd.set_option("display.width", 78)
        torch.rand(1)
        torch.set_num_threads(1)
        logger.setLevel(logging.INFO)
        file, thread, stop = Path("new").open("w"), threading.Thread(target=(stop := threading.Event()).wait), stop
        thread.start()
        try:
            changed = process_state.changes(before, process_state.snapshot())
        finally:
            torch.set_rng_state(state)
            logger.setLevel(logging.NOTSET)
            file.close()
            stop.set()
            thread.join(60)
    expected = {"warning filters", "rcParams", "numpy errors", "pandas options", "generator of torch", "torch threads"}
    expected |= {"torch threads of a new thread", "logger scbatchnorm", "open files", "files in it", "python threads"}
    assert expected <= set(changed)
    assert not [name for name in set(changed) - expected if not name.startswith("threads of ")]


OPTIONAL = {
    "dask",
    "harmonypy",
    "hypothesis",
    "igraph",
    "ipywidgets",
    "jax",
    "leidenalg",
    "scib_metrics",
    "scvi",
    "umap",
}
OPTIONAL |= {"IPython", "pynndescent", "pytest"}
LOADED = f"""
import sys
import torch, scanpy
before = set(sys.modules)
import scbatchnorm
assert {{name.partition(".")[0] for name in set(sys.modules) - before}} == {{"scbatchnorm"}}, "the package loads its parts when asked for"
import scbatchnorm.datasets, scbatchnorm.metrics, scbatchnorm.nn, scbatchnorm.pl, scbatchnorm.pp, scbatchnorm.tl
print(sorted((set(sys.modules) - before) & {OPTIONAL | {"matplotlib.pyplot", "zarr"}}))
"""


@pytest.mark.slow
def test_no_optional_package_is_loaded():
    """Beyond what torch and scanpy load anyway."""
    done = run_python("-W", "ignore", "-c", LOADED)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")
