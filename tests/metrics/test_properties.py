"""What holds for every metric: its range, that names and order make no difference, and its extremes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scbatchnorm import metrics
from tests.metrics.cells import Cells, cells, mixed, separate

if TYPE_CHECKING:
    from collections.abc import Callable

METRICS: dict[str, Callable[[Cells], float]] = {
    "ilisi": lambda c: metrics.ilisi(c.X, c.batch),
    "cilisi": lambda c: metrics.cilisi(c.X, batch=c.batch, label=c.label),
    "kbet": lambda c: metrics.kbet(c.X, batch=c.batch, label=c.label),
    "kbet without label": lambda c: metrics.kbet(c.X, batch=c.batch),
    "bras": lambda c: metrics.bras(c.X, batch=c.batch, label=c.label),
    "silhouette_batch": lambda c: metrics.silhouette_batch(c.X, batch=c.batch, label=c.label),
    "graph_connectivity": lambda c: metrics.graph_connectivity(c.X, c.label),
    "pcr_comparison": lambda c: metrics.pcr_comparison(c.X, X_pre=c.X_pre, batch=c.batch),
    "clisi": lambda c: metrics.clisi(c.X, c.label),
    "silhouette_label": lambda c: metrics.silhouette_label(c.X, c.label),
    "isolated_labels": lambda c: metrics.isolated_labels(c.X, batch=c.batch, label=c.label),
    "isolated_labels f1": lambda c: metrics.isolated_labels(c.X, batch=c.batch, label=c.label, score="f1"),
    "kmeans_nmi": lambda c: metrics.nmi_ari(c.X, c.label).nmi,
    "kmeans_ari": lambda c: metrics.nmi_ari(c.X, c.label).ari,
    "leiden_nmi": lambda c: metrics.nmi_ari(c.X, c.label, clustering="leiden").nmi,
    "leiden_ari": lambda c: metrics.nmi_ari(c.X, c.label, clustering="leiden").ari,
    "knn_preservation": lambda c: metrics.knn_preservation(c.X, X_pre=c.X_pre, batch=c.batch),
}
LOWEST = {"pcr_comparison": -np.inf, "kmeans_ari": -0.5, "leiden_ari": -0.5}
# Their search starts at cells of a random number, so other cells may come out if clusters are not clear.
SEARCHES = {"kmeans_nmi", "kmeans_ari", "leiden_nmi", "leiden_ari", "isolated_labels f1"}
FEW = settings(max_examples=8)
every_metric = pytest.mark.parametrize("name", METRICS)


def shape(c: Cells, kind: str) -> Cells:
    """The same cells, all in one place, in few places, or far from the origin."""
    changes: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "usual": lambda X: X,
        "one place": np.zeros_like,
        "few places": np.round,
        "single precision": lambda X: X.astype(np.float32),
        "far": lambda X: X + 1e4,
    }
    change = changes[kind]
    return Cells(change(c.X), change(c.X_pre), c.label, c.batch)


@every_metric
@FEW
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 70),
    n_labels=st.integers(1, 4),
    n_batches=st.integers(1, 4),
    kind=st.sampled_from(["usual", "one place", "few places", "single precision", "far"]),
)
def test_range(name, seed, n, n_labels, n_batches, kind):
    data = cells(seed, max(n, n_labels, n_batches), n_labels=n_labels, n_batches=n_batches, batches_apart=seed % 4)
    found = METRICS[name](shape(data, kind))
    assert isinstance(found, float)
    assert np.isnan(found) or LOWEST.get(name, 0) <= found <= 1 + 1e-9
    if name in {"graph_connectivity", "leiden_nmi", "kmeans_nmi"} and n_labels > 1:
        assert not np.isnan(found)


@every_metric
@FEW
@given(seed=st.integers(0, 10_000), n=st.integers(8, 120))
def test_names_make_no_difference(name, seed, n):
    data = cells(seed, n, n_labels=4, n_batches=4)
    assert METRICS[name](data.renamed()) == pytest.approx(METRICS[name](data), abs=1e-12, nan_ok=True)


@every_metric
@FEW
@given(seed=st.integers(0, 10_000), n=st.integers(40, 120))
def test_order_of_cells_makes_no_difference(name, seed, n):
    if name in SEARCHES:
        data = cells(seed, n, labels_apart=200)
    else:
        data = cells(seed, n)
    order = np.random.default_rng(seed).permutation(n)
    assert METRICS[name](data.ordered(order)) == pytest.approx(METRICS[name](data), abs=1e-7, nan_ok=True)


ABOUT_BATCH = ["ilisi", "cilisi", "kbet", "bras", "silhouette_batch"]


@pytest.mark.parametrize("name", ABOUT_BATCH)
@FEW
@given(seed=st.integers(0, 10_000))
def test_batches_that_are_mixed_score_high_and_batches_apart_low(name, seed):
    assert METRICS[name](mixed(seed)) > 0.8
    assert METRICS[name](separate(seed)) < (0.05 if name in {"bras", "silhouette_batch"} else 1e-6)


@pytest.mark.parametrize("name", [*sorted(SEARCHES), "clisi", "silhouette_label", "isolated_labels"])
@FEW
@given(seed=st.integers(0, 10_000))
def test_types_that_are_apart_score_high_and_mixed_types_low(name, seed):
    data = mixed(seed)
    apart, low = Cells(data.X, data.X_pre, data.label, data.batch), Cells(data.X, data.X_pre, data.batch, data.label)
    assert METRICS[name](apart) > 0.95
    # Half of the width of a silhouette is 0.5, so is the F1 score of a cluster with all or half of the cells.
    assert METRICS[name](low) < (0.7 if "isolated" in name or "silhouette" in name else 0.15)


@FEW
@given(seed=st.integers(0, 10_000), factor=st.floats(0, 3))
def test_pcr_comparison_follows_the_shift(seed, factor):
    """Batches of which a share of the shift is left, in a space where nothing else differs."""
    rng = np.random.default_rng(seed)
    batch = np.arange(200) % 2
    noise = np.repeat(rng.normal(size=(100, 3)), 2, axis=0)
    shift = np.outer(batch, [3.0, 0, 0])

    def share(by):
        between = (3 * by) ** 2 / 4
        return between / (between + noise.var(axis=0).sum())

    found = metrics.pcr_comparison(noise + factor * shift, X_pre=noise + shift, batch=batch)
    assert found == pytest.approx(1 - share(factor) / share(1), abs=1e-9)


@FEW
@given(seed=st.integers(0, 10_000))
def test_preservation_falls_with_noise(seed):
    rng = np.random.default_rng(seed)
    X, batch = rng.normal(size=(200, 4)), np.arange(200) % 2
    values = [
        metrics.knn_preservation(X + much * rng.normal(size=X.shape), X_pre=X, batch=batch)
        for much in (0.0, 0.1, 1.0, 30.0)
    ]
    assert values[0] == 1
    assert values[0] > values[1] > values[2] > values[3]
    assert values[3] == pytest.approx(30 / 99, abs=0.05)
