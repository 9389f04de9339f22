"""What people may bring: matrices and labels of batches, as many cells and genes as a test has time for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
from hypothesis import strategies as st
from scipy import sparse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]

MOST_CELLS, MOST_GENES = 70, 24


def _some(X: np.ndarray, rng: np.random.Generator, axis: int) -> np.ndarray:
    """Random rows or columns, at least one."""
    n = X.shape[axis]
    return rng.choice(n, rng.integers(1, n + 1), replace=False)


def _with(X: np.ndarray, place: Any, value: Any) -> np.ndarray:
    X[place] = value
    return X


def _deep(X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Expression that was not normalised: library sizes up to 1e9."""
    return np.expm1(np.minimum(X, 5)) * np.logspace(0, 9, len(X))[rng.permutation(len(X)), None] + 0.1


CHANGES: dict[str, Change] = {
    "as it is": lambda X, rng: X,
    "all zero": lambda X, rng: np.zeros_like(X),
    "one value": lambda X, rng: np.full_like(X, 1.1),
    "alike cells": lambda X, rng: np.repeat(X[:1], len(X), axis=0),
    "nearly alike cells": lambda X, rng: X[:1] + 1e-6 * X,
    "constant genes": lambda X, rng: _with(X, np.s_[:, _some(X, rng, 1)], 2.3),
    "empty genes": lambda X, rng: _with(X, np.s_[:, _some(X, rng, 1)], 0),
    "empty cells": lambda X, rng: _with(X, _some(X, rng, 0), 0),
    "repeated cells": lambda X, rng: X[np.sort(rng.integers(0, max(1, len(X) // 8), len(X)))],
    "repeated genes": lambda X, rng: X[:, np.sort(rng.integers(0, max(1, X.shape[1] // 4), X.shape[1]))],
    "one huge entry": lambda X, rng: _with(X, (rng.integers(len(X)), rng.integers(X.shape[1])), 1e6),
    "one huge cell": lambda X, rng: _with(X, rng.integers(len(X)), 1e6 * rng.random(X.shape[1])),
    "large": lambda X, rng: X * 1e6,
    "library sizes of 1e9": _deep,
    "small": lambda X, rng: X * 1e-6,
    "tiny": lambda X, rng: X * 1e-30,
    "squares that vanish": lambda X, rng: X * 10.0 ** rng.integers(-26, -16),
    "subnormal": lambda X, rng: X * 1e-42,
    "one subnormal entry": lambda X, rng: _with(np.zeros_like(X), (rng.integers(len(X)), 0), 1e-45),
    "genes of all sizes": lambda X, rng: X * np.logspace(-40, 6, X.shape[1]),
    "one entry": lambda X, rng: _with(np.zeros_like(X), (rng.integers(len(X)), rng.integers(X.shape[1])), 1.7),
    "one gene differs": lambda X, rng: np.where(np.arange(X.shape[1]) == 0, X, 1.3),
    "whole numbers": lambda X, rng: np.rint(X),
    "too large": lambda X, rng: _with(X, (rng.integers(len(X)), rng.integers(X.shape[1])), 10.0 ** rng.integers(13, 38)),
}  # fmt: skip

# How many cells which batch has, by their codes.
SIZES: dict[str, Callable[[int, np.random.Generator], np.ndarray]] = {
    "two blocks": lambda n, rng: np.arange(n) * 2 // n,
    "three, interleaved": lambda n, rng: np.arange(n) % 3,
    "random": lambda n, rng: rng.integers(0, 4, n),
    "one giant and one of two cells": lambda n, rng: (np.arange(n) >= n - 2).astype(int),
    "batches of one cell": lambda n, rng: np.maximum(np.arange(n) - n // 2, 0),
    "every cell its own": lambda n, rng: np.arange(n),
    "sixty": lambda n, rng: np.arange(n) % 60,
    "one": lambda n, rng: np.zeros(n, dtype=int),
}

NAMES: dict[str, Callable[[int], object]] = {
    "words": lambda i: f"batch{i}",
    "whole numbers": lambda i: 7 - i,
    "numbers": lambda i: 0.1 * i - 0.3,
    "infinite and other numbers": lambda i: np.inf if i == 1 else float(i),
    "bools, then numbers": lambda i: (True, False)[i] if i < 2 else i,
    "1 beside its name": lambda i: i // 2 if i % 2 else str(i // 2),
    "unicode": lambda i: "βäßçøж中"[i % 7] * (1 + i // 7),
    "emoji": lambda i: "🧬🦠👩‍🔬é"[: i % 5 + 1] + "🧪" * (i // 5),
    "spaces": lambda i: " " * i,
    "words for nothing": lambda i: ("nan", "None", "NA", "<NA>", "NaT", "null", "-1")[i % 7] + "_" * (i // 7),
    "quotes and lines": lambda i: ("'", '"', "\n", "\t", "\\", " | ", "/")[i % 7] * (1 + i // 7),
    "days": lambda i: pd.Timestamp("2026-02-28") + pd.Timedelta(days=i),
    "pairs": lambda i: (i // 2, str(i % 2)),
}


def _objects(values: Sequence[object]) -> np.ndarray:
    """As they are: numpy would make strings of numbers beside strings, and a table of pairs."""
    column = np.empty(len(values), dtype=object)
    for place, value in enumerate(values):
        column[place] = value
    return column


def _category(values: Sequence[object], *, turned: bool) -> pd.Categorical:
    """Categories in order of appearance; turned, in the opposite order, with some that no cell has."""
    codes, levels = pd.factorize(_objects(values))
    unused = ["no cell", 4711, ""]
    if turned:
        levels = _objects([level for level in unused if level not in set(levels)] + list(levels[::-1]))
        codes = len(levels) - 1 - codes
    return pd.Categorical.from_codes(codes, categories=pd.Index(levels, dtype=object, tupleize_cols=False))


FORMS: dict[str, Callable[[Sequence[object]], object]] = {
    "objects": _objects,
    "pandas' choice": lambda values: pd.Series(_objects(values)).infer_objects().to_numpy(),
    "category": lambda values: _category(values, turned=False),
    "category, turned, with unused": lambda values: _category(values, turned=True),
}


@dataclass(frozen=True)
class Case:
    """Cells and their batches."""

    X: np.ndarray  # (cells, genes), float32, finite, not negative
    codes: np.ndarray  # (cells,) batches
    names: str
    form: str
    sparse: bool = False

    def batch(self, *, names: str | None = None, form: str | None = None) -> object:
        """Batch of each cell, by other names or in another form where they are given."""
        return FORMS[form or self.form]([NAMES[names or self.names](int(code)) for code in self.codes])

    def adata(self, **naming: str) -> ad.AnnData:
        """With `obs["batch"]` and `obs["type"]`, and as a representation around 0 in `obsm["rep"]` and `obsm["X_pca"]`."""
        n, g = self.X.shape
        matrix = sparse.csr_matrix(self.X) if self.sparse else self.X.copy()
        adata = ad.AnnData(matrix, pd.DataFrame(index=[f"cell{i}" for i in range(n)]))
        adata.var_names = [f"gene{i}" for i in range(g)]
        adata.obs["batch"] = self.batch(**naming)
        adata.obs["type"] = np.where(np.arange(n) % 3 == 0, "x", "y")
        signed = self.X * np.where(np.arange(g) % 2 == 0, 1, -1).astype(np.float32)
        adata.obsm["rep"] = signed - signed.mean(axis=0, dtype=np.float64).astype(np.float32)
        adata.obsm["X_pca"] = adata.obsm["rep"].copy()
        return adata


def matrix(n: int, g: int, seed: int, changes: Sequence[str]) -> np.ndarray:
    """Log-normalised look-alike of two types, of which the last cells are shifted, then changed."""
    rng = np.random.default_rng(seed)
    rate = np.where(np.arange(n)[:, None] % 2 == np.arange(g) % 2, 2.0, 0.5)
    X = np.log1p(rng.poisson(rate) * rng.uniform(0.8, 1.2, (n, 1)))
    X[n // 2 :, : g // 3] += 1.5
    for change in changes:
        X = CHANGES[change](X, rng)
    return np.maximum(X, 0).astype(np.float32)


@st.composite
def cases(draw: st.DrawFn, *, n_genes: int | None = None) -> Case:
    """Any matrix with any labels; of so many genes where it is given."""
    n, g = draw(st.integers(2, MOST_CELLS)), n_genes or draw(st.integers(2, MOST_GENES))
    if draw(st.integers(0, 15)) == 15:
        n, g = (1, g) if n_genes or draw(st.booleans()) else (n, 1)
    seed = draw(st.integers(0, 2**20))
    X = matrix(n, g, seed, draw(st.lists(st.sampled_from(sorted(CHANGES)), max_size=3)))
    codes = SIZES[draw(st.sampled_from(sorted(SIZES)))](n, np.random.default_rng(seed))
    named = draw(st.sampled_from(sorted(NAMES))), draw(st.sampled_from(sorted(FORMS)))
    return Case(X, codes, *named, sparse=draw(st.booleans()))
