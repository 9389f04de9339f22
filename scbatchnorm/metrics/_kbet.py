"""kBET: whether the batches around a cell are a random sample of its cell type's batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import linalg, sparse, stats
from threadpoolctl import threadpool_limits

from scbatchnorm.metrics import _graph, _inputs, _score, _search
from scbatchnorm.metrics._neighbors import Neighbors, as_neighbors

if TYPE_CHECKING:
    import numpy.typing as npt

    from scbatchnorm._data.types import Codes, Floats, Matrix
    from scbatchnorm.metrics._inputs import Flavor, Groups

# Neighbours of the graph, of which diffusion makes the neighbourhoods that are tested.
K = 50
_LEAST_CELLS = 10
_LEAST_K, _MOST_K = 10, 70
_N_COMPONENTS = 100
# Below, all eigenvectors take less time than the iteration for some.
_DENSE = 600


def kbet(
    X: npt.ArrayLike | Neighbors,
    *,
    batch: npt.ArrayLike,
    label: npt.ArrayLike | None = None,
    alpha: float = 0.05,
    flavor: Flavor = "default",
) -> float:
    """Share of cells with a neighbourhood as mixed as chance makes it (kBET acceptance rate).

    For each label a chi-squared test compares the batches of each cell's k neighbours with those of the label; the
    score is the share of cells with p >= `alpha`, and the mean over labels (Büttner et al., Nature Methods 2019; per
    label as in scIB, Luecken et al., Nature Methods 2022). As in scib-metrics, neighbours are the nearest in 100
    diffusion components of the label's part of a graph of 50 neighbours, and k is a quarter of the mean number of cells
    per batch, from 10 to 70. A label with fewer than 10 cells or in one batch only is left out. Where the label's part
    falls apart, pieces of fewer than 3 k cells are left out, and if these hold more than a quarter of its cells, the
    label scores 0; cells of different pieces are no neighbours.

    Parameters
    ----------
    X
        Coordinates, shape (cells, dimensions), or neighbours with at least 50 per cell.
    batch
        Batch of each cell, shape (cells,).
    label
        Cell type of each cell, shape (cells,); `None` tests all cells as if they were of one type.
    alpha
        Level of the test, between 0 and 1. Cells of perfectly mixed data are accepted at a rate of 1 - `alpha`.
    flavor
        `"scib"` is scib-metrics 0.5.10: a cell is one of its own neighbours, pieces can be near each other, and a label
        of fewer than 101 cells lowers the number of components for all labels after it in the alphabet, so that
        renaming labels changes the score. Its single precision cannot be reproduced: where rounding takes the largest
        eigenvalue off 1, one component outweighs all others.

    Returns
    -------
    From 0 (no neighbourhood is mixed) to 1; nan where no label can be judged, as with one batch, or a batch per label.

    Notes
    -----
    Strict: small shifts that no analysis would notice are rejected where there are many cells. And unstable: whether a
    label falls apart can hang on a few neighbours, and then its score jumps; the mean over few labels with it.

    Raises
    ------
    ValueError
        The inputs have wrong shapes, non-finite or missing values, or too few neighbours.

    Examples
    --------
    >>> import numpy as np
    >>> import scbatchnorm as sbn
    >>> rng = np.random.default_rng(0)
    >>> X, label, batch = rng.normal(size=(400, 5)), np.tile(["T", "B"], 200), np.repeat(["a", "b"], 200)
    >>> round(sbn.metrics.kbet(X, batch=batch, label=label), 1)
    0.9
    >>> sbn.metrics.kbet(X + 100 * (batch == "a")[:, None], batch=batch, label=label)
    0.0
    """
    _inputs.check_flavor(flavor)
    if not 0 < alpha < 1:
        msg = f"alpha must be between 0 and 1; got {alpha!r}."
        raise ValueError(msg)
    neighbors = as_neighbors(X, K - (flavor == "scib"))
    n_cells = neighbors.n_cells
    labels = _inputs.groups(np.zeros(n_cells) if label is None else label, name="label", n_cells=n_cells)
    batches = _inputs.groups(batch, name="batch", n_cells=n_cells)
    near = neighborhoods(neighbors, labels, batches, flavor=flavor)
    return score(near, labels, batches, alpha=alpha).value


@dataclass(frozen=True, eq=False)
class Neighborhoods:
    """Cells of a label that can be tested, and rows of the cells around each; none of them where the label fell apart."""

    cells: Codes
    indices: Codes


def neighborhoods(
    neighbors: Neighbors, labels: Groups, batches: Groups, *, flavor: Flavor = "default"
) -> dict[int, Neighborhoods]:
    """Neighbourhoods to test, by code of the label.

    They depend on batches only by the number of cells of each in each label, so shuffling within labels keeps them.
    """
    near = neighbors.nearest(K - (flavor == "scib"))
    graph = _graph.connectivities(near)
    n_components, found = _N_COMPONENTS, {}
    for code in labels.in_order:  # it matters for the flavor "scib" only
        cells = labels.members(code)
        n_batches = batches.of(cells).n
        if len(cells) < _LEAST_CELLS or n_batches == 1:
            continue
        k = int(np.clip(len(cells) / n_batches // 4, _LEAST_K, _MOST_K))
        part = graph[cells][:, cells]
        kept, piece = _large_pieces(part, 3 * k)
        if len(kept):
            components = min(n_components, len(kept) - 1)
            if flavor == "scib":
                n_components = components
            points = _diffusion(part[kept][:, kept], components)
            if flavor == "default":
                # There is no way from piece to piece, so they are farther apart than any cells of one piece.
                points = np.column_stack([points, piece * 4 * np.linalg.norm(points, axis=1).max()])
            indices, _ = _search.nearest(points, k)
            if flavor == "scib":
                indices = np.hstack([np.arange(len(kept))[:, None], indices])
            found[code] = Neighborhoods(cells[kept], cells[kept][indices])
        else:
            found[code] = Neighborhoods(kept, np.empty((0, k), dtype=np.intp))
    return found


def score(near: dict[int, Neighborhoods], labels: Groups, batches: Groups, *, alpha: float = 0.05) -> _score.Score:
    """Share of cells whose neighbourhood is accepted."""
    if not near:
        return _score.undefined(f"no label with {_LEAST_CELLS} cells is in two batches")
    values = np.full(len(labels.codes), np.nan)
    for code, of_label in near.items():
        if len(of_label.cells):
            values[of_label.cells] = _p_values(batches, of_label) >= alpha
        else:
            values[labels.codes == code] = 0
    return _score.label_mean(values, labels)


def _p_values(batches: Groups, near: Neighborhoods) -> Floats:
    """Of the chi-squared test of each neighbourhood against all cells of the label."""
    within = batches.of(near.cells)
    if within.n == 1:  # the pieces left are all of one batch
        return np.zeros(len(near.cells))
    codes = np.full(len(batches.codes), -1)
    codes[near.cells] = within.codes
    around = codes[near.indices]
    counts = np.stack([(around == code).sum(axis=1) for code in range(within.n)], axis=1)
    expected = within.sizes / len(near.cells) * near.indices.shape[1]
    return stats.chi2.sf((np.square(counts - expected) / expected).sum(axis=1), df=within.n - 1)


def _large_pieces(graph: Matrix, least: int) -> tuple[Codes, Codes]:
    """Rows in connected pieces of at least `least` cells, and their pieces; none if they are fewer than three quarters.

    A graph in one piece is kept, whatever its size.
    """
    n_pieces, piece = sparse.csgraph.connected_components(graph, directed=False)
    sizes = np.bincount(piece)
    kept = np.flatnonzero(sizes[piece] >= least) if n_pieces > 1 else np.arange(len(piece))
    kept = kept if len(kept) >= 0.75 * len(piece) else kept[:0]
    return kept, piece[kept]


def _diffusion(graph: Matrix, n_components: int) -> Floats:
    """Diffusion components of the cells, shape (cells, components), summed over all times.

    Eigenvectors of the density-normalised transition matrix (Coifman et al. 2005) times e / (1 - e), e their eigenvalue.
    """
    # With single precision the largest eigenvalue is not 1, but so near that its component outweighs all others.
    graph = graph.astype(np.float64)
    density = 1 / np.asarray(graph.sum(axis=0)).ravel()
    kernel = sparse.diags(density) @ graph @ sparse.diags(density)
    scale = sparse.diags(1 / np.sqrt(np.asarray(kernel.sum(axis=0)).ravel()))
    transitions = scale @ kernel @ scale
    n_cells = graph.shape[0]
    # Many products of small matrices: on a busy machine several threads take ten times as long as one.
    with threadpool_limits(1, user_api="blas"):
        if n_cells <= _DENSE:
            try:
                values, vectors = linalg.eigh(transitions.toarray())
            except linalg.LinAlgError:  # what some builds of OpenBLAS say where many eigenvalues are alike
                values, vectors = linalg.eigh(transitions.toarray(), driver="ev")
            kept = np.argsort(-np.abs(values))[:n_components]
            values, vectors = values[kept], vectors[:, kept]
        else:
            start = np.random.default_rng(0).normal(size=n_cells)
            values, vectors = sparse.linalg.eigsh(transitions, k=n_components, which="LM", v0=start)
    # The largest is 1, where the sum has no limit: it counts once, as in scanpy and scib-metrics.
    values = values.astype(np.float32)
    one = values >= 1
    return vectors * np.where(one, 1.0, values / np.where(one, 1.0, 1 - values)).astype(np.float64)
