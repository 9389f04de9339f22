"""kBET agrees with the test written out, and handles types that are rare, in pieces, or in one batch."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import linalg, stats

from scbatchnorm.metrics import Neighbors, _kbet, kbet
from scbatchnorm.metrics._inputs import encode_groups
from scbatchnorm.metrics._kbet import find_diffusion_neighbors, kbet_score
from scbatchnorm.metrics._neighbors import umap_connectivities
from tests.metrics.cells import cells, mixed, separate


def groups(values, name="g"):
    return encode_groups(values, name=name, n_cells=len(values))


def diffused(graph, n_components):
    """Coordinates whose distances are those of diffusion, from all eigenvectors."""
    density = graph.sum(axis=0)
    kernel = graph / np.outer(density, density)
    scale = 1 / np.sqrt(kernel.sum(axis=0))
    values, vectors = np.linalg.eigh(kernel * np.outer(scale, scale))
    order = np.argsort(-np.abs(values))[:n_components]
    values, vectors = values[order], vectors[:, order]
    factors = [1.0 if np.float32(value) >= 1 else value / (1 - value) for value in values]
    return vectors * factors


def accepted(points, batch, k, *, itself, alpha=0.05):
    """Share of cells whose neighbours pass Pearson's test."""
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distances, -1 if itself else np.inf)
    near = np.argsort(distances, axis=1)[:, : k + itself]
    found, sizes = np.unique(batch, return_counts=True)
    share = sizes / len(batch)
    return np.mean(
        [
            stats.chisquare([(batch[row] == one).sum() for one in found], share * len(row)).pvalue >= alpha
            for row in near
        ]
    )


def by_hand(data, *, scib=False, alpha=0.05):
    """kBET of types that hang together."""
    graph = umap_connectivities(Neighbors.from_embedding(data.X, k=49 if scib else 50)).toarray()
    scores = []
    for label in np.unique(data.label):
        own = data.label == label
        batch = data.batch[own]
        k = int(np.clip(np.floor(own.sum() / len(set(batch)) / 4), 10, 70))
        points = diffused(graph[np.ix_(own, own)], min(100, own.sum() - 1))
        scores.append(accepted(points, batch, k, itself=scib, alpha=alpha))
    return np.mean(scores)


@pytest.mark.parametrize("flavor", ["default", "scib"])
@pytest.mark.parametrize("n_batches", [2, 3])
def test_is_the_formula(flavor, n_batches):
    data = cells(n=450, n_batches=n_batches, batches_apart=0.4)
    expected = by_hand(data, scib=flavor == "scib")
    assert 0.2 < expected < 0.9
    assert kbet(data.X, batch=data.batch, label=data.label, flavor=flavor) == pytest.approx(expected, abs=1e-9)


def test_alpha_is_the_level():
    data = cells(n=450, batches_apart=0.4)
    for alpha in (0.01, 0.3):
        expected = by_hand(data, alpha=alpha)
        assert kbet(data.X, batch=data.batch, label=data.label, alpha=alpha) == pytest.approx(expected, abs=1e-9)


def test_perfectly_mixed_cells_are_rejected_at_the_level():
    rng = np.random.default_rng(0)
    X, batch = rng.normal(size=(1200, 5)), rng.permutation(np.arange(1200) % 2)
    assert kbet(X, batch=batch) == pytest.approx(0.95, abs=0.04)
    assert kbet(X, batch=batch, alpha=0.5) == pytest.approx(0.5, abs=0.1)


def test_extremes():
    assert kbet(mixed().X, batch=mixed().batch, label=mixed().label) > 0.9
    assert kbet(separate().X, batch=separate().batch, label=separate().label) == 0
    line = np.linspace(0, 1, 400)[:, None]  # one batch, then the other, without a gap
    assert kbet(line, batch=np.repeat([0, 1], 200)) < 0.15


def test_all_cells_are_one_type_without_labels():
    data = cells(n=300)
    assert kbet(data.X, batch=data.batch) == kbet(data.X, batch=data.batch, label=np.zeros(300))


