"""MixedBatchNorm trains like torch's BatchNorm, and its calibrated statistics are those of all the data."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from scbatchnorm.nn import Autoencoder, MixedBatchNorm, recalibrate
from scbatchnorm.nn.normalization import Moments


def rows(n, d, seed=0, *, loc=0.0):
    return torch.from_numpy(np.random.default_rng(seed).normal(loc, 2.0, (n, d)).astype(np.float32))


def untrained(normalization="batch", *, n_batches=3, n_layers=2, seed=0):
    """Network whose last layers are not zero, so that its output depends on all statistics."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Autoencoder(5, n_batches, n_hidden=16, n_layers=n_layers, normalization=normalization)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
    return network


def in_chunks(function, size, *tensors):
    return lambda: [function(*parts) for parts in zip(*(t.split(size) for t in tensors), strict=True)]


def norms(network):
    return [m for m in network.modules() if isinstance(m, MixedBatchNorm)]


def test_training_is_that_of_batchnorm1d():
    """Outputs, gradients of input and parameters, and running statistics over several minibatches."""
    ours, theirs = MixedBatchNorm(4), nn.BatchNorm1d(4)
    for step in range(3):
        a, b = rows(32, 4, step).requires_grad_(), rows(32, 4, step).requires_grad_()
        out, expected = ours(a), theirs(b)
        torch.testing.assert_close(out, expected, rtol=0, atol=0)
        out.pow(3).sum().backward()
        expected.pow(3).sum().backward()
        torch.testing.assert_close(a.grad, b.grad, rtol=0, atol=0)
    for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad, rtol=0, atol=0)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=0, atol=0)
    torch.testing.assert_close(ours.eval()(rows(1, 4, 9)), theirs.eval()(rows(1, 4, 9)), rtol=0, atol=0)


def test_batches_share_the_statistics_of_the_minibatch():
    """In training, cells are normalised together: a batch that is shifted stays shifted by as much."""
    x = rows(64, 3)
    x[32:] += 10
    out = MixedBatchNorm(3)(x)
    sd = x.std(0, correction=0)
    torch.testing.assert_close(out[32:].mean(0) - out[:32].mean(0), (x[32:].mean(0) - x[:32].mean(0)) / sd)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.integers(0, 9), st.sampled_from([0.0, 1e3]))
def test_moments_are_those_of_numpy_for_any_chunks(chunks, seed, loc):
    x = rows(sum(chunks), 3, seed, loc=loc)
    moments = Moments(3)
    for part in x.split(chunks):
        moments.add(part)
    expected = x.numpy().astype(np.float64)
    assert moments.count == len(x)
    np.testing.assert_allclose(moments.mean, expected.mean(0), rtol=1e-12, atol=1e-12)
    variance = expected.var(0, ddof=1) if len(x) > 1 else np.zeros(3)
    np.testing.assert_allclose(moments.variance, variance, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("sizes", [(0, 7), (4, 0, 3), (7, 0)], ids=["first", "middle", "last"])
def test_moments_of_an_empty_chunk(sizes):
    """A chunk without rows changes nothing."""
    x = rows(7, 2)
    moments = Moments(2)
    for part in x.split(list(sizes)):
        moments.add(part)
    np.testing.assert_allclose(moments.mean, x.double().mean(0), rtol=1e-12)
    np.testing.assert_allclose(moments.variance, x.double().var(0), rtol=1e-12)


@pytest.mark.parametrize("normalized", ["encode", "forward"])
def test_recalibrated_statistics_are_those_seen_at_inference(normalized):
    """Every layer that data pass holds the mean and the variance of its own input, with all layers before it calibrated."""
    network = untrained()
    x, codes = rows(101, 5), torch.arange(101) % 3
    run = getattr(network, normalized)
    recalibrate(network, lambda: run(x, codes))
    seen: dict[int, torch.Tensor] = {}
    for i, layer in enumerate(norms(network)):
        layer.register_forward_pre_hook(lambda _, args, i=i: seen.__setitem__(i, args[0].detach().double()))
    run(x, codes)
    assert len(seen) == (2 if normalized == "encode" else 4)
    for i, inputs in seen.items():
        layer = norms(network)[i]
        torch.testing.assert_close(layer.running_mean.double(), inputs.mean(0), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(layer.running_var.double(), inputs.var(0), rtol=1e-5, atol=1e-6)


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 120), st.integers(0, 3))
@example(1, 0)
def test_recalibration_does_not_depend_on_chunks(size, seed):
    x, codes = rows(101, 5, seed), torch.arange(101) % 3
    whole, chunked = untrained(), untrained()
    recalibrate(whole, lambda: whole(x, codes))
    recalibrate(chunked, in_chunks(chunked, size, x, codes))
    for a, b in zip(norms(whole), norms(chunked), strict=True):
        torch.testing.assert_close(a.running_mean, b.running_mean, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(a.running_var, b.running_var, rtol=1e-5, atol=1e-6)


def test_recalibration_forgets_the_moving_average():
    """Whatever the statistics were before, afterwards they are the same; trained weights stay."""
    x, codes = rows(60, 5), torch.arange(60) % 3
    one, other = untrained(), untrained()
    for layer in norms(other):
        layer.running_mean.fill_(7.0)
        layer.running_var.fill_(11.0)
    recalibrate(one, lambda: one(x, codes))
    recalibrate(other, lambda: other(x, codes))
    for name, value in one.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, rtol=0, atol=0)
    for parameter, before in zip(one.parameters(), untrained().parameters(), strict=True):
        torch.testing.assert_close(parameter, before, rtol=0, atol=0)


def test_recalibration_leaves_evaluation_mode_and_no_hooks():
    network = untrained().train()
    recalibrate(network, lambda: network(rows(20, 5), torch.arange(20) % 3))
    assert not any(m.training for m in network.modules())
    assert not any(m._forward_pre_hooks for m in network.modules())


def test_recalibration_that_fails_leaves_no_hooks():
    network = untrained()

    def fail():
        raise RuntimeError("out of memory")  # noqa: EM101

    with pytest.raises(RuntimeError, match="out of memory"):
        recalibrate(network, fail)
    assert not any(m._forward_pre_hooks for m in network.modules())


def test_recalibration_of_plain_torch_networks():
    """MixedBatchNorm works in any module; other layers, and one without running statistics, are left alone."""
    torch_norm, mixed, stateless = nn.BatchNorm1d(4), MixedBatchNorm(4), MixedBatchNorm(4, track_running_stats=False)
    network = nn.Sequential(torch_norm, mixed, stateless)
    x = rows(50, 4, loc=3.0)
    recalibrate(network, lambda: network(x))
    torch.testing.assert_close(mixed.running_mean, (x / np.sqrt(1 + torch_norm.eps)).mean(0))
    torch.testing.assert_close(torch_norm.running_mean, torch.zeros(4), rtol=0, atol=0)
    assert stateless.running_mean is None
