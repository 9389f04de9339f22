"""The autoencoder starts as the identity, knows the batch by its code, and maps a cell alone as among others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from scbatchnorm import nn as family
from scbatchnorm.nn import Autoencoder, MixedBatchNorm, discriminator
from scbatchnorm.nn._statistics import BatchStatistics, Normalizer
from scbatchnorm.nn.network import MINIBATCH_NORMS, NETWORK_STATISTICS, NORMS

KINDS = {
    "batch": MixedBatchNorm,
    "layer": nn.LayerNorm,
    "group": nn.GroupNorm,
    "instance": nn.InstanceNorm1d,
    "switchable": family.SwitchableNorm,
    "batch_layer": family.BatchLayerNorm,
    "whitened": family.WhitenedBatchNorm,
    "none": type(None),
}


def cells(n=40, d=5, n_batches=3, seed=0):
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.normal(size=(n, d)).astype(np.float32))
    return x, torch.from_numpy(rng.integers(n_batches, size=n))


def autoencoder(norm="batch", *, n_layers=2, moved=False, seed=0, **options):
    """A fresh network; `moved`: with all parameters and running statistics off their start."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Autoencoder(5, 3, n_hidden=16, n_layers=n_layers, norm=norm, **options)
        if moved:
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter.add_(0.3 * torch.randn_like(parameter))
                for name, buffer in network.named_buffers():
                    if name.endswith("running_mean"):
                        buffer.normal_()
                    elif name.endswith(("running_var", "batch_share")):
                        buffer.uniform_(0.5, 1)
                    elif name.endswith("running_cov"):
                        buffer += 0.1 * torch.ones_like(buffer)
    return network


def of_batches(network):
    """Parameters beside the two stacks, each with one part for every batch."""
    return [p for name, p in network.named_parameters() if not name.startswith(("encoder.", "decoder."))]


def numpy_stack(stack, x, codes):
    """The layers of an encoder or decoder, in inference, written out; those with tests of their own are called."""
    for layer in stack:
        if isinstance(layer, nn.Linear):
            x = x @ layer.weight.detach().numpy().T.astype(np.float64)
            x = x if layer.bias is None else x + layer.bias.detach().numpy()
        elif isinstance(layer, nn.ReLU):
            x = np.maximum(x, 0)
        elif isinstance(layer, MixedBatchNorm | nn.LayerNorm):
            if isinstance(layer, MixedBatchNorm):
                mean, variance = layer.running_mean.numpy(), layer.running_var.numpy()
            else:
                mean, variance = x.mean(1, keepdims=True), x.var(1, keepdims=True)
            assert layer.weight is not None and layer.bias is not None
            x = (x - mean) / np.sqrt(variance + layer.eps) * layer.weight.detach().numpy() + layer.bias.detach().numpy()
        else:
            with torch.no_grad():
                x = layer(torch.from_numpy(x).float(), codes).double().numpy()
    return x


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("n_layers", [1, 2, 3])
@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
def test_starts_as_the_identity(norm, n_layers, training):
    network = autoencoder(norm, n_layers=n_layers).train(training)
    x, codes = cells()
    z, decoded = network(x, codes)
    torch.testing.assert_close(z, x, rtol=0, atol=0)
    torch.testing.assert_close(decoded, x, rtol=0, atol=0)


@pytest.mark.parametrize("norm", NORMS)
def test_first_step_reaches_encoder_and_decoder(norm):
    """Zeros at the start do not stop the gradient of either side."""
    network = autoencoder(norm)
    x, codes = cells()
    z, decoded = network(x, codes)
    ((decoded - 2 * x).square().mean() + 3 * z.square().mean()).backward()
    for stack in (network.encoder, network.decoder):
        last = stack[-1].weight.grad
        assert isinstance(last, torch.Tensor)
        assert last.abs().max() > 0
    for parameter in of_batches(network):
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 0


@pytest.mark.parametrize("norm", NORMS)
def test_normalisation_of_the_hidden_layers(norm):
    """One of the kind asked for after each hidden Linear, whose bias it would subtract; without any, biases stay."""
    network = autoencoder(norm, n_layers=3, dropout=0.25)
    for stack in (network.encoder, network.decoder):
        kinds = [KINDS[norm]] if norm != "none" else []
        expected = [*([nn.Linear, *kinds, nn.ReLU, nn.Dropout] * 3), nn.Linear]
        assert len(stack) == len(expected)
        assert all(isinstance(layer, kind) for layer, kind in zip(stack, expected, strict=True))
        biases = [layer.bias is not None for layer in stack if isinstance(layer, nn.Linear)]
        assert biases == [norm == "none"] * 3 + [True]
    assert sum(isinstance(m, Normalizer) for m in network.modules()) == (0 if norm == "none" else 6)
    assert (norm in MINIBATCH_NORMS) == any(isinstance(m, BatchStatistics) for m in network.modules())


def networks():
    """All that the package builds."""
    for norm in NORMS:
        for statistics in NETWORK_STATISTICS if norm == "batch" else ("mixed",):
            yield autoencoder(norm, statistics=statistics)
    yield discriminator(5, 3, 16)
    yield discriminator(5, 3, 16, norm="spectral")


