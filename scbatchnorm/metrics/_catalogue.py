"""All metrics by name: what each is about, what it needs, and how it is computed from a representation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from scbatchnorm.metrics import _clusters, _connectivity, _isolated, _kbet, _mixing, _pcr, _silhouette
from scbatchnorm.metrics import _knn_preservation as _conservation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scbatchnorm.metrics._inputs import Groups
    from scbatchnorm.metrics._representation import Representation
    from scbatchnorm.metrics._score import Score

BATCH, BIO, TOTAL = "Batch correction", "Bio conservation", "Total"
AGGREGATES = (BATCH, BIO, TOTAL)
# Of scIB (Luecken et al. 2022).
WEIGHTS = {BATCH: 0.4, BIO: 0.6}


@dataclass(frozen=True)
class Metric:
    """A metric of :func:`evaluate`.

    `score` takes a representation, and the batches to judge it by: the true ones or shuffled ones.
    """

    name: str
    title: str  # of its column
    about: Literal["batch", "bio"]
    score: Callable[[Representation, Groups], Score]
    in_total: bool = True  # one of the ten that scIB's aggregate is made of
    default: bool = True
    needs_label: bool = True
    needs_before: bool = False
    lowest: float = 0.0
    # Of many cells, what is looked at: all, a sample as if there were no others, or neighbours among all of a sample.
    scope: Literal["all", "sample", "around sample"] = "all"


def _pcr_score(rep: Representation, batches: Groups) -> Score:
    before = rep.before or rep
    return _pcr.score(rep.points, batches, before.points, before.batches, flavor=rep.flavor)


def _preservation_score(rep: Representation, _: Groups) -> Score:
    before = rep.before or rep
    return _conservation.preservation_score(rep.within_batches, before.within_batches, rep.n_cells)


CATALOGUE = (
    Metric(
        "isolated_labels", "Isolated labels", "bio",
        lambda rep, _: _isolated.silhouette_score(rep.widths, rep.labels, rep.isolated), scope="sample",
    ),
    Metric("kmeans_nmi", "KMeans NMI", "bio", lambda rep, _: _clusters.score(rep.kmeans, rep.labels, "nmi")),
    Metric(
        "kmeans_ari", "KMeans ARI", "bio",
        lambda rep, _: _clusters.score(rep.kmeans, rep.labels, "ari"), lowest=-0.5,
    ),
    Metric(
        "silhouette_label", "Silhouette label", "bio",
        lambda rep, _: _silhouette.label_score(rep.widths, rep.labels), scope="sample",
    ),
    Metric(
        "clisi", "cLISI", "bio",
        lambda rep, _: _conservation.clisi_score(rep.neighborhoods, rep.labels), scope="around sample",
    ),
    Metric(
        "knn_preservation", "kNN preservation", "bio", _preservation_score,
        in_total=False, needs_label=False, needs_before=True, scope="around sample",
    ),
    Metric(
        "leiden_nmi", "Leiden NMI", "bio",
        lambda rep, _: _clusters.score(rep.best_leiden, rep.labels, "nmi"), in_total=False, default=False,
        scope="sample",
    ),
    Metric(
        "leiden_ari", "Leiden ARI", "bio",
        lambda rep, _: _clusters.score(rep.best_leiden, rep.labels, "ari"), in_total=False, default=False, lowest=-0.5,
        scope="sample",
    ),
    Metric(
        "isolated_labels_f1", "Isolated labels F1", "bio",
        lambda rep, _: _isolated.f1_score(rep.leiden, rep.labels, rep.isolated), in_total=False, default=False,
        scope="sample",
    ),
    Metric(
        "bras", "BRAS", "batch",
        lambda rep, batches: _silhouette.batch_score(rep.points, rep.labels, batches, _silhouette.cosine_widths),
    ),
    Metric(
        "ilisi", "iLISI", "batch",
        lambda rep, batches: _mixing.ilisi_score(rep.neighborhoods, batches), needs_label=False, scope="around sample",
    ),
    Metric(
        "kbet", "kBET", "batch",
        lambda rep, batches: _kbet.score(rep.diffusion, rep.labels, batches), scope="sample",
    ),
    Metric(
        "graph_connectivity", "Graph connectivity", "batch",
        lambda rep, _: _connectivity.score(rep.neighbors, rep.labels, flavor=rep.flavor), scope="sample",
    ),
    Metric(
        "pcr_comparison", "PCR comparison", "batch", _pcr_score,
        needs_label=False, needs_before=True, lowest=float("-inf"),
    ),
    Metric(
        "cilisi", "CiLISI", "batch",
        lambda rep, batches: _mixing.cilisi_score(rep.within_labels, rep.labels, batches), in_total=False,
        scope="around sample",
    ),
    Metric(
        "silhouette_batch", "Silhouette batch", "batch",
        lambda rep, batches: _silhouette.batch_score(rep.points, rep.labels, batches, _silhouette.widths),
        in_total=False, default=False, scope="sample",
    ),
)  # fmt: skip


def choose(metrics: str | Sequence[str], *, label: bool, before: bool) -> list[Metric]:
    """The metrics asked for: `"default"` and `"all"` are those that can be computed from what is there.

    Raises
    ------
    ValueError
        A name is unknown, or given twice, or its metric needs what is not there.
    """
    able = [metric for metric in CATALOGUE if (label or not metric.needs_label) and (before or not metric.needs_before)]
    if isinstance(metrics, str) and metrics in {"default", "all"}:
        return [metric for metric in able if metric.default or metrics == "all"]
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    known = {metric.name: metric for metric in CATALOGUE}
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        msg = f"metrics must be 'default', 'all' or names of metrics; got {metrics!r}. Names: {', '.join(known)}."
        raise ValueError(msg)
    for name in names:
        if known[name] not in able:
            lacking = "label_key" if known[name].needs_label and not label else "unintegrated"
            msg = f"metrics has {name!r}, which needs {lacking}; it is None."
            raise ValueError(msg)
    return [metric for metric in CATALOGUE if metric.name in names]
