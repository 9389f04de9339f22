"""What normalisation does to gradients and to training: facts, on random inputs, against autograd in double precision."""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from scbatchnorm.nn import (
    BatchLayerNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    MixedBatchNorm,
    SwitchableNorm,
    WhitenedBatchNorm,
)
from scbatchnorm.nn.normalization import STATISTICS

if TYPE_CHECKING:
    from collections.abc import Callable

FEW = settings(max_examples=15)
AFFINES = ("shared", "per_batch", "none")
OTHERS: dict[str, Callable[..., nn.Module]] = {
    "layer": LayerNorm,
    "group": GroupNorm,
    "instance": InstanceNorm,
    "switchable": SwitchableNorm,
    "batch_layer": BatchLayerNorm,
    "newton_schulz": WhitenedBatchNorm,
    "cholesky": partial(WhitenedBatchNorm, method="cholesky"),
}
CODES, WIDTH = torch.arange(30) % 3, 6


def norm_of(kind, affine="none", eps=1e-12):
    """Layer by name. The variances get next to nothing added: only without it is all of this exact."""
    if kind in OTHERS:
        return OTHERS[kind](WIDTH, eps=eps).double()
    return MixedBatchNorm(WIDTH, 3, statistics=kind, affine=affine, eps=eps).double()


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moved(layer):
    for i, parameter in enumerate(layer.parameters()):
        parameter.data += 0.5 * random(*parameter.shape, seed=100 + i)
    return layer


def apply(layer, x):
    """With batches, and support of each cell by each batch, where the layer takes them."""
    if isinstance(layer, MixedBatchNorm):
        return layer(x, CODES, random(30, 3, seed=7).abs())
    return layer(x)


def after_linear(kind, weight, seed, bias=None):
    """Output, loss and gradient of the weight (and bias) of a linear layer followed by the norm and more."""
    inputs = [v.clone().requires_grad_() for v in (weight, bias) if v is not None]
    y = apply(moved(norm_of(kind)), nn.functional.linear(random(30, 4, seed=seed), *inputs))
    loss = (torch.tanh(y) @ random(WIDTH, 2, seed=seed + 1) - random(30, 2, seed=seed + 2)).square().mean()
    return y.detach(), float(loss.detach()), *torch.autograd.grad(loss, inputs)


def close(found, expected, tolerance=1e-6):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", [*STATISTICS, *OTHERS])
@FEW
@given(st.floats(0.05, 20), st.integers(0, 9))
@example(0.05, 0)
@example(20.0, 0)
def test_scale_of_the_weights_before(kind, scale, seed):
    """Makes no difference to output and loss; so the gradient is orthogonal to the weights, and inverse to their scale."""
    weight = random(WIDTH, 4, seed=seed + 3)
    y, loss, gradient = after_linear(kind, weight, seed)
    scaled_y, scaled_loss, scaled_gradient = after_linear(kind, scale * weight, seed)
    close(scaled_y, y)
    assert scaled_loss == pytest.approx(loss)
    close(scaled_gradient * scale, gradient)
    assert gradient.norm() > 1e-3
    assert abs(float((gradient * weight).sum() / gradient.norm() / weight.norm())) < 1e-6


@pytest.mark.parametrize("kind", STATISTICS)
@FEW
@given(st.integers(0, 9))
def test_scale_of_the_weights_of_one_feature(kind, seed):
    """The same holds for each feature by itself where statistics are of features: its row of weights may have any scale."""
    weight, scales = random(WIDTH, 4, seed=seed + 3), random(WIDTH, seed=seed + 4).exp()
    y, loss, gradient = after_linear(kind, weight, seed)
    scaled_y, scaled_loss, scaled_gradient = after_linear(kind, scales[:, None] * weight, seed)
    close(scaled_y, y)
    assert scaled_loss == pytest.approx(loss)
    close(scaled_gradient * scales[:, None], gradient)
    cosines = (gradient * weight).sum(1) / gradient.norm(dim=1) / weight.norm(dim=1)
    close(cosines, torch.zeros(WIDTH, dtype=torch.float64))


def test_steps_of_gradient_descent_make_weights_grow():
    """By the orthogonality: |W - lr g|^2 = |W|^2 + lr^2 |g|^2 for each feature."""
    weight = random(WIDTH, 4)
    gradient = after_linear("mixed", weight, 0)[2]
    close((weight - 0.5 * gradient).square().sum(1), weight.square().sum(1) + 0.25 * gradient.square().sum(1))


@pytest.mark.parametrize("kind", [*STATISTICS, "newton_schulz", "cholesky"])
@FEW
@given(st.integers(0, 9))
def test_a_bias_before_has_no_gradient(kind, seed):
    """It is subtracted again with the mean."""
    weight, bias = random(WIDTH, 4, seed=seed + 3), random(WIDTH, seed=seed + 4)
    y, loss, of_weight, of_bias = after_linear(kind, weight, seed, bias)
    assert of_bias.abs().max() < 1e-10 < 1e-3 < of_weight.abs().max()
    close(y, after_linear(kind, weight, seed)[0])


