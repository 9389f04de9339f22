"""The discriminator judges each cell by itself, and can learn batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from scbatchnorm.nn import discriminator
from scbatchnorm.nn._statistics import BatchStatistics
from scbatchnorm.nn.network import MINIBATCH_NORMS


def cells(n=40, d=5, n_batches=3, seed=0):
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.normal(size=(n, d)).astype(np.float32))
    return x, torch.from_numpy(rng.integers(n_batches, size=n))


@pytest.mark.parametrize("norm", ["layer", "spectral"])
def test_discriminator_judges_each_cell_on_its_own(norm):
    """No BatchNorm: statistics of the minibatch would tell it the batches in it."""
    critic = discriminator(5, 4, 16, norm=norm)
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm | BatchStatistics) for m in critic.modules())
    x, _ = cells()
    with torch.no_grad():
        critic(x)
        critic.eval()  # in training the spectral norms are estimated anew at each call
        together = critic(x)
        assert together.shape == (40, 4)
        torch.testing.assert_close(torch.cat([critic(row[None]) for row in x]), together, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("norm", MINIBATCH_NORMS)
def test_discriminator_refuses_statistics_of_minibatches(norm):
    with pytest.raises(
        ValueError, match=rf"norm must be one of 'layer', 'spectral'; got {norm!r}\. .*the answer leaks"
    ):
        discriminator(5, 3, 16, norm=norm)


@pytest.mark.parametrize("norm", ["none", "other", None])
def test_discriminator_knows_its_norms(norm):
    with pytest.raises(ValueError, match=rf"got {norm!r}\.$"):
        discriminator(5, 3, 16, norm=norm)


def test_spectral_discriminator_is_gentle():
    """Each of its maps has norm 1, so the guess moves no further than the point."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        critic = discriminator(5, 3, 16, norm="spectral")
        for _ in range(100):
            critic(torch.randn(8, 5))
    critic.eval()
    x, _ = cells()
    with torch.no_grad():
        moved = (critic(x[:20]) - critic(x[20:])).norm(dim=1)
    assert (moved <= 1.001 * (x[:20] - x[20:]).norm(dim=1)).all()


@pytest.mark.parametrize("norm", ["layer", "spectral"])
def test_discriminator_sees_how_far_out_a_point_is(norm):
    """Not its direction only, as with LayerNorm of linear maps without bias."""
    critic = discriminator(5, 3, 16, norm=norm).eval()
    x, _ = cells()
    with torch.no_grad():
        assert (critic(3 * x) - critic(x)).abs().max() > 0.01


@pytest.mark.parametrize("norm", ["layer", "spectral"])
def test_discriminator_can_learn_batches(norm):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        critic = discriminator(5, 3, 16, norm=norm)
    x, codes = cells(200)
    x = x + 3 * torch.eye(3, 5)[codes]
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(critic(x), codes).backward()
        optimizer.step()
    assert (critic(x).argmax(1) == codes).float().mean() > 0.9
