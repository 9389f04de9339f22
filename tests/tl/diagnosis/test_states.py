"""States are the clusters that noise does not mix."""

from __future__ import annotations

import numpy as np

from scbatchnorm.tl._diagnosis import states as module
from scbatchnorm.tl._diagnosis.noise import find_batch_neighbours, simulate_remeasurement
from scbatchnorm.tl._diagnosis.states import find_states
from tests.helpers.diagnosed import cells, compare


def test_states_are_the_types():
    adata = cells()
    findings = compare(adata, adata.obsm["X_good"])
    assert findings.states.n_states == 8
    np.testing.assert_array_equal(findings.states.batch, [0] * 4 + [1] * 4)
    np.testing.assert_array_equal(findings.states.sizes, 60)
    own = adata.obs["cell_type"].cat.codes.to_numpy()
    assert len(set(zip(own, findings.states.codes, strict=True))) == 8


def test_one_cloud_is_one_state():
    for seed in range(3):
        rng = np.random.default_rng(seed)
        points = rng.normal(size=(300, 20)).astype(np.float32)
        rows = [np.arange(300)]
        near = find_batch_neighbours(points, rows)
        again = find_batch_neighbours(simulate_remeasurement(points, rows, near, rng), rows)
        assert find_states(points, rows, again, rng).n_states == 1


def test_states_of_many_cells_are_those_of_a_subsample(monkeypatch):
    monkeypatch.setattr(module, "_MAX_CLUSTERED", 150)
    adata = cells()
    findings = compare(adata, adata.obsm["X_good"])
    np.testing.assert_array_equal(findings.states.sizes, 60)
