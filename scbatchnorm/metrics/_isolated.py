"""Isolated labels: whether types that few batches have stay by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from scbatchnorm.metrics import _clusters, _inputs, _score, _silhouette
from scbatchnorm.metrics._neighbors import Neighbors

if TYPE_CHECKING:
    import numpy.typing as npt

    from scbatchnorm._data.types import Codes, Floats
    from scbatchnorm.metrics._inputs import Groups

Score = Literal["silhouette", "f1"]


def isolated_labels(
    X: npt.ArrayLike,
    *,
    batch: npt.ArrayLike,
    label: npt.ArrayLike,
    score: Score = "silhouette",
    most_batches: int | None = None,
    rng: int | np.random.Generator | None = 0,
) -> float:
    """Isolated label score: whether the types that fewest batches have stay apart from the others.

    Isolated are the labels that occur in the smallest number of batches. `"silhouette"`: for each of them the mean of
    (s + 1) / 2 over its cells, where s is their silhouette width among all labels. `"f1"`: for each of them the
    highest F1 score of any Leiden cluster at any of ten resolutions, as a prediction of the label. Then the mean over
    isolated labels (Luecken et al., Nature Methods 2022).

    Parameters
    ----------
    X
        Coordinates, shape (cells, dimensions).
    batch
        Batch of each cell, shape (cells,).
    label
        Cell type of each cell, shape (cells,).
    score
        `"silhouette"`, as in scib-metrics, or `"f1"`, which needs igraph: `pip install 'scbatchnorm[leiden]'`.
    most_batches
        Labels in at most so many batches are isolated; `None` is the smallest number of batches that any label has.
    rng
        Seed or generator of the clusters.

    Returns
    -------
    From 0 to 1 (apart); nan with a single label, where every cell has a label of its own, or where no label is in so
    few batches.

    Notes
    -----
    Where all labels occur in all batches none is isolated, and all count as if they were: then it is a label
    silhouette that gives rare types the same weight. The weaknesses of silhouettes are those of
    :func:`silhouette_label`.

    Raises
    ------
    ImportError
        `score="f1"` without igraph.
    ValueError
        The inputs have wrong shapes, or non-finite or missing values.

    Examples
    --------
    >>> import numpy as np
    >>> import scbatchnorm as sbn
    >>> rng = np.random.default_rng(0)
    >>> X, label = rng.normal(size=(400, 5)), np.repeat(["T", "B"], 200)
    >>> batch = np.where(label == "B", "a", np.tile(["a", "b"], 200))
    >>> round(sbn.metrics.isolated_labels(X, batch=batch, label=label), 2)
    0.49
    >>> round(sbn.metrics.isolated_labels(X + 100 * (label == "B")[:, None], batch=batch, label=label), 2)
    0.99
    """
    _inputs.one_of(score, name="score", allowed=get_args(Score))
    if most_batches is not None:
        most_batches = _inputs.count(most_batches, name="most_batches")
    points = _inputs.embedding(X)
    labels = _inputs.groups(label, name="label", n_cells=len(points))
    batches = _inputs.groups(batch, name="batch", n_cells=len(points))
    isolated = codes(labels, batches, most_batches)
    if not len(isolated):
        return float("nan")
    if score == "silhouette":
        return silhouette_score(_silhouette.widths(points, labels), labels, isolated).value
    clusters = _clusters.leiden(Neighbors.from_embedding(points, k=_clusters.K), rng=rng)
    return f1_score(clusters, labels, isolated).value


def codes(labels: Groups, batches: Groups, most_batches: int | None = None) -> Codes:
    """Codes of the labels that are isolated."""
    n_batches = (_inputs.crossed(labels, batches) > 0).sum(axis=1)
    return np.flatnonzero(n_batches <= (n_batches.min() if most_batches is None else most_batches))


def silhouette_score(widths: Floats, labels: Groups, isolated: Codes) -> _score.Score:
    """Mean of the scaled widths of the isolated labels."""
    if labels.n == 1:
        return _score.undefined("there is one label only")
    if labels.n == len(labels.codes):
        return _score.undefined("every cell has a label of its own")
    return _score.label_mean(np.where(np.isin(labels.codes, isolated), (widths + 1) / 2, np.nan), labels)


def f1_score(candidates: list[Codes], labels: Groups, isolated: Codes) -> _score.Score:
    """Mean over isolated labels of the F1 score of the cluster that predicts it best."""
    if labels.n == 1:
        return _score.undefined("there is one label only")
    if labels.n == len(labels.codes):
        return _score.undefined("every cell has a label of its own")
    best = []
    for code in isolated:
        truth = labels.codes == code
        # Cells of the label and all cells, in each cluster.
        tables = [
            (np.bincount(clusters[truth], minlength=clusters.max() + 1), np.bincount(clusters))
            for clusters in candidates
        ]
        best.append(max((2 * both / (truth.sum() + every)).max() for both, every in tables))
    return _score.Score(float(np.mean(best)))
