"""The stem is PCA, whatever holds the matrix; its maps invert each other; sparse data stay sparse."""

from __future__ import annotations

import dataclasses
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.decomposition import PCA, TruncatedSVD
from threadpoolctl import threadpool_limits

from scbatchnorm._method.pca import batchwise_scores
from scbatchnorm._method.stem import Stem, fit_identity_stem, fit_stem


def fit_pca(X, n_components, rng):
    return fit_stem(X, "pca", n_components, n_components, rng)[0]


def expression(n=200, g=60, seed=0, *, rank=6):
    """Log-normalised look-alike: non-negative, about half zeros, a few strong axes."""
    rng = np.random.default_rng(seed)
    programs = rng.normal(size=(rank, g)) * np.arange(rank, 0, -1)[:, None]
    return np.maximum(rng.normal(size=(n, rank)) @ programs + rng.normal(0, 0.5, (n, g)), 0).astype(np.float32)


def up_to_sign(a, b):
    """`a` with its columns turned to point like those of `b`."""
    return a * np.sign((a * b).sum(axis=0))


def zscored_pca(X, codes, k):
    """Scores of genes z-scored within each batch, clipped at 10 from above, by full SVD of the dense matrix."""
    X = X.astype(np.float64)
    scaled = np.empty_like(X)
    for b in np.unique(codes):
        block = X[codes == b]
        mean, sd = block.mean(axis=0), block.std(axis=0) + 0.01
        z = np.minimum((block - mean) / sd, 10)
        scaled[codes == b] = z - z.mean(axis=0)
    u, s, _ = np.linalg.svd(scaled, full_matrices=False)
    return u[:, :k] * s[:k]


def test_components_are_those_of_pca():
    X = expression()
    stem = fit_pca(X, 5, np.random.default_rng(0))
    pca = PCA(5, svd_solver="full").fit(X.astype(np.float64))
    np.testing.assert_allclose(stem.components.T @ stem.components, np.eye(5), atol=1e-5)
    np.testing.assert_allclose(up_to_sign(stem.components, pca.components_.T), pca.components_.T, atol=1e-4)
    np.testing.assert_allclose(stem.mean, X.mean(axis=0, dtype=np.float64), rtol=1e-5)
    scores = pca.transform(X.astype(np.float64))
    embedding = stem.embed(stem.encode(X))
    np.testing.assert_allclose(up_to_sign(embedding, scores), scores, atol=2e-3)


@pytest.mark.parametrize("sign", [1, -1])
def test_axes_are_signed(sign):
    """The largest entry of an axis is positive, so that repeated fits point the same way."""
    stem = fit_pca(sign * expression(), 5, np.random.default_rng(0))
    largest = np.abs(stem.components).argmax(axis=0)
    assert (stem.components[largest, np.arange(5)] > 0).all()


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array])
def test_sparse_equals_dense(kind):
    X = expression()
    dense = fit_pca(X, 5, np.random.default_rng(0))
    found = fit_pca(kind(X), 5, np.random.default_rng(0))
    np.testing.assert_allclose(found.components, dense.components, atol=1e-4)
    np.testing.assert_allclose(found.mean, dense.mean, rtol=1e-5)
    assert found.scale == pytest.approx(dense.scale, rel=1e-5)
    np.testing.assert_allclose(found.encode(kind(X)), dense.encode(X), atol=1e-3)


@settings(max_examples=15)
@given(st.integers(3, 60), st.integers(3, 40), st.integers(1, 50), st.integers(0, 5))
def test_shapes_units_and_inverses(n, g, k, seed):
    """For any shape: at most min(shape) - 1 components, mean variance 1, and maps that invert each other."""
    X = np.random.default_rng(seed).gamma(1.0, size=(n, g)).astype(np.float32)
    stem = fit_pca(X, k, np.random.default_rng(seed))
    kept = min(k, n - 1, g - 1)
    assert stem.components.shape == (g, kept)
    points = stem.encode(X)
    assert points.dtype == np.float32
    assert points.shape == (n, kept)
    np.testing.assert_allclose(points.mean(axis=0), 0, atol=1e-3)
    assert np.mean(points.astype(np.float64) ** 2) == pytest.approx(1, rel=1e-3)
    np.testing.assert_allclose(stem.encode(stem.decode(points)), points, atol=1e-3)
    np.testing.assert_allclose(stem.unembed(stem.embed(points)), points, atol=1e-4)


def test_decode_is_the_projection():
    """What the kept components hold of a cell comes back; what they leave out is the residual of PCA."""
    X = expression()
    stem = fit_pca(X, 5, np.random.default_rng(0))
    pca = PCA(5, svd_solver="full").fit(X.astype(np.float64))
    expected = pca.inverse_transform(pca.transform(X.astype(np.float64)))
    np.testing.assert_allclose(stem.decode(stem.encode(X)), expected, atol=5e-3)


