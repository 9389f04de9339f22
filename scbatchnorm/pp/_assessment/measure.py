"""Whether batches need a correction and allow one: everything measured, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scbatchnorm._method.anchors import cells_per_batch, sketch_batches
from scbatchnorm.pp._assessment import association as _association
from scbatchnorm.pp._assessment import counterparts as _counterparts
from scbatchnorm.pp._assessment import effect as _effect
from scbatchnorm.pp._assessment import tables as _tables
from scbatchnorm.pp._assessment import verdict as _verdict
from scbatchnorm.pp._assessment.result import Assessment
from scbatchnorm.pp._assessment.tables import Group

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scbatchnorm._data.types import Codes, Floats
    from scbatchnorm.pp._assessment.counterparts import Counterparts
    from scbatchnorm.pp._assessment.tables import Column

# Cells of each label in each batch that are looked at: fewer where there are more of these.
_IN_ALL, _MOST, _LEAST = 16_000, 400, 20
# Batches that mix worse differ, whether or not they meet in a cluster.
_APART = 0.6


@dataclass(frozen=True)
class _Grouping:
    """Cells that are compared: which, `rows` of all cells, the group of each (-1 for none), and the groups' names and sizes."""

    rows: Codes
    of_cell: Codes
    names: list[str]
    sizes: Codes
    n_cells: int  # of which those in groups are a part


def assess(
    points: Floats,
    batch: Column,
    label: Column | None,
    covariates: Sequence[Column],
    *,
    n_permutations: int,
    rng: np.random.Generator,
) -> Assessment:
    """Assess uncorrected coordinates `points` (cells, components).

    Cells without a label take part in what is said about batches, not about labels.
    """
    names = pd.Index(batch.levels, dtype=object)
    shared, elsewhere = np.full((len(names), len(names)), np.nan), np.full(len(names), np.nan)
    groups: list[Group] = []
    judged = 0.0
    if len(names) > 1:
        shared, elsewhere, groups, judged = _compared(points, batch, label, n_permutations, rng)
    columns = [*([label] if label is not None else []), *covariates]
    counts = [_counts(column, batch) for column in columns]
    pairs = list(zip(columns, counts, strict=True))
    tables = _verdict.Tables(
        effects=_tables.effects(groups),
        batches=_tables.batches(np.bincount(batch.codes), elsewhere, groups, names),
        shared=pd.DataFrame(shared, index=names, columns=names),
        association=_tables.association([_associated(*pair, batch) for pair in pairs]),
        design=_tables.design(pairs, names),
        word="cluster" if label is None else "label",
        private=[] if label is None else _private(label, counts[0]),
        judged=judged,
    )
    verdict, reasons = _verdict.decide(tables)
    return Assessment(
        verdict=verdict,
        reasons=tuple(reasons),
        effects=tables.effects,
        batches=tables.batches,
        shared=tables.shared,
        association=tables.association,
        design=tables.design,
        label_key=None if label is None else label.name,
        batch_key=batch.name,
    )


def _compared(
    points: Floats, batch: Column, label: Column | None, n_permutations: int, rng: np.random.Generator
) -> tuple[Floats, Floats, list[Group], float]:
    """Shares of cells with counterparts in each batch and in any, the groups, and the share of cells that they judge.

    Batches are moved only if they differ as they are.
    """
    rows = sketch_batches(batch.codes, cells_per_batch(len(batch.levels)), rng)
    codes = batch.codes[rows]
    states = _counterparts.as_they_are(points[rows], codes, rng)
    grouping = _by_cluster(states, rows, batch, rng) if label is None else _by_label(batch, label, rng)
    groups = _measured(points, batch, grouping, n_permutations, rng)
    if states.mixing < _APART or _differ(groups, len(batch.levels)):
        states = _counterparts.moved(points[rows], codes, rng)
        if label is None:
            grouping = _by_cluster(states, rows, batch, rng)
            groups = _measured(points, batch, grouping, n_permutations, rng)
    judged = sum(group.n_cells for group in groups) / grouping.n_cells
    return *states.shared(codes), groups, judged


def _differ(groups: list[Group], n_batches: int) -> bool:
    """Whether batches differ beyond chance in a group, or over all of them."""
    effects = [group.effect for group in groups]
    deviations = [found for found in _effect.of_batches(effects, n_batches) if found is not None]
    return bool(min(_effect.adjusted(each).min(initial=1) for each in (effects, deviations)) <= _verdict.LEVEL)


def _by_cluster(states: Counterparts, rows: Codes, batch: Column, rng: np.random.Generator) -> _Grouping:
    """Clusters of the cells that have counterparts: of the others it is said that they have none."""
    of_cell = _counterparts.clusters(states, batch.codes[rows], rng)
    names = [f"cluster {i + 1}" for i in range(int(of_cell.max(initial=-1)) + 1)]
    sizes = np.bincount(of_cell[of_cell >= 0], minlength=len(names))
    return _Grouping(rows, of_cell, names, sizes, max(1, int(sizes.sum())))


def _by_label(batch: Column, label: Column, rng: np.random.Generator) -> _Grouping:
    """Some cells of each label in each batch, so that rare labels keep theirs; sizes are those of all cells."""
    known = np.flatnonzero(label.codes >= 0)
    strata = np.unique(label.codes[known] * len(batch.levels) + batch.codes[known], return_inverse=True)[1]
    most = int(np.clip(_IN_ALL // (strata.max() + 1), _LEAST, _MOST))
    rows = known[sketch_batches(strata, most, rng)]
    sizes = np.bincount(label.codes[known], minlength=len(label.levels))
    return _Grouping(rows, label.codes[rows], [str(level) for level in label.levels], sizes, len(known))


def _measured(
    points: Floats, batch: Column, grouping: _Grouping, n_permutations: int, rng: np.random.Generator
) -> list[Group]:
    """Groups that can be judged, largest first."""
    found = []
    for number in np.argsort(-grouping.sizes, kind="stable"):
        rows = grouping.rows[grouping.of_cell == number]
        effect = _effect.measure(points[rows], batch.codes[rows], n_permutations, rng) if len(rows) else None
        if effect is not None:
            found.append(Group(grouping.names[number], int(grouping.sizes[number]), effect))
    return found


def _counts(column: Column, batch: Column) -> Codes:
    """Cells of each level in each batch, shape (levels, batches)."""
    known = column.codes >= 0
    pairs = column.codes[known] * len(batch.levels) + batch.codes[known]
    shape = (len(column.levels), len(batch.levels))
    return np.bincount(pairs, minlength=shape[0] * shape[1]).reshape(shape)


def _private(label: Column, counts: Codes) -> list[str]:
    """Labels in one batch only."""
    return [str(name) for name in label.levels[(counts > 0).sum(axis=1) == 1]]


def _associated(column: Column, counts: Codes, batch: Column) -> dict[str, Any]:
    """Row of the association table."""
    counts = counts[:, counts.any(axis=0)]
    known = column.codes >= 0
    if not known.any():
        link, value = _association.Link("no values", 0, 0), float("nan")
    elif column.numbers is None:
        link, value = _association.link(counts), _association.cramers_v(counts)
    else:
        link = _association.link_of_numbers(column.numbers[known], batch.codes[known])
        value = _association.correlation_ratio(column.numbers[known], batch.codes[known])
    return {
        "name": column.name,
        "levels": len(column.levels),
        "measure": "Cramer's V" if column.numbers is None else "correlation ratio",
        "value": value,
        "status": link.status,
        "confounded": link.confounded,
        "components": link.n_components,
        "strays": link.n_strays,
        "missing": int((~known).sum()),
    }