def test_neighbors_and_embedding_give_the_same():
    data = cells()
    of_neighbors = kbet(Neighbors.from_embedding(data.X), batch=data.batch, label=data.label)
    assert of_neighbors == kbet(data.X, batch=data.batch, label=data.label)


def test_names_of_labels_matter_to_scib_only():
    """A rare type that comes first in the alphabet takes components from all that follow, in scib-metrics."""
    data = cells(n=500, n_labels=2, batches_apart=0.4)
    label = np.where(data.label == 0, "m", "n").astype(object)
    label[:12] = "rare"
    data = replace(data, X=data.X + 50 * (label == "rare")[:, None])
    first = np.where(label == "rare", "a", label)
    last = np.where(label == "rare", "z", label)

    def value(names, flavor):
        return kbet(data.X, batch=data.batch, label=names, flavor=flavor)

    assert value(first, "default") == value(last, "default")
    assert abs(value(first, "scib") - value(last, "scib")) > 0.01


def test_iteration_and_full_decomposition_agree(monkeypatch):
    data = cells(n=450, n_labels=2, batches_apart=0.4)
    full = kbet(data.X, batch=data.batch, label=data.label)
    monkeypatch.setattr(_kbet, "_MAX_DENSE", 0)
    assert kbet(data.X, batch=data.batch, label=data.label) == pytest.approx(full, abs=0.005)


def test_a_decomposition_that_fails_is_done_in_another_way(monkeypatch):
    """As that of OpenBLAS in scipy 1.15.0 does where many eigenvalues are alike."""
    data, solve, failed = cells(n=450, n_labels=2, batches_apart=0.4), linalg.eigh, []
    expected = kbet(data.X, batch=data.batch, label=data.label)

    def failing(matrix, driver=None):
        if driver is None:
            failed.append(len(matrix))
            msg = "Internal Error."
            raise linalg.LinAlgError(msg)
        return solve(matrix, driver=driver)

    monkeypatch.setattr(linalg, "eigh", failing)
    assert kbet(data.X, batch=data.batch, label=data.label) == pytest.approx(expected, abs=1e-9)
    assert sum(failed) == 450, "each label once"


@pytest.mark.parametrize("n", [40, 80, 160, 320])
def test_component_without_limit_counts_once(n):
    """Of the eigenvalue 1. With rounding errors of single precision it would count 10 million times."""
    graph = umap_connectivities(Neighbors.from_embedding(cells(n=n).X, k=50))
    counts = np.linalg.norm(_kbet._diffusion_components(graph, 30), axis=0)
    assert np.isclose(counts, 1, atol=1e-5).any()
    assert counts.max() < 1e4


# ---- which cells are tested


def judged(X, batch, label):
    """Whether each cell is accepted, nan where it is not tested."""
    labels, batches = groups(label), groups(batch)
    near = find_diffusion_neighbors(Neighbors.from_embedding(X), labels, batches)
    return kbet_score(near, labels, batches).cells


def test_rare_types_and_types_of_one_batch_are_left_out():
    data = cells(n=400)
    label, batch = data.label.copy(), data.batch.copy()
    label[:9] = 7
    label[9:60], batch[9:60] = 8, 1
    found = judged(data.X, batch, label)
    assert np.isnan(found[:60]).all()
    assert not np.isnan(found[60:]).any()
    expected = np.mean([found[label == one].mean() for one in range(3)])
    assert kbet(data.X, batch=batch, label=label) == pytest.approx(expected)


def in_pieces(sizes, batches):
    """One type in places far from each other, at each of them 80 cells of a type of that place."""
    rng = np.random.default_rng(0)
    X, label, batch = [], [], []
    for place, (size, of_place) in enumerate(zip(sizes, batches, strict=True)):
        X.append(rng.normal(size=(size + 80, 3)) + [1000 * place, 0, 0])
        label += ["type"] * size + [f"only at {place}"] * 80
        batch += [of_place[i % len(of_place)] for i in range(size)] + ["a", "b"] * 40
    return np.concatenate(X), np.array(batch), np.array(label)


