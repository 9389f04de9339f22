"""What the values of a matrix must be, and the words for what is wrong with them."""

from __future__ import annotations

import math
import warnings
from numbers import Integral, Real
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from scbatchnorm._minibatch import COMPOSITIONS
from scbatchnorm.nn.network import NORMALIZATIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import ArrayLike

    from scbatchnorm._model import BatchNormAutoencoder
    from scbatchnorm._typing import Bools, Labels, Matrix

# log1p of a million is 13.8: larger values were not log-transformed.
_LOG_CEILING = 30.0


# Rules for the parameters of the estimator; whole numbers with their lowest value.
_WHOLE = {
    "n_components": 1,
    "n_hidden": 1,
    "n_layers": 1,
    "minibatch_size": 4,
    "n_epochs": 1,
    "min_steps": 1,
    "max_steps": 1,
    "n_neighbors": 1,
    "n_refreshes": 1,
}
_POSITIVE = ("learning_rate",)
_NOT_NEGATIVE = ("weight_decay", "anchor_weight", "adversary_weight")
_WORDS = {"stem": ("pca", "identity"), "normalization": NORMALIZATIONS, "minibatches": COMPOSITIONS}


def parameters(model: BatchNormAutoencoder) -> None:
    """Raise ValueError unless every parameter of the estimator is in its range."""
    for name, low in _WHOLE.items():
        value = getattr(model, name)
        _rule(model, name, isinstance(value, Integral) and not isinstance(value, bool) and value >= low, f"an int >= {low}")
    for name in _POSITIVE:
        value = getattr(model, name)
        _rule(model, name, _real(value) and 0 < value < math.inf, "a number > 0")
    for name in _NOT_NEGATIVE:
        value = getattr(model, name)
        _rule(model, name, _real(value) and 0 <= value < math.inf, "a number >= 0")
    for name, words in _WORDS.items():
        value = getattr(model, name)
        _rule(model, name, isinstance(value, str) and value in words, f"one of {', '.join(map(repr, words))}")
    strength = model.strength
    in_range = _real(strength) and 0 <= strength <= 1
    _rule(model, "strength", in_range or (isinstance(strength, str) and strength == "auto"), "'auto' or a number in [0, 1]")
    _rule(model, "offsets", isinstance(model.offsets, bool), "True or False")
    _rule(model, "progress", model.progress is None or isinstance(model.progress, bool), "True, False or None")
    known = model.rng is None or isinstance(model.rng, np.random.Generator)
    whole = isinstance(model.rng, Integral) and not isinstance(model.rng, bool) and model.rng >= 0
    _rule(model, "rng", known or whole, "an int >= 0, a numpy.random.Generator or None")


def _real(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _rule(model: BatchNormAutoencoder, name: str, holds: bool, rule: str) -> None:  # noqa: FBT001
    if not holds:
        msg = f"The {name!r} parameter of {type(model).__name__} must be {rule}. Got {getattr(model, name)!r} instead."
        raise ValueError(msg)


def batch_values(batch: ArrayLike, n_cells: int) -> np.ndarray:
    """Batch of each cell as an array of shape (cells,), each with a value."""
    values = np.asarray(batch)
    if values.shape != (n_cells,):
        msg = f"batch must have one value for each of the {n_cells} cells; got shape {values.shape}."
        raise ValueError(msg)
    missing = pd.isna(values)
    if missing.any():
        msg = f"batch must give every cell a batch; {missing.sum()} of {n_cells} have a missing value, the first at {missing.argmax()}."
        raise ValueError(msg)
    return values


def listed(names: Iterable[object], most: int = 8) -> str:
    """Names in one line, the first few of many."""
    names = [str(name) for name in names]
    return ", ".join(names[:most]) + (f", ... ({len(names)} in all)" if len(names) > most else "")


def unique_genes(names: Labels) -> None:
    """Raise unless every gene has a name of its own: a saved model finds its genes by name."""
    repeated = pd.Index(names)[pd.Index(names).duplicated()]
    if len(repeated):
        shown = ", ".join(map(str, repeated[:5]))
        msg = f"adata.var_names must be unique; {len(repeated)} are repeated: {shown}. Run adata.var_names_make_unique()."
        raise ValueError(msg)


def finite(matrix: Matrix, *, where: str, cells: Sequence[str], genes: Sequence[str]) -> None:
    """Raise if `matrix` holds NaN or infinite values, saying where."""
    bad = ~np.isfinite(_stored(matrix))
    if bad.any():
        msg = f"{where} must be finite; {_locate(matrix, bad, cells, genes, 'NaN or infinite values')}."
        raise ValueError(msg)


def log_normalised(matrix: Matrix, *, where: str, cells: Sequence[str], genes: Sequence[str]) -> None:
    """Raise unless `matrix` can be log-normalised expression; warn where it is doubtful.

    Raises
    ------
    ValueError
        NaN, infinite or negative values, or values that look like raw counts.
    """
    finite(matrix, where=where, cells=cells, genes=genes)
    values = _stored(matrix)
    negative = values < 0
    if negative.any():
        msg = (
            f"{where} must be log-normalised expression, which is never negative; "
            f"{_locate(matrix, negative, cells, genes, 'negative values')}. "
            "If it was scaled (sc.pp.scale), give the log-normalised values: layer=..., or the PCA of the scaled ones: use_rep='X_pca'."
        )
        raise ValueError(msg)
    highest = float(values.max(initial=0))
    if highest > 1 and np.array_equal(values, np.rint(values)):
        msg = (
            f"{where} must be log-normalised expression, but looks like raw counts (whole numbers up to {highest:g}). Run first:\n"
            "    sc.pp.normalize_total(adata, target_sum=1e4)\n"
            "    sc.pp.log1p(adata)"
        )
        raise ValueError(msg)
    if highest > _LOG_CEILING:
        msg = f"{where} has values up to {highest:g}, which log-normalised expression does not reach; run sc.pp.log1p(adata) first if it was not."
        warnings.warn(msg, UserWarning, stacklevel=5)


def _stored(matrix: Matrix) -> np.ndarray:
    return matrix.data if sparse.issparse(matrix) else np.asarray(matrix)


def _locate(matrix: Matrix, bad: Bools, cells: Sequence[str], genes: Sequence[str], what: str) -> str:
    """Sentence that counts the `bad` stored values and names the first."""
    if sparse.issparse(matrix):
        first = int(np.flatnonzero(bad)[0])
        row, column = int(np.searchsorted(matrix.indptr, first, side="right") - 1), int(matrix.indices[first])
        value = matrix.data[first]
    else:
        row, column = map(int, np.argwhere(bad)[0])
        value = matrix[row, column]
    return f"it has {int(bad.sum())} {what}, the first ({value:g}) in cell {cells[row]!r}, feature {genes[column]!r}"
