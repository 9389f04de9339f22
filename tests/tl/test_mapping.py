"""Offset and residual shift of new batches, novelty, and transferred labels."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch

from scbatchnorm._data.batches import Batches
from scbatchnorm._data.blocks import InMemory
from scbatchnorm._method.reference import ReferenceDensity, unexplained_expression, unexplained_when_held_out
from scbatchnorm._method.stem import Stem
from scbatchnorm.nn.network import Autoencoder
from scbatchnorm.tl._mapping import query as query_module
from scbatchnorm.tl._mapping.place import MappingOptions, QueryFeatures, place_query
from scbatchnorm.tl._mapping.query import predict_labels
from scbatchnorm.tl._mapping.space import ReferenceSpace, estimate_offset, remove_residual_shift
from tests.conftest import expression, labels


def clouds(n: int, centres: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    kind = rng.integers(len(centres), size=n)
    return (centres[kind] + rng.normal(0, 0.3, (n, centres.shape[1]))).astype(np.float32), kind


CENTRES = np.random.default_rng(5).normal(0, 2, (4, 20))


def uncorrected_space(points: np.ndarray) -> ReferenceSpace:
    """Space of a reference without correction."""
    return cast("ReferenceSpace", SimpleNamespace(inputs=points, latent=points))


def test_offset_is_found_though_the_composition_differs():
    reference, _ = clouds(400, CENTRES, 0)
    cells, kind = clouds(400, CENTRES, 1)
    cells = cells[(kind > 0) | (np.arange(400) < 60)]
    shift = np.random.default_rng(2).normal(0, 0.5, 20).astype(np.float32)
    offset, n_anchors = estimate_offset(cells + shift, np.arange(len(cells)), uncorrected_space(reference), 5)
    # Nearest cells face each other, so a part of the shift is left to `remove_residual_shift`.
    assert np.linalg.norm(offset - shift) < 0.25 * np.linalg.norm(shift)
    assert n_anchors > 50


def test_too_few_cells_are_not_moved():
    reference, _ = clouds(100, CENTRES, 0)
    offset, n_anchors = estimate_offset(reference[:19] + 3, np.arange(19), uncorrected_space(reference), 5)
    assert (offset == 0).all()
    assert n_anchors == 0


def test_what_is_left_of_the_displacement_is_taken_off_by_state():
    reference, _ = clouds(600, CENTRES, 0)
    cells, kind = clouds(300, CENTRES, 1)
    shift = np.random.default_rng(2).normal(0, 0.15, CENTRES.shape).astype(np.float32)
    moved, n = remove_residual_shift(
        cells + shift[kind], np.arange(300), uncorrected_space(reference), 5, np.zeros(300, bool)
    )
    assert n > 100
    for state in range(4):
        mean, centre = moved[kind == state].mean(axis=0), CENTRES[state]
        assert np.linalg.norm(mean - centre) < 0.7 * np.linalg.norm(shift[state])
        # Cells of a state stay apart: they are moved together, not each to its anchor.
        assert moved[kind == state].std() > 0.8 * cells[kind == state].std()


def test_anchors_of_novel_cells_do_not_count():
    """A new state beside a known one would be pulled onto it."""
    reference, _ = clouds(300, CENTRES[:3], 0)
    cells, kind = clouds(300, np.concatenate([CENTRES[:2], CENTRES[2:3] + 0.3]), 1)
    shifts = []
    for novel in (np.zeros(300, bool), kind == 2):
        moved, _ = remove_residual_shift(cells, np.arange(300), uncorrected_space(reference), 5, novel)
        shifts.append(np.linalg.norm((moved - cells)[kind == 2].mean(axis=0)))
    assert shifts[1] < 0.7 * shifts[0]


def test_without_anchors_cells_are_corrected_but_not_shifted(brief):
    model = brief(strength=1.0).fit(expression(), labels()).fitted_
    X = expression()[:10] + 1
    features = QueryFeatures(InMemory(X), model.stem, X.shape[1], np.empty(0, dtype=str))
    batches = Batches.from_values(["new"] * 10, 10)
    mapped = place_query(features, batches, {}, model, MappingOptions(), np.random.default_rng(0))
    expected = ReferenceSpace(model).correct(model.stem.encode(X))
    np.testing.assert_array_equal(mapped.points, expected)
    assert mapped.batches.loc["new", "n_anchors"] == 0
    assert "10 cells, fewer than the 20" in mapped.warnings[0]


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_unknown_batch_has_the_code_zero(brief, strength):
    model = brief(strength=strength).fit(expression(), labels()).fitted_
    space = ReferenceSpace(model)
    inputs = space.inputs[:7]
    network = model.network
    with torch.no_grad():
        x = torch.from_numpy(inputs)
        expected = x + network.encoder(torch.cat([x, torch.zeros(7, 3)], dim=1))
    np.testing.assert_allclose(space.correct(inputs), inputs + strength * (expected.numpy() - inputs), atol=1e-4)


def test_code_of_an_unknown_batch_in_the_network():
    network = Autoencoder(4, 2, n_hidden=5, n_layers=1, norm="none")
    with torch.no_grad():
        network.shift_in.add_(1)
        network.linear_in.add_(1)
        x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(network.encode(x, torch.tensor([-1, -1, -1])), x)
        assert (network.encode(x, torch.tensor([0, 1, 0])) != x).all()


def genes(n: int, kinds: np.ndarray, *, seed: int, shift: float = 0.0) -> np.ndarray:
    """Expression of cells of some kinds: each kind has ten marker genes."""
    rng = np.random.default_rng(seed)
    X = rng.normal(1 + shift, 0.3, (n, 60))
    X[np.arange(n)[:, None], 10 * kinds[:, None] + np.arange(10)] += 2
    return X.astype(np.float32)


def stem_of(X: np.ndarray) -> Stem:
    mean = X.mean(axis=0)
    return Stem(mean, np.linalg.svd(X - mean, full_matrices=False)[2][:5].T.copy(), np.zeros(5, np.float32), 1.0)


def test_expression_that_the_stem_lacks():
    rng = np.random.default_rng(0)
    stem = stem_of(genes(300, rng.integers(4, size=300), seed=1))
    kinds = rng.integers(5, size=300)
    scores = unexplained_expression(genes(300, kinds, seed=2, shift=0.5), stem, np.random.default_rng(0))
    assert scores[kinds == 4].min() > 3 * np.median(scores[kinds < 4])


def test_held_out_cells_score_below_cells_of_a_new_type():
    rng = np.random.default_rng(0)
    kinds, codes = rng.integers(4, size=300), np.arange(300) % 3
    X = genes(300, kinds, seed=1) + 0.2 * codes[:, None]
    latent = np.eye(4, dtype=np.float32)[kinds] + rng.normal(0, 0.05, (300, 4)).astype(np.float32)
    held_out = unexplained_when_held_out(X.astype(np.float32), latent, codes, 5, 5, np.random.default_rng(0))
    assert len(held_out) > 200
    assert (np.diff(held_out) >= 0).all()
    kinds = rng.integers(5, size=200)
    scores = unexplained_expression(genes(200, kinds, seed=3), stem_of(X), np.random.default_rng(0))
    assert scores[kinds == 4].min() > np.quantile(held_out, 0.99)


def test_a_private_state_is_not_in_the_null_distribution():
    """A type in one batch only is novel when this batch is held out: its scores must not raise the limit."""
    rng = np.random.default_rng(0)
    codes = np.arange(300) % 3
    kinds = np.where((codes == 2) & (rng.random(300) < 0.3), 4, rng.integers(4, size=300))
    X = genes(300, kinds, seed=1)
    latent = (3 * np.eye(5)[kinds] + rng.normal(0, 0.3, (300, 5))).astype(np.float32)
    held_out = unexplained_when_held_out(X, latent, codes, 5, 5, np.random.default_rng(0))
    scores = unexplained_expression(X[codes == 2], stem_of(X[codes < 2]), np.random.default_rng(0))
    assert np.quantile(held_out, 0.99) < np.median(scores[kinds[codes == 2] == 4])


@pytest.mark.parametrize("codes", [np.zeros(40, int), np.arange(40) // 39], ids=["one batch", "a tiny one"])
def test_null_distribution_with_few_batches(codes):
    X = genes(40, np.arange(40) % 4, seed=1)
    held_out = unexplained_when_held_out(X, X[:, :5], codes, 3, 5, np.random.default_rng(0))
    assert len(held_out) == (40 if codes.max() == 0 else 0)


def test_distance_to_reference_cells():
    points, _ = clouds(400, CENTRES, 0)
    density = ReferenceDensity(points, np.arange(400) % 2, np.random.default_rng(0))
    near, _ = clouds(100, CENTRES, 1)
    held_out = density.distance_when_held_out()
    assert (density.distance(near) > np.quantile(held_out, 0.99)).mean() < 0.1
    assert (density.distance(near + 5) > np.quantile(held_out, 0.99)).all()
    # In units of the spread: a direction with little of it counts more.
    stretched = points * np.array([10] + 19 * [1], np.float32)
    stretched_density = ReferenceDensity(stretched, np.arange(400) % 2, np.random.default_rng(0))
    step = np.eye(20, dtype=np.float32)[:2]
    distances = [stretched_density.distance(stretched[:50] + 3 * direction).mean() for direction in step]
    assert distances[1] > distances[0]


def test_nearest_labels_win():
    reference, kind = clouds(400, CENTRES, 0)
    cells, true = clouds(100, CENTRES, 1)
    predicted, probability = predict_labels(cells, reference, kind, np.random.default_rng(0))
    assert (predicted == true).mean() > 0.98
    between = (CENTRES[0] + CENTRES[1])[None].astype(np.float32) / 2
    unsure = predict_labels(
        between, np.concatenate([between] * 14).repeat(2, axis=0), np.arange(28) % 2, np.random.default_rng(0)
    )[1]
    assert unsure[0] < 0.6 < np.median(probability)


def test_some_of_many_vote(monkeypatch):
    monkeypatch.setattr(query_module, "_MAX_LABELLED", 200)
    monkeypatch.setattr(query_module, "_MIN_OF_LABEL", 20)
    reference, kind = clouds(3000, CENTRES, 0)
    rare = kind == 3
    reference, kind = (
        np.concatenate([reference[~rare], reference[rare][:25]]),
        np.concatenate([kind[~rare], kind[rare][:25]]),
    )
    cells, true = clouds(200, CENTRES, 1)
    assert (predict_labels(cells, reference, kind, np.random.default_rng(0))[0] == true).mean() > 0.95
