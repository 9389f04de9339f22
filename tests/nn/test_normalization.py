"""MixedBatchNorm: torch's BatchNorm where statistics are mixed or there is one batch, one BatchNorm each per batch."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from scbatchnorm.nn import MixedBatchNorm
from scbatchnorm.nn.normalization import STATISTICS

AFFINES = ("shared", "per_batch", "none")
TOLERANCES = [(torch.float32, 1e-5), (torch.float64, 1e-12)]


def cells(n=48, d=4, n_batches=3, *, seed=0, dtype=torch.float32):
    """x, codes, each batch with several cells, and support of each cell by each batch."""
    generator = torch.Generator().manual_seed(seed)
    codes = (torch.arange(n) % n_batches)[torch.randperm(n, generator=generator)]
    x = torch.randn(n, d, generator=generator, dtype=torch.float64) * (1 + codes[:, None]) + 3 * codes[:, None]
    return x.to(dtype), codes, torch.rand(n, n_batches, generator=generator, dtype=torch.float64).to(dtype)


def norm(n_batches=3, **kwargs):
    return MixedBatchNorm(4, n_batches, **kwargs)


def moved(layer, seed=0):
    """`layer` with scale and shift off their start."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in (layer.weight, layer.bias):
        if parameter is not None:
            parameter.data += 0.5 * torch.randn(parameter.shape, generator=generator)
    return layer


def close(found, expected, tolerance):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("affine", [True, False], ids=["affine", "plain"])
@pytest.mark.parametrize("momentum", [0.1, 1.0, None])
@pytest.mark.parametrize("n_batches", [1, 3])
def test_mixed_is_batchnorm1d(n_batches, momentum, affine):
    """Outputs, gradients of input and parameters, and running statistics over several minibatches; then inference."""
    ours = norm(n_batches, momentum=momentum, affine="shared" if affine else "none")
    theirs = nn.BatchNorm1d(4, momentum=momentum, affine=affine)
    moved(ours), moved(theirs)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for step in range(4):
        x, codes, _ = cells(seed=step)
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        out, expected = ours(a, codes), theirs(b)
        close(out, expected, 0)
        out.pow(3).sum().backward()
        expected.pow(3).sum().backward()
        close(a.grad, b.grad, 0)
    for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        close(own.grad, other.grad, 0)
    close(ours.state_dict(), theirs.state_dict(), 0)
    x, codes, _ = cells(seed=9)
    close(ours.eval()(x), theirs.eval()(x), 0)


