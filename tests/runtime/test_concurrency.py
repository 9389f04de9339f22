"""Several threads or processes at once compute what one does, and leave behind what one does."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from joblib import Parallel, delayed  # type: ignore[import-untyped]
from sklearn import config_context
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from threadpoolctl import threadpool_limits

from scbatchnorm import metrics, pp, tl
from scbatchnorm._runtime.device import one_thread, seeded
from tests.conftest import expression, labels
from tests.helpers import diagnosed, process_state
from tests.helpers.processes import run_python

CPU = torch.device("cpu")
PARTS = 4
FEW = ["kmeans_nmi", "ilisi", "kbet"]


def at_once(function, values):
    """Results of `function` for the `values`, each in a thread of its own, started together."""
    values = list(values)
    barrier = threading.Barrier(len(values))

    def call(value):
        barrier.wait(60)
        return function(value)

    with ThreadPoolExecutor(len(values)) as pool:
        return list(pool.map(call, values))


@pytest.fixture
def two_threads():
    """Whatever the environment asks for."""
    usual = torch.get_num_threads()
    torch.set_num_threads(2)
    with threadpool_limits(2):
        yield
    torch.set_num_threads(usual)


def left_behind(before):
    changed = process_state.changes(before, process_state.snapshot())
    return {name: values for name, values in changed.items() if not name.startswith("open files")}


def test_threads_embed_and_invert_as_one_does(fitted, X, batch, two_threads):
    Z = fitted.transform(X, batch)
    whole, decoded = Z.tobytes(), fitted.inverse_transform(Z, batch).tobytes()
    assert at_once(lambda _: fitted.transform(X, batch).tobytes(), range(PARTS)) == [whole] * PARTS
    assert at_once(lambda _: fitted.inverse_transform(Z, batch).tobytes(), range(PARTS)) == [decoded] * PARTS


@pytest.mark.parametrize("params", [{}, {"dropout": 0.2}, {"adversary_norm": "spectral"}], ids=str)
def test_threads_fit_as_one_does(brief, X, batch, two_threads, params):
    def fit(seed):
        return brief(rng=seed, **params).fit(X, batch).fingerprint()

    serial = [fit(seed) for seed in range(PARTS)]
    before = process_state.snapshot()
    assert at_once(fit, range(PARTS)) == serial
    assert not left_behind(before)


def test_threads_of_torch_are_given_back_in_any_order(two_threads):
    """One enters while the other is inside, and leaves after it."""
    inside, leave = threading.Event(), threading.Event()

    def first():
        with one_thread(CPU):
            inside.set()
            leave.wait(10)

    def second():
        inside.wait(10)
        with one_thread(CPU):
            assert torch.get_num_threads() == 1
            leave.set()

    workers = [threading.Thread(target=target) for target in (first, second)]
    for worker in workers:
        worker.start()
    inside.wait(10)
    workers[1].join(0.2)  # it waits, or it came in
    leave.set()
    for worker in workers:
        worker.join(60)
        assert not worker.is_alive()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == torch.get_num_threads() == 2


def test_seeds_of_threads_do_not_mix():
    state = torch.get_rng_state()

    def draw(seed):
        with seeded(seed, CPU):
            return [torch.rand(50).sum().item() for _ in range(200)]

    serial = [draw(seed) for seed in range(PARTS)]
    assert at_once(draw, range(PARTS)) == serial
    assert torch.equal(torch.get_rng_state(), state)


def test_threads_map_as_one_does(brief):
    reference = diagnosed.cells(n=16)
    query = reference[reference.obs["batch"] == "y"].copy()
    query.obs["batch"] = "z"
    query.obsm.clear()
    pp.integrate(reference, "batch", model=brief())

    def place(_):
        mapped = tl.map_query(query, reference, batch_key="batch", label_keys="cell_type", copy=True)
        assert mapped is not None
        return mapped.obsm["X_scbatchnorm"].tobytes(), mapped.obs["cell_type_mapped"].tolist()

    serial = place(0)
    before = process_state.snapshot()
    assert at_once(place, range(PARTS)) == [serial] * PARTS
    assert not left_behind(before)


def test_threads_evaluate_as_one_does(two_threads):
    adata = diagnosed.cells(n=16)

    def judge(_):
        return metrics.evaluate(
            adata,
            "X_good",
            batch_key="batch",
            label_key="cell_type",
            metrics=FEW,
            n_bootstrap=2,
            n_jobs=2,
            progress=False,
        )

    serial = judge(0)
    before = process_state.snapshot()
    for table in at_once(judge, range(PARTS)):
        assert table.equals(serial)
    assert not left_behind(before)


# What it prints says whether a child that was forked after torch had threads embeds and fits as its parent does.
FORKED = """
import multiprocessing
import numpy as np, torch
from scbatchnorm import BatchNormAutoencoder

