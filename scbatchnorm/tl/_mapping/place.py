"""New cells placed batch by batch, with what is known of each: novelty, support, labels."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scbatchnorm._data.blocks import _Product
from scbatchnorm._data.checks import join_names
from scbatchnorm._data.surveyed import checked_map
from scbatchnorm._method.novelty import ReferenceDensity
from scbatchnorm.tl._mapping import query_batches as _news
from scbatchnorm.tl._mapping import space as _mapping

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scbatchnorm._data.batches import Batches
    from scbatchnorm._data.blocks import Blocks
    from scbatchnorm._data.types import Floats, Labels
    from scbatchnorm._method.fitted import FittedModel
    from scbatchnorm._method.stem import Stem

_MODES = ("frozen", "recalibrate")
# Reference cells that distances to its states are measured from.
_STATES = 4000
_TINY = 1e-12
# Cells that pass the network at once.
_ROWS = 8192


@dataclass(frozen=True)
class Options:
    """What the caller may choose."""

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
class Source:
    """Features of new cells that the model knows."""

    matrix: Blocks  # (cells, features found)
    stem: Stem  # of these features
    n_wanted: int
    missing: Labels
    use_rep: str | None = None

    @property
    def share(self) -> float:
        """Of the features of the model that are there."""
        return self.matrix.shape[1] / self.n_wanted

    def components(self) -> Floats:
        """Of all cells, shape (cells, components); in the same pass values are checked."""
        parts = checked_map(self.matrix, _Product(self.stem.components), what="components")
        products = np.empty((self.matrix.shape[0], self.stem.components.shape[1]), np.float32)
        for start, part in zip(self.matrix.starts, parts, strict=True):
            products[start : start + len(part)] = part
        return self.stem.standardise(products)


@dataclass(frozen=True)
class Mapped:
    """New cells in the space of the reference."""

    points: Floats  # (cells, components) corrected components
    novelty: Floats  # (cells,) above 1: novel
    confidence: Floats  # (cells,)
    batches: pd.DataFrame  # a row per batch
    same_names: list[str]
    warnings: list[str]


def known_codes(batches: Batches, known_batches: Sequence[str] | str, levels: Labels) -> dict[str, int]:
    """Codes of the batches that the caller says are those of the reference, by name.

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


def place(
    source: Source,
    batches: Batches,
    known: dict[str, int],
    model: FittedModel,
    options: Options,
    rng: np.random.Generator,
) -> Mapped:
    """Place the cells of all `batches`, of which some are `known` by their code."""
    space = _mapping.Space(model)
    usual = Usual(model, space, options.false_alarm, rng)
    components = source.components()
    news = _news.read(source.matrix, source.stem, batches.codes, rng, unexplained=usual.knows_unexplained)
    points = np.empty_like(components)
    novelty, confidence = np.full((2, len(points)), np.nan, np.float32)
    table, warnings = {}, []
    for name, new in zip(batches.levels.tolist(), news, strict=True):
        rows, looked = new.rows, new.looked
        mine = components[rows]
        if name in known:
            offset, n_anchors = model.offsets[known[name]], 0
        else:
            offset, n_anchors = _mapping.align(mine, looked, space, model.n_neighbors)
        aligned = mine - offset
        if len(rows) >= _mapping.FEWEST:
            novelty[rows], confidence[rows] = usual.judge(aligned, new.unexplained())
        if name in known:
            points[rows] = _as_known(model, mine, known[name])
        else:
            novel = novelty[rows] > 1
            inside = space.recalibrated(aligned[looked]) if options.mode == "recalibrate" else space
            points[rows], n_anchors = _mapping.settle(
                inside.correct(aligned), looked, inside, model.n_neighbors, novel, anchored=n_anchors > 0
            )
            if n_anchors == 0:
                warnings.append(_unaligned(name, len(rows)))
        table[name] = {
            "n_cells": len(rows),
            "known": name in known,
            "n_anchors": n_anchors,
            "n_novel": int((novelty[rows] > 1).sum()),
        }
    frame = pd.DataFrame.from_dict(table, orient="index")
    same = [name for name in table if name not in known and name in set(map(str, model.batches))]
    return Mapped(points, novelty, confidence, frame, same, warnings)


def _as_known(model: FittedModel, components: Floats, code: int) -> Floats:
    """Corrected components of cells of a batch that the model was fitted on."""
    parts = [components[start : start + _ROWS] for start in range(0, len(components), _ROWS)]
    return np.concatenate([model.correct(part, np.full(len(part), code)) for part in parts])


def _unaligned(name: str, n_cells: int) -> str:
    """Why cells of a batch are where they are, and what can be done."""
    if n_cells < _mapping.FEWEST:
        why = f"has {n_cells} cells, fewer than the {_mapping.FEWEST} that an offset needs"
        what = "Its cells are placed as they were measured; if they are of a batch of the reference, name it in known_batches."
    else:
        why = "has no anchors in the reference: they share no cell states, or are too different"
        what = "Its cells are placed as they were measured, and their neighbours mean little. Is it the same tissue and species, normalised alike?"
    return f"query batch {name!r} {why}. {what}"


class Usual:
    """What is usual for cells of a batch that the reference has not seen, by its own batches held out."""

    def __init__(self, model: FittedModel, space: _mapping.Space, false_alarm: float, rng: np.random.Generator) -> None:
        rows = np.sort(rng.permutation(len(space.inputs))[:_STATES])
        self._states = ReferenceDensity(space.inputs[rows], space.codes[rows], rng)
        self._false_alarm = false_alarm
        self._unexplained = model.reference.unexplained
        self._distance = self._states.distance_when_held_out()

    @property
    def knows_unexplained(self) -> bool:
        """Whether it is known how much expression of cells held out is left unexplained."""
        return len(self._unexplained) > 0

    def judge(self, aligned: Floats, unexplained: Floats | None) -> tuple[Floats, Floats]:
        """Novelty, and share of held-out cells at least as novel, of the cells of a batch; both (cells,).

        Cells are given by their `aligned` components, and what of their expression is `unexplained`, if that is known.
        """
        novelty, confidence = np.full((2, len(aligned)), np.nan, np.float32)
        pairs = [(self._distance, self._states.distance(aligned))]
        if unexplained is not None:
            pairs.append((self._unexplained, unexplained))
        for usual, found in pairs:
            if len(usual):
                limit = np.float32(max(float(np.quantile(usual, 1 - self._false_alarm)), _TINY))
                novelty = np.fmax(novelty, found / limit)
                above = 1 - np.searchsorted(usual, found) / len(usual)
                confidence = np.fmin(confidence, above.astype(np.float32))
        return novelty, confidence