def test_no_bias_before_a_normalisation():
    """In any network that the package builds: the normalisation would subtract it again."""
    found = 0
    for network in networks():
        for stack in network.modules():
            layers = list(stack) if isinstance(stack, nn.Sequential) else []
            for linear, norm in zip(layers, layers[1:], strict=False):
                if isinstance(linear, nn.Linear) and isinstance(norm, Normalizer):
                    assert linear.bias is None
                    found += 1
    assert found == 2 * 2 * (len(NORMS) - 1 + len(NETWORK_STATISTICS) - 1) + 2


@pytest.mark.parametrize("norm", NORMS)
def test_beside_the_residual_networks_each_batch_has_a_linear_map(norm):
    """z - x - f([x, 3 onehot(b)]) is linear in x within a batch; decoded, z - g([z, 3 onehot(b)]) is so by component."""
    network = autoencoder(norm, moved=True).eval()
    x, codes = cells(60)
    with torch.no_grad():
        z, decoded = (t.numpy().astype(np.float64) for t in network(x, codes))
        found = network.encode(x, codes)
        torch.testing.assert_close(found.double(), torch.from_numpy(z), rtol=0, atol=0)
        torch.testing.assert_close(network.decode(found, codes).double(), torch.from_numpy(decoded), rtol=0, atol=0)
    points, one_hot = x.numpy().astype(np.float64), np.eye(3)[codes.numpy()]
    added = z - points - numpy_stack(network.encoder, np.hstack([points, 3 * one_hot]), codes)
    kept = decoded - numpy_stack(network.decoder, np.hstack([z, 3 * one_hot]), codes)
    scales = []
    for b in range(3):
        rows = codes.numpy() == b
        assert rows.sum() > 10
        np.testing.assert_allclose(added[rows], linear_fit(points[rows], added[rows]), atol=1e-4)
        for c in range(5):
            np.testing.assert_allclose(kept[rows, c], linear_fit(z[rows, c : c + 1], kept[rows, c]), atol=1e-3)
        scales.append(np.polyfit(z[rows, 0], kept[rows, 0], 1)[0])
    assert np.ptp(scales) > 0.01


def linear_fit(x, y):
    """The function of `x` of the form a x + c that is closest to `y`."""
    design = np.hstack([x, np.ones((len(x), 1))])
    return design @ np.linalg.lstsq(design, y, rcond=None)[0]


@pytest.mark.parametrize("direction", ["encode", "decode"])
def test_cells_of_a_batch_use_its_own_parameters_only(direction):
    network = autoencoder(moved=True).eval()
    x, _ = cells()
    getattr(network, direction)(x, torch.full((len(x),), 1)).square().sum().backward()
    used = [p.grad.reshape(3, -1) for p in of_batches(network) if p.grad is not None]
    for gradient in used:
        assert (gradient[[0, 2]] == 0).all()
    assert any((gradient[1] != 0).any() for gradient in used)


def test_batches_are_seen_differently():
    """The same point, encoded or decoded as each of the batches."""
    network = autoencoder(moved=True).eval()
    x, _ = cells()
    with torch.no_grad():
        for function in (network.encode, network.decode):
            seen = [function(x, torch.full((len(x),), b)) for b in range(3)]
            assert min((seen[a] - seen[b]).abs().max() for a, b in ((0, 1), (0, 2), (1, 2))) > 0.1


@pytest.mark.parametrize("norm", NORMS)
def test_a_cell_alone_is_mapped_as_among_others(norm):
    network = autoencoder(norm, moved=True).eval()
    x, codes = cells()
    with torch.no_grad():
        z, decoded = network(x, codes)
        alone = [network(x[i : i + 1], codes[i : i + 1]) for i in range(len(x))]
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
        permuted, _ = network(x[order], codes[order])
    torch.testing.assert_close(torch.cat([a[0] for a in alone]), z, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(torch.cat([a[1] for a in alone]), decoded, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(permuted, z[order], rtol=1e-5, atol=1e-5)


def test_in_training_cells_depend_on_each_other_only_through_minibatch_statistics():
    x, codes = cells()
    for norm in NORMS:
        network = autoencoder(norm, moved=True).train()
        with torch.no_grad():
            together, halves = network.encode(x, codes), [network.encode(x[h::2], codes[h::2]) for h in (0, 1)]
        equal = torch.allclose(together[::2], halves[0], atol=1e-5) and torch.allclose(
            together[1::2], halves[1], atol=1e-5
        )
        assert equal == (norm not in MINIBATCH_NORMS)


@pytest.mark.parametrize("statistics", NETWORK_STATISTICS)
def test_layers_are_told_the_batches(statistics):
    """Statistics of batches are taken of the cells of these batches, in encoder and decoder."""
    network = autoencoder(statistics=statistics)
    x, codes = cells(60)
    x = x + 4 * codes[:, None]
    network(x, codes)
    for stack in (network.encoder, network.decoder):
        first = stack[1].running_mean
        assert first.shape == ((16,) if statistics == "mixed" else (3, 16))
        if statistics != "mixed":
            assert (first[0] - first[2]).abs().max() > 0.1


def test_statistics_that_need_support_are_refused():
    with pytest.raises(ValueError, match=r"statistics must be one of 'mixed', 'per_batch'; got 'anchored'"):
        autoencoder(statistics="anchored")


def test_dropout_is_for_training_only():
    network = autoencoder(dropout=0.5, moved=True)
    x, codes = cells()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        assert not torch.equal(network.encode(x, codes), network.encode(x, codes))
        network.eval()
        assert torch.equal(network.encode(x, codes), network.encode(x, codes))
