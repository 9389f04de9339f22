"""Graph connectivity is the share of each type in one strongly connected piece."""

from __future__ import annotations

import numpy as np
import pytest

from scbatchnorm.metrics import Neighbors, graph_connectivity
from tests.metrics.cells import cells, mixed, separate


def reachable(edges, start):
    """What can be reached from `start`."""
    found, new = {start}, {start}
    while new:
        new = {j for i in new for j in edges[i]} - found
        found |= new
    return found


def by_hand(X, label, k):
    """Largest sets of cells that all reach each other, within labels."""
    distances = np.linalg.norm(X[:, None] - X[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    near = np.argsort(distances, axis=1)[:, :k]
    shares = []
    for one in np.unique(label):
        own = np.flatnonzero(label == one)
        edges = {i: set(near[i]) & set(own) for i in own}
        ahead = {i: reachable(edges, i) for i in own}
        shares.append(max(sum(j in ahead[i] and i in ahead[j] for j in own) for i in own) / len(own))
    return np.mean(shares)


@pytest.mark.parametrize(("flavor", "k"), [("default", 15), ("scib", 14)])
def test_is_the_formula(flavor, k):
    data = cells(n=150, d=3, n_labels=4, labels_apart=0.5)
    expected = by_hand(data.X, data.label, k)
    assert 0.3 < expected < 0.95
    assert graph_connectivity(data.X, data.label, flavor=flavor) == pytest.approx(expected)


def test_extremes():
    assert graph_connectivity(mixed().X, mixed().label) > 0.95
    lines = np.arange(100.0)[:, None] + 1000 * np.repeat([0, 1], 50)[:, None]
    assert graph_connectivity(lines, np.repeat(["a", "b"], 50)) == 1
    assert graph_connectivity(separate().X, separate().label) == pytest.approx(0.5)  # half of each type in each batch
    alone = np.arange(30).repeat(20) % 10  # every cell of a type far from the others
    X = 1000 * np.arange(30).repeat(20)[:, None] + np.random.default_rng(0).normal(size=(600, 1))
    assert graph_connectivity(X, alone) == pytest.approx(1 / 3)


def test_piece_that_is_only_pointed_to_is_not_connected():
    """20 cells far away point to the type's other cells, none of which points back."""
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(size=(80, 2)), rng.normal(size=(10, 2)) + 100])
    assert graph_connectivity(X, np.zeros(90)) == pytest.approx(80 / 90)


def test_types_count_the_same():
    data = cells(n=150, d=3, n_labels=2, labels_apart=0.5)
    label = np.where(np.arange(150) < 20, 1, 0)
    assert graph_connectivity(data.X, label) == pytest.approx(by_hand(data.X, label, 15))


def test_neighbors_and_embedding_give_the_same():
    data = cells()
    value = graph_connectivity(data.X, data.label)
    assert graph_connectivity(Neighbors.from_embedding(data.X), data.label) == value
    fewer = Neighbors.from_embedding(data.X, k=14)
    assert graph_connectivity(fewer, data.label, flavor="scib") == graph_connectivity(data.X, data.label, flavor="scib")


def test_types_of_one_cell_are_whole():
    data = cells(n=60)
    assert graph_connectivity(data.X, np.arange(60)) == 1
    assert graph_connectivity(data.X[:1], ["a"]) == 1
    assert graph_connectivity(data.X, np.zeros(60)) == by_hand(data.X, np.zeros(60), 15)


@pytest.mark.parametrize("n", [2, 5, 16])
def test_in_few_cells_all_others_are_neighbors(n):
    assert graph_connectivity(cells(n=n, n_batches=2, n_labels=2).X, np.arange(n) % 2) == 1


def test_wrong_inputs():
    data = cells()
    with pytest.raises(ValueError, match="label must give every cell a value; 300 of 300 are missing"):
        graph_connectivity(data.X, np.full(300, None))
    with pytest.raises(ValueError, match="at least 15 neighbours per cell; got 14"):
        graph_connectivity(Neighbors.from_embedding(data.X, k=14), data.label)
    with pytest.raises(ValueError, match="flavor must be one of 'default', 'scib'; got None"):
        graph_connectivity(data.X, data.label, flavor=None)  # type: ignore[arg-type]