@pytest.mark.parametrize("dtype, tolerance", TOLERANCES, ids=["float32", "float64"])
@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("affine", AFFINES)
@pytest.mark.parametrize("statistics", STATISTICS)
def test_of_one_batch_all_statistics_are_batchnorm1d(statistics, affine, momentum, dtype, tolerance):
    """Also those computed by our own operations instead of torch's fused one."""
    ours = norm(1, statistics=statistics, affine=affine, momentum=momentum).to(dtype)
    theirs = nn.BatchNorm1d(4, momentum=momentum, affine=affine != "none", dtype=dtype)
    for step in range(4):
        x, _, support = cells(n_batches=1, seed=step, dtype=dtype)
        upstream = cells(n_batches=1, seed=50 + step, dtype=dtype)[0]
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        out, expected = ours(a, torch.zeros(len(x), dtype=torch.long), support), theirs(b)
        close(out, expected, tolerance)
        out.backward(upstream)
        expected.backward(upstream)
        close(a.grad, b.grad, tolerance)
    if affine != "none":
        close(ours.weight.grad.reshape(4), theirs.weight.grad, 20 * tolerance)  # sums over 192 cells
        close(ours.bias.grad.reshape(4), theirs.bias.grad, 20 * tolerance)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        expected = theirs.get_buffer(name)
        for row in ours.get_buffer(name).reshape(-1, *expected.shape):
            close(row, expected, tolerance)
    close(ours.eval()(x), theirs.eval()(x), tolerance)


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("affine", AFFINES)
def test_per_batch_is_one_batchnorm_for_each(affine, momentum):
    """In one step a batch is missing: its statistics and their count stay."""
    ours = moved(norm(statistics="per_batch", affine=affine, momentum=momentum).double())
    theirs = [nn.BatchNorm1d(4, affine=affine != "none", momentum=momentum, dtype=torch.float64) for _ in range(3)]
    for b, layer in enumerate(theirs):
        if affine == "shared":
            layer.weight, layer.bias = theirs[0].weight, theirs[0].bias
        if affine != "none":
            layer.weight.data.copy_(ours.weight.data.expand(3, 4)[b])
            layer.bias.data.copy_(ours.bias.data.expand(3, 4)[b])
    for step in range(4):
        x, codes, _ = cells(seed=step, dtype=torch.float64)
        if step == 2:
            x, codes = x[codes != 1], codes[codes != 1]
        upstream = torch.randn(x.shape, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
        a, other = x.clone().requires_grad_(), x.clone().requires_grad_()
        out = ours(a, codes)
        out.backward(upstream)
        for b in codes.unique().tolist():
            expected = theirs[b](other[codes == b])
            expected.backward(upstream[codes == b])
            close(out[codes == b], expected, 1e-12)
        close(a.grad, other.grad, 1e-12)
    for b, layer in enumerate(theirs):
        close(ours.running_mean[b], layer.running_mean, 1e-12)
        close(ours.running_var[b], layer.running_var, 1e-12)
        assert ours.num_batches_tracked[b] == layer.num_batches_tracked == (3 if b == 1 else 4)
        if affine == "per_batch":
            close(ours.weight.grad[b], layer.weight.grad, 1e-12)
            close(ours.bias.grad[b], layer.bias.grad, 1e-12)
    if affine == "shared":
        close(ours.weight.grad, theirs[0].weight.grad, 1e-12)
        close(ours.bias.grad, theirs[0].bias.grad, 1e-12)
    x, codes, _ = cells(seed=9, dtype=torch.float64)
    for b, layer in enumerate(theirs):
        close(ours.eval()(x, codes)[codes == b], layer.eval()(x[codes == b]), 1e-12)


@pytest.mark.parametrize("statistics", ["per_batch", "anchored"])
def test_batches_that_are_absent_keep_their_statistics(statistics):
    layer = norm(statistics=statistics)
    x, codes, support = cells()
    layer(x, codes, support)
    before = copy.deepcopy(layer.state_dict())
    layer(x[codes != 1], codes[codes != 1], support[codes != 1])
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        changed = (layer.state_dict()[name] != before[name]).reshape(len(before[name]), -1).any(1)
        assert changed.tolist() == [True, False, True]


def test_a_batch_with_a_single_cell_has_the_mixed_statistics():
    """In normalisation and, unbiased, in the moving average."""
    layer = norm(statistics="per_batch", momentum=1.0)
    x, codes, _ = cells()
    kept = (codes != 1) | (torch.arange(len(x)) == int((codes == 1).nonzero()[0]))
    x, codes = x[kept], codes[kept]
    assert (codes == 1).sum() == 1
    out = layer(x, codes)
    close(out[codes == 1], nn.BatchNorm1d(4)(x)[codes == 1], 1e-5)
    close(layer.running_mean[1], x.mean(0), 1e-5)
    close(layer.running_var[1], x.var(0), 1e-5)
    close(out[codes == 2], nn.BatchNorm1d(4)(x[codes == 2]), 1e-5)


@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
@pytest.mark.parametrize("statistics", STATISTICS)
def test_affine(statistics, training):
    """A scale and a shift for all, for each batch, or none: of the same normalised x."""
    x, codes, support = cells()
    layers = {affine: norm(statistics=statistics, affine=affine) for affine in AFFINES}
    out = {affine: moved(layer).train(training)(x, codes, support) for affine, layer in layers.items()}
    assert layers["none"].weight is layers["none"].bias is None
    shared, own = layers["shared"], layers["per_batch"]
    assert shared.weight.shape == (4,) and own.weight.shape == (3, 4)
    close(out["shared"], out["none"] * shared.weight + shared.bias, 1e-5)
    close(out["per_batch"], out["none"] * own.weight[codes] + own.bias[codes], 1e-5)


@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize("affine", AFFINES)
def test_inference_of_a_cell_does_not_depend_on_its_companions(statistics, affine):
    """Nor on support; and nothing is learned from it."""
    layer = moved(norm(statistics=statistics, affine=affine))
    for step in range(3):
        layer(*cells(seed=step))
    layer.eval()
    before = copy.deepcopy(layer.state_dict())
    x, codes, _ = cells(seed=9)
    together = layer(x, codes)
    close(torch.cat([layer(x[i : i + 1], codes[i : i + 1]) for i in range(len(x))]), together, 1e-5)
    assert layer(x[:0], codes[:0]).shape == (0, 4)
    close(layer.state_dict(), before, 0)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"statistics": "both"}, r"statistics must be one of 'mixed', .*; got 'both'"),
        ({"statistics": "blend"}, r"statistics must be one of 'mixed', 'per_batch', 'anchored'; got 'blend'"),
        ({"affine": True}, r"affine must be one of 'shared', 'per_batch', 'none'; got True"),
        ({"momentum": 1.5}, r"momentum must be None or a number in \[0, 1\]; got 1.5"),
        ({"momentum": -0.1}, r"momentum must .*; got -0.1"),
        ({"num_features": 0}, r"num_features must be an int >= 1; got 0"),
        ({"n_batches": 0}, r"n_batches must be an int >= 1; got 0"),
    ],
)
def test_parameters_out_of_range(wrong, message):
    with pytest.raises(ValueError, match=message):
        MixedBatchNorm(**{"num_features": 4, **wrong})


