"""A short training on small data, and ways to disturb it."""

from __future__ import annotations

import numpy as np
import torch

from scbatchnorm import BatchNormAutoencoder
from scbatchnorm._method.parameters import FitParameters
from scbatchnorm._method.training.loop import train_network
from scbatchnorm._method.training.losses import displacement_loss
from scbatchnorm._runtime import progress as _progress
from scbatchnorm._runtime.progress import tqdm

CPU = torch.device("cpu")


def brief(**changes):
    """Parameters of a training of 24 steps in 4 refreshes."""
    model = BatchNormAutoencoder(
        n_hidden=16, min_steps=24, max_steps=24, minibatch_size=32, n_refreshes=4, **{"n_layers": 1, **changes}
    )
    return FitParameters.from_params(model.get_params())


def kinds(n):
    """Type of each of the cells below."""
    return np.random.default_rng(1).integers(3, size=n)


def cells(n=200, n_batches=2):
    """Three types in five components; batches differ by a shift that depends on the type."""
    rng = np.random.default_rng(0)
    kind, codes = kinds(n), rng.permutation(np.arange(n) % n_batches)
    centre = 2 * np.eye(3, 5)
    points = centre[kind] + rng.normal(0, 0.4, (n, 5)) + 0.6 * codes[:, None] * np.roll(centre, 1, axis=0)[kind]
    return points.astype(np.float32), codes.astype(np.int64)


def train(settings=None, *, points=None, codes=None, seed=0, progress=False):
    if points is None:
        points, codes = cells()
    rng = np.random.default_rng(seed)
    return train_network(points, codes, settings or brief(), rng, device=CPU, progress=progress)


def weights(trained):
    return {name: value.clone() for name, value in trained.network.state_dict().items()}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def assert_finite(trained):
    assert all(torch.isfinite(value).all() for value in trained.network.state_dict().values())


def assert_identity(trained):
    """The network is as it starts."""
    x = torch.ones(3, 5)
    torch.testing.assert_close(trained.network.encode(x, torch.zeros(3, dtype=torch.long)), x)


def steps_seen(trained):
    """Minibatches that the BatchNorm layers have counted."""
    return {int(value) for name, value in trained.network.state_dict().items() if name.endswith("num_batches_tracked")}


def on_update(monkeypatch, number, error):
    """Raise `error` when the bar is moved for the `number`-th time, which is after that step."""

    class Bar(tqdm):
        moved = 0

        def update(self, n=1):
            Bar.moved += 1
            if Bar.moved == number:
                raise error
            return super().update(n)

    monkeypatch.setattr(_progress, "tqdm", Bar)


def on_step(monkeypatch, number, change):
    """Let `change` replace the displacement of the `number`-th step."""
    displacement, count = displacement_loss, 0

    def replaced(left, right, group):
        nonlocal count
        count += 1
        value = displacement(left, right, group)
        return change(left, value) if count == number else value

    monkeypatch.setattr("scbatchnorm._method.training.trainer.displacement_loss", replaced)


def not_finite(left, value):
    return value * float("nan")


def not_finite_gradient(left, value):
    """The loss is as it was, but the root at 0 has a gradient of inf * 0."""
    return value + (0 * left.sum()).sqrt()
