"""WhitenedBatchNorm: what whitening is, where the iteration goes, what shrinkage leaves."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import linalg
from sklearn.covariance import shrunk_covariance

from scbatchnorm.nn import WhitenedBatchNorm

METHODS = ("newton_schulz", "cholesky")
FEW = settings(max_examples=20)


def rows(n=200, d=5, seed=0):
    """Correlated features of different scale, away from 0."""
    rng = np.random.default_rng(seed)
    turn = linalg.qr(rng.normal(size=(d, d)))[0]
    return torch.from_numpy(rng.normal(size=(n, d)) @ np.diag(np.linspace(0.3, 3, d)) @ turn + rng.normal(0, 3, d))


def layer_of(**kwargs):
    return WhitenedBatchNorm(5, **kwargs).double()


def moved(layer, seed=0):
    """`layer` with scale and shift off their start."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in layer.parameters():
        parameter.data += 0.5 * torch.randn(parameter.shape, generator=generator)
    return layer


def covariance(x, shrinkage=0.0, eps=0.0):
    """That of scikit-learn, biased, shrunk to a multiple of the identity, with `eps` added to the variances."""
    return shrunk_covariance(np.cov(np.asarray(x.detach()).T, ddof=0), shrinkage) + eps * np.eye(x.shape[1])


def close(found, expected, tolerance=1e-9):
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=tolerance, atol=tolerance)


@FEW
@given(st.integers(6, 300), st.integers(0, 9))
@example(6, 0)
def test_cholesky_leaves_no_correlation(n, seed):
    """In training, without shrinkage: mean 0, variance 1, no correlation, exactly; also with few cells."""
    y = layer_of(method="cholesky", shrinkage=0.0, eps=1e-30)(rows(n, seed=seed)).detach()
    close(y.mean(0), np.zeros(5), 1e-8)
    close(covariance(y), np.eye(5), 1e-6)


@FEW
@given(st.sampled_from(METHODS), st.floats(0, 1), st.integers(0, 9))
@example("cholesky", 0.0, 0)
@example("newton_schulz", 0.0, 0)
def test_whitener_is_the_root_of_scipy(method, shrinkage, seed):
    """Of the shrunk covariance: the symmetric root, or the inverse of the triangular one."""
    x = rows(seed=seed)
    layer = layer_of(method=method, shrinkage=shrinkage, n_iterations=60)
    shrunk = covariance(x, shrinkage, layer.eps)
    root = linalg.cholesky(shrunk, lower=True) if method == "cholesky" else linalg.sqrtm(shrunk).real
    matrix = layer.whitener(torch.from_numpy(covariance(x))).numpy()
    close(matrix, linalg.inv(root), 1e-7)
    close(matrix @ shrunk @ matrix.T, np.eye(5), 1e-7)
    close(layer(x).detach(), (x.numpy() - x.numpy().mean(0)) @ linalg.inv(root).T, 1e-6)


def test_symmetric_root_moves_cells_least():
    """Of all maps to white features: less than the triangular one, and than the symmetric one turned."""
    x = rows() - rows().mean(0)
    out = {m: layer_of(method=m, shrinkage=0.0, n_iterations=60, eps=1e-12)(x).detach() for m in METHODS}
    turn = torch.from_numpy(linalg.expm(np.triu(np.full((5, 5), 0.1), 1) - np.tril(np.full((5, 5), 0.1), -1)))
    moved_by = lambda y: float((y - x).square().sum())
    symmetric = out["newton_schulz"]
    assert moved_by(symmetric) < min(
        moved_by(out["cholesky"]), moved_by(symmetric @ turn), moved_by(symmetric @ turn.T)
    )
    matrix = layer_of(n_iterations=3).whitener(torch.from_numpy(covariance(x)))
    close(matrix, matrix.T, 1e-12)


def test_iterations_approach_the_root_from_below():
    """With few of them directions of little variance stay below variance 1, none gets above."""
    x = rows()
    spectra = []
    for n_iterations in (1, 2, 3, 5, 8, 12, 60):
        y = layer_of(n_iterations=n_iterations, shrinkage=0.0, eps=1e-12)(x)
        spectra.append(linalg.eigvalsh(covariance(y)))
    assert (np.diff(spectra, axis=0) >= -1e-9).all()
    assert np.max(spectra) < 1 + 1e-9 and spectra[0][0] < 0.5
    close(spectra[-1], np.ones(5))


@pytest.mark.parametrize("method", METHODS)
def test_shrinkage_1_leaves_correlations(method):
    """Then the layer is one scaling of all features: to an average variance of 1."""
    x = rows()
    y = layer_of(method=method, shrinkage=1.0, n_iterations=60, eps=1e-12)(x).detach()
    close(y, (x - x.mean(0)) / np.sqrt(np.trace(covariance(x)) / 5))
    close(np.corrcoef(y.T), np.corrcoef(x.T))
    assert np.abs(np.corrcoef(y.T) - np.eye(5)).max() > 0.3


