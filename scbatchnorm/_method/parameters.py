"""The range of every parameter of the estimator."""

from __future__ import annotations

import math
import os
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np

from scbatchnorm._method.training.minibatches import COMPOSITIONS
from scbatchnorm.nn.network import NETWORK_STATISTICS, NORMS, check_adversary_norm

if TYPE_CHECKING:
    from collections.abc import Callable

    from scbatchnorm._estimator import BatchNormAutoencoder

    # Whether a value is allowed, and the rule in words.
    Rule = tuple[Callable[[Any], bool], str]


def check_parameters(model: BatchNormAutoencoder) -> None:
    """Raise ValueError, naming parameter, rule and value, unless every parameter of `model` is in its range."""
    for name, (allowed, rule) in _RULES.items():
        value = getattr(model, name)
        if not allowed(value):
            msg = f"The {name!r} parameter of {type(model).__name__} must be {rule}. Got {value!r} instead."
            raise ValueError(msg)
    check_adversary_norm("adversary_norm", model.adversary_norm)
    if model.statistics != "mixed" and model.norm != "batch":
        msg = f"statistics={model.statistics!r} needs norm='batch'; got norm={model.norm!r}, which has no statistics of batches."
        raise ValueError(msg)
    if model.norm not in {"batch", "whitened", "none"} and model.n_hidden < 2:
        msg = f"n_hidden must be an int >= 2 with norm={model.norm!r}, which normalises over features; got {model.n_hidden}."
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
