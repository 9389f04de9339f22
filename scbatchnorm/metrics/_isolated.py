"""Isolated labels: whether cell types that few batches have stay separate from the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from scbatchnorm.metrics._clusters import LEIDEN_NEIGHBORS, cluster_leiden
from scbatchnorm.metrics._inputs import check_choice, check_count, check_embedding, cross_tabulate, encode_groups
from scbatchnorm.metrics._neighbors import Neighbors
from scbatchnorm.metrics._score import MetricScore, label_mean_score, undefined_score
from scbatchnorm.metrics._silhouette import silhouette_widths

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
    """Isolated label score: whether the types that fewest batches have stay separate from the others.

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
    From 0 to 1 (separate); nan with a single label, where every cell has a label of its own, or where no label is in so
    few batches.

    Notes
    -----
    Where all labels occur in all batches none is isolated, and all count as isolated: the score is a label silhouette in
    which rare types have the same weight. Limits of silhouettes: see :func:`silhouette_label`.

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
    check_choice(score, name="score", allowed=get_args(Score))
    if most_batches is not None:
        most_batches = check_count(most_batches, name="most_batches")
    points = check_embedding(X)
    labels = encode_groups(label, name="label", n_cells=len(points))
    batches = encode_groups(batch, name="batch", n_cells=len(points))
    isolated = find_isolated_labels(labels, batches, most_batches)
    if not len(isolated):
        return float("nan")
    if score == "silhouette":
        return isolated_silhouette_score(silhouette_widths(points, labels), labels, isolated).value
    clusterings = cluster_leiden(Neighbors.from_embedding(points, k=LEIDEN_NEIGHBORS), rng=rng)
    return isolated_f1_score(clusterings, labels, isolated).value


def find_isolated_labels(labels: Groups, batches: Groups, most_batches: int | None = None) -> Codes:
    """Codes of the labels in at most `most_batches` batches, by default in as few as any label."""
    n_batches = (cross_tabulate(labels, batches) > 0).sum(axis=1)
    return np.flatnonzero(n_batches <= (n_batches.min() if most_batches is None else most_batches))


def isolated_silhouette_score(widths: Floats, labels: Groups, isolated: Codes) -> MetricScore:
    """Mean over isolated labels of the mean of (width + 1) / 2 over their cells."""
    if labels.n == 1:
        return undefined_score("there is one label only")
    if labels.n == len(labels.codes):
        return undefined_score("every cell has a label of its own")
    return label_mean_score(np.where(np.isin(labels.codes, isolated), (widths + 1) / 2, np.nan), labels)


def isolated_f1_score(clusterings: list[Codes], labels: Groups, isolated: Codes) -> MetricScore:
    """Mean over isolated labels of the F1 score of the cluster that predicts it best."""
    if labels.n == 1:
        return undefined_score("there is one label only")
    if labels.n == len(labels.codes):
        return undefined_score("every cell has a label of its own")
    scores = []
    for code in isolated:
        is_label = labels.codes == code
        # Cells of the label and all cells, in each cluster.
        counts = [
            (np.bincount(clusters[is_label], minlength=clusters.max() + 1), np.bincount(clusters))
            for clusters in clusterings
        ]
        scores.append(max((2 * both / (is_label.sum() + total)).max() for both, total in counts))
    return MetricScore(float(np.mean(scores)))
