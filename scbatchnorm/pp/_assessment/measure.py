"""The assessment: batches compared within clusters or labels, covariates compared with batches, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scbatchnorm._method.anchors import cells_per_batch, sketch_batches
from scbatchnorm.pp._assessment.association import count_levels, make_association_table, make_design_table
from scbatchnorm.pp._assessment.counterparts import cluster_cells, find_counterparts
from scbatchnorm.pp._assessment.effect import (
    Group,
    adjust_p_values,
    make_batches_table,
    make_effects_table,
    measure_deviations,
    measure_effect,
)
from scbatchnorm.pp._assessment.result import Assessment
from scbatchnorm.pp._assessment.verdict import ALPHA, Measurements, decide_verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scbatchnorm._data.types import Codes, Floats
    from scbatchnorm.pp._assessment.association import Column
    from scbatchnorm.pp._assessment.counterparts import Counterparts

# Cells with labels that are used: in all, and the most and the fewest of each label in each batch.
_MAX_CELLS, _MAX_PER_LABEL, _MIN_PER_LABEL = 16_000, 400, 20
# Batches that mix less than this differ, whether or not they have clusters in common.
_MIN_MIXING = 0.6


@dataclass(frozen=True)
class _Grouping:
    """Groups within which batches are compared."""

    rows: Codes  # (used,) cells that are used, as rows of all cells
    codes: Codes  # (used,) group of each, -1 for none
    names: list[str]  # (groups,)
    sizes: Codes  # (groups,) their cells
    n_cells: int  # cells that could be in a group


def assess_batches(
    points: Floats,
    batch: Column,
    label: Column | None,
    covariates: Sequence[Column],
    *,
    n_permutations: int,
    rng: np.random.Generator,
) -> Assessment:
    """Assess uncorrected coordinates `points` (cells, components).

    Cells without a label count for the comparison of batches, not for that within labels.
    """
    names = pd.Index(batch.levels, dtype=object)
    pairwise, shared = np.full((len(names), len(names)), np.nan), np.full(len(names), np.nan)
    groups: list[Group] = []
    compared_share = 0.0
    if len(names) > 1:
        pairwise, shared, groups, compared_share = _compare_batches(points, batch, label, n_permutations, rng)
    columns = [*([label] if label is not None else []), *covariates]
    measurements = Measurements(
        effects=make_effects_table(groups),
        batches=make_batches_table(np.bincount(batch.codes), shared, groups, names),
        shared=pd.DataFrame(pairwise, index=names, columns=names),
        association=make_association_table(columns, batch),
        design=make_design_table(columns, batch),
        group_word="cluster" if label is None else "label",
        private_labels=[] if label is None else _find_private_labels(label, batch),
        compared_share=compared_share,
    )
    verdict, reasons = decide_verdict(measurements)
    return Assessment(
        verdict=verdict,
        reasons=tuple(reasons),
        effects=measurements.effects,
        batches=measurements.batches,
        shared=measurements.shared,
        association=measurements.association,
        design=measurements.design,
        label_key=None if label is None else label.name,
        batch_key=batch.name,
    )


def _compare_batches(
    points: Floats, batch: Column, label: Column | None, n_permutations: int, rng: np.random.Generator
) -> tuple[Floats, Floats, list[Group], float]:
    """Shares of cells with counterparts in each batch and in any, the groups, and the share of cells in these groups.

    Batches are aligned before counterparts are counted only if they differ without alignment.
    """
    rows = sketch_batches(batch.codes, cells_per_batch(len(batch.levels)), rng)
    codes = batch.codes[rows]
    counterparts = find_counterparts(points[rows], codes, rng, align=False)
    grouping = (
        _group_by_cluster(counterparts, rows, batch, rng) if label is None else _group_by_label(batch, label, rng)
    )
    groups = _measure_groups(points, batch, grouping, n_permutations, rng)
    if counterparts.mixing < _MIN_MIXING or _batches_differ(groups, len(batch.levels)):
        counterparts = find_counterparts(points[rows], codes, rng, align=True)
        if label is None:
            grouping = _group_by_cluster(counterparts, rows, batch, rng)
            groups = _measure_groups(points, batch, grouping, n_permutations, rng)
    compared_share = sum(group.n_cells for group in groups) / grouping.n_cells
    return *counterparts.shared_by_batch(codes), groups, compared_share


def _batches_differ(groups: Sequence[Group], n_batches: int) -> bool:
    """Whether batches differ significantly in a group, or a batch from the others over all groups."""
    effects = [group.effect for group in groups]
    deviations = [deviation for deviation in measure_deviations(effects, n_batches) if deviation is not None]
    return bool(min(adjust_p_values(tests).min(initial=1) for tests in (effects, deviations)) <= ALPHA)


def _group_by_cluster(counterparts: Counterparts, rows: Codes, batch: Column, rng: np.random.Generator) -> _Grouping:
    """Clusters of the cells with counterparts; cells without are reported as such instead."""
    codes = cluster_cells(counterparts, batch.codes[rows], rng)
    names = [f"cluster {i + 1}" for i in range(int(codes.max(initial=-1)) + 1)]
    sizes = np.bincount(codes[codes >= 0], minlength=len(names))
    return _Grouping(rows, codes, names, sizes, max(1, int(sizes.sum())))


def _group_by_label(batch: Column, label: Column, rng: np.random.Generator) -> _Grouping:
    """Labels, with a subsample of each label in each batch, so that rare labels keep their cells; sizes are of all cells."""
    known = np.flatnonzero(label.codes >= 0)
    strata = np.unique(label.codes[known] * len(batch.levels) + batch.codes[known], return_inverse=True)[1]
    n_per_stratum = int(np.clip(_MAX_CELLS // (strata.max() + 1), _MIN_PER_LABEL, _MAX_PER_LABEL))
    rows = known[sketch_batches(strata, n_per_stratum, rng)]
    sizes = np.bincount(label.codes[known], minlength=len(label.levels))
    return _Grouping(rows, label.codes[rows], [str(level) for level in label.levels], sizes, len(known))


def _measure_groups(
    points: Floats, batch: Column, grouping: _Grouping, n_permutations: int, rng: np.random.Generator
) -> list[Group]:
    """Groups with enough cells of two batches, largest first."""
    groups = []
    for number in np.argsort(-grouping.sizes, kind="stable"):
        rows = grouping.rows[grouping.codes == number]
        effect = measure_effect(points[rows], batch.codes[rows], n_permutations, rng) if len(rows) else None
        if effect is not None:
            groups.append(Group(grouping.names[number], int(grouping.sizes[number]), effect))
    return groups


def _find_private_labels(label: Column, batch: Column) -> list[str]:
    """Labels that occur in one batch only."""
    return [str(name) for name in label.levels[(count_levels(label, batch) > 0).sum(axis=1) == 1]]