@pytest.mark.parametrize("method", METHODS)
def test_more_features_than_cells(method):
    """The covariance alone is singular; shrunk it is not, and no direction gets more than a whole variance."""
    x = rows(4, 5)
    y = layer_of(method=method, n_iterations=60)(x).detach()
    assert (linalg.eigvalsh(covariance(y)) < 1 / (1 - layer_of().shrinkage)).all()
    assert y.isfinite().all()


@pytest.mark.parametrize("momentum", [0.1, None])
def test_moving_average(momentum):
    """Of means and unbiased covariances, by which cells are whitened in inference, each by itself."""
    layer = moved(layer_of(momentum=momentum, method="cholesky"))
    mean, cov = np.zeros(5), np.eye(5)
    for step in range(4):
        x = rows(30, seed=step)
        layer(x)
        share = 1 / (step + 1) if momentum is None else momentum
        mean = (1 - share) * mean + share * x.numpy().mean(0)
        cov = (1 - share) * cov + share * np.cov(x.T)
    close(layer.running_mean, mean, 1e-7)
    close(layer.running_cov, cov, 1e-7)
    assert layer.num_batches_tracked == 4
    x = rows(20, seed=9)
    before = copy.deepcopy(layer.eval().state_dict())
    together = layer(x, torch.arange(20)).detach()
    root = linalg.cholesky((0.9 * cov + (0.1 * np.trace(cov) / 5 + 1e-5) * np.eye(5)), lower=True)
    whitened = linalg.solve_triangular(root, (x.numpy() - mean).T, lower=True).T
    close(together, whitened * layer.weight.detach().numpy() + layer.bias.detach().numpy(), 1e-6)
    close(torch.cat([layer(x[i : i + 1]) for i in range(20)]).detach(), together)
    assert layer(x[:0]).shape == (0, 5)
    torch.testing.assert_close(layer.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("method", METHODS)
def test_frozen_affine_is_what_inference_does(method):
    """A matrix and a shift, of which the bound on the Lipschitz constant is the norm: reached."""
    layer = moved(layer_of(method=method))
    for step in range(5):
        layer(rows(seed=step))
    matrix, shift = layer.frozen_affine()
    x = rows(30, seed=9)
    close((x @ matrix.T + shift).detach(), layer.eval()(x).detach(), 1e-12)
    assert not matrix.requires_grad and not shift.requires_grad
    values = linalg.svd(matrix.numpy())
    assert layer.lipschitz_bound() == pytest.approx(values[1][0])
    steepest = torch.from_numpy(np.stack([np.zeros(5), values[2][0]]))
    change = layer(steepest).detach()
    assert float((change[1] - change[0]).norm()) == pytest.approx(layer.lipschitz_bound())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
def test_gradients(method, training):
    """Through the covariance and its root, too."""
    layer = moved(layer_of(method=method))
    layer(rows(seed=1))
    layer.train(training)

    def function(x, weight, bias):
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    assert torch.autograd.gradcheck(function, (rows(8).requires_grad_(), layer.weight, layer.bias))


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"method": "zca"}, "method must be one of 'newton_schulz', 'cholesky'; got 'zca'"),
        ({"n_iterations": 0}, "n_iterations must be an int >= 1; got 0"),
        ({"shrinkage": 1.5}, r"shrinkage must be a number in \[0, 1\]; got 1.5"),
        ({"shrinkage": -0.1}, r"shrinkage must be a number in \[0, 1\]; got -0.1"),
        ({"shrinkage": float("nan")}, r"shrinkage must be a number in \[0, 1\]; got nan"),
        ({"momentum": -1.0}, r"momentum must be None or a number in \[0, 1\]; got -1.0"),
        ({"num_features": 0}, "num_features must be an int >= 1; got 0"),
    ],
)
def test_parameters_out_of_range(wrong, message):
    with pytest.raises(ValueError, match=message):
        WhitenedBatchNorm(**{"num_features": 5, **wrong})


@pytest.mark.parametrize(
    "x, message",
    [
        (torch.zeros(6, 4), r"x must have shape \(cells, 5\); got \(6, 4\)"),
        (torch.zeros(5), r"x must have shape \(cells, 5\); got \(5,\)"),
        (torch.zeros(1, 5), "WhitenedBatchNorm needs minibatches of at least 2 cells in training; got 1"),
    ],
)
def test_inputs_out_of_range(x, message):
    layer = WhitenedBatchNorm(5)
    with pytest.raises(ValueError, match=message):
        layer(x)
    assert layer.num_batches_tracked == 0


def test_printed_with_its_parameters():
    assert repr(WhitenedBatchNorm(5, method="cholesky", shrinkage=0.2)) == (
        "WhitenedBatchNorm(5, method='cholesky', shrinkage=0.2, momentum=0.1, eps=1e-05)"
    )


@pytest.mark.parametrize("n_features", [32, 96, 128])
def test_default_iterations_are_enough_for_wide_layers(n_features):
    """What is white already stays of variance 1."""
    layer = WhitenedBatchNorm(n_features, shrinkage=0.0)
    x = torch.randn(4000, n_features, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer(x).var(0).mean(), torch.tensor(1.0), rtol=0, atol=0.02)
