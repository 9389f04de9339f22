"""States: groups of cells of one batch that noise leaves apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage

from scbatchnorm._method.anchors import find_nearest
from scbatchnorm.tl._diagnosis import mingling as _mingling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scbatchnorm._data.types import Codes, Floats

# Fewer cells are no state; no more states than this are looked for in a batch.
LEAST_CELLS = 15
_MOST_STATES = 40
# Two groups are one state if a second measurement mingles them more than half way to shuffled ones.
HALF = 0.5
# Cells of a batch that are clustered; the others follow their nearest ones.
_SKETCH = 2500
_VOTES = 5


@dataclass(frozen=True, eq=False)
class States:
    """States of all batches, numbered through: `codes` (cells,) is the state of each cell."""

    codes: Codes
    batch: Codes  # (states,)

    @property
    def n(self) -> int:
        """Number of states."""
        return len(self.batch)

    @property
    def sizes(self) -> Codes:
        """Cells of each state, shape (states,)."""
        return np.bincount(self.codes, minlength=self.n)

    def of(self, batch: int) -> Codes:
        """States of a batch."""
        return np.flatnonzero(self.batch == batch)


def find(points: Floats, rows: Sequence[Codes], again: Sequence[Codes], rng: np.random.Generator) -> States:
    """States of each batch.

    Ward clusters of `points` (cells, dimensions), joined as long as the neighbours after a second measurement,
    `again`, mingle two of them more than half way. States are numbered by size within their batch.
    """
    codes = np.zeros(len(points), dtype=np.intp)
    batch: list[int] = []
    for level, (cells, near) in enumerate(zip(rows, again, strict=True)):
        found = _joined(_fine(points[cells], rng), near)
        order = np.argsort(np.argsort(-np.bincount(found), kind="stable"))
        codes[cells] = order[found] + len(batch)
        batch += [level] * (int(found.max()) + 1)
    return States(codes, np.array(batch))


def _fine(points: Floats, rng: np.random.Generator) -> Codes:
    """Many small clusters of the cells of a batch, shape (cells,)."""
    n_cells = len(points)
    drawn = np.arange(n_cells) if n_cells <= _SKETCH else np.sort(rng.choice(n_cells, _SKETCH, replace=False))
    wanted = min(len(drawn) // (2 * LEAST_CELLS), _MOST_STATES)
    if wanted < 2:
        return np.zeros(n_cells, dtype=np.intp)
    found = np.unique(fcluster(linkage(points[drawn], "ward"), wanted, "maxclust"), return_inverse=True)[1]
    if len(drawn) == n_cells:
        return found
    near = found[find_nearest(points, points[drawn], _VOTES)]
    votes = np.zeros((n_cells, int(found.max()) + 1), dtype=np.intp)
    np.add.at(votes, (np.arange(n_cells)[:, None], near), 1)
    return votes.argmax(axis=1)


def _joined(codes: Codes, near: Codes) -> Codes:
    """Clusters joined, the most mingled ones first, until all are apart and large enough."""
    while codes.max() > 0:
        sizes = np.bincount(codes)
        mingled = _mingling.between(_mingling.neighbours_in(near, codes, len(sizes)), codes, sizes)
        first, second = divmod(int(mingled.argmax()), len(sizes))
        if mingled[first, second] < HALF:
            first = int(sizes.argmin())
            if sizes[first] >= LEAST_CELLS:
                break
            second = int(mingled[first].argmax())
            if second == first:
                second = int(np.delete(np.arange(len(sizes)), first)[0])
        codes = np.where(codes == second, first, codes)
        codes = np.unique(codes, return_inverse=True)[1]
    return codes
