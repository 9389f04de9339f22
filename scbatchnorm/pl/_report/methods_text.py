"""Methods paragraph for a paper, and the Python call that repeats the integration."""

from __future__ import annotations

import inspect
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scbatchnorm._data.adata import recorded_keys
from scbatchnorm._estimator import BatchNormAutoencoder
from scbatchnorm.metrics._catalogue import BATCH, BIO, TOTAL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scbatchnorm.pl._report.compute import Findings
    from scbatchnorm.pl._report.inputs import Integration

# Parameters that `pp.integrate` takes itself, and parameters that do not change the result.
_CALL_PARAMETERS = ("strength", "rng", "device")
_WITHOUT_EFFECT = {"progress", "checkpoint"}
REFERENCES = (
    "Luecken et al. Benchmarking atlas-level data integration in single-cell genomics. Nature Methods 19, 41-50 (2022). doi:10.1038/s41592-021-01336-8",
    "Wolf, Angerer and Theis. SCANPY: large-scale single-cell gene expression data analysis. Genome Biology 19, 15 (2018). doi:10.1186/s13059-017-1382-0",
)


def default_parameters() -> dict[str, Any]:
    """Default parameters of the estimator."""
    return {name: each.default for name, each in inspect.signature(BatchNormAutoencoder).parameters.items()}


