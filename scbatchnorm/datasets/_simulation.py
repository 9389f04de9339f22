"""The generative model behind `datasets.simulate_batches`: programs, batch effects, counts; arrays and an rng."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse
from scipy.optimize import brentq

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scbatchnorm._data.types import Codes, Floats

_BLOCK_CELLS = 500  # rows that are dense at one time


@dataclass(frozen=True)
class Programs:
    """What a cell expresses, as natural logarithms of relative rates."""

    base: Floats  # (genes,)
    by_type: Floats  # (types, genes), added to the base
    activity: Floats  # (genes,), times a standard normal number per cell


@dataclass(frozen=True)
class Effects:
    """What each batch does to a cell."""

    shift: Floats  # (batches, genes), on the natural log scale
    scale: Floats  # (batches, genes), factor of the distance to the gene's base
    depth: Floats  # (batches,), factor of the library size
    dropout: Floats  # (batches,), probability that a non-zero value is lost


def draw_cells(
    n_cells: int, n_batches: int, n_types: int, concentration: float, rng: np.random.Generator, *, private_type: bool
) -> tuple[Codes, Codes]:
    """Batch and type codes of cells in random order, both of shape (n_cells,)."""
    codes = []
    n_shared = n_types - 1 if private_type else n_types
    for batch, size in enumerate(np.bincount(np.arange(n_cells) % n_batches)):
        share = np.zeros(n_types)
        share[:n_shared] = 1 / n_shared if math.isinf(concentration) else rng.dirichlet([concentration] * n_shared)
        if private_type and batch == n_batches - 1:
            share[:-1] *= 1 - 1 / n_types
            share[-1] = 1 / n_types
        # Rounded cumulative shares: every cell counted once, no type off by more than one cell.
        edges = np.round(np.cumsum(share) * size).astype(int)
        cell_type = np.searchsorted(edges[:-1], np.arange(size), side="right")
        codes.append(np.column_stack([np.full(size, batch), cell_type]))
    shuffled = rng.permutation(np.concatenate(codes))
    return shuffled[:, 0], shuffled[:, 1]


def draw_programs(n_genes: int, n_types: int, rng: np.random.Generator) -> Programs:
    """Expression of `n_types` cell types, which come in pairs of relatives."""
    by_type = _draw_up_regulated(n_types, n_genes, 1.2, rng)
    relatives = np.arange(n_types)[::-1] // 2  # counted from the end: a private type has a relative to be merged with
    by_type += _draw_up_regulated(int(relatives.max()) + 1, n_genes, 1.0, rng)[relatives]
    activity = rng.normal(0, 0.4, n_genes) * (rng.random(n_genes) < 0.1)
    return Programs(base=rng.normal(0, 1.2, n_genes), by_type=by_type, activity=activity)


def _draw_up_regulated(n_programs: int, n_genes: int, log_fold: float, rng: np.random.Generator) -> Floats:
    """Programs of shape (n_programs, n_genes) that raise 5 % of the genes, at least one."""
    programs = np.zeros((n_programs, n_genes))
    for program in programs:
        genes = rng.choice(n_genes, max(1, n_genes // 20), replace=False)
        program[genes] = rng.normal(log_fold, 0.4, genes.size)
    return programs


def find_library_size(programs: Programs, cell_type: Codes, density: float) -> float:
    """Median counts per cell at which the expected share of non-zero values is `density`."""
    rates = np.exp(programs.base + programs.by_type)
    rates /= rates.sum(axis=1, keepdims=True)
    frequency = np.bincount(cell_type, minlength=len(rates)) / cell_type.size

    def excess(log_size: float) -> float:
        zero = (1 + math.exp(log_size) * rates / 2) ** -2.0
        return float(frequency @ (1 - zero).mean(axis=1)) - density

    return math.exp(brentq(excess, -20, 40))


def draw_effects(n_batches: int, n_genes: int, strength: float, rng: np.random.Generator) -> Effects:
    """Batch effects; all four parts grow in proportion to `strength`."""
    return Effects(
        shift=rng.normal(0, 0.5, (n_batches, n_genes)) * strength,
        scale=np.exp(rng.normal(0, 0.15, (n_batches, n_genes)) * strength),
        depth=np.exp(rng.normal(0, 0.3, n_batches) * strength),
        dropout=np.minimum(rng.uniform(0, 0.2, n_batches) * strength, 0.9),
    )


def draw_counts(
    batch: Codes,
    cell_type: Codes,
    programs: Programs,
    effects: Effects,
    library_size: float,
    rng: np.random.Generator,
    rng_dropout: np.random.Generator,
    *,
    truth: bool,
) -> Iterator[dict[str, sparse.csr_matrix]]:
    """Counts of consecutive cells, all genes: `"X"` with the batch effect and, with `truth`, `"layers/truth"` without."""
    for start in range(0, batch.size, _BLOCK_CELLS):
        b, t = batch[start : start + _BLOCK_CELLS], cell_type[start : start + _BLOCK_CELLS]
        size = library_size * np.exp(rng.normal(0, 0.3, b.size))
        program = programs.by_type[t] + rng.normal(size=(b.size, 1)) * programs.activity
        survival = 1 - rng.random(program.shape)  # in (0, 1], shared by truth and measurement
        log_rates = programs.base + effects.shift[b] + effects.scale[b] * program
        counts = _invert_counts(log_rates, size * effects.depth[b], survival)
        lost = rng_dropout.random(counts.nnz) < np.repeat(effects.dropout[b], np.diff(counts.indptr))
        counts.data[lost] = 0
        counts.eliminate_zeros()
        block = {"X": counts}
        if truth:
            block["layers/truth"] = _invert_counts(programs.base + program, size, survival)
        yield block


def _invert_counts(log_rates: Floats, size: Floats, survival: Floats) -> sparse.csr_matrix:
    """Negative binomial counts with mean size x rate and variance mean + mean^2 / 2, where P(more) = `survival`.

    With p = 1 / (1 + mean / 2), P(count >= m) = (1 - p)^m (1 + m p). The count is found from the real root m by
    Newton's method on the logarithm, for the few non-zero values only: many times faster than gamma and Poisson draws.
    """
    p = np.exp(log_rates)  # made into means, then into the p of the law: large arrays are slow to allocate
    p *= (size / p.sum(axis=1))[:, None]
    p /= 2
    p += 1
    np.divide(1, p, out=p)
    rows, genes = np.nonzero(survival < 1 - p**2)
    counts = np.maximum(np.ceil(_find_root(p[rows, genes], np.log(survival[rows, genes]))) - 1, 1).astype(np.float32)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(p)))])
    return sparse.csr_matrix((counts, genes.astype(np.int32), indptr.astype(np.int32)), shape=p.shape)


def _find_root(p: Floats, target: Floats) -> Floats:
    """The real m with log((1 - p)^m (1 + m p)) = `target`, all of shape (values,), after 12 of Newton's steps."""
    slope = np.log1p(-p)
    root, m = np.empty_like(p), np.ones_like(p)
    moving: Any = slice(None)
    # Concave and falling: the first step lands right of the root, then it is monotone.
    for _ in range(6):
        before = m
        for _ in range(2):
            m = m - (m * slope + np.log1p(m * p) - target) / (slope + p / (1 + m * p))
        root[moving] = m
        # At the end it stands still, or goes back and forth by a rounding error: two steps more change nothing.
        still = np.flatnonzero(m != before)
        moving = still if isinstance(moving, slice) else moving[still]
        m, p, target, slope = m[still], p[still], target[still], slope[still]
    return root
