"""The displacement of anchors, the discriminator's loss and the reversed gradient: formulas, and what they let be."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from scbatchnorm._method.training import losses as _losses
from scbatchnorm._method.training.losses import displacement_loss, pairwise_domain_loss, reverse_gradient


def weights(left, right, group):
    """Kernel over anchors of the same group, one row at a time."""
    n = len(left)
    middle = (left + right) / 2
    kernel = np.zeros((n, n))
    for p in range(n):
        same = [q for q in range(n) if group[q] == group[p]]
        square = {q: float(((middle[p] - middle[q]) ** 2).sum()) for q in same}
        nearest = sorted(square.values())[: _losses._RANK + 1]  # the anchor itself is the first
        width = max(_losses._WIDTH * nearest[-1], 1e-12)
        for q in same:
            kernel[p, q] = np.exp(-square[q] / width)
    return kernel / kernel.sum(axis=1, keepdims=True)


def anchors(n=60, d=4, n_groups=2, seed=0):
    rng = np.random.default_rng(seed)
    left = rng.normal(size=(n, d))
    return left, left + 0.5 * rng.normal(size=(n, d)), rng.integers(n_groups, size=n)


def displacement(left, right, group):
    found = displacement_loss(torch.as_tensor(left), torch.as_tensor(right), torch.as_tensor(group))
    assert found.shape == ()
    return float(found)


@pytest.mark.parametrize("n, n_groups", [(60, 1), (60, 3), (60, 30), (8, 2), (1, 1)])
def test_displacement_is_the_formula(n, n_groups):
    """Groups larger and smaller than the rank that sets the width, and anchors alone in their group."""
    left, right, group = anchors(n, n_groups=n_groups)
    kernel = weights(left, right, group)
    total = 0.0
    for p in range(n):
        mean = sum(kernel[p, q] * (left[q] - right[q]) for q in range(n))
        total += float((mean**2).sum())
    assert displacement(left, right, group) == pytest.approx(total / n, rel=1e-6)


def test_single_precision_is_as_good():
    """Also for anchors that are alone, whose distance to themselves is rounding only."""
    left, right, group = anchors(200, n_groups=80)
    left, right = left + 30, right + 30
    single = displacement(left.astype(np.float32), right.astype(np.float32), group)
    assert single == pytest.approx(displacement(left, right, group), rel=0.02)


def test_identical_pairs_lose_nothing():
    left, _, group = anchors()
    assert displacement(left, left, group) == 0


def test_common_shift_is_lost_in_full():
    """A displacement that all anchors share is its square, whatever the kernel."""
    left, _, group = anchors()
    shift = np.array([1.0, 2.0, 0.0, -1.0])
    assert displacement(left, left - shift, group) == pytest.approx(6)


def test_spread_within_a_type_is_let_be():
    """Displacements as long as a common shift, but in all directions, cost a fraction of it."""
    rng = np.random.default_rng(0)
    n, d = 400, 10
    left = rng.normal(0, 0.05, (n, d))
    spread = rng.normal(size=(n, d))
    spread /= np.linalg.norm(spread, axis=1, keepdims=True)
    shift = spread[:1].repeat(n, axis=0)
    group = np.zeros(n, dtype=int)
    common = displacement(left + shift / 2, left - shift / 2, group)
    around = displacement(left + spread / 2, left - spread / 2, group)
    assert common == pytest.approx(1)
    assert around < 0.3 * common
    assert around < 0.3 * (spread**2).sum(axis=1).mean()


def test_groups_are_not_averaged_with_each_other():
    """Two pairs of batches with opposite shifts at the same place do not cancel."""
    left = np.random.default_rng(0).normal(size=(40, 3))
    group = np.arange(40) % 2
    shift = np.where(group[:, None] == 0, 1.0, -1.0) * np.array([1.0, 0, 0])
    left, right = left + shift / 2, left - shift / 2
    assert displacement(left, right, group) == pytest.approx(1)
    assert displacement(left, right, np.zeros(40, dtype=int)) < 0.5


def test_distant_types_are_not_averaged_with_each_other():
    """Displacements are smoothed among neighbours: opposite ones of two separate types both count."""
    rng = np.random.default_rng(0)
    middle = rng.normal(0, 0.1, (60, 3)) + 20 * (np.arange(60) % 2)[:, None]
    shift = np.where(np.arange(60) % 2 == 0, 1.0, -1.0)[:, None] * np.array([1.0, 0, 0])
    assert displacement(middle + shift / 2, middle - shift / 2, np.zeros(60, dtype=int)) == pytest.approx(1)


def test_anchors_at_one_place():
    """Equal pairs, whose kernel has no width."""
    left, right = np.ones((30, 3), np.float32), np.zeros((30, 3), np.float32)
    assert displacement(left, right, np.zeros(30, dtype=int)) == pytest.approx(3, rel=1e-5)


def test_gradient_is_that_of_the_smoothed_square_with_a_fixed_kernel():
    """Both sides are pulled, and the kernel is no way to lower the loss."""
    left, right, group = anchors()
    kernel = torch.from_numpy(weights(left, right, group))
    a, b = (torch.tensor(side, requires_grad=True) for side in (left, right))
    found = torch.autograd.grad(displacement_loss(a, b, torch.from_numpy(group)), (a, b))
    expected = torch.autograd.grad((kernel @ (a - b)).square().sum(1).mean(), (a, b))
    for side in (0, 1):
        assert found[side].abs().max() > 1e-3
        torch.testing.assert_close(found[side], expected[side])
    torch.testing.assert_close(found[0], -found[1])


def test_following_the_gradient_brings_batches_together():
    left, right, group = (torch.from_numpy(a) for a in anchors(n_groups=1))
    right = right + 2
    left.requires_grad_()
    for _ in range(50):
        (gradient,) = torch.autograd.grad(displacement_loss(left, right, group), left)
        left = (left - 5 * gradient).detach().requires_grad_()
    assert (left - right).mean(0).abs().max() < 0.5


@pytest.mark.parametrize("weight", [0.0, 0.5, 2.0])
def test_reverse_gradient(weight):
    """The value passes unchanged, the gradient turned round and weighted."""
    x = torch.tensor([[1.0, -2.0], [0.5, 3.0]], requires_grad=True)
    out = reverse_gradient(x, weight)
    torch.testing.assert_close(out, x, rtol=0, atol=0)
    out.pow(2).sum().backward()
    torch.testing.assert_close(x.grad, -weight * 2 * x.detach())


def test_reverse_gradient_sets_players_against_each_other():
    """What is behind it ascends the loss that what is in front of it descends."""
    x, w = torch.tensor([2.0], requires_grad=True), torch.tensor([3.0], requires_grad=True)
    (w * reverse_gradient(x, 0.5)).sum().backward()
    assert w.grad is not None and x.grad is not None
    assert w.grad.item() == 2
    assert x.grad.item() == -1.5


def test_discrimination_of_two_batches_is_a_weighted_cross_entropy():
    rng = np.random.default_rng(0)
    guess, codes = torch.as_tensor(rng.normal(size=(40, 2))), torch.as_tensor(rng.integers(2, size=40))
    weight = torch.as_tensor(rng.random(40))
    other = torch.zeros(40, 2, dtype=torch.float64).scatter(1, 1 - codes[:, None], weight[:, None])
    expected = (weight * torch.nn.functional.cross_entropy(guess, codes, reduction="none")).mean()
    torch.testing.assert_close(pairwise_domain_loss(guess, codes, other), expected)


@pytest.mark.parametrize("n_batches", [2, 3, 8])
def test_discrimination_by_guessing_costs_what_a_cross_entropy_does(n_batches):
    codes = torch.arange(40) % n_batches
    weight = (1 - torch.eye(n_batches)[codes]) / (n_batches - 1)
    found = pairwise_domain_loss(torch.zeros(40, n_batches), codes, weight)
    assert float(found) == pytest.approx(np.log(n_batches), rel=1e-5)


def test_discrimination_asks_a_cell_only_about_its_counterparts():
    """A batch without weight may be guessed or not: no loss and no gradient."""
    guess = torch.tensor([[0.0, 1.0, 5.0]], requires_grad=True)
    found = pairwise_domain_loss(guess, torch.tensor([0]), torch.tensor([[0.0, 1.0, 0.0]]))
    assert float(found.detach()) == pytest.approx(np.log2(3) * np.log1p(math.e), rel=1e-5)
    (gradient,) = torch.autograd.grad(found, guess)
    own, counterpart, other = gradient[0].tolist()
    assert own < 0 < counterpart
    assert other == 0
