"""Statistics of several processes are those of one: sums of moments, and SyncMixedBatchNorm in two processes."""

from __future__ import annotations

import copy
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import distributed, nn

from scbatchnorm.nn import MixedBatchNorm, SyncMixedBatchNorm, recalibrate
from scbatchnorm.nn._moments import Moments
from scbatchnorm.nn.normalization import STATISTICS

FEW = settings(max_examples=30)
SIZES = st.lists(st.integers(0, 20), min_size=1, max_size=6).filter(any)


def one_hot(n, groups=3, seed=0):
    return torch.from_numpy(np.eye(groups)[np.random.default_rng(seed).integers(groups, size=n)])


def rows(n, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(1e3, 2.0, (n, 3)))


def close(found, expected, tolerance=1e-9):
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def same(a, b, tolerance=1e-9):
    for name in ("weight", "mean", "square"):
        close(getattr(a, name), getattr(b, name), tolerance)


def weighted(x, weights):
    """Weight, mean and squared deviations of cells with these weights, column by column."""
    x, weights = np.asarray(x), np.asarray(weights)
    mean = [np.average(x, axis=0, weights=w) if w.any() else np.zeros(x.shape[1]) for w in weights.T]
    square = [(w[:, None] * (x - m) ** 2).sum(0) for w, m in zip(weights.T, mean, strict=True)]
    return Moments(*(torch.as_tensor(np.array(v)) for v in (weights.sum(0), mean, square)))


def in_processes(function, shares):
    """Call `function(share, reduce)` in as many threads as `shares`, where `reduce` adds up over them."""
    barrier = Barrier(len(shares))
    parts: list[Any] = [None] * len(shares)

    def run(rank):
        def reduce(moments):
            parts[rank] = moments
            barrier.wait(60)
            total = sum(parts[1:], parts[0])
            barrier.wait(60)
            return total

        return function(shares[rank], reduce)

    with ThreadPoolExecutor(len(shares)) as pool:
        return list(pool.map(run, range(len(shares))))


MAKE = {
    "of": lambda x, groups, weights, *reduce: Moments.of(x, groups, *reduce),
    "weighted": lambda x, groups, weights, *reduce: Moments.weighted(x, weights, torch.full_like(x, 990.0), *reduce),
    "products": lambda x, groups, weights, *reduce: Moments.products(x, *reduce),
}


@pytest.mark.parametrize("kind", MAKE)
@FEW
@given(SIZES, st.integers(0, 9))
@example([0, 7], 0)
@example([4, 0, 3], 0)
@example([1], 0)
def test_moments_are_those_of_numpy_for_any_chunks(kind, sizes, seed):
    """Added one after the other, summed over processes, and of processes that take part from the start."""
    n = sum(sizes)
    x, groups, weights = rows(n, seed), one_hot(n, seed=seed), (rows(n, seed + 1) - 1e3).abs()
    parts = list(zip(x.split(sizes), groups.split(sizes), weights.split(sizes), strict=True))
    expected = weighted(x, {"of": groups, "weighted": weights, "products": torch.ones(n, 1)}[kind])
    if kind == "products":
        centred = x - x.mean(0)
        expected = Moments(expected.weight, expected.mean, (centred.T @ centred)[None])
    make, tolerance = MAKE[kind], 1e-7 if kind == "weighted" else 1e-9  # one pass over the data, around 990
    total = make(*parts[0])
    for part in parts[1:]:
        total = total + make(*part)
    same(total, expected, tolerance)
    for found in in_processes(lambda part, reduce: reduce(make(*part)), parts):
        same(found, expected, tolerance)
    for found in in_processes(lambda part, reduce: make(*part, reduce), parts):
        same(found, expected, tolerance)


@FEW
@given(st.integers(1, 30), st.integers(0, 9))
def test_pooled_moments_are_those_of_all_cells(n, seed):
    x = rows(n, seed)
    pooled = Moments.of(x, one_hot(n, 5, seed)).pooled()
    same(pooled, weighted(x, torch.ones(n, 1)))
    close(pooled.variance(0)[0], x.numpy().var(0))
    close(pooled.variance(1)[0], x.numpy().var(0, ddof=1) if n > 1 else np.zeros(3))


