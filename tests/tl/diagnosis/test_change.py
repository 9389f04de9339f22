"""Displacements and changes of genes by the loadings."""

from __future__ import annotations

import numpy as np
import pytest

from scbatchnorm.tl._diagnosis.change import measure_change, rank_changed_genes
from scbatchnorm.tl._diagnosis.states import States


def test_change_of_genes():
    """One batch is moved by 2 along a component, another one shrunk: the gene on that component tells both."""
    rng = np.random.default_rng(0)
    before = rng.normal(size=(400, 2)).astype(np.float32)
    codes = np.arange(400) // 200
    after = before.copy()
    after[codes == 0, 0] += 2
    after[:, 1] *= 0.5
    change = measure_change(before, after, codes, np.array([[1, 0], [0, 3]], dtype=np.float32))
    assert change.genes is not None
    np.testing.assert_allclose(change.genes.shift[0], np.array([1, -1]), atol=1e-5)
    np.testing.assert_allclose(change.genes.variance_lost, np.array([0, 0.75]), atol=1e-5)
    np.testing.assert_allclose(change.displacement[codes == 0] ** 2, 4 + (before[codes == 0, 1] / 2) ** 2, rtol=1e-4)
    np.testing.assert_allclose(change.displacement_own, np.linalg.norm(after - before - change.moved.reshape(2, 200, 2).mean(1)[codes], axis=1), rtol=1e-4)  # fmt: skip
    table = rank_changed_genes(change, codes, States(codes, np.array([0, 1])), np.eye(2, dtype=np.float32), np.array(["a", "b"]))  # fmt: skip
    assert table["gene"].tolist().count("a") == 2
    assert np.abs(table["beyond"]).max() == pytest.approx(0, abs=1e-5), "states move as their batch does"
