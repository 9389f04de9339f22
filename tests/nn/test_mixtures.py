"""Mixtures of statistics of the minibatch and of the cell: their formulas, their ends, what inference freezes."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from scbatchnorm.nn import BatchLayerNorm, InstanceNorm, LayerNorm, SwitchableNorm

KINDS = ("switchable", "batch_layer")
LOGITS = st.lists(st.floats(-5, 5), min_size=3, max_size=3)


def rows(n, d=8, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(rng.normal(0, 2, d), rng.uniform(0.5, 3, d), (n, d)))


def moved(layer, seed=0):
    """`layer` in double precision, with scale and shift off their start."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in (layer.double().weight, layer.bias):
        parameter.data += 0.5 * torch.randn(parameter.shape, generator=generator)
    return layer


def layer_of(kind):
    return SwitchableNorm(8, 2) if kind == "switchable" else BatchLayerNorm(8)


def switchable(mean=(0.0, 0.0, 0.0), var=(0.0, 0.0, 0.0), num_channels=2):
    """With these logits for batch, layer and instance statistics."""
    layer = SwitchableNorm(8, num_channels).double()
    layer.mean_logit.data.copy_(torch.tensor(mean, dtype=torch.float64))
    layer.var_logit.data.copy_(torch.tensor(var, dtype=torch.float64))
    return layer


def close(found, expected, tolerance=1e-10):
    np.testing.assert_allclose(found.detach(), expected, rtol=tolerance, atol=tolerance)


def statistics(x, channels):
    """Mean and variance over cells, over features, and over the features of each channel, each (cells, features)."""
    grouped = x.reshape(len(x), channels, -1)
    spread = lambda v: np.repeat(v, x.shape[1] // channels, axis=1)
    kinds = [(x.mean(0), x.var(0)), (x.mean(1)[:, None], x.var(1)[:, None])]
    kinds.append((spread(grouped.mean(2)), spread(grouped.var(2))))
    return [np.array([np.broadcast_to(kind[i], x.shape) for kind in kinds]) for i in (0, 1)]


def softmax(logits):
    powers = np.exp(logits)
    return powers / powers.sum()


@settings(max_examples=30)
@given(LOGITS, LOGITS, st.sampled_from([1, 2, 4]), st.integers(0, 9))
def test_switchable_is_its_formula(mean, var, channels, seed):
    layer = moved(switchable(mean, var, num_channels=channels), seed)
    x = rows(12, seed=seed)
    means, variances = statistics(x.numpy(), channels)
    center, variance = np.tensordot(softmax(mean), means, 1), np.tensordot(softmax(var), variances, 1)
    expected = (x.numpy() - center) / np.sqrt(
        variance + 1e-5
    ) * layer.weight.detach().numpy() + layer.bias.detach().numpy()
    close(layer(x), expected)
    for name, logits in (("mean", mean), ("variance", var)):
        assert list(layer.shares[name]) == ["batch", "layer", "instance"]
        assert list(layer.shares[name].values()) == pytest.approx(list(softmax(logits)), abs=1e-6)
        assert sum(layer.shares[name].values()) == pytest.approx(1, abs=1e-6)


ENDS = {
    0: lambda: nn.BatchNorm1d(8),
    1: lambda: LayerNorm(8),
    2: lambda: InstanceNorm(8, 2),
}


@pytest.mark.parametrize("kind", ENDS, ids=["batch", "layer", "instance"])
def test_ends_of_switchable(kind):
    """All weight on one kind of statistics: outputs, gradients and, in inference, the frozen ones of the minibatches."""
    logits = 100.0 * np.eye(3)[kind]
    ours, theirs = switchable(logits, logits), ENDS[kind]().double()
    for step in range(3):
        a, b = rows(12, seed=step).requires_grad_(), rows(12, seed=step).requires_grad_()
        out, expected = ours(a), theirs(b)
        close(out, expected.detach())
        out.pow(3).sum().backward()
        expected.pow(3).sum().backward()
        assert a.grad is not None and b.grad is not None
        close(a.grad, b.grad)
    for shares in ours.shares.values():
        assert list(shares.values()) == pytest.approx(list(np.eye(3)[kind]))
    close(ours.eval()(rows(5, seed=9)), theirs.eval()(rows(5, seed=9)).detach())


def test_switchable_learns_what_helps():
    """Asked for LayerNorm of cells of very different depth, it goes to the layer statistics."""
    x = rows(64) * torch.from_numpy(np.random.default_rng(0).lognormal(0, 1, (64, 1)))
    target = LayerNorm(8, affine=False).double()(x)
    layer = switchable(num_channels=4)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        (layer(x) - target).square().mean().backward()
        optimizer.step()
    assert min(shares["layer"] for shares in layer.shares.values()) > 0.8


@pytest.mark.parametrize("n, equal_at", [(2, 16.0), (16, 16.0), (48, 16.0), (10, 0.0), (10, 2.5)])
def test_batch_layer_is_its_formula(n, equal_at):
    """Share m / (m + equal_at) of the statistics of m cells."""
    layer = moved(BatchLayerNorm(8, equal_at=equal_at))
    x = rows(n).numpy()
    over_cells = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
    over_features = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    share = n / (n + equal_at)
    expected = (share * over_cells + (1 - share) * over_features) * layer.weight.detach().numpy()
    close(layer(rows(n)), expected + layer.bias.detach().numpy())
    assert float(layer.batch_share) == pytest.approx(share)


@pytest.mark.parametrize(
    "equal_at, theirs", [(0.0, nn.BatchNorm1d(8)), (1e12, nn.LayerNorm(8))], ids=["batch", "layer"]
)
def test_ends_of_batch_layer(equal_at, theirs):
    ours, theirs = BatchLayerNorm(8, equal_at=equal_at).double(), copy.deepcopy(theirs).double()
    for step in range(3):
        close(ours(rows(12, seed=step)), theirs(rows(12, seed=step)).detach(), 1e-9)
    close(ours.eval()(rows(5, seed=9)), theirs.eval()(rows(5, seed=9)).detach(), 1e-9)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_share_in_inference_is_its_average_in_training(momentum):
    """Exponential from the first minibatch on, or of all minibatches alike."""
    layer = BatchLayerNorm(8, momentum=momentum).double()
    sizes = [4, 64, 16, 10]
    shares = [n / (n + 16) for n in sizes]
    for step, n in enumerate(sizes):
        layer(rows(n, seed=step))
    expected = sum(shares) / 4
    if momentum is not None:
        expected = shares[0]
        for share in shares[1:]:
            expected = 0.9 * expected + 0.1 * share
    assert float(layer.batch_share) == pytest.approx(expected)
    x = rows(5, seed=9)
    over_cells = (x - layer.running_mean) / (layer.running_var + 1e-5).sqrt()
    over_features = nn.functional.layer_norm(x, (8,))
    close(layer.eval()(x), float(layer.batch_share) * over_cells + (1 - float(layer.batch_share)) * over_features)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15)