def test_moments_of_nothing_are_nothing():
    """Groups without cells have mean and variance 0, not nan, so that they may be added to."""
    nothing = Moments.of(rows(0), one_hot(0))
    for moments in (nothing, nothing + nothing, nothing.pooled()):
        for value in (moments.weight, moments.mean, moments.variance(0), moments.variance(1)):
            assert (value == 0).all()


KINDS = [*((s, "shared") for s in STATISTICS), ("mixed", "per_batch")]
STEPS = 50


def cells(step):
    """x, codes, support by each batch and targets; in some steps a batch is missing, or has one cell."""
    rng = np.random.default_rng(step)
    n = int(rng.integers(20, 40))
    codes = rng.integers(3, size=n)
    if step % 7 == 3:
        codes[codes == 2] = 1
    if step % 7 == 5:
        codes[codes == 2] = 1
        codes[n // 2] = 2
    x = rng.normal(size=(n, 4)) * (1 + codes[:, None]) + 2 * codes[:, None]
    return [torch.from_numpy(v) for v in (x, codes, rng.uniform(0, 2, (n, 3)), rng.normal(size=(n, 2)))]


def shards(step, codes):
    """Cells of process 0: about a third, all of batch 1, none, all, in turn."""
    third = torch.arange(len(codes)) < len(codes) // 3
    return [third, codes == 1, torch.zeros_like(third), torch.ones_like(third), ~third][step % 5]


class Layers(nn.ModuleList):
    """Tells its normalisation layers batch and support."""

    def forward(self, x, batch, support):
        for layer in self:
            x = layer(x, batch, support) if isinstance(layer, MixedBatchNorm) else layer(x)
        return x


def network_of(statistics, affine, layer=SyncMixedBatchNorm):
    torch.manual_seed(0)
    norms = [layer(6, 3, statistics=statistics, affine=affine) for _ in range(2)]
    parts = [nn.Linear(4, 6, bias=False), norms[0], nn.Tanh(), nn.Linear(6, 6, bias=False), norms[1], nn.Tanh()]
    return Layers([*parts, nn.Linear(6, 2)]).double()


def trained(network, rank=None):
    """After some steps on the cells of the process `rank`, or on all."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    for step in range(STEPS):
        x, codes, support, y = cells(step)
        own = torch.ones(len(x), dtype=torch.bool)
        if rank is not None:
            own = shards(step, codes) if rank == 0 else ~shards(step, codes)
        optimizer.zero_grad()
        loss = (network(x[own], codes[own], support[own]) - y[own]).square().sum() / len(x)
        loss.backward()
        if rank is not None:
            gradients = [parameter.grad for parameter in network.parameters()]
            total = nn.utils.parameters_to_vector(gradients)
            distributed.all_reduce(total)
            nn.utils.vector_to_parameters(total, gradients)
        optimizer.step()
    return network


def chunks(rank=None):
    """Chunks of all cells, or of those of the process `rank`: five of them, or two, of which one is empty."""
    every = [cells(step)[:3] for step in range(6)]
    mine = {None: slice(None), 0: slice(5), 1: slice(5, None)}[rank]
    nothing = [[v[:0] for v in every[0]]] if rank == 1 else []
    return nothing + every[mine]


def recalibrated(network, rank=None, *, nothing=False):
    """All layers of the network, with the chunks of the process; with `nothing`, only process 0 has any."""
    mine = [] if nothing and rank == 1 else chunks(None if nothing else rank)
    recalibrate(network, lambda: [network(*chunk) for chunk in mine])
    return network


def layer_recalibrated(layer, rank=None, *, nothing=False):
    """One layer, from chunks of its own; with `nothing`, only process 0 has any."""
    rows = [] if nothing and rank == 1 else chunks(None if nothing else rank)
    layer.recalibrate((torch.cat([x, x[:, :2]], dim=1), codes, support) for x, codes, support in rows)
    return layer


def first_batchnorm(network):
    return next(m for m in network.modules() if isinstance(m, MixedBatchNorm))


def results(rank=None):
    """What is compared, by name: states after training, and after calibration."""
    found = {}
    for kind in KINDS:
        network = trained(network_of(*kind), rank)
        found["trained", *kind] = copy.deepcopy(network.state_dict())
        for nothing in (False, True):
            again = recalibrated(network, rank, nothing=nothing)
            found["recalibrated" + ", nothing" * nothing, *kind] = copy.deepcopy(again.state_dict())
            layer = layer_recalibrated(first_batchnorm(network), rank, nothing=nothing)
            found["layer" + ", nothing" * nothing, *kind] = copy.deepcopy(layer.state_dict())
    return found


def process(rank, folder):
    """One of two processes, which writes what it found to a file."""
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2, timeout=timedelta(seconds=120))
    found = results(rank)
    groups = [distributed.new_group([r]) for r in range(2)]
    layer = SyncMixedBatchNorm(4, 3, statistics="per_batch", process_group=groups[rank]).double()
    layer(*cells(rank)[:2])
    found["alone", "in its group"] = layer.state_dict()
    with pytest.raises(ValueError, match="SyncMixedBatchNorm needs minibatches of at least 2 cells in training; got 1"):
        SyncMixedBatchNorm(4).double()(cells(0)[0][: 1 - rank])
    torch.save(found, Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()


def in_two_processes(folder):
    """What each of the processes found."""
    # Not at the top: the processes run this file as a script, and find no package of tests.
    from tests.helpers.processes import finish, python_processes

    with python_processes(*((__file__, rank, folder) for rank in range(2))) as started:
        done = finish(started)
    assert [each.returncode for each in done] == [0, 0], "\n".join(each.stderr for each in done)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def same_states(found, expected, tolerance, what):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        assert float((found[name] - value).abs().max()) <= tolerance, (what, name)


@pytest.mark.slow
def test_two_processes_are_one(tmp_path):
    """Parameters and buffers after 50 steps on uneven shards, and statistics from different numbers of chunks.

    One test, for the processes take long to start. A process in a group of its own is by itself.
    """
    with torch.random.fork_rng(devices=[]):
        expected = results()
    for rank, found in enumerate(in_two_processes(tmp_path)):
        for what, state in expected.items():
            same_states(found[what], state, 1e-9, what)
        alone = MixedBatchNorm(4, 3, statistics="per_batch").double()
        alone(*cells(rank)[:2])
        same_states(found["alone", "in its group"], alone.state_dict(), 0, "alone")


@pytest.mark.parametrize("statistics, affine", KINDS)
def test_layers_of_a_network_are_converted_in_place(statistics, affine):
    """The same tensors, so that an optimiser goes on, and the same results."""
    with torch.random.fork_rng(devices=[]):
        network, plain = (network_of(statistics, affine, MixedBatchNorm) for _ in range(2))
    parameters, first = list(network.parameters()), network[1].running_mean
    same = SyncMixedBatchNorm.convert(network) is network
    assert same
    assert [type(m) for m in network if isinstance(m, MixedBatchNorm)] == [SyncMixedBatchNorm] * 2
    assert all(a is b for a, b in zip(network.parameters(), parameters, strict=True))
    assert network[1].running_mean is first
    same_states(trained(network).state_dict(), trained(plain).state_dict(), 1e-12, statistics)
    layer = SyncMixedBatchNorm.convert(MixedBatchNorm(3, momentum=None, eps=1e-3).eval())
    assert isinstance(layer, SyncMixedBatchNorm)
    assert (layer.momentum, layer.eps, layer.training) == (None, 1e-3, False)
    assert SyncMixedBatchNorm.convert(layer) is layer


@pytest.mark.parametrize("statistics, affine", KINDS)
def test_without_a_process_group_it_is_mixed_batchnorm(statistics, affine):
    with torch.random.fork_rng(devices=[]):
        ours, theirs = (network_of(statistics, affine, layer) for layer in (SyncMixedBatchNorm, MixedBatchNorm))
    for network in (ours, theirs):
        recalibrated(trained(network))
    same_states(ours.state_dict(), theirs.state_dict(), 1e-12, statistics)


if __name__ == "__main__":
    process(int(sys.argv[1]), sys.argv[2])