def test_encode_handles_cells_one_by_one():
    X = expression()
    stem = fit_pca(X, 5, np.random.default_rng(0))
    alone = np.concatenate([stem.encode(X[i : i + 1]) for i in range(len(X))])
    np.testing.assert_allclose(alone, stem.encode(X), atol=1e-4)


def test_same_rng_same_stem():
    X = sparse.csr_matrix(expression())
    np_state = repr(np.random.get_state())  # noqa: NPY002
    one, other = (fit_pca(X, 5, np.random.default_rng(3)) for _ in range(2))
    for field in dataclasses.fields(Stem):
        assert np.array_equal(getattr(one, field.name), getattr(other, field.name))
    codes = np.arange(200) % 2
    first, second = (batchwise_scores(X, codes, 5, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first, second)
    assert repr(np.random.get_state()) == np_state  # noqa: NPY002


def test_input_is_not_changed():
    X = expression()
    stored = sparse.csr_matrix(X)
    codes = np.arange(200) % 2
    for matrix in (X, stored):
        fit_pca(matrix, 3, np.random.default_rng(0))
        batchwise_scores(matrix, codes, 3, np.random.default_rng(0))
    assert np.array_equal(X, expression())
    assert np.array_equal(stored.toarray(), X)


def test_constant_genes_have_no_weight():
    X = np.hstack([expression(), np.full((200, 3), 2.0), np.zeros((200, 2))]).astype(np.float32)
    stem = fit_pca(X, 5, np.random.default_rng(0))
    np.testing.assert_allclose(stem.components[-5:], 0, atol=1e-5)
    np.testing.assert_allclose(stem.decode(stem.encode(X))[:, -5:], X[:, -5:], atol=1e-3)
    codes = np.arange(200) % 2
    found = batchwise_scores(X, codes, 5, np.random.default_rng(0))
    expected = zscored_pca(expression(), codes, 5)
    np.testing.assert_allclose(up_to_sign(found, expected), expected, atol=0.02)


def test_more_components_than_the_data_have():
    """Rank 2 and 10 components: the rest are orthonormal too, and empty."""
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(50, 2)) @ rng.normal(size=(2, 30))).astype(np.float32)
    stem = fit_pca(X, 10, np.random.default_rng(0))
    np.testing.assert_allclose(stem.components.T @ stem.components, np.eye(10), atol=1e-4)
    np.testing.assert_allclose(stem.encode(X)[:, 2:], 0, atol=1e-3)
    np.testing.assert_allclose(stem.decode(stem.encode(X)), X, atol=1e-3)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
def test_no_spread_at_all(kind):
    """Equal cells are all at the origin."""
    X = kind(np.tile(np.arange(1, 9, dtype=np.float32), (20, 1)))
    stem = fit_pca(X, 4, np.random.default_rng(0))
    assert np.isfinite(stem.components).all()
    np.testing.assert_allclose(stem.encode(X), 0, atol=1e-3)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
def test_batchwise_scores_of_batches_without_spread(kind):
    """Cells that equal all others of their batch are at its centre."""
    codes = np.arange(64) % 2
    X = kind(np.outer(1.0 + codes, np.arange(1, 9)).astype(np.float32))
    np.testing.assert_allclose(batchwise_scores(X, codes, 4, np.random.default_rng(0)), 0, atol=1e-3)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