@given(st.integers(1, 20), st.integers(0, 9))
@example(1, 0)
def test_inference_of_a_cell_does_not_depend_on_its_companions(kind, n, seed):
    layer = moved(layer_of(kind))
    for step in range(3):
        layer(rows(12 + step, seed=step))
    before = copy.deepcopy(layer.eval().state_dict())
    x = rows(n, seed=seed)
    together = layer(x, torch.arange(n))
    close(torch.cat([layer(x[i : i + 1]) for i in range(n)]), together.detach())
    torch.testing.assert_close(layer.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_no_cells_are_no_cells(kind):
    assert layer_of(kind).eval()(torch.zeros(0, 8)).shape == (0, 8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
def test_gradients(kind, training):
    layer = moved(layer_of(kind))
    layer(rows(12, seed=1))
    layer.train(training)
    names = [name for name, _ in layer.named_parameters()]

    def function(x, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(function, (rows(6).requires_grad_(), *layer.parameters()))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_lipschitz_bound_of_batch_layer(share):
    layer = moved(BatchLayerNorm(8)).requires_grad_(requires_grad=False)
    layer(rows(30))
    layer.batch_share.fill_(share)
    layer.eval()
    x = torch.cat([rows(30), 1e-4 * rows(30)])
    steepest = max(float(torch.linalg.matrix_norm(torch.func.jacrev(lambda v: layer(v[None])[0])(row), 2)) for row in x)
    assert layer.lipschitz_bound() / 4 < steepest <= layer.lipschitz_bound() * (1 + 1e-9)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: SwitchableNorm(8, 3), "num_channels must leave equal groups .* got 8 features in 3 groups"),
        (lambda: SwitchableNorm(1), "num_channels must leave equal groups .* got 1 features in 1 group"),
        (lambda: SwitchableNorm(8, momentum=2.0), r"momentum must be None or a number in \[0, 1\]; got 2.0"),
        (lambda: BatchLayerNorm(8, equal_at=-1.0), "equal_at must be a number >= 0; got -1.0"),
        (lambda: BatchLayerNorm(8, equal_at=float("nan")), "equal_at must be a number >= 0; got nan"),
        (lambda: BatchLayerNorm(1), "num_features must leave equal groups .* got 1 features in 1 group"),
        (lambda: BatchLayerNorm(8)(torch.zeros(5, 7)), r"x must have shape \(cells, 8\); got \(5, 7\)"),
        (lambda: SwitchableNorm(8)(torch.zeros(8)), r"x must have shape \(cells, 8\); got \(8,\)"),
        (lambda: BatchLayerNorm(8)(torch.zeros(1, 8)), "BatchLayerNorm needs minibatches of at least 2 cells.*got 1"),
        (lambda: SwitchableNorm(8)(torch.zeros(1, 8)), "SwitchableNorm needs minibatches of at least 2 cells.*got 1"),
    ],
)
def test_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()