X = np.random.default_rng(0).gamma(1.0, size=(3000, 60)).astype(np.float32)
batch = np.repeat(["a", "b", "c"], 1000)
X[1000:] += 1
torch.set_num_threads(2)
model = BatchNormAutoencoder(n_components=20, strength=1.0, min_steps=6, max_steps=6, n_refreshes=2).fit(X, batch)
torch.relu(torch.randn(2000, 2000)).sum()
expected = model.transform(X, batch).tobytes()

def child(results):
    results.put(model.transform(X, batch).tobytes() == expected)
    results.put(type(model)(**model.get_params()).fit(X[::10], batch[::10]).stopped_)
    results.put(torch.get_num_threads())

context = multiprocessing.get_context("fork")
results = context.Queue()
process = context.Process(target=child, args=(results,), daemon=True)
process.start()
print(*[results.get(timeout=200) for _ in range(3)], torch.get_num_threads())
"""


def output(code, **environment):
    """What a fresh process prints that runs the code."""
    done = run_python("-W", "ignore", "-c", code, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system has no fork")
def test_child_made_by_fork_does_not_hang():
    assert output(FORKED) == "True completed 1 2\n"


def fingerprint(model):
    return model.fit(expression(), labels()).fingerprint()


@pytest.mark.slow
def test_joblib(brief, fitted, X, batch):
    expected, Z = fingerprint(brief()), fitted.transform(X, batch)
    with Parallel(n_jobs=2) as parallel:
        assert parallel(delayed(brief(rng=rng).fit)(X, batch) for rng in (0, 1))[0].fingerprint() == expected
        for embedding in parallel(delayed(fitted.transform)(X, batch) for _ in range(2)):
            np.testing.assert_array_equal(embedding, Z)


INTEGRATED = """
import hashlib, sys
import scanpy as sc
import scbatchnorm as sbn
adata = sbn.datasets.simulate_batches(120, n_genes=40, n_types=3)
sc.pp.normalize_total(adata)
sc.pp.log1p(adata)
sbn.pp.integrate(adata, "batch", model=sbn.BatchNormAutoencoder(n_components=8, strength=1.0, min_steps=20, max_steps=20))
print(hashlib.sha256(adata.obsm["X_scbatchnorm"].tobytes()).hexdigest())
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Some cells have zero counts")
def test_seeds_of_hashes_change_nothing(capsys):
    """Nothing hangs on the order of a set. On assertions it does not either: test_conventions finds none."""
    exec(INTEGRATED, {})
    assert output(INTEGRATED, PYTHONHASHSEED="2").strip() == capsys.readouterr().out.strip()


def test_copies_embed_alike(fitted, X, batch):
    Z = fitted.transform(X, batch)
    for other in (copy.deepcopy(fitted), copy.copy(fitted), pickle.loads(pickle.dumps(fitted))):
        np.testing.assert_array_equal(other.transform(X, batch), Z)
        assert other.fingerprint() == fitted.fingerprint()
    fresh = clone(fitted)
    assert fresh.get_params() == fitted.get_params()
    assert not hasattr(fresh, "network_")
    assert fresh.fit(X, batch).fingerprint() == fitted.fingerprint()


def test_last_step_of_a_pipeline(brief, X, batch):
    """The batch takes the place of `y` where something is fitted; to transform, it is routed."""
    counts = np.expm1(X)
    with config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(FunctionTransformer(np.log1p), brief().set_transform_request(batch=True))
        Z = pipeline.fit_transform(counts, batch)
        np.testing.assert_array_equal(Z, brief().fit_transform(np.log1p(counts), batch))
        np.testing.assert_array_equal(pipeline.transform(counts, batch=batch), Z)
    with pytest.raises(ValueError, match="batch"):
        pipeline.transform(counts)
    np.testing.assert_array_equal(pipeline[-1].transform(pipeline[:-1].transform(counts), batch), Z)


def test_grid_search(brief, X, batch):
    """Here, too, the batch is given as `y`, and the scorer gets that of the cells held out."""

    def closeness(model, X, batch):
        return -float(np.square(model.inverse_transform(model.transform(X, batch), batch) - X).mean())

    folds = KFold(2, shuffle=True, random_state=0)
    search = GridSearchCV(brief(), {"n_components": [2, 8]}, scoring=closeness, cv=folds, error_score="raise")
    search.fit(X, batch)
    assert search.best_params_ == {"n_components": 8}