def test_identity_round_trip(kind):
    """The representation comes back in its own units; inside, it is centred and of mean variance 1."""
    X = np.random.default_rng(0).normal(3, [1, 2, 5], size=(100, 3)).astype(np.float32)
    stem = fit_identity_stem(kind(X))
    points = stem.encode(kind(X))
    np.testing.assert_allclose(points.mean(axis=0), 0, atol=1e-5)
    assert np.mean(points**2) == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(points * stem.scale, X - X.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(stem.embed(points), X, atol=1e-5)
    np.testing.assert_allclose(stem.unembed(X), points, atol=1e-5)
    np.testing.assert_allclose(stem.decode(points), X, atol=1e-5)


def test_identity_without_spread():
    stem = fit_identity_stem(np.full((5, 2), 3, dtype=np.float32))
    np.testing.assert_array_equal(stem.encode(np.full((5, 2), 3, dtype=np.float32)), 0)
    np.testing.assert_array_equal(stem.embed(np.zeros((1, 2), np.float32)), 3)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
def test_batchwise_scores_are_pca_of_zscores(kind):
    X = expression()
    codes = np.random.default_rng(1).integers(3, size=len(X))
    X[codes == 1] *= 1.7
    found = batchwise_scores(kind(X), codes, 5, np.random.default_rng(0))
    expected = zscored_pca(X, codes, 5)
    np.testing.assert_allclose(up_to_sign(found, expected), expected, atol=0.02)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
def test_batchwise_scores_clip_rare_genes(kind):
    """A gene in a few cells only would reach z = 20; it counts as 10."""
    rng = np.random.default_rng(0)
    X = np.hstack([np.zeros((1000, 10)), rng.gamma(1.0, 0.1, (1000, 5))]).astype(np.float32)
    X[np.arange(10), np.arange(10)] = 5
    codes = np.arange(1000) % 2
    assert ((X - X.mean(axis=0)) / (X.std(axis=0) + 0.01)).max() > 15
    found = batchwise_scores(kind(X), codes, 3, np.random.default_rng(0))
    expected = zscored_pca(X, codes, 14)
    s = np.linalg.norm(found, axis=0)
    np.testing.assert_allclose(s, np.linalg.norm(expected, axis=0)[:3], rtol=1e-3)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
def test_batchwise_scores_remove_scale_and_shift_of_batches(kind):
    """Two batches that differ by a factor per gene have the same scores (up to the 0.01 beside the deviation)."""
    X = 10 * expression(100)
    factor = np.random.default_rng(1).uniform(0.5, 2, X.shape[1]).astype(np.float32)
    both, codes = kind(np.vstack([X, X * factor])), np.repeat([0, 1], 100)
    scores = batchwise_scores(both, codes, 5, np.random.default_rng(0))
    np.testing.assert_allclose(scores[:100], scores[100:], atol=0.05 * scores.std())


def test_batchwise_scores_of_one_batch_are_truncated_svd():
    X = expression()
    z = (X - X.mean(axis=0)) / (X.std(axis=0) + 0.01)
    expected = TruncatedSVD(4, algorithm="arpack", random_state=0).fit_transform(z.astype(np.float64))
    found = batchwise_scores(sparse.csr_matrix(X), np.zeros(200, dtype=int), 4, np.random.default_rng(0))
    np.testing.assert_allclose(up_to_sign(found, expected), expected, atol=0.02)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
def test_batchwise_scores_of_a_batch_of_one_cell(kind):
    """A cell without others of its batch is at the centre."""
    X, codes = expression(), np.zeros(200, dtype=int)
    codes[17] = 1
    scores = batchwise_scores(kind(X), codes, 5, np.random.default_rng(0))
    assert np.isfinite(scores).all()
    np.testing.assert_allclose(scores[17], 0, atol=1e-2)


def test_sparse_matrix_is_never_made_dense():
    """The peak of memory stays far below one dense copy, for all that is done with a sparse matrix."""
    X = sparse.random(4000, 3000, 0.01, format="csr", dtype=np.float32, rng=np.random.default_rng(0))
    codes = np.arange(4000) % 3
    tracemalloc.start()
    try:
        stem = fit_pca(X, 5, np.random.default_rng(0))
        stem.encode(X)
        batchwise_scores(X, codes, 5, np.random.default_rng(0))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4000 * 3000 * 4 / 4


def test_leading_is_the_stem_of_fewer_components():
    X = np.random.default_rng(0).gamma(1.0, size=(60, 20)).astype(np.float32)
    stem, leading = fit_stem(X, "pca", 8, 3, np.random.default_rng(0))
    few = fit_pca(X, 3, np.random.default_rng(0))
    np.testing.assert_allclose(leading.encode(X), few.encode(X), atol=2e-3)
    np.testing.assert_allclose(leading.embed(leading.encode(X)), stem.embed(stem.encode(X))[:, :3], atol=1e-4)
    assert np.square(leading.encode(X)).mean() == pytest.approx(1, abs=1e-4)
    assert leading.components.flags.c_contiguous  # so that what is read from a file multiplies bit for bit alike
    same, also = fit_stem(X, "pca", 8, 30, np.random.default_rng(0))
    np.testing.assert_allclose(also.encode(X), same.encode(X), atol=1e-5)
    assert len({id(kept) for kept in fit_stem(X, "identity", 8, 3, np.random.default_rng(0))}) == 1


@pytest.mark.parametrize("shape", [(700, 600), (5000, 400)], ids=["by ARPACK", "by the covariance"])
def test_number_of_threads_changes_no_bit(shape):
    X = sparse.csr_matrix(expression(*shape))
    found = []
    for n_threads in (1, 2, 5):
        with threadpool_limits(n_threads, user_api="blas"):
            found.append(fit_pca(X, 30, np.random.default_rng(0)).components.tobytes())
    assert found[0] == found[1] == found[2]
