"""The moving average of the statistics is what its docstring says; what replaces it is exact, for every layer."""

from __future__ import annotations

import copy
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from scbatchnorm.nn import Autoencoder, BatchLayerNorm, MixedBatchNorm, SwitchableNorm, WhitenedBatchNorm, recalibrate
from scbatchnorm.nn._statistics import BatchStatistics
from scbatchnorm.nn.network import MINIBATCH_NORMS
from scbatchnorm.nn.normalization import STATISTICS

# Every layer with statistics of minibatches, of four features and four batches.
MIXED = [f"{s}-{a}" for s, a in product(STATISTICS, ("shared", "per_batch", "none"))]
OTHERS = {"switchable": SwitchableNorm, "batch_layer": BatchLayerNorm, "whitened": WhitenedBatchNorm}
LAYERS = [*MIXED, *OTHERS]


def layer_of(name, **kwargs):
    if name in OTHERS:
        return OTHERS[name](4, **kwargs)
    statistics, affine = name.split("-")
    return MixedBatchNorm(4, 4, statistics=statistics, affine=affine, **kwargs)


def rows(n, d=4, seed=0, *, loc=0.0):
    return torch.from_numpy(np.random.default_rng(seed).normal(loc, 2.0, (n, d)))


def inputs(layer, x, codes, support):
    """What `layer` takes."""
    return (x, codes, support) if isinstance(layer, MixedBatchNorm) else (x, codes)


def close(found, expected, tolerance=1e-9):
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("momentum", [0.1, 0.5])
def test_variance_of_the_moving_average(momentum):
    """m / (2 - m) of that of the mean of one minibatch: over 5000 features that are the same, so known to 2 %."""
    layer = MixedBatchNorm(5000, momentum=momentum)
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        layer(torch.randn(4, 5000, generator=generator))
    assert float(layer.running_mean.var()) == pytest.approx(momentum / (2 - momentum) / 4, rel=0.1)


@pytest.mark.parametrize("name", LAYERS)
def test_the_start_is_forgotten_by_the_power_of_the_steps(name):
    """What two layers that started differently differ by: (1 - m)^t of what it was; with momentum None nothing of it."""
    for momentum in (0.1, None):
        layer = layer_of(name, momentum=momentum).double()
        other = copy.deepcopy(layer)
        running = [n for n, _ in layer.named_buffers() if n.startswith("running")]
        for buffer in running:
            other.get_buffer(buffer).add_(7.0)
        for step in range(5):
            for one in (layer, other):
                one(*inputs(one, rows(32, seed=step), torch.arange(32) % 4, torch.ones(32)))
        for buffer in running:
            left = 0.0 if momentum is None else 7 * 0.9**5
            close(other.get_buffer(buffer) - layer.get_buffer(buffer), np.full(layer.get_buffer(buffer).shape, left))


@pytest.mark.parametrize("momentum", [0.05, 0.1, 0.5, 1.0])
def test_a_target_that_moves_is_followed_late(momentum):
    """By 1 / m - 1 steps, once the start is forgotten."""
    layer = MixedBatchNorm(1, momentum=momentum).double()
    for step in range(1000):
        layer(torch.tensor([[-1.0], [1.0]], dtype=torch.float64) + step)
    assert float(layer.running_mean) == pytest.approx(999 - (1 / momentum - 1), abs=1e-9)


def exact(layer, x, codes):
    """Statistics of all cells by the names of the buffers, row by row; `None` for a batch without cells."""
    every = {"running_mean": x.mean(0), "running_var": x.var(0, ddof=1), "running_cov": np.cov(x.T)}
    if not isinstance(layer, MixedBatchNorm) or layer.statistics == "mixed":
        return {name: [value] for name, value in every.items()}
    own = [x[codes == b] for b in range(4)]
    own = [x if len(part) == 1 or layer.statistics == "anchored" and len(part) else part for part in own]
    return {
        "running_mean": [part.mean(0) if len(part) else None for part in own],
        "running_var": [part.var(0, ddof=1) if len(part) else None for part in own],
    }


