"""Layers that normalise each cell by itself: those of torch, each by its formula, and nothing of other cells in them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from scbatchnorm.nn import GroupNorm, InstanceNorm, LayerNorm
from scbatchnorm.nn.per_cell import default_groups

KINDS = ("layer", "group", "instance", "instance, affine")


def layer_of(kind, **kwargs):
    """Over eight features, in groups of four where there are groups."""
    if kind == "layer":
        return LayerNorm(8, **kwargs)
    return GroupNorm(8, 2, **kwargs) if kind == "group" else InstanceNorm(8, 2, affine=kind != "instance", **kwargs)


def rows(n, d=8, seed=0):
    x = np.random.default_rng(seed).normal(2.0, 3.0, (n, d))
    return torch.from_numpy(x)


def moved(layer, seed=0):
    """`layer` in double precision, with scale and shift off their start."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in layer.double().parameters():
        parameter.data += 0.5 * torch.randn(parameter.shape, generator=generator)
    return layer


def formula(x, groups, weight, bias, eps=1e-5):
    """Mean 0 and variance 1 over each group of consecutive features of each cell, then scale and shift by feature."""
    parts = np.split(x.numpy(), groups, axis=1)
    parts = [(p - p.mean(1, keepdims=True)) / np.sqrt(p.var(1, keepdims=True) + eps) for p in parts]
    return np.hstack(parts) * weight + bias


def close(found, expected):
    np.testing.assert_allclose(found.detach(), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("affine", [True, False], ids=["affine", "plain"])
def test_layer_norm(affine):
    layer = moved(LayerNorm(8, affine=affine))
    weight, bias = (layer.weight.detach(), layer.bias.detach()) if affine else (1, 0)
    close(layer(rows(20)), formula(rows(20), 1, *(np.asarray(v) for v in (weight, bias))))
    theirs = nn.LayerNorm(8, elementwise_affine=affine, dtype=torch.float64)
    theirs.load_state_dict(layer.state_dict())
    close(layer(rows(20)), theirs(rows(20)).detach())


@pytest.mark.parametrize("affine", [True, False], ids=["affine", "plain"])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_group_norm(groups, affine):
    layer = moved(GroupNorm(8, groups, affine=affine))
    weight, bias = (layer.weight.detach(), layer.bias.detach()) if affine else (1, 0)
    close(layer(rows(20)), formula(rows(20), groups, *(np.asarray(v) for v in (weight, bias))))
    theirs = nn.GroupNorm(groups, 8, affine=affine, dtype=torch.float64)
    theirs.load_state_dict(layer.state_dict())
    close(layer(rows(20)), theirs(rows(20)).detach())


@pytest.mark.parametrize("affine", [True, False], ids=["affine", "plain"])
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_instance_norm(channels, affine):
    """Consecutive features are the positions of a channel, which has one scale and one shift."""
    layer = moved(InstanceNorm(8, channels, affine=affine))
    assert (layer.weight is not None) == affine
    weight, bias = (
        (layer.weight.detach(), layer.bias.detach()) if affine else (torch.ones(channels), torch.zeros(channels))
    )
    expand = lambda v: np.repeat(v.numpy(), 8 // channels)
    close(layer(rows(20)), formula(rows(20), channels, expand(weight), expand(bias)))
    theirs = nn.InstanceNorm1d(channels, affine=affine, dtype=torch.float64)
    theirs.load_state_dict(layer.state_dict())
    close(layer(rows(20)), theirs(rows(20).reshape(20, channels, -1)).reshape(20, 8).detach())


def test_with_one_group_all_are_the_same():
    x = rows(20)
    layers = [LayerNorm(8), GroupNorm(8, 1), InstanceNorm(8, 1)]
    one, *others = [layer.double()(x).detach() for layer in layers]
    for other in others:
        close(other, one)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20)
@given(st.integers(1, 20), st.integers(0, 9))
@example(1, 0)
def test_a_cell_is_normalised_by_itself(kind, n, seed):
    """The same alone as among others, told the batches or not, in training and in inference; nothing is remembered."""
    layer = moved(layer_of(kind))
    x = rows(n, seed=seed)
    together = layer(x)
    for i in range(n):
        close(layer(x[i : i + 1], torch.tensor([i])), together[i : i + 1].detach())
    close(layer.eval()(x), together.detach())
    assert not list(layer.buffers())
    assert not layer.minibatch_statistics


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
def test_no_cells_are_no_cells(kind, training):
    assert layer_of(kind).train(training)(torch.zeros(0, 8)).shape == (0, 8)


@pytest.mark.parametrize("kind", KINDS)
def test_what_all_features_of_a_cell_have_in_common_is_removed(kind):
    """Its scale and its level, such as its depth."""
    layer = moved(layer_of(kind, eps=1e-12))
    close(layer(3 * rows(10) + 5), layer(rows(10)).detach())


@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind):
    layer = moved(layer_of(kind))
    names = [name for name, _ in layer.named_parameters()]

    def function(x, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(function, (rows(5).requires_grad_(), *layer.parameters()))


@pytest.mark.parametrize("kind", KINDS)
def test_lipschitz_bound(kind):
    """Nearly reached where the features of a cell are equal."""
    layer = moved(layer_of(kind)).requires_grad_(requires_grad=False)
    bound = layer.lipschitz_bound()
    x = torch.cat([rows(50), 2 + 1e-4 * rows(50, seed=1)])
    steepest = max(float(torch.linalg.matrix_norm(torch.func.jacrev(lambda v: layer(v[None])[0])(row), 2)) for row in x)
    assert bound / 4 < steepest <= bound * (1 + 1e-9)


@pytest.mark.parametrize(
    "num_features, groups", [(1, 1), (8, 1), (15, 1), (16, 2), (18, 2), (24, 2), (32, 4), (64, 8), (256, 8)]
)
def test_default_groups(num_features, groups):
    """The largest of 1, 2, 4, 8 that divides the features, at least eight to a group."""
    assert default_groups(num_features) == groups
    if num_features > 1:
        assert GroupNorm(num_features).num_groups == InstanceNorm(num_features).num_channels == groups


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: LayerNorm(1),
            "num_features must leave equal groups of at least 2 features.*got 1 features in 1 group",
        ),
        (lambda: LayerNorm(0), "num_features must .* got 0 features in 1 group"),
        (lambda: GroupNorm(8, 3), "num_groups must leave equal groups.*got 8 features in 3 groups"),
        (lambda: GroupNorm(8, 8), "num_groups must leave .*got 8 features in 8 groups"),
        (lambda: GroupNorm(8, 0), "num_groups must leave .*got 8 features in 0 groups"),
        (lambda: InstanceNorm(8, 5), "num_channels must leave .*got 8 features in 5 groups"),
        (lambda: InstanceNorm(1), "num_channels must leave .*got 1 features in 1 group"),
    ],
)
def test_groups_of_one_feature_are_refused(make, message):
    """Of one value minus its mean nothing is left."""
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(3, 7), (8,), (2, 3, 8)])
def test_shape_of_x(kind, shape):
    with pytest.raises(ValueError, match=r"x must have shape \(cells, 8\); got "):
        layer_of(kind)(torch.zeros(shape))
