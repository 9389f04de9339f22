"""kBET: whether the batches around a cell are a random sample of the batches of its cell type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import linalg, sparse, stats
from threadpoolctl import threadpool_limits

from scbatchnorm.metrics._inputs import check_flavor, encode_groups
from scbatchnorm.metrics._neighbors import Neighbors, as_neighbors, umap_connectivities
from scbatchnorm.metrics._score import MetricScore, label_mean_score, undefined_score
from scbatchnorm.metrics._search import find_nearest

if TYPE_CHECKING:
    import numpy.typing as npt

    from scbatchnorm._data.types import Codes, Floats, Matrix
    from scbatchnorm.metrics._inputs import Flavor, Groups

# Neighbours in the graph on which diffusion components are computed.
KBET_NEIGHBORS = 50
_MIN_CELLS = 10
_MIN_K, _MAX_K = 10, 70
_N_COMPONENTS = 100
# Up to so many cells, computing all eigenvectors is faster than iterating for some.
_MAX_DENSE = 600


def kbet(
    X: npt.ArrayLike | Neighbors,
    *,
    batch: npt.ArrayLike,
    label: npt.ArrayLike | None = None,
    alpha: float = 0.05,
    flavor: Flavor = "default",
) -> float:
    """Share of cells with a neighbourhood as mixed as by chance (kBET acceptance rate).

    For each label a chi-squared test compares the batches of each cell's k neighbours with those of the label; the
    score is the share of cells with p >= `alpha`, and the mean over labels (Büttner et al., Nature Methods 2019; per
    label as in scIB, Luecken et al., Nature Methods 2022). As in scib-metrics, neighbours are the nearest in 100
    diffusion components of the label's part of a graph of 50 neighbours, and k is a quarter of the mean number of cells
    per batch, from 10 to 70. A label with fewer than 10 cells or in one batch only is left out. Where the label's part
    of the graph is not connected, components of fewer than 3 k cells are left out, and if these hold more than a quarter
    of its cells, the label scores 0; cells of different components are not neighbours.

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
        `"scib"` is scib-metrics 0.5.10: a cell is one of its own neighbours, cells of different components can be, and a label
        of fewer than 101 cells lowers the number of components for all labels after it in the alphabet, so that
        renaming labels changes the score. Its single precision is not reproduced: where rounding changes the largest
        eigenvalue from 1, one component outweighs all others.

    Returns
    -------
    From 0 (no neighbourhood is mixed) to 1; nan where no label can be tested, as with one batch, or a batch per label.

    Notes
    -----
    Strict: with many cells, shifts too small to matter in an analysis are rejected. Unstable: whether a label is connected
    can depend on a few neighbours, and its score jumps, and with few labels their mean, too.

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
    check_flavor(flavor)
    if not 0 < alpha < 1:
        msg = f"alpha must be between 0 and 1; got {alpha!r}."
        raise ValueError(msg)
    neighbors = as_neighbors(X, KBET_NEIGHBORS - (flavor == "scib"))
    n_cells = neighbors.n_cells
    labels = encode_groups(np.zeros(n_cells) if label is None else label, name="label", n_cells=n_cells)
    batches = encode_groups(batch, name="batch", n_cells=n_cells)
    label_neighbors = find_diffusion_neighbors(neighbors, labels, batches, flavor=flavor)
    return kbet_score(label_neighbors, labels, batches, alpha=alpha).value


@dataclass(frozen=True, eq=False)
class LabelNeighbors:
    """Cells of a label that are tested, and their neighbours, shape (cells, k); no cells if the label is not connected."""

    cells: Codes
    indices: Codes