def test_after_layer_norm_a_bias_counts():
    """But for what it adds to all features alike."""
    of_bias = after_linear("layer", random(WIDTH, 4, seed=3), 0, random(WIDTH, seed=4))[3]
    assert of_bias.abs().max() > 1e-3 > 1e-12 > of_bias.sum().abs()


@pytest.mark.parametrize(
    "kind, affine",
    [*product(STATISTICS, ("shared", "per_batch")), *((kind, "shared") for kind in OTHERS if kind != "instance")],
)
@FEW
@given(st.integers(0, 9))
def test_gradients_of_scale_and_shift(kind, affine, seed):
    """Of the shift the sum of the error that comes from above, of the scale that of error times normalised x."""
    layer, error = moved(norm_of(kind, affine)), random(30, WIDTH, seed=seed)
    x = 3 * random(30, WIDTH, seed=seed + 1) + CODES[:, None]
    apply(layer, x).backward(error)
    with torch.no_grad():
        layer.weight.fill_(1)
        layer.bias.fill_(0)
        normalised = apply(layer, x)
    by_batch = nn.functional.one_hot(CODES).T.double() if affine == "per_batch" else torch.ones(1, 30).double()
    close(layer.bias.grad.reshape(-1, WIDTH), by_batch @ error, 1e-9)
    close(layer.weight.grad.reshape(-1, WIDTH), by_batch @ (error * normalised), 1e-9)


@pytest.mark.parametrize("kind", ["mixed", "per_batch"])
@FEW
@given(st.integers(0, 9))
def test_gradient_of_the_input(kind, seed):
    """That of Ioffe & Szegedy (2015): the error without its mean and without its part along normalised x."""
    layer, error = moved(norm_of(kind, "shared")), random(30, WIDTH, seed=seed)
    x = (3 * random(30, WIDTH, seed=seed + 1)).requires_grad_()
    apply(layer, x).backward(error)
    for rows in [slice(None)] if kind == "mixed" else [CODES == b for b in range(3)]:
        part, above = x.detach()[rows], error[rows] * layer.weight.detach()
        sd = part.var(0, correction=0).sqrt()
        normalised = (part - part.mean(0)) / sd
        expected = (above - above.mean(0) - normalised * (above * normalised).mean(0)) / sd
        assert x.grad is not None
        close(x.grad[rows], expected, 1e-9)


@pytest.mark.parametrize("kind, affine", [*product(STATISTICS, AFFINES)])
@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
def test_mixed_batchnorm_against_differences(kind, affine, training):
    """Of input, scale and shift, for all statistics; one batch has a single cell."""
    layer = moved(norm_of(kind, affine, eps=1e-5))
    codes, support = torch.tensor([0, 0, 0, 1, 1, 1, 1, 2]), random(8, 3, seed=7).abs()
    layer(random(8, WIDTH, seed=1), codes, support)
    layer.train(training)
    names = [name for name, _ in layer.named_parameters()]

    def function(x, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x, codes, support))

    assert torch.autograd.gradcheck(function, (random(8, WIDTH).requires_grad_(), *layer.parameters()))


def drift(*, norm, seed, steps=60):
    """How far the means that enter the second activation move in training, in their first standard deviations; losses."""
    x = random(256, 10, seed=seed).float()
    target = torch.tanh(x @ random(10, 3, seed=seed + 1).float()) + x[:, :3].square()
    torch.manual_seed(seed)
    norms = [MixedBatchNorm(32) if norm else nn.Identity() for _ in range(2)]
    activation = nn.ReLU()
    hidden = [nn.Linear(10, 32), norms[0], nn.ReLU(), nn.Linear(32, 32), norms[1], activation]
    network = nn.Sequential(*hidden, nn.Linear(32, 3))
    entered = []
    activation.register_forward_pre_hook(lambda _, args: entered.append(args[0].detach()))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (network(x) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    moved_by = [((now.mean(0) - entered[0].mean(0)).abs() / entered[0].std(0)).mean() for now in entered]
    return float(torch.stack(moved_by).max()), losses


@pytest.mark.parametrize("seed", range(5))
def test_with_the_norm_the_target_moves_less(seed):
    """Three layers, the same steps of the same size: what enters the second activation stays near where it was.

    Without the norm it moves with the weights of two layers; with it only with the shift of the norm. Both learn.
    """
    with torch.random.fork_rng(devices=[]):
        (without, losses), (with_norm, losses_with) = (drift(norm=norm, seed=seed) for norm in (False, True))
    assert losses[-1] < losses[0] / 2 and losses_with[-1] < losses_with[0] / 2
    assert with_norm < 0.1 < 0.5 < without
