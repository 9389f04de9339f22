"""What `evaluate` compares: representations of the same cells, with their batches and labels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scbatchnorm._data.adata import read_batches, read_column
from scbatchnorm._data.matrix import as_points
from scbatchnorm._runtime.messages import warn
from scbatchnorm.metrics._inputs import Groups, batches_as_groups, check_embedding, cross_tabulate, encode_groups
from scbatchnorm.metrics._score import MetricScore, undefined_score

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from scbatchnorm._data.types import Codes, Floats
    from scbatchnorm.metrics._catalogue import Metric
    from scbatchnorm.metrics._representation import Representation


@dataclass(frozen=True, eq=False)
class Comparison:
    """Representations of the cells that have a label, with batches and labels; without labels all cells have the same.

    `points` has the coordinates, shape (cells, dimensions), of the representations `names` and of the `unintegrated` one.
    """

    points: dict[str, Floats]
    names: list[str]
    unintegrated: str | None
    batches: Groups
    labels: Groups
    labelled: bool
    cells: Codes  # rows of adata
    n_left_out: int
    sample: Codes | None = None  # rows of the cells that stand for all in metrics that take too long

    @cached_property
    def confounded(self) -> str:
        """Why metrics about batches are not defined, or an empty string."""
        if self.batches.n == 1:
            return "there is one batch only"
        shared = (cross_tabulate(self.labels, self.batches) > 0).sum(axis=1) > 1
        if not shared.any():
            return "every label is in one batch only, so mixing of batches cannot be told from mixing of labels"
        return ""

    def compute(self, metric: Metric, representation: Representation, batches: Groups) -> MetricScore:
        """Compute a metric with these batches; not defined where batches are confounded with labels."""
        if metric.about == "batch" and self.confounded:
            return undefined_score(self.confounded)
        return metric.score(representation, batches)

    def with_sample(self, max_cells: int | None, generator: np.random.Generator) -> Comparison:
        """Draw a sample of about `max_cells` cells, if there are more."""
        n_cells = len(self.cells)
        if max_cells is None or n_cells <= max_cells:
            return self
        return replace(self, sample=self._draw_stratified(max_cells / n_cells, generator))

    @cached_property
    def only_sample(self) -> Comparison | None:
        """The comparison of the cells of the sample."""
        return None if self.sample is None else self.select(self.sample)

    def draw_subsample(self, max_cells: int, generator: np.random.Generator) -> Codes:
        """Draw rows of half of the cells, or of about `max_cells` if these are fewer; see :meth:`_draw_stratified`."""
        return self._draw_stratified(min(0.5, max_cells / len(self.cells)), generator)

    def _draw_stratified(self, share: float, generator: np.random.Generator) -> Codes:
        """Draw rows of about this share of the cells of each batch and label, at least one, so that none disappears."""
        strata = self.labels.codes * self.batches.n + self.batches.codes
        order = np.lexsort((generator.random(len(strata)), strata))
        _, starts, sizes = np.unique(strata[order], return_index=True, return_counts=True)
        counts = np.floor(sizes * share + generator.random(len(sizes))).astype(int)
        rank = np.arange(len(order)) - np.repeat(starts, sizes)
        return np.sort(order[rank < np.repeat(np.maximum(counts, 1), sizes)])

    def select(self, rows: Codes) -> Comparison:
        """The comparison of the cells in these rows."""
        return replace(
            self,
            points={name: points[rows] for name, points in self.points.items()},
            batches=self.batches.select(rows),
            labels=self.labels.select(rows),
            cells=self.cells[rows],
            sample=None,
        )

    def expand(self, values: Floats | None) -> Floats:
        """Values of all cells of `adata`, shape (n_obs,): nan for cells left out; all nan for `None`."""
        expanded = np.full(len(self.cells) + self.n_left_out, np.nan)
        if values is not None:
            expanded[self.cells] = values
        return expanded

    def shuffle_batches(self, seed: int) -> Groups:
        """Shuffle batches among the cells of each label, so that every label keeps its composition."""
        generator, codes = np.random.default_rng(seed), self.batches.codes.copy()
        for code in range(self.labels.n):
            cells = self.labels.members(code)
            codes[cells] = generator.permutation(codes[cells])
        return Groups(codes, self.batches.names)


def read_comparison(
    adata: AnnData,
    use_rep: str | Sequence[str],
    *,
    batch_key: str | Sequence[str],
    label_key: str | None,
    unintegrated: str | None,
) -> Comparison:
    """Read and check batches, labels and representations; cells without a label are left out, with a warning.

    Raises
    ------
    KeyError
        A key names nothing in `adata`.
    ValueError
        No representation is named, a cell has no batch, no cell has a label, or coordinates are not finite or beyond 1e12.
    """
    names = [use_rep] if isinstance(use_rep, str) else list(use_rep) if isinstance(use_rep, Iterable) else []
    if not names or not all(isinstance(name, str) for name in names):
        available = ", ".join(map(str, adata.obsm)) or "none"
        msg = f"use_rep must name at least one representation; got {use_rep!r}; keys of adata.obsm: {available}."
        raise ValueError(msg)
    names = list(dict.fromkeys(names))
    batches = read_batches(adata, batch_key)
    label = np.zeros(adata.n_obs) if label_key is None else read_labels(adata, label_key)
    if pd.isna(label).all():
        msg = f"label_key={label_key!r} must have a value for at least one cell; all {adata.n_obs} are missing."
        raise ValueError(msg)
    cells = np.flatnonzero(pd.notna(label))
    n_left_out = adata.n_obs - len(cells)
    rows = cells if n_left_out else slice(None)
    points = {name: read_coordinates(adata, "use_rep", name)[rows] for name in names}
    if unintegrated is not None:
        points[unintegrated] = read_coordinates(adata, "unintegrated", unintegrated, optional=True)[rows]
    if n_left_out:
        warn(f"label_key={label_key!r} has no value for {n_left_out} of {adata.n_obs} cells: they are left out.")
    return Comparison(
        points=points,
        names=names,
        unintegrated=unintegrated,
        batches=batches_as_groups(batches.select(cells) if n_left_out else batches),
        labels=encode_groups(label[cells], name="label_key", n_cells=len(cells)),
        labelled=label_key is not None,
        cells=cells,
        n_left_out=n_left_out,
    )


def read_coordinates(adata: AnnData, parameter: str, key: str, *, optional: bool = False) -> Floats:
    """Read and check `adata.obsm[key]`, shape (cells, dimensions); `parameter` named the key, and may be `None` if `optional`."""
    if key not in adata.obsm:
        msg = f"{parameter}={key!r} is not a key of adata.obsm; keys: {', '.join(map(str, adata.obsm)) or 'none'}."
        if optional:
            msg += f" Run sc.pp.pca(adata), or give {parameter}=None to compute without it."
        elif key == "X_pca":
            msg += " Run sc.pp.pca(adata) first."
        elif key == "X_scbatchnorm":
            msg += " Run sbn.pp.integrate(adata, batch_key) first."
        raise KeyError(msg)
    where = f"adata.obsm[{key!r}]"
    return check_embedding(as_points(adata.obsm[key], where=where), name=where)


def read_labels(adata: AnnData, label_key: str) -> np.ndarray:
    """Label of each cell as an object, shape (cells,), missing values included."""
    if not isinstance(label_key, str):
        msg = f"label_key must be a column of adata.obs or None; got {label_key!r}."
        raise ValueError(msg)
    return read_column(adata, "label_key", label_key).astype(object).to_numpy()
