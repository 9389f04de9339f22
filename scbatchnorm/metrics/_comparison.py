"""What is judged and by what: the cells, their batches and labels, and the coordinates that stand to comparison."""

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
from scbatchnorm.metrics import _inputs, _score

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from scbatchnorm._data.types import Codes, Floats
    from scbatchnorm.metrics._catalogue import Metric
    from scbatchnorm.metrics._inputs import Groups
    from scbatchnorm.metrics._representation import Representation


@dataclass(frozen=True, eq=False)
class Design:
    """Cells with a label, in their batches; one label for all where none are known.

    `points` has coordinates (cells, dimensions) of the representations `names`, and of the `unintegrated` one.
    """

    points: dict[str, Floats]
    names: list[str]
    unintegrated: str | None
    batches: Groups
    labels: Groups
    labelled: bool
    cells: Codes  # rows of adata
    n_left_out: int
    sample: Codes | None = None  # rows of the cells on which what takes too long on all is computed

    def kind(self, name: str) -> str:
        """`"unintegrated"` or `"representation"`."""
        return "unintegrated" if name == self.unintegrated else "representation"

    @cached_property
    def confounded(self) -> str:
        """Why nothing can be said about batches, or an empty string."""
        if self.batches.n == 1:
            return "there is one batch only"
        shared = (_inputs.crossed(self.labels, self.batches) > 0).sum(axis=1) > 1
        if not shared.any():
            return "every label is in one batch only, so mixing of batches cannot be told from mixing of labels"
        return ""

    def judge(self, metric: Metric, representation: Representation, batches: Groups) -> _score.Score:
        """The metric, or why there is none."""
        if metric.about == "batch" and self.confounded:
            return _score.undefined(self.confounded)
        return metric.score(representation, batches)

    def sampled(self, max_cells: int | None, generator: np.random.Generator) -> Design:
        """With a sample of about `max_cells`, if there are more."""
        n_cells = len(self.cells)
        if max_cells is None or n_cells <= max_cells:
            return self
        return replace(self, sample=self._stratified(max_cells / n_cells, generator))

    @cached_property
    def part(self) -> Design | None:
        """The sample alone."""
        return None if self.sample is None else self.of(self.sample)

    def drawn(self, most: int, generator: np.random.Generator) -> Codes:
        """Rows of half of the cells, or of about `most`, if that is fewer; drawn within each batch and label.

        At least one cell of each, so that nothing disappears.
        """
        return self._stratified(min(0.5, most / len(self.cells)), generator)

    def _stratified(self, share: float, generator: np.random.Generator) -> Codes:
        """Rows of about a share of each batch and label, at least one cell of each."""
        strata = self.labels.codes * self.batches.n + self.batches.codes
        order = np.lexsort((generator.random(len(strata)), strata))
        _, starts, sizes = np.unique(strata[order], return_index=True, return_counts=True)
        wanted = np.floor(sizes * share + generator.random(len(sizes))).astype(int)
        within = np.arange(len(order)) - np.repeat(starts, sizes)
        return np.sort(order[within < np.repeat(np.maximum(wanted, 1), sizes)])

    def of(self, rows: Codes) -> Design:
        """Some of the cells, of all batches and labels."""
        return replace(
            self,
            points={name: points[rows] for name, points in self.points.items()},
            batches=self.batches.of(rows),
            labels=self.labels.of(rows),
            cells=self.cells[rows],
            sample=None,
        )

    def spread(self, values: Floats | None) -> Floats:
        """Values of the cells, as values of all of `adata`: nan for those left out, or everywhere."""
        found = np.full(len(self.cells) + self.n_left_out, np.nan)
        if values is not None:
            found[self.cells] = values
        return found

    def shuffled(self, seed: int) -> Groups:
        """Batches shuffled among the cells of each label, so that every label keeps its composition."""
        generator, codes = np.random.default_rng(seed), self.batches.codes.copy()
        for code in range(self.labels.n):
            cells = self.labels.members(code)
            codes[cells] = generator.permutation(codes[cells])
        return _inputs.Groups(codes, self.batches.names)


def read(
    adata: AnnData,
    use_rep: str | Sequence[str],
    *,
    batch_key: str | Sequence[str],
    label_key: str | None,
    unintegrated: str | None,
) -> Design:
    """Read and check what there is; cells without a label are left out, with a warning.

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
    label = np.zeros(adata.n_obs) if label_key is None else labels(adata, label_key)
    if pd.isna(label).all():
        msg = f"label_key={label_key!r} must have a value for at least one cell; all {adata.n_obs} are missing."
        raise ValueError(msg)
    cells = np.flatnonzero(pd.notna(label))
    n_left_out = adata.n_obs - len(cells)
    chosen = cells if n_left_out else slice(None)
    points = {name: coordinates(adata, "use_rep", name)[chosen] for name in names}
    if unintegrated is not None:
        points[unintegrated] = coordinates(adata, "unintegrated", unintegrated, without=True)[chosen]
    if n_left_out:
        warn(f"label_key={label_key!r} has no value for {n_left_out} of {adata.n_obs} cells: they are left out.")
    return Design(
        points=points,
        names=names,
        unintegrated=unintegrated,
        batches=_inputs.of_batches(batches.select(cells) if n_left_out else batches),
        labels=_inputs.groups(label[cells], name="label_key", n_cells=len(cells)),
        labelled=label_key is not None,
        cells=cells,
        n_left_out=n_left_out,
    )


def coordinates(adata: AnnData, parameter: str, key: str, *, without: bool = False) -> Floats:
    """`adata.obsm[key]`, shape (cells, dimensions), checked; `parameter` named it, and can be `None` if it goes `without`."""
    if key not in adata.obsm:
        msg = f"{parameter}={key!r} is not a key of adata.obsm; keys: {', '.join(map(str, adata.obsm)) or 'none'}."
        if without:
            msg += f" Run sc.pp.pca(adata), or give {parameter}=None to do without."
        elif key == "X_pca":
            msg += " Run sc.pp.pca(adata) first."
        elif key == "X_scbatchnorm":
            msg += " Run sbn.pp.integrate(adata, batch_key) first."
        raise KeyError(msg)
    where = f"adata.obsm[{key!r}]"
    return _inputs.embedding(as_points(adata.obsm[key], where=where), name=where)


def labels(adata: AnnData, label_key: str) -> np.ndarray:
    """Label of each cell as an object, missing values included."""
    if not isinstance(label_key, str):
        msg = f"label_key must be a column of adata.obs or None; got {label_key!r}."
        raise ValueError(msg)
    return read_column(adata, "label_key", label_key).astype(object).to_numpy()