@pytest.mark.parametrize("name", LAYERS)
@settings(max_examples=10)
@given(st.lists(st.integers(0, 60), max_size=6), st.sampled_from([torch.float64, torch.float32]))
@example([], torch.float64)
@example([0, 0, 59, 60], torch.float32)
def test_recalibration_is_exact_for_any_chunks(name, cuts, dtype):
    """Of batches with cells, with one (the statistics of all, as in minibatches), and with none (what it had).

    Far from 0, too: of cells of variance 1 around 1e4 only what the buffers cannot hold is lost. Without support, anchored
    statistics are those of all cells; for others see test_anchored.py.
    """
    codes = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [40, 19, 1]))
    x = (1e4 + rows(60) / 2).to(dtype)
    layer = layer_of(name).to(dtype)
    for buffer in layer.buffers():
        buffer.fill_(7)
    before = copy.deepcopy(layer.state_dict())
    chunks = (torch.as_tensor(c) for c in np.split(np.arange(60), sorted(cuts)))
    layer.recalibrate(inputs(layer, x[c], torch.as_tensor(codes)[c], torch.zeros(len(c))) for c in chunks)
    for key, expected in exact(layer, x.double().numpy(), codes).items():
        if key in before:
            found = layer.get_buffer(key) if len(expected) > 1 else layer.get_buffer(key)[None]
            for row, value in zip(found, expected, strict=True):
                np.testing.assert_allclose(
                    row, 7.0 if value is None else value, rtol=5e-7 if dtype.itemsize < 8 else 1e-9
                )
    assert layer.training
    for key, value in before.items():
        if not key.startswith("running"):
            torch.testing.assert_close(layer.state_dict()[key], value, rtol=0, atol=0)


@pytest.mark.parametrize("name", LAYERS)
def test_far_from_zero_training_is_as_good_as_in_double_precision(name):
    """Of cells of variance 1 around 1e4: means to the spacing of single precision, variances to a thousandth."""
    x, codes = (1e4 + rows(400) / 2).float(), torch.arange(400) % 4
    layers = [layer_of(name, momentum=1.0).to(dtype) for dtype in (torch.float32, torch.float64)]
    for layer in layers:
        layer(*inputs(layer, x.to(layer.running_mean.dtype), codes, torch.ones(400)))
    single, double = (dict(layer.named_buffers()) for layer in layers)
    for key in single.keys() & {"running_mean", "running_var", "running_cov"}:
        np.testing.assert_allclose(single[key], double[key], rtol=1e-3, atol=2e-3 if key == "running_mean" else 1e-3)


@pytest.mark.parametrize("name", ["mixed-shared", *OTHERS])
def test_chunks_may_be_tensors(name):
    one, other = layer_of(name), layer_of(name)
    one.recalibrate([rows(5), rows(7, seed=1)])
    other.recalibrate([(rows(5),), (rows(7, seed=1), None)])
    torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("n_chunks", [0, 2])
def test_there_must_be_cells(name, n_chunks):
    layer = layer_of(name)
    before = copy.deepcopy(layer.state_dict())
    chunk = inputs(layer, rows(0), torch.zeros(0, dtype=torch.long), torch.zeros(0))
    with pytest.raises(ValueError, match=f"batches must hold cells to recalibrate {type(layer).__name__} with"):
        layer.recalibrate([chunk] * n_chunks)
    torch.testing.assert_close(layer.state_dict(), before, rtol=0, atol=0)


