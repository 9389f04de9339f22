"""The parameters of the estimator that a fit depends on, and the range of each."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from scbatchnorm._method.training.minibatches import COMPOSITIONS
from scbatchnorm.nn.network import NETWORK_STATISTICS, NORMS, check_adversary_norm

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from scbatchnorm._method.training.minibatches import Composition
    from scbatchnorm.nn.network import AdversaryNorm, NetworkStatistics, Norm

    # Whether a value is allowed, and the rule in words.
    Rule = tuple[Callable[[Any], bool], str]


@dataclass(frozen=True)
class FitParameters:
    """The parameters of `BatchNormAutoencoder` that decide what a fit learns; their defaults and meaning are in `_estimator.py`."""

    n_components: int
    n_latent: int
    stem: Literal["pca", "identity"]
    strength: float | Literal["auto"]
    n_hidden: int
    n_layers: int
    norm: Norm
    statistics: NetworkStatistics
    dropout: float
    minibatch_size: int
    minibatches: Composition
    n_epochs: int
    min_steps: int
    max_steps: int
    learning_rate: float
    weight_decay: float
    offsets: bool
    anchor_weight: float
    adversary_weight: float
    adversary_norm: AdversaryNorm
    n_neighbors: int
    n_refreshes: int
    max_cells_fit: int | None
    record_shift: bool

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> FitParameters:
        """Those among the parameters of an estimator."""
        return cls(**{field.name: params[field.name] for field in fields(cls)})

    def n_steps(self, n_cells: int) -> int:
        """Steps of the optimiser for `n_cells` cells."""
        return min(self.max_steps, max(self.min_steps, self.n_epochs * (n_cells // self.minibatch_size)))


def check_parameters(params: Mapping[str, Any], *, owner: str = "BatchNormAutoencoder") -> None:
    """Raise ValueError, naming parameter, rule and value, unless all `params` of the estimator `owner` are in their range."""
    for name, (allowed, rule) in _RULES.items():
        value = params[name]
        if not allowed(value):
            msg = f"The {name!r} parameter of {owner} must be {rule}. Got {value!r} instead."
            raise ValueError(msg)
    check_adversary_norm("adversary_norm", params["adversary_norm"])
    statistics, norm, n_hidden = params["statistics"], params["norm"], params["n_hidden"]
    if statistics != "mixed" and norm != "batch":
        msg = f"statistics={statistics!r} needs norm='batch'; got norm={norm!r}, which has no statistics of batches."
        raise ValueError(msg)
    if norm not in {"batch", "whitened", "none"} and n_hidden < 2:
        msg = f"n_hidden must be an int >= 2 with norm={norm!r}, which normalises over features; got {n_hidden}."
        raise ValueError(msg)


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_real(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _whole(low: int) -> Rule:
    return lambda value: _is_whole(value) and value >= low, f"an int >= {low}"


def _word(words: tuple[str, ...]) -> Rule:
    return lambda value: isinstance(value, str) and value in words, f"one of {', '.join(map(repr, words))}"


_MOST_LAYERS = 100
_FEWEST_FIT = 1000
_NOT_NEGATIVE: Rule = (lambda value: _is_real(value) and value >= 0, "a number >= 0")

_RULES: dict[str, Rule] = {
    **dict.fromkeys(("n_components", "n_latent", "n_hidden", "n_epochs", "min_steps", "max_steps"), _whole(1)),
    # so many that no file can ask for a network that takes minutes to build
    "n_layers": (lambda value: _is_whole(value) and 1 <= value <= _MOST_LAYERS, f"an int from 1 to {_MOST_LAYERS}"),
    **dict.fromkeys(("n_neighbors", "n_refreshes"), _whole(1)),
    "max_cells_fit": (
        lambda value: value is None or (_is_whole(value) and value >= _FEWEST_FIT),
        f"an int >= {_FEWEST_FIT} or None",
    ),
    # two cells of two batches
    "minibatch_size": _whole(4),
    "learning_rate": (lambda value: _is_real(value) and value > 0, "a number > 0"),
    **dict.fromkeys(("weight_decay", "anchor_weight", "adversary_weight"), _NOT_NEGATIVE),
    "stem": _word(("pca", "identity")),
    "norm": _word(NORMS),
    "statistics": _word(NETWORK_STATISTICS),
    "dropout": (lambda value: _is_real(value) and 0 <= value < 1, "a number in [0, 1)"),
    "minibatches": _word(COMPOSITIONS),
    "strength": (
        lambda value: (_is_real(value) and 0 <= value <= 1) or (isinstance(value, str) and value == "auto"),
        "'auto' or a number in [0, 1]",
    ),
    **dict.fromkeys(("offsets", "record_shift"), (lambda value: isinstance(value, bool), "True or False")),
    "progress": (lambda value: value is None or isinstance(value, bool), "True, False or None"),
    "checkpoint": (
        lambda value: value is None or (isinstance(value, str | os.PathLike) and str(value) != ""),
        "a path or None",
    ),
    "rng": (
        lambda value: value is None or isinstance(value, np.random.Generator) or (_is_whole(value) and value >= 0),
        "an int >= 0, a numpy.random.Generator or None",
    ),
}
