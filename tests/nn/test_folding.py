"""A frozen normalisation after a linear layer is folded into it: the same function with fewer layers."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from scbatchnorm.nn import (
    Autoencoder,
    BatchLayerNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    MixedBatchNorm,
    SwitchableNorm,
    SyncMixedBatchNorm,
    WhitenedBatchNorm,
    discriminator,
    fold_batchnorm,
)
from scbatchnorm.nn._statistics import BatchStatistics
from scbatchnorm.nn.folding import frozen_affine
from scbatchnorm.nn.network import NORMS, Stack

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDABLE: dict[str, Callable[[int], nn.Module]] = {
    "mixed": lambda n: MixedBatchNorm(n),
    "mixed, of batches": lambda n: MixedBatchNorm(n, 3),
    "mixed, plain": lambda n: MixedBatchNorm(n, affine="none"),
    "one batch": lambda n: MixedBatchNorm(n, statistics="per_batch", affine="per_batch"),
    "sync": lambda n: SyncMixedBatchNorm(n),
    "torch": lambda n: nn.BatchNorm1d(n),
    "torch, plain": lambda n: nn.BatchNorm1d(n, affine=False),
    "whitened": lambda n: WhitenedBatchNorm(n),
    "cholesky": lambda n: WhitenedBatchNorm(n, method="cholesky"),
}
OTHERS: dict[str, Callable[[int], nn.Module]] = {
    "layer": LayerNorm,
    "group": GroupNorm,
    "instance": InstanceNorm,
    "switchable": SwitchableNorm,
    "batch_layer": BatchLayerNorm,
    "torch, without statistics": lambda n: nn.BatchNorm1d(n, track_running_stats=False),
    "torch's layer norm": nn.LayerNorm,
    "dropout": lambda n: nn.Dropout(0.5),
}


def moved(module, seed=0):
    """`module` in evaluation mode, with parameters and statistics off their start."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    for name, buffer in module.named_buffers():
        if name.endswith("running_mean"):
            buffer += torch.randn(buffer.shape, generator=generator)
        elif name.endswith("running_var"):
            buffer += 3 * torch.rand(buffer.shape, generator=generator)
        elif name.endswith("running_cov"):
            root = torch.randn(buffer.shape, generator=generator)
            buffer += root @ root.T
    return module.eval()


def rows(n=50, d=5, seed=0):
    return 3 * torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + 1


def same(found, expected):
    """To 1e-5 of the largest value: what single precision keeps after some layers."""
    assert found.shape == expected.shape
    found, expected = found.detach(), expected.detach()
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-5


def kinds(module):
    return [type(m) for m in module.modules() if not list(m.children())]


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("name", FOLDABLE)
def test_norm_after_a_linear_layer_is_folded(name, bias):
    network = moved(nn.Sequential(nn.Linear(5, 8, bias=bias), FOLDABLE[name](8), nn.ReLU(), nn.Linear(8, 3)))
    before = copy.deepcopy(network.state_dict())
    folded = fold_batchnorm(network)
    assert kinds(folded) == [nn.Linear, nn.Identity, nn.ReLU, nn.Linear]
    same(folded(rows()), network(rows()))
    assert kinds(network)[1] is type(FOLDABLE[name](8))
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)
    for parameter in folded.parameters():  # nothing is shared
        parameter.data.fill_(7.0)
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("name", FOLDABLE)
def test_frozen_affine_is_what_inference_does(name):
    layer = moved(FOLDABLE[name](5)).double()
    affine = frozen_affine(layer)
    assert affine is not None
    scale, shift = affine
    x = rows().double()
    torch.testing.assert_close(x * scale + shift if scale.ndim == 1 else x @ scale.T + shift, layer(x))
    assert frozen_affine(layer.train()) is None


def test_folded_modules_are_in_evaluation_mode():
    folded = fold_batchnorm(nn.Sequential(nn.Linear(5, 8), MixedBatchNorm(8), nn.Dropout(0.5)).eval())
    assert not any(module.training for module in folded.modules())


@settings(max_examples=25)
@given(st.lists(st.sampled_from(["linear", "norm", "relu", "nest"]), min_size=1, max_size=8), st.integers(0, 9))
def test_any_sequence(layers, seed):
    """In any order and depth: the same function; never more layers with statistics, and none directly after a Linear."""
    modules: list[nn.Module] = []
    for kind in layers:
        if kind == "nest":
            modules = [nn.Sequential(*modules)]
        else:
            make = {"linear": lambda: nn.Linear(5, 5), "norm": lambda: MixedBatchNorm(5), "relu": nn.ReLU}[kind]
            modules.append(make())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = moved(nn.Sequential(*modules), seed).double()
    folded = fold_batchnorm(network)
    torch.testing.assert_close(folded(rows().double()), network(rows().double()), rtol=1e-9, atol=1e-9)
    for module in folded.modules():
        if isinstance(module, nn.Sequential):
            pairs = zip(list(module)[:-1], list(module)[1:], strict=True)
            assert not any(type(a) is nn.Linear and isinstance(b, MixedBatchNorm) for a, b in pairs)


