"""All metrics by name: what each measures, what it needs, and how it is computed from a representation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from scbatchnorm.metrics._clusters import agreement_score
from scbatchnorm.metrics._connectivity import connectivity_score
from scbatchnorm.metrics._isolated import isolated_f1_score, isolated_silhouette_score
from scbatchnorm.metrics._kbet import kbet_score
from scbatchnorm.metrics._knn_preservation import knn_preservation_score
from scbatchnorm.metrics._lisi import cilisi_score, clisi_score, ilisi_score
from scbatchnorm.metrics._pcr import pcr_score
from scbatchnorm.metrics._silhouette import (
    cosine_silhouette_widths,
    silhouette_batch_score,
    silhouette_label_score,
    silhouette_widths,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scbatchnorm.metrics._inputs import Groups
    from scbatchnorm.metrics._representation import Representation
    from scbatchnorm.metrics._score import MetricScore

BATCH, BIO, TOTAL = "Batch correction", "Bio conservation", "Total"
AGGREGATES = (BATCH, BIO, TOTAL)
# Weights in the total of scIB (Luecken et al. 2022).
WEIGHTS = {BATCH: 0.4, BIO: 0.6}


@dataclass(frozen=True)
class Metric:
    """A metric of :func:`evaluate`.

    `score` computes it from a representation and the batches, true or shuffled.
    """

    name: str
    title: str  # name of its column
    about: Literal["batch", "bio"]
    score: Callable[[Representation, Groups], MetricScore]
    in_total: bool = True  # one of the ten in scIB's aggregates
    default: bool = True
    needs_label: bool = True
    needs_before: bool = False
    lowest: float = 0.0
    # With more than max_cells cells: computed on all, on a sample alone, or on a sample with its neighbours among all.
    scope: Literal["all", "sample", "around sample"] = "all"


def _pcr_score(rep: Representation, batches: Groups) -> MetricScore:
    before = rep.before or rep
    return pcr_score(rep.points, batches, before.points, before.batches, flavor=rep.flavor)


def _preservation_score(rep: Representation, _: Groups) -> MetricScore:
    before = rep.before or rep
    return knn_preservation_score(rep.within_batches, before.within_batches, rep.n_cells)


CATALOGUE = (
    Metric(
        "isolated_labels", "Isolated labels", "bio",
        lambda rep, _: isolated_silhouette_score(rep.label_widths, rep.labels, rep.isolated_labels), scope="sample",
    ),
    Metric("kmeans_nmi", "KMeans NMI", "bio", lambda rep, _: agreement_score(rep.kmeans, rep.labels, "nmi")),
    Metric(
        "kmeans_ari", "KMeans ARI", "bio",
        lambda rep, _: agreement_score(rep.kmeans, rep.labels, "ari"), lowest=-0.5,
    ),
    Metric(
        "silhouette_label", "Silhouette label", "bio",
        lambda rep, _: silhouette_label_score(rep.label_widths, rep.labels), scope="sample",
    ),
    Metric(
        "clisi", "cLISI", "bio",
        lambda rep, _: clisi_score(rep.weighted_neighbors, rep.labels), scope="around sample",
    ),
    Metric(
        "knn_preservation", "kNN preservation", "bio", _preservation_score,
        in_total=False, needs_label=False, needs_before=True, scope="around sample",
    ),
    Metric(
        "leiden_nmi", "Leiden NMI", "bio",
        lambda rep, _: agreement_score(rep.best_leiden, rep.labels, "nmi"), in_total=False, default=False,
        scope="sample",
    ),
    Metric(
        "leiden_ari", "Leiden ARI", "bio",
        lambda rep, _: agreement_score(rep.best_leiden, rep.labels, "ari"), in_total=False, default=False, lowest=-0.5,
        scope="sample",
    ),
    Metric(
        "isolated_labels_f1", "Isolated labels F1", "bio",
        lambda rep, _: isolated_f1_score(rep.leiden, rep.labels, rep.isolated_labels), in_total=False, default=False,
        scope="sample",
    ),
    Metric(
        "bras", "BRAS", "batch",
        lambda rep, batches: silhouette_batch_score(rep.points, rep.labels, batches, cosine_silhouette_widths),
    ),
    Metric(
        "ilisi", "iLISI", "batch",
        lambda rep, batches: ilisi_score(rep.weighted_neighbors, batches), needs_label=False, scope="around sample",
    ),
    Metric(
        "kbet", "kBET", "batch",
        lambda rep, batches: kbet_score(rep.diffusion_neighbors, rep.labels, batches), scope="sample",
    ),
    Metric(
        "graph_connectivity", "Graph connectivity", "batch",
        lambda rep, _: connectivity_score(rep.neighbors, rep.labels, flavor=rep.flavor), scope="sample",
    ),
    Metric(
        "pcr_comparison", "PCR comparison", "batch", _pcr_score,
        needs_label=False, needs_before=True, lowest=float("-inf"),
    ),
    Metric(
        "cilisi", "CiLISI", "batch",
        lambda rep, batches: cilisi_score(rep.within_labels, rep.labels, batches), in_total=False,
        scope="around sample",
    ),
    Metric(
        "silhouette_batch", "Silhouette batch", "batch",
        lambda rep, batches: silhouette_batch_score(rep.points, rep.labels, batches, silhouette_widths),
        in_total=False, default=False, scope="sample",
    ),
)  # fmt: skip


def choose_metrics(metrics: str | Sequence[str], *, label: bool, before: bool) -> list[Metric]:
    """The requested metrics; `"default"` and `"all"` leave out those that need a label or coordinates that are not given.

    Raises
    ------
    ValueError
        A name is unknown, or its metric needs a label or unintegrated coordinates, which are not given.
    """
    computable = [
        metric for metric in CATALOGUE if (label or not metric.needs_label) and (before or not metric.needs_before)
    ]
    if isinstance(metrics, str) and metrics in {"default", "all"}:
        return [metric for metric in computable if metric.default or metrics == "all"]
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    known = {metric.name: metric for metric in CATALOGUE}
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        msg = f"metrics must be 'default', 'all' or names of metrics; got {metrics!r}. Names: {', '.join(known)}."
        raise ValueError(msg)
    for name in names:
        if known[name] not in computable:
            missing = "label_key" if known[name].needs_label and not label else "unintegrated"
            msg = f"metrics has {name!r}, which needs {missing}; it is None."
            raise ValueError(msg)
    return [metric for metric in CATALOGUE if metric.name in names]
