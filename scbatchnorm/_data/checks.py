"""What the values of a matrix must be, and the words for what is wrong with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from scbatchnorm._runtime.messages import warn

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol

    from scbatchnorm._data.types import Bools, Labels, Matrix

    class Names(Protocol):
        """Names by position: an index, an array, or whatever makes them up."""

        def __getitem__(self, i: int, /) -> object: ...


#: log1p of a million is 13.8: larger values were not log-transformed.
LOG_CEILING = 30.0
#: Single precision ends at 3e38: squares of larger values, in units of a small spread and added up, would be infinite.
LARGEST = 1e12
# Values that are looked at together.
_PART = 2**16


def join_names(names: Iterable[object], most: int = 8) -> str:
    """Names in one line, the first few of many."""
    words = [str(name) for name in names]
    return ", ".join(words[:most]) + (f", ... ({len(words)} in all)" if len(words) > most else "")


def check_unique_genes(names: Labels) -> None:
    """Raise unless every gene has a name of its own: a saved model finds its genes by name."""
    repeated = pd.Index(names)[pd.Index(names).duplicated()]
    if len(repeated):
        shown = ", ".join(map(str, repeated[:5]))
        msg = (
            f"adata.var_names must be unique; {len(repeated)} are repeated: {shown}. Run adata.var_names_make_unique()."
        )
        raise ValueError(msg)


def check_finite(matrix: Matrix, *, where: str, cells: Names, genes: Names) -> tuple[float, float]:
    """Raise if `matrix` holds NaN or infinite values, or such that squares of them may become it, saying where.

    Returns the lowest and the highest value, and 0 where all are above or below it.
    """
    values = _stored_values(matrix)
    lowest, highest = float(values.min(initial=0)), float(values.max(initial=0))  # nan where a value is
    if lowest >= -LARGEST and highest <= LARGEST:
        return lowest, highest
    bad = ~np.isfinite(values)
    if bad.any():
        msg = f"{where} must be finite; {_locate(matrix, bad, cells, genes, 'NaN or infinite values')}."
        raise ValueError(msg)
    large = np.abs(values) > LARGEST
    msg = f"{where} must lie between {-LARGEST:g} and {LARGEST:g}; {_locate(matrix, large, cells, genes, 'values beyond')}."
    raise ValueError(msg)


def check_log_normalised(matrix: Matrix, *, where: str, cells: Names, genes: Names) -> None:
    """Raise unless `matrix` can be log-normalised expression; warn where it is doubtful.

    Raises
    ------
    ValueError
        NaN, infinite or negative values, or values that look like raw counts.
    """
    lowest, highest = check_finite(matrix, where=where, cells=cells, genes=genes)
    if lowest < 0:
        check_not_negative(matrix, where=where, cells=cells, genes=genes)
    whole = highest > 1 and _are_whole(_stored_values(matrix))
    check_not_counts(where, whole=whole, too_high=highest > LOG_CEILING, highest=highest)


def check_not_negative(matrix: Matrix, *, where: str, cells: Names, genes: Names) -> None:
    """Raise if `matrix` holds negative values, which log-normalised expression does not."""
    negative = _stored_values(matrix) < 0
    if negative.any():
        msg = (
            f"{where} must be log-normalised expression, which is never negative; "
            f"{_locate(matrix, negative, cells, genes, 'negative values')}. "
            "If it was scaled (sc.pp.scale), give the log-normalised values: layer=..., or the PCA of the scaled ones: use_rep='X_pca'."
        )
        raise ValueError(msg)


def check_not_counts(where: str, *, whole: bool, too_high: bool, highest: float | None = None) -> None:
    """Raise if all values are `whole` numbers, warn if some are `too_high`; `highest` is the highest, if that is known."""
    up_to = "" if highest is None else f" up to {highest:g}"
    if whole:
        msg = (
            f"{where} must be log-normalised expression, but looks like raw counts (whole numbers{up_to}). Run first:\n"
            "    sc.pp.normalize_total(adata, target_sum=1e4)\n"
            "    sc.pp.log1p(adata)"
        )
        raise ValueError(msg)
    if too_high:
        reach = f"up to {highest:g}" if highest is not None else f"above {LOG_CEILING:g}"
        msg = f"{where} has values {reach}, which log-normalised expression does not reach; run sc.pp.log1p(adata) first if it was not."
        warn(msg)


def _are_whole(values: np.ndarray) -> bool:
    """Whether all values are whole numbers; of most expression the first few are not."""
    values = values.ravel()
    parts = (values[start : start + _PART] for start in range(0, values.size, _PART))
    return all(np.array_equal(part, np.rint(part)) for part in parts)


def _stored_values(matrix: Matrix) -> np.ndarray:
    return matrix.data if sparse.issparse(matrix) else np.asarray(matrix)


def _locate(matrix: Matrix, bad: Bools, cells: Names, genes: Names, what: str) -> str:
    """Sentence that counts the `bad` stored values and names the first."""
    if sparse.issparse(matrix):
        first = int(np.flatnonzero(bad)[0])
        row, column = int(np.searchsorted(matrix.indptr, first, side="right") - 1), int(matrix.indices[first])
        value = matrix.data[first]
    else:
        row, column = map(int, np.argwhere(bad)[0])
        value = matrix[row, column]
    return f"it has {int(bad.sum())} {what}, the first ({value:g}) in cell {str(cells[row])!r}, feature {str(genes[column])!r}"