ROWS = torch.zeros(6, 4)
CODES = torch.tensor([0, 0, 0, 1, 1, 1])


@pytest.mark.parametrize(
    "statistics, inputs, message",
    [
        ("mixed", (ROWS[:, :3],), r"x must have shape \(cells, 4\); got \(6, 3\)"),
        ("per_batch", (ROWS[0], CODES), r"x must have shape \(cells, 4\); got \(4,\)"),
        ("per_batch", (ROWS,), r"batch must be given for statistics='per_batch'.* 2 batches"),
        ("per_batch", (ROWS, CODES[:5]), r"batch must hold a whole number for each of the 6 cells; .* shape \(5,\)"),
        ("per_batch", (ROWS, CODES.float()), r"batch must hold a whole number .*; got torch.float32"),
        ("per_batch", (ROWS, CODES + 1), r"batch must be codes from 0 to 1; got 1 to 2"),
        ("per_batch", (ROWS, CODES - 1), r"batch must be codes from 0 to 1; got -1 to 0"),
        ("anchored", (ROWS, CODES), r"support must be given for statistics='anchored'"),
        ("anchored", (ROWS, CODES, torch.ones(6, 3)), r"support must have shape \(6,\) or \(6, 2\); got \(6, 3\)"),
        ("mixed", (ROWS[:1],), r"MixedBatchNorm needs minibatches of at least 2 cells in training; got 1"),
        ("per_batch", (ROWS[:1], CODES[:1]), r"at least 2 cells in training; got 1"),
    ],
)
def test_inputs_out_of_range(statistics, inputs, message):
    layer = norm(2, statistics=statistics)
    before = copy.deepcopy(layer.state_dict())
    with pytest.raises(ValueError, match=message):
        layer(*inputs)
    close(layer.state_dict(), before, 0)


def test_scales_of_batches_need_batches():
    with pytest.raises(ValueError, match=r"batch must be given for statistics='mixed', affine='per_batch'"):
        norm(affine="per_batch")(ROWS)
