"""The parts that a diagnosis is made of: noise, mingling, overlap, states, and what became of them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from scbatchnorm.tl._diagnosis import change as _change
from scbatchnorm.tl._diagnosis import findings as _findings
from scbatchnorm.tl._diagnosis import genes as _genes
from scbatchnorm.tl._diagnosis import mingling as _mingling
from scbatchnorm.tl._diagnosis import noise as _noise
from scbatchnorm.tl._diagnosis import overlap as _overlap
from scbatchnorm.tl._diagnosis import pulled as _private
from scbatchnorm.tl._diagnosis import states as _states
from tests.helpers.diagnosed import TYPES, cells, onto


def find(adata, after, seed=0):
    codes = (adata.obs["batch"] == "y").to_numpy().astype(np.intp)
    return _findings.find(adata.obsm["X_pca"], after, codes, np.random.default_rng(seed))


def types_of(adata, findings, table):
    """Types of the states of each row."""
    label = adata.obs["cell_type"].to_numpy()
    main = [max(TYPES, key=lambda t: (label[findings.states.codes == s] == t).sum()) for s in range(findings.states.n)]
    return [{main[row["first"]], main[row["second"]]} for _, row in table.iterrows()]


def test_neighbours_stay_in_their_batch():
    points = np.random.default_rng(0).normal(size=(50, 4))
    rows = [np.arange(0, 50, 2), np.arange(1, 50, 2), np.array([], dtype=int)][:2]
    for near in _noise.within(points, rows):
        assert near.shape == (25, 12)
        assert (near != np.arange(25)[:, None]).all()
        assert near.max() < 25


def test_a_second_measurement_has_the_noise_of_the_first():
    """Of a cloud of one state, noise has about the covariance of the cloud; of states apart, that of each of them."""
    rng = np.random.default_rng(0)
    sd = np.array([2.0, 1.0, 0.5])
    points = rng.normal(size=(600, 3)) * sd
    points[300:] += 100
    rows = [np.arange(600)]
    added = _noise.measured_again(points, rows, _noise.within(points, rows), rng) - points
    assert np.abs(added).max() < 20
    assert np.abs(added.mean(axis=0)).max() < 0.2
    # Neighbours of a cell differ a little less than cells do.
    ratio = added.std(axis=0) / sd
    assert (ratio > 0.2).all()
    assert (ratio < 1.1).all()


def test_kept():
    near = [np.array([[1, 2], [0, 2], [0, 1]])]
    now = [np.array([[1, 2], [3, 2], [4, 5]])]
    np.testing.assert_array_equal(_noise.kept(near, now, [np.array([0, 2, 3])], 5), [1, np.nan, 0.5, 0, np.nan])


def test_mingling_of_shuffled_and_of_separate_groups():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(400, 3))
    codes = (np.arange(400) % 4 == 0).astype(int)  # unequal sizes
    near = _noise.within(points, [np.arange(400)])[0]
    mingled = _mingling.between(_mingling.neighbours_in(near, codes, 2), codes, np.bincount(codes))
    assert mingled[0, 1] == pytest.approx(1, abs=0.1)
    assert mingled[0, 0] == mingled[1, 1] == 0
    near = _noise.within(points + 50 * codes[:, None], [np.arange(400)])[0]
    assert _mingling.between(_mingling.neighbours_in(near, codes, 2), codes, np.bincount(codes))[0, 1] == 0


def test_overlap_of_equal_and_of_separate_groups():
    rng = np.random.default_rng(0)
    points, codes = rng.normal(size=(400, 3)), np.arange(400) % 2
    fold = _overlap.folds(codes, rng)
    assert (np.bincount(fold[codes == 0]) == 40).all()
    wrong = _overlap.mistaken(points, codes, 2, fold)
    assert _overlap.between(wrong)[0, 1] == pytest.approx(1, abs=0.12)
    # Half a standard deviation to each side: 2 * P(N > .5) of the cells.
    wrong = _overlap.mistaken(points + np.array([1.0, 0, 0]) * codes[:, None], codes, 2, fold)
    assert _overlap.between(wrong)[0, 1] == pytest.approx(0.617, abs=0.08)
    assert _overlap.error(wrong, np.array([200, 200]))[0, 1] == pytest.approx(0.046, abs=0.005)
    wrong = _overlap.mistaken(points + 50 * codes[:, None], codes, 2, fold)
    assert _overlap.between(wrong)[0, 1] == 0
    assert _overlap.error(wrong, np.array([200, 200]))[0, 1] > 0, "none mistaken is not certainty"


def test_overlap_of_cells_at_one_place():
    codes = np.arange(40) % 2
    wrong = _overlap.mistaken(np.ones((40, 3)), codes, 2, _overlap.folds(codes, np.random.default_rng(0)))
    assert _overlap.between(wrong)[0, 1] == 1


def test_states_are_the_types():
    adata = cells()
    findings = find(adata, adata.obsm["X_good"])
    assert findings.states.n == 8
    np.testing.assert_array_equal(findings.states.batch, [0] * 4 + [1] * 4)
    np.testing.assert_array_equal(findings.states.sizes, 60)
    own = adata.obs["cell_type"].cat.codes.to_numpy()
    assert len(set(zip(own, findings.states.codes, strict=True))) == 8


def test_one_cloud_is_one_state():
    for seed in range(3):
        rng = np.random.default_rng(seed)
        points = rng.normal(size=(300, 20)).astype(np.float32)
        rows = [np.arange(300)]
        near = _noise.within(points, rows)
        again = _noise.within(_noise.measured_again(points, rows, near, rng), rows)
        assert _states.find(points, rows, again, rng).n == 1


def test_states_of_many_cells_are_those_of_a_sketch(monkeypatch):
    monkeypatch.setattr(_states, "_SKETCH", 150)
    adata = cells()
    findings = find(adata, adata.obsm["X_good"])
    np.testing.assert_array_equal(findings.states.sizes, 60)


def test_a_good_integration_is_left_in_peace():
    adata = cells()
    findings = find(adata, adata.obsm["X_good"])
    assert len(findings.pairs) == 12
    assert not len(findings.merged)
    assert not len(findings.pulled)
    assert not findings.split.any()
    assert not findings.lost.any()
    assert len(findings.private) == 4, "each type is together with itself"
    assert (findings.private["support"] > 0.5).all()


def test_merged():
    adata = cells()
    findings = find(adata, onto(adata, "B cell", "T cell", "x"))
    assert types_of(adata, findings, findings.merged) == [{"B cell", "T cell"}]
    row = findings.merged.iloc[0]
    assert row["before"] < 0.05
    assert row["excess"] > 0.7
    assert set(findings.states.batch[row[["first", "second"]].astype(int)]) == {0}


def test_how_much_counts_as_merged():
    adata = cells()
    codes, after = (adata.obs["batch"] == "y").to_numpy().astype(int), onto(adata, "B cell", "T cell", "x")
    findings = _findings.find(adata.obsm["X_pca"], after, codes, np.random.default_rng(0), much=1.0)
    assert not len(findings.merged)


def test_split():
    adata = cells(n=100)
    after = adata.obsm["X_good"].copy()
    half = np.flatnonzero((adata.obs["cell_type"] == "monocyte") & (adata.obs["batch"] == "x"))[::2]
    after[half, 7] += 12
    findings = find(adata, after)
    (state,) = np.flatnonzero(findings.split)
    assert set(adata.obs["cell_type"][findings.states.codes == state]) == {"monocyte"}
    assert findings.states.batch[state] == 0


def test_lost():
    adata = cells()
    after = adata.obsm["X_good"].copy()
    inside = np.flatnonzero((adata.obs["cell_type"] == "NK cell") & (adata.obs["batch"] == "y"))
    after[inside] = after[np.random.default_rng(1).permutation(inside)]
    findings = find(adata, after)
    (state,) = np.flatnonzero(findings.lost)
    np.testing.assert_array_equal(np.flatnonzero(findings.states.codes == state), inside)


def test_pulled():
    """B cells only in x, monocytes only in y: left apart nothing is said, put together the pair is named."""
    adata = cells(without=(("B cell", "y"), ("monocyte", "x")))
    assert not len(find(adata, adata.obsm["X_good"]).pulled)
    findings = find(adata, onto(adata, "B cell", "monocyte"))
    assert not len(findings.merged)
    assert types_of(adata, findings, findings.pulled) == [{"B cell", "monocyte"}]
    row = findings.pulled.iloc[0]
    assert row["support"] < 0.3 * row["usual_support"]
    assert row["distance"] > 2 * row["usual_distance"]


def test_nothing_is_pulled_where_nothing_moved():
    adata = cells(without=(("B cell", "y"), ("monocyte", "x")))
    adata.obsm["X_pca"] = onto(adata, "B cell", "monocyte")
    assert not len(find(adata, adata.obsm["X_pca"]).pulled)


def test_one_batch_has_no_others():
    adata = cells()
    codes = np.zeros(adata.n_obs, dtype=int)
    findings = _findings.find(adata.obsm["X_good"], adata.obsm["X_good"], codes, np.random.default_rng(0))
    assert list(findings.private) == list(_private._COLUMNS)
    assert not len(findings.private)
    assert len(findings.pairs) == 6


def test_change_of_genes():
    """One batch is moved by 2 along a component, another one shrunk: the gene on that component tells both."""
    rng = np.random.default_rng(0)
    before = rng.normal(size=(400, 2)).astype(np.float32)
    codes = np.arange(400) // 200
    after = before.copy()
    after[codes == 0, 0] += 2
    after[:, 1] *= 0.5
    change = _change.of(before, after, codes, np.array([[1, 0], [0, 3]], dtype=np.float32))
    assert change.shift is not None
    assert change.variance_lost is not None
    np.testing.assert_allclose(change.shift[0], np.array([1, -1]), atol=1e-5)
    np.testing.assert_allclose(change.variance_lost, np.array([0, 0.75]), atol=1e-5)
    np.testing.assert_allclose(change.displacement[codes == 0] ** 2, 4 + (before[codes == 0, 1] / 2) ** 2, rtol=1e-4)
    np.testing.assert_allclose(change.displacement_own, np.linalg.norm(after - before - change.moved.reshape(2, 200, 2).mean(1)[codes], axis=1), rtol=1e-4)  # fmt: skip
    table = _change.by_state(change, codes, _states.States(codes, np.array([0, 1])), np.eye(2, dtype=np.float32), np.array(["a", "b"]))  # fmt: skip
    assert table["gene"].tolist().count("a") == 2
    assert np.abs(table["beyond"]).max() == pytest.approx(0, abs=1e-5), "states move as their batch does"


def test_signal_of_genes():
    adata = cells()
    rng = np.random.default_rng(0)
    rows = [np.flatnonzero(adata.obs["batch"] == name) for name in "xy"]
    near = _noise.within(adata.obsm["X_good"], rows)
    X = np.column_stack([adata.X[:, 0], rng.normal(size=adata.n_obs), (adata.obs["batch"] == "y") * 5.0, np.ones(480)])
    for matrix in (X.astype(np.float32), sparse.csr_matrix(X.astype(np.float32))):
        type_gene, noise, batch_gene, constant = _genes.signal(matrix, rows, near)
        assert type_gene > 0.8
        assert abs(noise) < 3.3 / np.sqrt(480)
        assert np.isnan(batch_gene), "differences between batches do not count"
        assert np.isnan(constant)


def test_markers():
    adata = cells()
    findings = find(adata, adata.obsm["X_good"])
    for matrix in (adata.X, sparse.csr_matrix(adata.X)):
        found = _genes.markers(matrix, adata.var_names.to_numpy(), findings.states, findings.rows)
        for state, text in enumerate(found):
            (label,) = set(adata.obs["cell_type"][findings.states.codes == state])
            assert {int(gene[4:]) % 4 for gene in text.split(", ")} == {TYPES.index(label)}


@pytest.mark.parametrize(("before", "pulled"), [(0.0, True), (0.95, False)])
def test_pulled_is_what_came_together_only(before, pulled):
    """Three states that both batches have, and one of each far apart and without counterpart, which are together now."""
    states = _states.States(np.repeat(np.arange(8), 20), np.repeat([0, 1], 4))
    centre = np.array([[0.0, 0], [5, 0], [10, 0], [15, 0], [0, 1], [5, 1], [10, 1], [15, 9]])
    support = np.full((8, 2), 0.9)
    support[[3, 7]] = 0.1
    then, now = np.zeros((8, 8)), np.zeros((8, 8))
    for u, v in ((0, 4), (1, 5), (2, 6), (3, 7)):
        now[[u, v], [v, u]] = 1
    then[[3, 7], [7, 3]] = before
    rows = {row[:2]: row[-1] for row in _private._judge(0, 1, states, centre, support, then, now)}
    assert rows == {(0, 4): False, (1, 5): False, (2, 6): False, (3, 7): pulled}
