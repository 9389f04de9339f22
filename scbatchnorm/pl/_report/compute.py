"""What a report says about an integration, computed anew: stored results may be of other coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from scbatchnorm._data.dask_blocks import is_lazy
from scbatchnorm.metrics._evaluate import evaluate
from scbatchnorm.pp._assess import assess
from scbatchnorm.tl._diagnose import diagnose

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from scbatchnorm._runtime.progress import tqdm
    from scbatchnorm.pl._report.inputs import Integration
    from scbatchnorm.pp._assessment.result import Assessment
    from scbatchnorm.tl._diagnosis.result import Diagnosis

# Steps of `compute_findings`, for the progress bar.
N_STEPS = 3


@dataclass(frozen=True, eq=False)
class Findings:
    """Assessment before the integration, diagnosis of the integration, and scores of its result."""

    assessment: Assessment
    diagnosis: Diagnosis | None
    undiagnosed: str  # why there is no diagnosis
    scores: pd.DataFrame
    by_label: pd.DataFrame | None


def compute_findings(
    integration: Integration,
    *,
    covariate_keys: Sequence[str] | str,
    control_genes: Sequence[str],
    seed: int,
    bar: tqdm,
) -> Findings:
    """Assess, diagnose and score; the diagnosis is also written to `integration.adata`, where the figures look for it."""
    adata, batch_key, label_key = integration.adata, integration.batch_key, integration.label_key
    bar.set_postfix_str("assessment")
    assessment = assess(
        adata,
        batch_key,
        label_key=label_key,
        covariate_keys=covariate_keys,
        use_rep=integration.unintegrated,
        rng=seed,
    )
    bar.update()
    bar.set_postfix_str("diagnosis")
    diagnosis, undiagnosed = _diagnose(integration, control_genes, seed)
    bar.update()
    bar.set_postfix_str("scores")
    reps = [integration.integrated, *integration.compared]
    scores = evaluate(
        adata,
        reps,
        batch_key=batch_key,
        label_key=label_key,
        unintegrated=integration.unintegrated,
        rng=seed,
        progress=False,
    )
    by_label = None
    if label_key is not None:
        by_label = evaluate(
            adata,
            integration.integrated,
            batch_key=batch_key,
            label_key=label_key,
            unintegrated=integration.unintegrated,
            controls=False,
            per_label=True,
            rng=seed,
            progress=False,
        )
    bar.update()
    return Findings(assessment, diagnosis, undiagnosed, scores, by_label)


def _diagnose(integration: Integration, control_genes: Sequence[str], seed: int) -> tuple[Diagnosis | None, str]:
    """Return the diagnosis and an empty text, or `None` and why there is no diagnosis."""
    adata, record = integration.adata, integration.record
    layer = None if record is None else record.get("layer") or None
    if is_lazy(adata.X if layer is None else adata.layers.get(layer)):
        return None, (
            "Expression is a Dask array, and tl.diagnose needs it in memory: whether the integration went too far was not "
            "looked at. Make a report of some of the cells, adata[rows].to_memory()."
        )
    diagnosis = diagnose(
        adata,
        integration.batch_key,
        label_key=integration.label_key,
        key=integration.key,
        use_rep=None if integration.model is not None else integration.integrated,
        unintegrated=integration.unintegrated,
        control_genes=control_genes,
        rng=seed,
    )
    return diagnosis, ""