def test_deep_in_a_module():
    """In whatever holds the Sequential; one that is used twice stays one."""

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = nn.Sequential(nn.Linear(5, 5), nn.Sequential(nn.Linear(5, 5), MixedBatchNorm(5)), nn.Tanh())
            self.again = nn.ModuleList([self.part])
            self.last = nn.ModuleDict({"a": nn.Sequential(nn.Linear(5, 5), MixedBatchNorm(5))})

        def forward(self, x):
            return self.last["a"](self.again[0](self.part(x)))

    network = moved(Twice())
    folded = fold_batchnorm(network)
    assert not any(isinstance(m, MixedBatchNorm) for m in folded.modules())
    assert folded.part is folded.again[0]
    same(folded(rows()), network(rows()))


@pytest.mark.parametrize("norm", NORMS)
def test_autoencoder(norm):
    """With every norm; of batch statistics and whitening nothing is left."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = moved(Autoencoder(5, 3, n_hidden=16, n_layers=2, norm=norm, dropout=0.1))
    codes = torch.arange(50) % 3
    folded = fold_batchnorm(network)
    for found, expected in zip(folded(rows(), codes), network(rows(), codes), strict=True):
        same(found, expected)
    count = sum(isinstance(m, BatchStatistics) for m in folded.modules())
    assert count == (4 if norm in {"switchable", "batch_layer"} else 0)
    if norm in {"batch", "whitened"}:
        assert kinds(folded).count(nn.Identity) == 4
    else:
        assert kinds(folded) == kinds(network)


@pytest.mark.parametrize("statistics", ["per_batch", "anchored"])
def test_statistics_that_differ_between_batches_are_left_alone(statistics):
    network = moved(Stack(nn.Linear(5, 16, bias=False), MixedBatchNorm(16, 3, statistics=statistics), nn.ReLU()))
    codes = torch.arange(50) % 3
    folded = fold_batchnorm(network)
    assert kinds(folded) == kinds(network)
    torch.testing.assert_close(folded(rows(), codes), network(rows(), codes), rtol=0, atol=0)


def test_scales_that_differ_between_batches_are_left_alone():
    network = moved(nn.Sequential(nn.Linear(5, 8), MixedBatchNorm(8, 2, affine="per_batch")))
    assert kinds(fold_batchnorm(network)) == kinds(network)


@pytest.mark.parametrize("name", OTHERS)
def test_other_layers_are_left_alone(name):
    network = moved(nn.Sequential(nn.Linear(5, 16), OTHERS[name](16), nn.ReLU()))
    folded = fold_batchnorm(network)
    assert kinds(folded) == kinds(network)
    torch.testing.assert_close(folded(rows()), network(rows()), rtol=0, atol=0)


def test_spectral_norm_is_left_alone():
    """Its weight is not a parameter; nor is one of two layers folded that are not neighbours."""
    network = moved(nn.Sequential(spectral_norm(nn.Linear(5, 8)), MixedBatchNorm(8), nn.Linear(8, 8), nn.ReLU()))
    network.append(MixedBatchNorm(8).eval())
    folded = fold_batchnorm(network)
    assert [type(layer).__name__ for layer in folded] == [type(layer).__name__ for layer in network]
    torch.testing.assert_close(folded(rows()), network(rows()), rtol=0, atol=0)
    critic = discriminator(5, 3, 8, norm="spectral").eval()
    torch.testing.assert_close(fold_batchnorm(critic)(rows()), critic(rows()), rtol=0, atol=0)


def test_training_mode_is_refused():
    network = nn.Sequential(nn.Linear(5, 8), MixedBatchNorm(8))
    with pytest.raises(ValueError, match="module must be in evaluation mode: only frozen statistics can be folded"):
        fold_batchnorm(network)
    network.eval()[1].train()
    assert kinds(fold_batchnorm(network)) == kinds(network)  # so are the statistics of a part that still learns


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_type_and_gradients_stay(dtype):
    network = moved(nn.Sequential(nn.Linear(5, 8), MixedBatchNorm(8))).to(dtype)
    network.requires_grad_(requires_grad=False)
    folded = fold_batchnorm(network)
    assert all(parameter.dtype == dtype and not parameter.requires_grad for parameter in folded.parameters())
    torch.testing.assert_close(folded(rows().to(dtype)), network(rows().to(dtype)))


def test_wide_range_of_scales_is_not_lost():
    """Multiplied out in double precision: statistics over ten orders of magnitude."""
    network = moved(nn.Sequential(nn.Linear(5, 11), MixedBatchNorm(11, eps=1e-30)))
    with torch.no_grad():
        sizes = 10.0 ** torch.arange(-5, 6)
        network[0].weight.mul_(sizes[:, None]), network[0].bias.mul_(sizes)
        network[1].running_mean.mul_(sizes), network[1].running_var.mul_(sizes**2)
    for found, expected in zip(fold_batchnorm(network)(rows()).T, network(rows()).T, strict=True):
        same(found, expected)


def test_what_does_not_fit_is_left_alone():
    """Of inputs with positions, torch's BatchNorm1d normalises another axis than the linear layer gives."""
    network = nn.Sequential(nn.Linear(8, 5), nn.BatchNorm1d(3)).eval()
    assert kinds(fold_batchnorm(network)) == kinds(network)
    x = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(fold_batchnorm(network)(x), network(x), rtol=0, atol=0)
