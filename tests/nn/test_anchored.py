"""Anchored statistics: what batches differ by in shared states is taken off, what they differ by in composition is not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from scbatchnorm.nn import MixedBatchNorm
from scbatchnorm.nn.normalization import STATISTICS

FEW = settings(max_examples=30)


def two_types(n=4000, shares=(0.2, 0.8), *, gap=4.0, seed=0):
    """x, codes, type: batch b has `shares[b]` cells of type 0; the second one is scaled by 1.5 and shifted by 3."""
    rng = np.random.default_rng(seed)
    kind = np.concatenate([(np.arange(n) >= share * n).astype(int) for share in shares])
    codes = np.repeat([0, 1], n)
    x = rng.normal(size=(2 * n, 3)) + gap * kind[:, None]
    return np.where(codes[:, None] == 1, 1.5 * x + 3, x), codes, kind


def balancing(codes, kind):
    """Weights that make both types count alike in each batch."""
    share = np.array([[np.mean(kind[codes == b] == k) for k in (0, 1)] for b in np.unique(codes)])
    return 0.5 / share[codes, kind]


def layer_of(n_batches, **kwargs):
    return MixedBatchNorm(3, n_batches, statistics="anchored", eps=1e-12, **kwargs).double()


def normalised(x, codes, support, *, statistics="anchored"):
    layer = MixedBatchNorm(3, int(codes.max()) + 1, statistics=statistics, eps=1e-12, affine="none").double()
    return layer(*(torch.as_tensor(v) for v in (x, codes, support))).detach().numpy()


def current(x, codes, support, n_batches):
    """Mean and unbiased variance that the layer takes from one minibatch."""
    layer = layer_of(n_batches, momentum=1.0)
    layer(*(torch.as_tensor(v) for v in (x, codes, support)))
    return layer.running_mean.numpy(), layer.running_var.numpy()


def between(y, codes, kind, k):
    """Difference of the means of type k in the two batches, in standard deviations, and ratio of these."""
    one, other = (y[(kind == k) & (codes == b)] for b in (0, 1))
    sd = np.sqrt((one.var(0) + other.var(0)) / 2)
    return (one.mean(0) - other.mean(0)) / sd, other.std(0) / one.std(0)


def fit(edge, difference):
    """Values whose differences are closest to `difference`, by weighted least squares over all pairs."""
    n = len(edge)
    equations, values = [np.zeros(n)], [np.zeros(difference.shape[2])]
    for a in range(n):
        for b in range(a):
            equations.append(np.sqrt(edge[a, b]) * (np.eye(n)[a] - np.eye(n)[b]))
            values.append(np.sqrt(edge[a, b]) * difference[a, b])
    return np.linalg.lstsq(np.array(equations), np.array(values), rcond=1e-9)[0]


def reference(x, codes, support, n, ddof):
    """Mean and variance of each batch, cell by cell: a pair of batches after the other, then all cells together."""
    support = np.broadcast_to(support.T, (n, len(x))).T if support.ndim == 1 else support
    weight, mean, log_var = np.zeros((n, n)), np.zeros((n, n, 3)), np.zeros((n, n, 3))
    for a in range(n):
        for b in range(n):
            rows, w = x[codes == a], support[codes == a, b] * (a != b)
            weight[a, b] = w.sum()
            mean[a, b] = np.average(rows, axis=0, weights=w) if w.sum() else 0
            squares = (w[:, None] * (rows - mean[a, b]) ** 2).sum(0)
            log_var[a, b] = np.log((squares + 8 * x.var(0)) / (w.sum() + 8))
    both = np.where(weight * weight.T > 0, weight + weight.T, 1)
    edge = weight * weight.T / both
    offset = fit(edge, mean - mean.transpose(1, 0, 2))
    scale = np.exp(fit(edge, log_var - log_var.transpose(1, 0, 2)) / 2)
    middle = x.mean(0)
    if weight.any():
        middle = np.einsum("ab,abf->f", weight, mean - offset[:, None]) / weight.sum()
    rest = (x - middle - offset[codes]) / scale[codes]
    return middle + offset + scale * rest.mean(0), scale**2 * rest.var(0, ddof=ddof)


def three_batches(seed, *, n=60):
    """Batches of different size, and weights of which some are 0; sometimes two batches share nothing."""
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.repeat([0, 1, 2], [n // 6, n // 3, n // 2]))
    x = rng.normal(size=(n, 3)) * rng.uniform(0.5, 2, (3, 3))[codes] + rng.normal(0, 3, (3, 3))[codes]
    support = rng.uniform(0, 2, (n, 3)) * (rng.random((n, 3)) > 0.3)
    if seed % 2:
        support[codes == 0, 2] = 0
    return x, codes, support


@pytest.mark.parametrize("k", [0, 1])
def test_same_types_agree_whatever_the_composition(k):
    """20/80 against 80/20: per batch the types are pushed apart by what composition does, mixed the shift stays."""
    x, codes, kind = two_types()
    support = balancing(codes, kind)
    found = {s: between(normalised(x, codes, support, statistics=s), codes, kind, k) for s in STATISTICS}
    shift, ratio = found["anchored"]
    assert (np.abs(shift) < 0.1).all() and (np.abs(ratio - 1) < 0.1).all()
    np.testing.assert_allclose(found["mixed"], between(x, codes, kind, k), rtol=1e-6)
    assert (found["mixed"][0] < -2).all()
    # Means 4 * 0.8 and 4 * 0.2 of the batches, variance 1 within types and 16 * 0.2 * 0.8 between them.
    apart = normalised(x, codes, support, statistics="per_batch")
    apart = apart[(kind == k) & (codes == 1)].mean(0) - apart[(kind == k) & (codes == 0)].mean(0)
    np.testing.assert_allclose(apart, 4 * 0.6 / np.sqrt(1 + 16 * 0.16), atol=0.05)


@FEW
@given(st.integers(0, 1000))
@example(0)
@example(1)
def test_statistics_are_those_of_a_direct_computation(seed):
    """Biased in normalisation, unbiased in the moving average."""
    x, codes, support = three_batches(seed)
    mean, var = reference(x, codes, support, 3, 0)
    y = normalised(x, codes, support)
    np.testing.assert_allclose(y, (x - mean[codes]) / np.sqrt(var[codes]), rtol=1e-8, atol=1e-8)
    running = current(x, codes, support, 3)
    np.testing.assert_allclose(running, reference(x, codes, support, 3, 1), rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(running[1], var * 60 / 59)


@FEW
@given(st.lists(st.integers(0, 60), max_size=5), st.integers(0, 9))
@example([0, 5, 5], 0)
@example([], 1)
def test_recalibrated_are_those_of_all_cells(cuts, seed):
    """Chunks of any size, in some of which batches are missing, or all cells."""
    x, codes, support = three_batches(seed)
    order = np.argsort(codes, kind="stable")
    layer = layer_of(3)
    layer.recalibrate(
        tuple(torch.as_tensor(v[rows]) for v in (x, codes, support)) for rows in np.split(order, sorted(cuts))
    )
    expected = reference(x, codes, support, 3, 1)
    np.testing.assert_allclose(layer.running_mean, expected[0], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(layer.running_var, expected[1], rtol=1e-9, atol=1e-9)


def test_what_batches_share_with_others_is_passed_on():
    """Batches 0 and 2 share nothing with each other, but both, one of them little, share with 1: all three agree."""
    rng = np.random.default_rng(0)
    base = rng.normal(size=(500, 3))
    x = np.concatenate([base, 2 * base + 5, 0.5 * base - 3])
    codes = np.repeat([0, 1, 2], 500)
    support = 1e10 * (np.abs(np.subtract.outer(codes, [0, 1, 2])) == 1).astype(float)
    support[codes == 2] *= 1e-4
    y = normalised(x, codes, support).reshape(3, 500, 3)
    np.testing.assert_allclose(y, np.broadcast_to(y[0], y.shape), atol=1e-4)
    np.testing.assert_allclose([y.mean((0, 1)), y.std((0, 1))], [[0] * 3, [1] * 3], atol=1e-9)


def test_nothing_is_taken_off_a_batch_that_shares_nothing():
    """It is moved as all cells are after the others are aligned; where no batch shares, all are normalised as mixed."""
    x, codes, support = three_batches(0)
    support[codes == 2], support[:, 2] = 0, 0
    mean, var = current(x, codes, support, 3)
    aligned = x.copy()
    for b in (0, 1):
        aligned[codes == b] = (x[codes == b] - mean[b]) * np.sqrt(var[2] / var[b]) + mean[2]
    np.testing.assert_allclose(mean[2], aligned.mean(0), atol=1e-9)
    np.testing.assert_allclose(var[2], aligned.var(0, ddof=1), atol=1e-9)
    # The offsets of the two are about none: where the middle of what they share was, it stays.
    means = [np.average(x[codes == b], axis=0, weights=support[codes == b, 1 - b]) for b in (0, 1)]
    offset = (means[0] - means[1]) / 2
    assert np.abs(offset).max() > 0.5
    both = [np.sqrt(var[2] / var[b]) * (means[b] - mean[b]) + mean[2] for b in (0, 1)]
    np.testing.assert_allclose(both, [means[0] - offset, means[1] + offset], atol=1e-9)
    alone = normalised(x, codes, np.zeros(60))
    np.testing.assert_allclose(alone, normalised(x, codes, support, statistics="mixed"), atol=1e-9)


@FEW
@given(st.integers(2, 6), st.integers(0, 1), st.integers(0, 1), st.integers(0, 20))
@example(6, 0, 1, 0)
def test_more_cells_of_a_type_move_nothing(times, b, k, seed):
    """With weights that are less by as much: what one batch is taken to be in terms of the other stays."""
    x, codes, kind = two_types(60, seed=seed)
    support = 1e6 * balancing(codes, kind)  # beside so many cells the prior of the variances is nothing
    again = np.repeat(np.arange(120), np.where((codes == b) & (kind == k), times, 1))
    divided = support / np.where((codes == b) & (kind == k), times, 1)
    maps = []
    for rows, weights in ((np.arange(120), support), (again, divided)):
        mean, var = current(x[rows], codes[rows], weights[rows], 2)
        slope = np.sqrt(var[1] / var[0])
        maps.append((slope, mean[1] - slope * mean[0]))
    np.testing.assert_allclose(maps[1], maps[0], rtol=1e-6, atol=1e-6)
    # Per batch it does move, which is what the test is about.
    plain = [np.mean(x[rows][codes[rows] == b], axis=0) for rows in (np.arange(120), again)]
    assert np.abs(plain[0] - plain[1]).max() > 0.1


@pytest.mark.parametrize("loc", [0.0, 100.0])
def test_single_precision_is_as_good(loc):
    x, codes, support = three_batches(0, n=600)
    x = (x + loc).astype(np.float32).astype(np.float64)
    layer = MixedBatchNorm(3, 3, statistics="anchored", momentum=1.0)
    layer(torch.as_tensor(x).float(), torch.as_tensor(codes), torch.as_tensor(support))
    mean, var = reference(x, codes, support, 3, 1)
    np.testing.assert_allclose((layer.running_mean.numpy() - mean) / np.sqrt(var), 0, atol=2e-5 if loc == 0 else 2e-4)
    np.testing.assert_allclose(layer.running_var, var, rtol=2e-5 if loc == 0 else 2e-4)


def test_support_by_all_others_alike():
    x, codes, support = three_batches(1)
    one = normalised(x, codes, support[:, 0])
    np.testing.assert_allclose(one, normalised(x, codes, np.repeat(support[:, :1], 3, axis=1)), rtol=0, atol=0)


def test_support_by_the_own_batch_does_not_count():
    x, codes, support = three_batches(0)
    own = support + 100 * np.eye(3)[codes]
    np.testing.assert_allclose(normalised(x, codes, own), normalised(x, codes, support), rtol=1e-12)


def test_inference_asks_for_no_support():
    x, codes, support = (torch.as_tensor(v) for v in three_batches(0))
    layer = layer_of(3, momentum=1.0, affine="none")
    layer(x, codes, support)
    expected = (x - layer.running_mean[codes]) / layer.running_var[codes].sqrt()
    torch.testing.assert_close(layer.eval()(x, codes), expected)


class Count(TorchDispatchMode):
    """Counts the operations on tensors."""

    n = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.n += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("statistics", STATISTICS)
def test_the_number_of_operations_does_not_grow_with_the_batches(statistics):
    """No loop over batches, and none over their pairs, forward or backward."""
    counts = []
    for n_batches in (2, 20):
        layer = MixedBatchNorm(4, n_batches, statistics=statistics, affine="per_batch")
        with Count() as count:
            x = torch.randn(80, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
            layer(x, torch.arange(80) % n_batches, torch.ones(80)).sum().backward()
        counts.append(count.n)
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("wrong", [-0.5, float("nan")])
def test_support_is_not_negative(wrong):
    support = torch.tensor([1.0, 1.0, wrong, 1.0])
    with pytest.raises(ValueError, match=f"support must be numbers >= 0; got {wrong:g}"):
        MixedBatchNorm(2, 2, statistics="anchored")(torch.randn(4, 2), torch.tensor([0, 0, 1, 1]), support)