def test_small_pieces_are_left_out():
    X, batch, label = in_pieces((600, 40), ("ab", "ab"))  # k is 70
    found = judged(X, batch, label)[label == "type"]
    assert np.isnan(found[600:]).all()
    alone = judged(X[:680], batch[:680], label[:680])
    np.testing.assert_array_equal(found[:600], alone[:600])
    assert 0 < found[:600].mean() < 1


def test_types_in_small_pieces_score_0():
    X, batch, label = in_pieces((60, 60, 60, 60), ("ab",) * 4)  # 3 k is 90
    found = judged(X, batch, label)
    assert (found[label == "type"] == 0).all()
    assert found[label != "type"].mean() > 0.8


@pytest.mark.parametrize(("size", "enough"), [(200, False), (220, True)], ids=["74 %", "76 %"])
def test_three_quarters_must_be_in_large_pieces(size, enough):
    X, batch, label = in_pieces((size, 70), ("ab", "ab"))
    found = judged(X, batch, label)[label == "type"]
    assert np.isnan(found).sum() == (70 if enough else 0)
    assert (np.nanmean(found) > 0.5) == enough


def test_batches_in_pieces_of_their_own_are_rejected():
    X, batch, label = in_pieces((150, 150), "ab")
    assert (judged(X, batch, label)[label == "type"] == 0).all()
    X, batch, label = in_pieces((300, 20), "ab")  # the second batch is a small piece: only the first is left
    found = judged(X, batch, label)[label == "type"]
    assert (found[:300] == 0).all()
    assert np.isnan(found[300:]).all()


@pytest.mark.parametrize("n", [60, 120, 300])
@pytest.mark.parametrize("d", [1, 5])
def test_pieces_are_never_neighbors(n, d):
    """Not even in diffusion components, of which only those of the eigenvalue 1 know the pieces."""
    X = np.random.default_rng(0).normal(size=(2 * n, d))
    batch = np.repeat([0, 1], n)
    assert kbet(X + 1000 * batch[:, None], batch=batch) == 0


@pytest.mark.parametrize("n", [10, 11, 30, 51])
def test_few_cells(n):
    data = cells(n=n, n_batches=2, batches_apart=0)
    batch = np.arange(n) % 2
    for flavor in ("default", "scib"):
        assert kbet(data.X, batch=batch, flavor=flavor) > 0.9


def test_duplicates():
    X = np.repeat(cells(n=100, n_labels=1, batches_apart=0).X, 4, axis=0)
    assert kbet(X, batch=np.arange(400) % 2) > 0.9
    assert kbet(X, batch=np.arange(400) // 200) == kbet(X + 1, batch=np.arange(400) // 200)
    assert 0 <= kbet(np.zeros((400, 2)), batch=np.arange(400) % 2) <= 1


def test_undefined():
    data = cells(n=120)
    assert math.isnan(kbet(data.X, batch=np.zeros(120), label=data.label))
    assert math.isnan(kbet(data.X, batch=data.label, label=data.label))
    assert math.isnan(kbet(data.X, batch=data.batch, label=np.arange(120)))
    assert math.isnan(kbet(data.X[:9], batch=data.batch[:9]))
    score = kbet_score({}, groups(data.label), groups(data.batch))
    assert score.reason == "no label with 10 cells is in two batches"


@pytest.mark.parametrize("alpha", [0, 1, -0.1, float("nan")])
def test_wrong_alpha(alpha):
    with pytest.raises(ValueError, match="alpha must be between 0 and 1; got"):
        kbet(cells().X, batch=cells().batch, alpha=alpha)


def test_wrong_inputs():
    data = cells()
    with pytest.raises(ValueError, match="batch must give every cell a value; 1 of 300 are missing"):
        kbet(data.X, batch=[None, *data.batch[1:]])
    with pytest.raises(ValueError, match=r"label must have one value for each of the 300 cells; got shape \(2,\)"):
        kbet(data.X, batch=data.batch, label=["a", "b"])
    with pytest.raises(ValueError, match="at least 50 neighbours per cell; got 15"):
        kbet(Neighbors.from_embedding(data.X, k=15), batch=data.batch)
    with pytest.raises(ValueError, match="flavor must be one of"):
        kbet(data.X, batch=data.batch, flavor="scanpy")  # type: ignore[arg-type]
