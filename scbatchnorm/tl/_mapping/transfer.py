"""Labels of new cells by those of the reference cells around them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scbatchnorm._method.anchors import find_nearest, sketch_batches

if TYPE_CHECKING:
    from scbatchnorm._data.types import Codes, Floats

# Reference cells that vote on a new cell, and those that are kept to vote: of every label some.
_VOTERS = 15
_KEPT = 6000
_OF_A_LABEL = 200
_ROWS = 2048


def vote(points: Floats, reference: Floats, labels: Codes, rng: np.random.Generator) -> tuple[Codes, Floats]:
    """Most likely label of each cell, and its probability, both of shape (cells,).

    Parameters
    ----------
    points
        New cells, shape (cells, components).
    reference
        Labelled cells in the same space, shape (reference cells, components). Of more than 6000 a part votes.
    labels
        Their labels, counted from 0, each of which some cell has.
    rng
        Draws that part.

    Returns
    -------
    The label that most of the 15 nearest labelled cells have, and their share; nearer ones count more.
    """
    size = np.bincount(labels)
    rows: Codes = np.arange(len(labels))
    if len(labels) > _KEPT:
        rows = sketch_batches(labels, max(_OF_A_LABEL, _KEPT // len(size)), rng)
    # What was left out is counted in those that were kept, so that shares stay.
    worth = (size / np.bincount(labels[rows], minlength=len(size))).astype(np.float32)
    chosen, probability = np.empty(len(points), np.intp), np.empty(len(points), np.float32)
    for start in range(0, len(points), _ROWS):
        chunk = points[start : start + _ROWS]
        near = rows[find_nearest(chunk, reference[rows], _VOTERS)]
        distance = np.square(chunk[:, None] - reference[near]).sum(axis=2)
        weight = np.exp(-distance / np.maximum(distance.max(axis=1, keepdims=True), np.float32(1e-12)))
        weight *= worth[labels[near]]
        votes = np.zeros((len(chunk), len(size)), np.float32)
        np.add.at(votes, (np.arange(len(chunk))[:, None], labels[near]), weight)
        chosen[start : start + _ROWS] = votes.argmax(axis=1)
        probability[start : start + _ROWS] = votes.max(axis=1) / votes.sum(axis=1)
    return chosen, probability
