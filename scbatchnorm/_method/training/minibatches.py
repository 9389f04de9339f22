"""Which cells share a minibatch: pure functions of (codes, size, rng), index arrays out.

What a BatchNorm layer sees is decided here. `mixed` deals every batch evenly over all minibatches, so that the
statistics of each minibatch are those of the whole data; the others exist to measure what that is worth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

if TYPE_CHECKING:
    from scbatchnorm._data.types import Codes

Composition = Literal["mixed", "shuffled", "single"]
COMPOSITIONS: tuple[str, ...] = get_args(Composition)


def draw_minibatches(
    codes: Codes, size: int, rng: np.random.Generator, *, composition: Composition = "mixed"
) -> list[Codes]:
    """Minibatches of one epoch, as arrays of positions in `codes`.

    Parameters
    ----------
    codes
        Batch of each cell, shape (cells,).
    size
        Cells per minibatch. Minibatches differ from it by what is needed to deal all cells evenly.
    rng
        Source of randomness.
    composition
        `mixed`: see `mixed`. `shuffled`: random minibatches. `single`: each minibatch from one batch.

    Returns
    -------
    One array per minibatch, in random order.
    """
    if composition == "mixed":
        return mixed_minibatches(codes, size, rng)
    if composition == "shuffled":
        return _split(rng.permutation(len(codes)), size)
    of_one = [rng.permutation(np.flatnonzero(codes == level)) for level in np.unique(codes)]
    parts = [part for rows in of_one for part in _split(rows, size)]
    return [parts[i] for i in rng.permutation(len(parts))]


def mixed_minibatches(codes: Codes, size: int, rng: np.random.Generator) -> list[Codes]:
    """Minibatches in which every batch is present with its share of the data, and never with a single row.

    With N cells there are M = round(N / size) minibatches. A batch of n cells is dealt over them so that each
    receives floor(n / M) or ceil(n / M). Where that is less than 2:

    - if two cells of every batch fit into a minibatch, the batch is oversampled to 2 M rows
      (its cells repeated as evenly as possible), so that every minibatch holds it;
    - otherwise batches take turns: it is dealt, two or three cells at a time, over floor(n / 2) minibatches.

    A batch of one cell enters with that cell twice.
    """
    n_minibatches = max(1, round(len(codes) / size))
    levels, counts = np.unique(codes, return_counts=True)
    everywhere = 2 * len(levels) <= size
    parts: list[list[Codes]] = [[] for _ in range(n_minibatches)]
    filled = np.zeros(n_minibatches)
    for level in levels[np.argsort(-counts, kind="stable")]:
        rows = rng.permutation(np.flatnonzero(codes == level))
        turns = n_minibatches if everywhere else min(n_minibatches, max(1, len(rows) // 2))
        if len(rows) < 2 * turns:
            rows = np.resize(rows, 2 * turns)
        # The least filled minibatches take the next batch, ties at random: sizes stay within a few cells of each other.
        chosen = np.lexsort((rng.random(n_minibatches), filled))[:turns]
        for minibatch, part in zip(chosen, np.array_split(rows, turns), strict=True):
            parts[minibatch].append(part)
            filled[minibatch] += len(part)
    order = rng.permutation([m for m in range(n_minibatches) if parts[m]])
    return [np.concatenate(parts[m]) for m in order]


def _split(rows: Codes, size: int) -> list[Codes]:
    """Pieces of nearly equal length, none of one row where there are two or more."""
    return [np.asarray(part) for part in np.array_split(rows, max(1, round(len(rows) / size)))]