def find_diffusion_neighbors(
    neighbors: Neighbors, labels: Groups, batches: Groups, *, flavor: Flavor = "default"
) -> dict[int, LabelNeighbors]:
    """Nearest cells of the same label in diffusion components, by code of the label.

    They depend only on the number of batches in each label, so shuffling batches within labels keeps them.
    """
    graph = umap_connectivities(neighbors.nearest(KBET_NEIGHBORS - (flavor == "scib")))
    n_components, label_neighbors = _N_COMPONENTS, {}
    for code in labels.sorted_codes:  # the order matters for flavor "scib" only
        cells = labels.members(code)
        n_batches = batches.select(cells).n
        if len(cells) < _MIN_CELLS or n_batches == 1:
            continue
        k = int(np.clip(len(cells) / n_batches // 4, _MIN_K, _MAX_K))
        subgraph = graph[cells][:, cells]
        kept, component = _large_components(subgraph, 3 * k)
        if len(kept):
            n_kept = min(n_components, len(kept) - 1)
            if flavor == "scib":
                n_components = n_kept
            points = _diffusion_components(subgraph[kept][:, kept], n_kept)
            if flavor == "default":
                # Unconnected components are moved farther apart than any cells of one component.
                points = np.column_stack([points, component * 4 * np.linalg.norm(points, axis=1).max()])
            indices, _ = find_nearest(points, k)
            if flavor == "scib":
                indices = np.hstack([np.arange(len(kept))[:, None], indices])
            label_neighbors[code] = LabelNeighbors(cells[kept], cells[kept][indices])
        else:
            label_neighbors[code] = LabelNeighbors(kept, np.empty((0, k), dtype=np.intp))
    return label_neighbors


def kbet_score(
    label_neighbors: dict[int, LabelNeighbors], labels: Groups, batches: Groups, *, alpha: float = 0.05
) -> MetricScore:
    """Mean over labels of the share of cells whose neighbourhood is accepted."""
    if not label_neighbors:
        return undefined_score(f"no label with {_MIN_CELLS} cells is in two batches")
    values = np.full(len(labels.codes), np.nan)
    for code, neighbors in label_neighbors.items():
        if len(neighbors.cells):
            values[neighbors.cells] = _p_values(batches, neighbors) >= alpha
        else:
            values[labels.codes == code] = 0
    return label_mean_score(values, labels)


def _p_values(batches: Groups, neighbors: LabelNeighbors) -> Floats:
    """P-values, shape (cells,), of the chi-squared test of each neighbourhood against all cells of the label."""
    label_batches = batches.select(neighbors.cells)
    if label_batches.n == 1:  # the remaining components are all of one batch
        return np.zeros(len(neighbors.cells))
    codes = np.full(len(batches.codes), -1)
    codes[neighbors.cells] = label_batches.codes
    neighbor_codes = codes[neighbors.indices]
    counts = np.stack([(neighbor_codes == code).sum(axis=1) for code in range(label_batches.n)], axis=1)
    expected = label_batches.sizes / len(neighbors.cells) * neighbors.indices.shape[1]
    return stats.chi2.sf((np.square(counts - expected) / expected).sum(axis=1), df=label_batches.n - 1)


def _large_components(graph: Matrix, min_cells: int) -> tuple[Codes, Codes]:
    """Rows in connected components of at least `min_cells` cells, and their components; none if below three quarters.

    A connected graph is kept, whatever its size.
    """
    n_components, component = sparse.csgraph.connected_components(graph, directed=False)
    sizes = np.bincount(component)
    kept = np.flatnonzero(sizes[component] >= min_cells) if n_components > 1 else np.arange(len(component))
    kept = kept if len(kept) >= 0.75 * len(component) else kept[:0]
    return kept, component[kept]


def _diffusion_components(graph: Matrix, n_components: int) -> Floats:
    """Diffusion components of the cells, shape (cells, components), summed over all times.

    Eigenvectors of the density-normalised transition matrix (Coifman et al. 2005) times e / (1 - e), e their eigenvalue.
    """
    # In single precision the largest eigenvalue is not 1, but so near that its component outweighs all others.
    graph = graph.astype(np.float64)
    density = 1 / np.asarray(graph.sum(axis=0)).ravel()
    kernel = sparse.diags(density) @ graph @ sparse.diags(density)
    scale = sparse.diags(1 / np.sqrt(np.asarray(kernel.sum(axis=0)).ravel()))
    transitions = scale @ kernel @ scale
    n_cells = graph.shape[0]
    # Many products of small matrices: on a busy machine several threads take ten times as long as one.
    with threadpool_limits(1, user_api="blas"):
        if n_cells <= _MAX_DENSE:
            try:
                values, vectors = linalg.eigh(transitions.toarray())
            except linalg.LinAlgError:  # from some builds of OpenBLAS where many eigenvalues are equal
                values, vectors = linalg.eigh(transitions.toarray(), driver="ev")
            kept = np.argsort(-np.abs(values))[:n_components]
            values, vectors = values[kept], vectors[:, kept]
        else:
            start = np.random.default_rng(0).normal(size=n_cells)
            values, vectors = sparse.linalg.eigsh(transitions, k=n_components, which="LM", v0=start)
    # The largest is 1, where the sum diverges: its weight is 1, as in scanpy and scib-metrics.
    values = values.astype(np.float32)
    is_one = values >= 1
    return vectors * np.where(is_one, 1.0, values / np.where(is_one, 1.0, 1 - values)).astype(np.float64)
