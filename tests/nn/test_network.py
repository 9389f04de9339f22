"""The autoencoder starts as the identity, knows the batch by its code, and maps a cell alone as among others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from scbatchnorm.nn import Autoencoder, MixedBatchNorm, discriminator
from scbatchnorm.nn.network import NORMALIZATIONS


def cells(n=40, d=5, n_batches=3, seed=0):
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.normal(size=(n, d)).astype(np.float32))
    return x, torch.from_numpy(rng.integers(n_batches, size=n))


def autoencoder(normalization="batch", *, n_layers=2, moved=False, seed=0):
    """A fresh network; `moved`: with all parameters and running statistics off their start."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Autoencoder(5, 3, n_hidden=16, n_layers=n_layers, normalization=normalization)
        if moved:
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter.add_(0.3 * torch.randn_like(parameter))
                for layer in network.modules():
                    if isinstance(layer, MixedBatchNorm):
                        assert layer.running_mean is not None and layer.running_var is not None
                        layer.running_mean.normal_()
                        layer.running_var.uniform_(0.5, 2)
    return network


def of_batches(network):
    """Parameters beside the two stacks, each with one part for every batch."""
    return [p for name, p in network.named_parameters() if not name.startswith(("encoder.", "decoder."))]


def numpy_stack(stack, x):
    """The layers of an encoder or decoder, in inference, written out."""
    for layer in stack:
        if isinstance(layer, nn.Linear):
            x = x @ layer.weight.detach().numpy().T.astype(np.float64)
            x = x if layer.bias is None else x + layer.bias.detach().numpy()
        elif isinstance(layer, nn.ReLU):
            x = np.maximum(x, 0)
        else:
            if isinstance(layer, MixedBatchNorm):
                assert layer.running_mean is not None and layer.running_var is not None
                mean, variance = layer.running_mean.numpy(), layer.running_var.numpy()
            else:
                mean, variance = x.mean(1, keepdims=True), x.var(1, keepdims=True)
            x = (x - mean) / np.sqrt(variance + layer.eps) * layer.weight.detach().numpy() + layer.bias.detach().numpy()
    return x


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("n_layers", [1, 2, 3])
@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
def test_starts_as_the_identity(normalization, n_layers, training):
    network = autoencoder(normalization, n_layers=n_layers).train(training)
    x, codes = cells()
    z, decoded = network(x, codes)
    torch.testing.assert_close(z, x, rtol=0, atol=0)
    torch.testing.assert_close(decoded, x, rtol=0, atol=0)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_first_step_reaches_encoder_and_decoder(normalization):
    """Zeros at the start do not stop the gradient of either side."""
    network = autoencoder(normalization)
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


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_normalisation_of_the_hidden_layers(normalization):
    """One of the kind asked for after each hidden Linear, whose bias it would subtract; without any, biases stay."""
    kind = {"batch": MixedBatchNorm, "layer": nn.LayerNorm, "none": type(None)}[normalization]
    network = autoencoder(normalization, n_layers=3)
    for stack in (network.encoder, network.decoder):
        layers = list(stack)
        linear = [i for i, layer in enumerate(layers) if isinstance(layer, nn.Linear)]
        assert len(linear) == 4
        for i in linear[:-1]:
            if normalization == "none":
                assert layers[i].bias is not None
                assert isinstance(layers[i + 1], nn.ReLU)
            else:
                assert layers[i].bias is None
                assert isinstance(layers[i + 1], kind)
                assert isinstance(layers[i + 2], nn.ReLU)
        assert layers[-1].bias is not None
    norms = (MixedBatchNorm, nn.LayerNorm)
    assert sum(isinstance(m, norms) for m in network.modules()) == (0 if normalization == "none" else 6)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_beside_the_residual_networks_each_batch_has_a_linear_map(normalization):
    """z - x - f([x, 3 onehot(b)]) is linear in x within a batch; decoded, z - g([z, 3 onehot(b)]) is so by component."""
    network = autoencoder(normalization, moved=True).eval()
    x, codes = cells(60)
    with torch.no_grad():
        z, decoded = (t.numpy().astype(np.float64) for t in network(x, codes))
        found = network.encode(x, codes)
        torch.testing.assert_close(found.double(), torch.from_numpy(z), rtol=0, atol=0)
        torch.testing.assert_close(network.decode(found, codes).double(), torch.from_numpy(decoded), rtol=0, atol=0)
    points, one_hot = x.numpy().astype(np.float64), np.eye(3)[codes.numpy()]
    added = z - points - numpy_stack(network.encoder, np.hstack([points, 3 * one_hot]))
    kept = decoded - numpy_stack(network.decoder, np.hstack([z, 3 * one_hot]))
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


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_a_cell_alone_is_mapped_as_among_others(normalization):
    network = autoencoder(normalization, moved=True).eval()
    x, codes = cells()
    with torch.no_grad():
        z, decoded = network(x, codes)
        alone = [network(x[i : i + 1], codes[i : i + 1]) for i in range(len(x))]
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
        permuted, _ = network(x[order], codes[order])
    torch.testing.assert_close(torch.cat([a[0] for a in alone]), z, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(torch.cat([a[1] for a in alone]), decoded, rtol=1e-6, atol=5e-6)
    torch.testing.assert_close(permuted, z[order], rtol=1e-6, atol=1e-6)


def test_in_training_cells_depend_on_each_other_only_through_batchnorm():
    x, codes = cells()
    for normalization in NORMALIZATIONS:
        network = autoencoder(normalization, moved=True).train()
        with torch.no_grad():
            together, halves = network.encode(x, codes), [network.encode(x[h::2], codes[h::2]) for h in (0, 1)]
        equal = torch.allclose(together[::2], halves[0], atol=1e-5) and torch.allclose(
            together[1::2], halves[1], atol=1e-5
        )
        assert equal == (normalization != "batch")


def test_discriminator_judges_each_cell_on_its_own():
    """No BatchNorm: statistics of the minibatch would tell it the batches in it."""
    critic = discriminator(5, 4, 16)
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in critic.modules())
    x, _ = cells()
    with torch.no_grad():
        together = critic.train()(x)
        assert together.shape == (40, 4)
        torch.testing.assert_close(torch.cat([critic(row[None]) for row in x]), together, rtol=1e-5, atol=1e-6)


def test_discriminator_can_learn_batches():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        critic = discriminator(5, 3, 16)
    x, codes = cells(200)
    x = x + 3 * torch.eye(3, 5)[codes]
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(critic(x), codes).backward()
        optimizer.step()
    assert (critic(x).argmax(1) == codes).float().mean() > 0.9