def write_paragraph(integration: Integration, findings: Findings) -> str:
    """Methods paragraph in the past tense, of what is recorded or was computed."""
    n_batches = len(integration.batches)
    cells = f"{integration.adata.n_obs:,} cells of {n_batches} batch{'es' if n_batches > 1 else ''} ({integration.batch_name})"
    sentences = [
        _describe_assessment(integration, findings),
        _describe_integration(integration, cells),
        _describe_scores(integration, findings),
        _describe_diagnosis(findings),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _describe_assessment(integration: Integration, findings: Findings) -> str:
    """Sentence on the batch effect before the integration."""
    assessment = findings.assessment
    if not len(assessment.effects):
        return ""
    typical = float(np.average(assessment.effects["effect"], weights=assessment.effects["cells"]))
    groups = f"cell type ({integration.label_key})" if assessment.label_key else "cluster"
    return (
        f"Before integration the batch explained {100 * max(typical, 0):.0f} % of the variance within a {groups} on average "
        f"(principal components; permutation of batches within groups; verdict: {assessment.verdict})."
    )


def _describe_integration(integration: Integration, cells: str) -> str:
    """Sentences on the method and its parameters, as far as they are recorded."""
    record = integration.record
    if record is None:
        return f"The {cells} were integrated with [tool, version and parameters of {integration.integrated}]."
    changed = {name: value for name, value in _changed_parameters(record).items() if name not in _CALL_PARAMETERS}
    settings = "default parameters" if not changed else ", ".join(f"{k} = {v}" for k, v in changed.items())
    seed = record["params"]["rng"]
    strength = record["strength"]
    return (
        f"The {cells} were integrated with scbatchnorm {record['versions']['scbatchnorm']} ({settings}"
        f"{'' if seed is None else f', seed {seed}'}), from {describe_input(integration)}: a residual autoencoder whose BatchNorm layers see "
        "minibatches that mix all batches, trained to close the displacement of mutual nearest neighbours of different "
        f"batches and to hide the batch from a discriminator. The strength of the correction was {strength['value']:.2f} of 1 "
        f"({strength['reason']})."
    )


def describe_input(integration: Integration) -> str:
    """Input of the model in words."""
    record = integration.record or {}
    if rep := record.get("use_rep"):
        return f"the representation {rep}"
    n_genes = len(record["features"])
    where = f" (layer {record['layer']})" if record.get("layer") else ""
    kind = (
        "highly variable genes"
        if _mask_argument(integration) == "" and "highly_variable" in integration.adata.var
        else "genes"
    )
    return f"the log-normalised expression{where} of {n_genes:,} {kind}"


def _describe_scores(integration: Integration, findings: Findings) -> str:
    """Sentence with the scores before and after."""
    table = findings.scores
    before, after = table[table["kind"] == "unintegrated"].iloc[0], table.loc[integration.integrated]
    titles = [title for title in (TOTAL, BATCH, BIO) if title in table] or ["iLISI"]
    parts = [
        f"{'total score' if title == TOTAL else title if title == 'iLISI' else title.lower()} {after[title]:.2f} "
        f"(95 % interval {after[f'{title} low']:.2f} to {after[f'{title} high']:.2f}; {before[title]:.2f} before integration)"
        for title in titles
    ]
    by = f"cell types {integration.label_key}" if integration.label_key else "no cell types"
    return (
        f"The result was scored with metrics of scIB (Luecken et al. 2022), as implemented in scbatchnorm {version('scbatchnorm')} "
        f"with {by}: {', '.join(parts)}; intervals are of subsampled cells."
    )


def _describe_diagnosis(findings: Findings) -> str:
    """Sentence on what the diagnosis examined and found."""
    diagnosis = findings.diagnosis
    if diagnosis is None:
        return ""
    return (
        f"Over-correction was looked for without cell types, among {len(diagnosis.states)} states (clusters within a batch that noise "
        f"leaves apart), by whether states merged, split, lost their neighbourhoods or were pulled onto states of other batches: {diagnosis.verdict}."
    )


def _changed_parameters(record: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters that differ from the defaults and change the result."""
    defaults = default_parameters()
    parameters = {
        str(name): value.item() if isinstance(value, np.generic) else value for name, value in record["params"].items()
    }
    unused = {"stem"} if record.get("use_rep") else set()
    return {
        name: value
        for name, value in parameters.items()
        if name in defaults and name not in _WITHOUT_EFFECT | unused and value != defaults[name]
    }


def write_call(integration: Integration, path_name: str, options: Mapping[str, object]) -> str:
    """Python code that repeats the integration and the report; `options` are further arguments of `pl.report`."""
    lines = ["import scbatchnorm as sbn", ""]
    report = [f"adata, {path_name!r}"]
    if integration.record is None:
        report += [f"use_rep={integration.integrated!r}", f"batch_key={_key_literal(integration.batch_key)}"]
    else:
        lines += [*_write_integrate_call(integration, integration.record), ""]
        report += [] if integration.key is None else [f"key={integration.key!r}"]
        is_recorded = _key_literal(integration.batch_key) == _key_literal(
            recorded_keys(integration.record["batch_key"])
        )
        report += [] if is_recorded else [f"batch_key={_key_literal(integration.batch_key)}"]
    report += [] if integration.label_key is None else [f"label_key={integration.label_key!r}"]
    report += [] if integration.unintegrated == "X_pca" else [f"unintegrated={integration.unintegrated!r}"]
    report += [f"compare={integration.compared!r}"] if integration.compared else []
    report += [f"{name}={value!r}" for name, value in options.items() if value]
    return "\n".join([*lines, f"sbn.pl.report({', '.join(report)})"])


def _write_integrate_call(integration: Integration, record: Mapping[str, Any]) -> list[str]:
    """Call of `pp.integrate`, and a line that compares the fingerprint of the model."""
    changed, lines = _changed_parameters(record), []
    path = record.get("path")
    if isinstance(path, pd.DataFrame):
        changed["strength"] = [float(strength) for strength in path["strength"]]
    model_parameters = {name: value for name, value in changed.items() if name not in _CALL_PARAMETERS}
    arguments = ["adata", _key_literal(recorded_keys(record["batch_key"]))]
    if model_parameters:
        settings = ", ".join(f"{name}={value!r}" for name, value in changed.items())
        lines.append(f"model = sbn.BatchNormAutoencoder({settings})")
        arguments.append("model=model")
    else:
        arguments += [f"{name}={value!r}" for name, value in changed.items()]
    arguments += [f"{name}={str(record[name])!r}" for name in ("layer", "use_rep") if record.get(name)]
    arguments += [mask] if (mask := _mask_argument(integration)) else []
    arguments += [] if integration.key is None else [f"key_added={integration.key!r}"]
    lines.append(f"sbn.pp.integrate({', '.join(arguments)})")
    if record["params"]["rng"] is None:
        return [*lines, "# It was made without a seed: another embedding of the same kind comes out."]
    location = "adata" if integration.key is None else f"adata, key={integration.key!r}"
    return [
        *lines,
        "# The same weights, to the bit, with the versions named above, on the same type of machine:",
        f'sbn.BatchNormAutoencoder.from_anndata({location}).fingerprint() == "{record["fingerprint"]}"',
    ]


def _key_literal(key: object) -> str:
    return repr(key if isinstance(key, str) else list(key))  # type: ignore[call-overload]


def _mask_argument(integration: Integration) -> str:
    """Argument `mask_var` that selects the genes of the model; empty if the default does."""
    record, var = integration.record or {}, integration.adata.var
    if record.get("use_rep") or "features" not in record:
        return ""
    used = np.asarray(integration.adata.var_names.isin(np.asarray(record["features"], dtype=str)))
    flags = {str(name): var[name].to_numpy() for name in var.columns if pd.api.types.is_bool_dtype(var[name])}
    default = flags.get("highly_variable", np.ones(len(var), dtype=bool))
    if np.array_equal(default, used):
        return ""
    if used.all():
        return "mask_var=None"
    column = next((name for name, flag in flags.items() if np.array_equal(flag, used)), None)
    slot = "scbatchnorm" if integration.key is None else integration.key
    return f"mask_var={column!r}" if column else f'mask_var=adata.var_names.isin(adata.uns[{slot!r}]["features"])'
