"""PCR comparison: the regression on principal components, and what it calls better and worse."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression

from scbatchnorm.metrics import pcr_comparison
from scbatchnorm.metrics._inputs import encode_groups
from scbatchnorm.metrics._pcr import pcr_score
from tests.metrics.cells import cells


def groups(values):
    return encode_groups(values, name="batch", n_cells=len(values))


def explained(X, batch):
    """Variance of each component times its R² by regression on indicators of the batch, over the whole variance."""
    pca = PCA().fit(X)
    components, indicators = pca.transform(X), (batch[:, None] == np.unique(batch)).astype(float)
    r2 = [LinearRegression().fit(indicators, c).score(indicators, c) for c in components.T]
    return pca.explained_variance_ @ r2 / pca.explained_variance_.sum()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("offset", [0, 1000])
def test_is_the_formula(dtype, offset):
    data = cells(n=200, n_batches=4)
    before, after = explained(data.X_pre, data.batch), explained(data.X, data.batch)
    found = pcr_comparison((data.X + offset).astype(dtype), X_pre=(data.X_pre - offset).astype(dtype), batch=data.batch)
    assert found == pytest.approx((before - after) / before, abs=1e-4)
    assert 0.1 < found < 0.9


def test_dimensions_may_differ():
    data = cells(n=200, d=6)
    before, after = explained(data.X_pre, data.batch), explained(data.X[:, :2], data.batch)
    found = pcr_comparison(data.X[:, :2], X_pre=data.X_pre, batch=data.batch)
    assert found == pytest.approx((before - after) / before)


def test_extremes():
    data = cells(n=200)
    assert pcr_comparison(data.X, X_pre=data.X, batch=data.batch) == 0
    means = np.array([data.X[data.batch == one].mean(axis=0) for one in range(3)])
    assert pcr_comparison(data.X - means[data.batch], X_pre=data.X, batch=data.batch) == pytest.approx(1)


def test_worse_is_negative_and_0_for_scib():
    data = cells(n=200)
    found = pcr_comparison(data.X_pre, X_pre=data.X, batch=data.batch)
    assert found == pytest.approx(1 - explained(data.X_pre, data.batch) / explained(data.X, data.batch))
    assert found < -0.1
    assert pcr_comparison(data.X_pre, X_pre=data.X, batch=data.batch, flavor="scib") == 0
    better = pcr_comparison(data.X, X_pre=data.X_pre, batch=data.batch)
    assert pcr_comparison(data.X, X_pre=data.X_pre, batch=data.batch, flavor="scib") == better > 0


def test_unit_and_place_make_no_difference():
    data = cells(n=200)
    value = pcr_comparison(data.X, X_pre=data.X_pre, batch=data.batch)
    assert pcr_comparison(1e-5 * data.X + 3, X_pre=1e5 * data.X_pre - 3, batch=data.batch) == pytest.approx(value)


def test_control_has_its_own_batches_on_the_side_after():
    data = cells(n=200)
    shuffled = np.random.default_rng(0).permutation(data.batch)
    before, after = explained(data.X_pre, data.batch), explained(data.X, shuffled)
    score = pcr_score(data.X, groups(shuffled), data.X_pre, groups(data.batch))
    assert score.value == pytest.approx((before - after) / before)
    assert score.cells is None


@pytest.mark.parametrize("constant", [0, 0.1, 1 / 3, 1e6 + 0.1])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_constant_data(constant, dtype):
    data = cells(n=101)
    flat = np.full((101, 3), constant, dtype=dtype)
    assert pcr_comparison(flat, X_pre=data.X, batch=data.batch) == 1
    assert math.isnan(pcr_comparison(data.X, X_pre=flat, batch=data.batch))


def test_undefined():
    data = cells(n=60)
    assert math.isnan(pcr_comparison(data.X, X_pre=data.X_pre, batch=np.zeros(60)))
    assert math.isnan(pcr_comparison([[1.0]], X_pre=[[1.0]], batch=["a"]))
    one, three = groups(np.zeros(60)), groups(data.batch)
    assert pcr_score(data.X, one, data.X, one).reason == "there is one batch only"
    flat = np.zeros((60, 2))
    assert pcr_score(data.X, three, flat, three).reason == "batches explain no variance before integration"


def test_wrong_inputs():
    data = cells(n=60)
    with pytest.raises(ValueError, match=r"X_pre must have a row for each of the 60 cells; got shape \(59, 4\)"):
        pcr_comparison(data.X, X_pre=data.X_pre[1:], batch=data.batch)
    with pytest.raises(ValueError, match="X_pre must be finite; 60 of 60 cells"):
        pcr_comparison(data.X, X_pre=data.X_pre * np.nan, batch=data.batch)
    with pytest.raises(ValueError, match=r"batch must have one value for each of the 60 cells; got shape \(3,\)"):
        pcr_comparison(data.X, X_pre=data.X_pre, batch=[1, 2, 3])
    with pytest.raises(ValueError, match="flavor must be one of"):
        pcr_comparison(data.X, X_pre=data.X_pre, batch=data.batch, flavor="scIB")  # type: ignore[arg-type]