def network_of(norm, seed=0):
    """Network whose last layers are not zero, so that its output depends on all statistics."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Autoencoder(5, 3, n_hidden=16, n_layers=2, norm=norm)
        for parameter in network.parameters():
            parameter.data.add_(0.3 * torch.randn_like(parameter))
    return network


def norms(network):
    return [m for m in network.modules() if isinstance(m, BatchStatistics)]


X, CODES = rows(101, 5).float(), torch.arange(101) % 3


@pytest.mark.parametrize("norm", MINIBATCH_NORMS)
@pytest.mark.parametrize("method", ["encode", "forward"])
def test_recalibrated_statistics_are_those_seen_at_inference(method, norm):
    """Every layer that data pass has those of its own input, with all layers before it calibrated; others keep theirs."""
    network = network_of(norm)
    run = getattr(network, method)
    recalibrate(network, lambda: run(X, CODES))
    seen: dict[int, torch.Tensor] = {}
    for i, layer in enumerate(norms(network)):
        layer.register_forward_pre_hook(lambda _, args, i=i: seen.__setitem__(i, args[0].detach().double()))
    run(X, CODES)
    assert len(seen) == (2 if method == "encode" else 4)
    for i, layer in enumerate(norms(network)):
        values = seen[i] if i in seen else torch.tensor([[-1.0], [1.0]]).repeat(1, 16).double() / 2**0.5
        torch.testing.assert_close(layer.running_mean.double(), values.mean(0), rtol=1e-5, atol=1e-6)
        if norm == "whitened":
            expected = torch.cov(values.T) if i in seen else torch.eye(16).double()
            torch.testing.assert_close(layer.running_cov.double(), expected, rtol=1e-5, atol=1e-6)
        else:
            torch.testing.assert_close(layer.running_var.double(), values.var(0), rtol=1e-5, atol=1e-6)


@settings(max_examples=15)
@given(st.integers(1, 120), st.integers(0, 3), st.sampled_from(MINIBATCH_NORMS))
@example(1, 0, "batch")
def test_recalibration_does_not_depend_on_chunks(size, seed, norm):
    x = rows(101, 5, seed).float()
    whole, chunked = network_of(norm), network_of(norm)
    recalibrate(whole, lambda: whole(x, CODES))
    recalibrate(chunked, lambda: [chunked(*chunk) for chunk in zip(x.split(size), CODES.split(size), strict=True)])
    torch.testing.assert_close(whole.state_dict(), chunked.state_dict(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("norm", MINIBATCH_NORMS)
def test_recalibration_forgets_the_moving_average(norm):
    """Whatever the statistics were before, afterwards they are the same; trained weights stay. No hook is left."""
    one, other = network_of(norm), network_of(norm).train()
    for layer in norms(other):
        for name, buffer in layer.named_buffers():
            buffer.add_(7 if name.startswith("running") else 0)
    for network in (one, other):
        recalibrate(network, partial(network, X, CODES))
        assert not any(m.training or m._forward_pre_hooks for m in network.modules())
    torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=0, atol=0)
    for parameter, before in zip(one.parameters(), network_of(norm).parameters(), strict=True):
        torch.testing.assert_close(parameter, before, rtol=0, atol=0)


def test_recalibration_that_fails_leaves_no_hooks():
    network = network_of("batch")

    def fail():
        raise RuntimeError("out of memory")  # noqa: EM101

    with pytest.raises(RuntimeError, match="out of memory"):
        recalibrate(network, fail)
    assert not any(m._forward_pre_hooks for m in network.modules())


def test_recalibration_of_plain_torch_networks():
    """MixedBatchNorm works in any module; other layers are left alone."""
    torch_norm, mixed = nn.BatchNorm1d(4), MixedBatchNorm(4)
    x = rows(50, loc=3.0).float()
    network = nn.Sequential(torch_norm, mixed)
    recalibrate(network, lambda: network(x))
    torch.testing.assert_close(mixed.running_mean, (x / np.sqrt(1 + torch_norm.eps)).mean(0))
    torch.testing.assert_close(torch_norm.running_mean, torch.zeros(4), rtol=0, atol=0)


def test_recalibration_knows_the_shape_of_its_input():
    """One feature would be taken for all four."""
    with pytest.raises(ValueError, match=r"x must have shape \(cells, 4\); got \(5, 1\)"):
        MixedBatchNorm(4).recalibrate([torch.randn(5, 1)])
