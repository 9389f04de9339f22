"""The cells of a query moved into the space of the reference batch by batch, with the novelty of each cell."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scbatchnorm._data.blocks import Product
from scbatchnorm._data.checks import join_names
from scbatchnorm._data.dask_blocks import checked_map
from scbatchnorm._method.reference import MIN_CELLS, ReferenceDensity
from scbatchnorm.tl._mapping.query_batches import read_query_batches
from scbatchnorm.tl._mapping.space import ReferenceSpace, estimate_offset, remove_residual_shift

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scbatchnorm._data.batches import Batches
    from scbatchnorm._data.blocks import Blocks
    from scbatchnorm._data.types import Floats, Labels
    from scbatchnorm._method.fitted import FittedModel
    from scbatchnorm._method.stem import Stem

_MODES = ("frozen", "recalibrate")
# Reference cells that distances are measured to.
_DENSITY_CELLS = 4000
# Smallest novelty limit, so that nothing is divided by 0.
_TINY = 1e-12


@dataclass(frozen=True)
class MappingOptions:
    """Parameters of `map_query` that decide where cells are placed and which are novel."""

    mode: str = "frozen"
    false_alarm: float = 0.01
    min_probability: float = 0.5

    def check(self) -> None:
        """Raise ValueError for what is out of range."""
        if self.mode not in _MODES:
            msg = f"mode must be one of {', '.join(map(repr, _MODES))}; got {self.mode!r}."
            raise ValueError(msg)
        for name, highest in (("false_alarm", 0.5), ("min_probability", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) <= highest:
                msg = f"{name} must be a number from 0 to {highest}; got {value!r}."
                raise ValueError(msg)


@dataclass(frozen=True)
class QueryFeatures:
    """Features of the query that the model was fitted on."""

    blocks: Blocks  # (cells, features found)
    stem: Stem  # of these features
    n_wanted: int
    missing: Labels
    use_rep: str | None = None

    @property
    def share(self) -> float:
        """Share of the features of the model that the query has."""
        return self.blocks.shape[1] / self.n_wanted

    def components(self) -> Floats:
        """Components of all cells, shape (cells, components); values are checked in the same pass."""
        parts = checked_map(self.blocks, Product(self.stem.components), what="components")
        products = np.empty((self.blocks.shape[0], self.stem.components.shape[1]), np.float32)
        for start, part in zip(self.blocks.starts, parts, strict=True):
            products[start : start + len(part)] = part
        return self.stem.standardise(products)


@dataclass(frozen=True)
class MappedQuery:
    """The cells of a query in the space of the reference."""

    points: Floats  # (cells, components) corrected components
    novelty: Floats  # (cells,) above 1: novel; nan where it is not known
    confidence: Floats  # (cells,) share of held-out reference cells that are at least as novel
    batches: pd.DataFrame  # one row per batch
    same_names: list[str]  # new batches with the name of a batch of the reference
    warnings: list[str]


def match_known_batches(batches: Batches, known_batches: Sequence[str] | str, levels: Labels) -> dict[str, int]:
    """Codes among the `levels` of the reference, by name, of the batches of the query that are batches of the reference.

    Raises
    ------
    ValueError
        A name is not that of a batch of both.
    """
    known = [known_batches] if isinstance(known_batches, str) else [str(name) for name in known_batches]
    codes = {str(level): code for code, level in enumerate(levels)}
    present = batches.levels.tolist()
    for where, names in (("the reference", list(codes)), ("the query", present)):
        wrong = [name for name in known if name not in names]
        if wrong:
            msg = f"known_batches must name batches that both have; {join_names(wrong)} is none of {where}: {join_names(names)}."
            raise ValueError(msg)
    return {name: codes[name] for name in known}


def place_query(
    features: QueryFeatures,
    batches: Batches,
    known: dict[str, int],
    model: FittedModel,
    options: MappingOptions,
    rng: np.random.Generator,
) -> MappedQuery:
    """Place the cells of all batches of the query in the space of `model`.

    Parameters
    ----------
    features
        Of the cells.
    batches
        Of the cells.
    known
        Codes of the batches that were in the fit, by name. All others are new.
    model
        The fitted reference.
    options
        Of `map_query`.
    rng
        Draws the cells that anchors and novelty are estimated from.
    """
    space = ReferenceSpace(model)
    null = NullDistribution(space, model.reference.unexplained, options.false_alarm, rng)
    components = features.components()
    query_batches = read_query_batches(
        features.blocks, features.stem, batches.codes, rng, with_models=null.has_unexplained
    )
    points = np.empty_like(components)
    novelty, confidence = np.full((2, len(points)), np.nan, np.float32)
    table, warnings = {}, []
    for name, query_batch in zip(batches.levels.tolist(), query_batches, strict=True):
        rows, sketch, code = query_batch.rows, query_batch.anchor_sketch, known.get(name)
        if code is None:
            offset, n_anchors = estimate_offset(components[rows], sketch, space, model.n_neighbors)
        else:
            offset, n_anchors = model.offsets[code], 0
        inputs = components[rows] - offset
        if len(rows) >= MIN_CELLS:
            novelty[rows], confidence[rows] = null.novelty(inputs, query_batch.unexplained())
        if code is not None:
            points[rows] = space.correct_known(components[rows], code)
        else:
            batch_space = space.recalibrate(inputs[sketch]) if options.mode == "recalibrate" else space
            points[rows] = latent = batch_space.correct(inputs)
            if n_anchors:
                points[rows], n_anchors = remove_residual_shift(
                    latent, sketch, batch_space, model.n_neighbors, novelty[rows] > 1
                )
            if not n_anchors:
                warnings.append(_explain_missing_offset(name, len(rows)))
        table[name] = {
            "n_cells": len(rows),
            "known": code is not None,
            "n_anchors": n_anchors,
            "n_novel": int((novelty[rows] > 1).sum()),
        }
    levels = set(map(str, model.batches))
    same_names = [name for name in table if name not in known and name in levels]
    return MappedQuery(points, novelty, confidence, pd.DataFrame.from_dict(table, orient="index"), same_names, warnings)


def _explain_missing_offset(name: str, n_cells: int) -> str:
    """Message of a batch that could not be moved onto the reference: why, and what can be done."""
    if n_cells < MIN_CELLS:
        why = f"has {n_cells} cells, fewer than the {MIN_CELLS} that an offset needs"
        what = "Its cells are placed as they were measured; if they are of a batch of the reference, name it in known_batches."
    else:
        why = "has no anchors in the reference: they share no cell states, or are too different"
        what = "Its cells are placed as they were measured, and their neighbours mean little. Is it the same tissue and species, normalised alike?"
    return f"query batch {name!r} {why}. {what}"


class NullDistribution:
    """Distances and unexplained expression of reference cells whose batch was held out, for the novelty of cells of a new batch.

    Parameters
    ----------
    space
        Of the reference.
    unexplained
        Unexplained expression of held-out reference cells, ascending; empty where it is not known.
    false_alarm
        Share of held-out reference cells that are called novel.
    rng
        Draws the reference cells that distances are measured to.
    """

    def __init__(
        self, space: ReferenceSpace, unexplained: Floats, false_alarm: float, rng: np.random.Generator
    ) -> None:
        rows = np.sort(rng.permutation(len(space.inputs))[:_DENSITY_CELLS])
        self._density = ReferenceDensity(space.inputs[rows], space.codes[rows], rng)
        self._distance = self._density.distance_when_held_out()
        self._unexplained, self._false_alarm = unexplained, false_alarm

    @property
    def has_unexplained(self) -> bool:
        """Whether the unexplained expression of held-out cells is known."""
        return len(self._unexplained) > 0

    def novelty(self, inputs: Floats, unexplained: Floats | None) -> tuple[Floats, Floats]:
        """Novelty of the cells of a batch, and share of held-out cells that are at least as novel, both of shape (cells,).

        The novelty is the larger one of distance and unexplained expression, in units of the quantile of the null
        distribution that `false_alarm` of its cells are above; nan where there is no null distribution.

        Parameters
        ----------
        inputs
            Components of the cells without offset, shape (cells, components).
        unexplained
            Their unexplained expression, shape (cells,), if it is known.
        """
        novelty, confidence = np.full((2, len(inputs)), np.nan, np.float32)
        scores = [(self._distance, self._density.distance(inputs))]
        if unexplained is not None:
            scores.append((self._unexplained, unexplained))
        for held_out, score in scores:
            if len(held_out):
                limit = np.float32(max(float(np.quantile(held_out, 1 - self._false_alarm)), _TINY))
                novelty = np.fmax(novelty, score / limit)
                at_least = 1 - np.searchsorted(held_out, score) / len(held_out)
                confidence = np.fmin(confidence, at_least.astype(np.float32))
        return novelty, confidence
