"""The means that scIB makes of its ten metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scbatchnorm.metrics._catalogue import AGGREGATES, BATCH, BIO, TOTAL, WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scbatchnorm.metrics._catalogue import Metric


def aggregates(values: Mapping[Metric, float]) -> dict[str, float]:
    """Mean of the metrics about batches and about biology, as far as they are there and defined, and `Total`."""
    means = {}
    for title, about in ((BATCH, "batch"), (BIO, "bio")):
        members = [value for metric, value in values.items() if metric.about == about and metric.in_total]
        if members:
            defined = [value for value in members if not np.isnan(value)]
            means[title] = float(np.mean(defined)) if defined else float("nan")
    if len(means) == len(WEIGHTS):
        means[TOTAL] = sum(weight * means[title] for title, weight in WEIGHTS.items())
    return {title: means[title] for title in AGGREGATES if title in means}
