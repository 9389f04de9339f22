"""What the estimator takes and refuses: batches, sparse data, sizes."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone

from tests.helpers.processes import run_python


def test_unknown_batch_is_refused(fitted, X):
    with pytest.raises(ValueError, match=r"batch .*'?d'? was not among them: a, b, c"):
        fitted.transform(X, np.repeat("d", 90))
    with pytest.raises(ValueError, match=r"batch .*fitted on a, b, c"):
        fitted.transform(X)


@pytest.mark.parametrize("wrong", [["a"] * 89, [["a", "b"]] * 90, "a"], ids=["too few", "two columns", "a word"])
def test_shape_of_the_batches_is_checked(wrong, fitted, X):
    with pytest.raises(ValueError, match="batch must have one value for each of the 90 cells"):
        fitted.transform(X, wrong)
    with pytest.raises(ValueError, match="batch must have one value for each of the 90 cells"):
        clone(fitted).fit(X, wrong)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_missing_batches_are_refused(missing, fitted, X):
    batch = np.array(["a"] * 90, dtype=object)
    batch[[4, 8]] = missing
    with pytest.raises(ValueError, match=r"batch .* 2 of 90 .*the first at 4"):
        clone(fitted).fit(X, batch)


def test_number_of_features_is_checked(fitted, X, batch):
    with pytest.raises(ValueError, match="39 features, but BatchNormAutoencoder is expecting 40"):
        fitted.transform(X[:, 1:], batch)


@pytest.mark.parametrize(
    "names",
    [
        {"a": "z", "b": "y", "c": "x"},
        {"a": 2, "b": 1, "c": 0},
        {"a": 0.5, "b": -1.0, "c": 7.0},
        {"a": "1", "b": 1, "c": 2},
    ],
    ids=["words", "integers", "real numbers", "mixed types"],
)
def test_names_of_the_batches_change_nothing(names, fitted, X, batch, brief):
    renamed = pd.Series([names[level] for level in batch])
    model = brief()
    Z = model.fit_transform(X, renamed)
    np.testing.assert_array_equal(Z, fitted.transform(X, batch))
    assert model.batches_.tolist() == list(names.values())
    for form in (renamed.to_numpy(), pd.Categorical(renamed)):
        np.testing.assert_array_equal(model.transform(X, form), Z)


def test_true_and_false_as_batches(X, batch, brief):
    model = brief()
    Z = model.fit_transform(X, batch == "c")
    np.testing.assert_array_equal(Z, brief().fit_transform(X, np.where(batch == "c", "new", "old")))
    assert model.batches_.tolist() == [False, True]


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_matrix, sparse.coo_matrix, sparse.csr_array])
def test_sparse_and_dense_agree(kind, fitted, X, batch, brief):
    expected = fitted.transform(X, batch)
    np.testing.assert_allclose(fitted.transform(kind(X), batch), expected, atol=1e-4)
    model = brief().fit(kind(X), batch)
    np.testing.assert_allclose(model.stem_.components, fitted.stem_.components, atol=1e-4)
    np.testing.assert_allclose(model.offsets_, fitted.offsets_, atol=1e-4)
    # The optimiser divides gradients by their size, so training multiplies the rounding errors of its input.
    np.testing.assert_allclose(model.transform(X, batch), expected, atol=5e-3)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(bad, fitted, X, batch):
    X[3, 4] = bad
    with pytest.raises(ValueError, match="NaN|infinity"):
        clone(fitted).fit(X, batch)
    with pytest.raises(ValueError, match="NaN|infinity"):
        fitted.transform(sparse.csr_matrix(X), batch)


def test_components_are_at_most_what_the_data_have(batch, X, brief):
    assert brief(n_components=50, n_latent=50).fit_transform(X, batch).shape == (90, 39)
    assert brief(n_components=50, n_latent=50).fit_transform(X[::10], batch[::10]).shape == (9, 8)


MEMORY = """
import resource
import numpy as np
from scipy import sparse
from scbatchnorm import BatchNormAutoencoder

def matrix(n_cells, n_genes=1500, stored=120):
    rng = np.random.default_rng(0)
    first = (np.arange(stored) * n_genes // stored).astype(np.int32)
    indices = np.empty((n_cells, stored), dtype=np.int32)
    for row in indices:
        row[:] = first + rng.integers(0, n_genes // stored, stored, dtype=np.int32)
    indptr = np.arange(n_cells + 1, dtype=np.int32) * stored
    return sparse.csr_matrix((rng.random(indices.size, dtype=np.float32), indices.ravel(), indptr), (n_cells, n_genes))

def fit(X):
    model = BatchNormAutoencoder(n_components=3, strength=1.0, n_epochs=1, min_steps=5, max_steps=5, n_refreshes=1)
    model.fit_transform(X, np.arange(X.shape[0]) % 3)

fit(matrix(300))  # so that libraries are loaded
X = matrix(100_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
fit(X)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory has another unit elsewhere")
def test_sparse_data_are_not_densified():
    done = run_python("-c", MEMORY)
    assert done.returncode == 0, done.stderr
    added, dense = int(done.stdout) * 1024, 100_000 * 1500 * 4
    assert added < 0.9 * dense
