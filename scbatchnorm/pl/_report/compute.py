"""Everything that a report says about an integration, computed anew: stored findings may be of other coordinates."""

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
    from scbatchnorm.pl._report.inputs import Subject
    from scbatchnorm.pp._assessment.result import Assessment
    from scbatchnorm.tl._diagnosis.result import Diagnosis

# Of `find`.
STEPS = 3


@dataclass(frozen=True, eq=False)
class Findings:
    """Whether a correction was needed, whether it went too far, and how good the result is."""

    assessment: Assessment
    diagnosis: Diagnosis | None
    undiagnosed: str  # why there is no diagnosis
    scores: pd.DataFrame
    by_label: pd.DataFrame | None


def find(
    subject: Subject,
    *,
    covariate_keys: Sequence[str] | str,
    control_genes: Sequence[str],
    seed: int,
    bar: tqdm,
) -> Findings:
    """Assess, diagnose and score. Writes to the report's own AnnData, for pictures."""
    adata, batch_key, label_key = subject.adata, subject.batch_key, subject.label_key
    bar.set_postfix_str("assessment")
    assessment = assess(
        adata,
        batch_key,
        label_key=label_key,
        covariate_keys=covariate_keys,
        use_rep=subject.unintegrated,
        rng=seed,
    )
    bar.update()
    bar.set_postfix_str("diagnosis")
    diagnosis, why = _diagnose(subject, control_genes, seed)
    bar.update()
    bar.set_postfix_str("scores")
    reps = [subject.integrated, *subject.compared]
    scores = evaluate(
        adata,
        reps,
        batch_key=batch_key,
        label_key=label_key,
        unintegrated=subject.unintegrated,
        rng=seed,
        progress=False,
    )
    by_label = None
    if label_key is not None:
        by_label = evaluate(
            adata,
            subject.integrated,
            batch_key=batch_key,
            label_key=label_key,
            unintegrated=subject.unintegrated,
            controls=False,
            per_label=True,
            rng=seed,
            progress=False,
        )
    bar.update()
    return Findings(assessment, diagnosis, why, scores, by_label)


def _diagnose(subject: Subject, control_genes: Sequence[str], seed: int) -> tuple[Diagnosis | None, str]:
    """The diagnosis, or why there is none."""
    adata, record = subject.adata, subject.record
    layer = None if record is None else record.get("layer") or None
    if is_lazy(adata.X if layer is None else adata.layers.get(layer)):
        return None, (
            "Expression is a Dask array, and tl.diagnose needs it in memory: whether the integration went too far was not "
            "looked at. Make a report of some of the cells, adata[rows].to_memory()."
        )
    found = diagnose(
        adata,
        subject.batch_key,
        label_key=subject.label_key,
        key=subject.key,
        use_rep=None if subject.model is not None else subject.integrated,
        unintegrated=subject.unintegrated,
        control_genes=control_genes,
        rng=seed,
    )
    return found, ""
