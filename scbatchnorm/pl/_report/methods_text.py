"""The paragraph for a paper, and the call that makes the integration again."""

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
    from scbatchnorm.pl._report.inputs import Subject

# Parameters that `pp.integrate` takes itself, and those that change no result.
_OF_CALL = ("strength", "rng", "device")
_NO_MATTER = {"progress", "checkpoint"}
REFERENCES = (
    "Luecken et al. Benchmarking atlas-level data integration in single-cell genomics. Nature Methods 19, 41-50 (2022). doi:10.1038/s41592-021-01336-8",
    "Wolf, Angerer and Theis. SCANPY: large-scale single-cell gene expression data analysis. Genome Biology 19, 15 (2018). doi:10.1186/s13059-017-1382-0",
)


def defaults() -> dict[str, Any]:
    """Parameters of the estimator that nobody has set."""
    return {name: each.default for name, each in inspect.signature(BatchNormAutoencoder).parameters.items()}


def paragraph(subject: Subject, findings: Findings) -> str:
    """What was done and found, in the past tense, with nothing that is not known."""
    n_batches = len(subject.batches)
    cells = f"{subject.adata.n_obs:,} cells of {n_batches} batch{'es' if n_batches > 1 else ''} ({subject.batch_name})"
    done = [_need(subject, findings), _integration(subject, cells), _scores(subject, findings), _harm(findings)]
    return " ".join(sentence for sentence in done if sentence)


def _need(subject: Subject, findings: Findings) -> str:
    """What `pp.assess` said of the data before."""
    found = findings.assessment
    if not len(found.effects):
        return ""
    typical = float(np.average(found.effects["effect"], weights=found.effects["cells"]))
    groups = f"cell type ({subject.label_key})" if found.label_key else "cluster"
    return (
        f"Before integration the batch explained {100 * max(typical, 0):.0f} % of the variance within a {groups} on average "
        f"(principal components; permutation of batches within groups; verdict: {found.verdict})."
    )


def _integration(subject: Subject, cells: str) -> str:
    """What was done, as far as it is recorded."""
    record = subject.record
    if record is None:
        return f"The {cells} were integrated with [tool, version and parameters of {subject.integrated}]."
    changed = {name: value for name, value in _changed(record).items() if name not in _OF_CALL}
    settings = "default parameters" if not changed else ", ".join(f"{k} = {v}" for k, v in changed.items())
    seed = record["params"]["rng"]
    strength = record["strength"]
    return (
        f"The {cells} were integrated with scbatchnorm {record['versions']['scbatchnorm']} ({settings}"
        f"{'' if seed is None else f', seed {seed}'}), from {input_words(subject)}: a residual autoencoder whose BatchNorm layers see "
        "minibatches that mix all batches, trained to close the displacement of mutual nearest neighbours of different "
        f"batches and to hide the batch from a discriminator. The strength of the correction was {strength['value']:.2f} of 1 "
        f"({strength['reason']})."
    )


def input_words(subject: Subject) -> str:
    """What the model was fitted to, in words."""
    record = subject.record or {}
    if rep := record.get("use_rep"):
        return f"the representation {rep}"
    n_genes = len(record["features"])
    where = f" (layer {record['layer']})" if record.get("layer") else ""
    kind = "highly variable genes" if _mask(subject) == "" and "highly_variable" in subject.adata.var else "genes"
    return f"the log-normalised expression{where} of {n_genes:,} {kind}"


def _scores(subject: Subject, findings: Findings) -> str:
    """Scores before and after."""
    table = findings.scores
    before, after = table[table["kind"] == "unintegrated"].iloc[0], table.loc[subject.integrated]
    titles = [title for title in (TOTAL, BATCH, BIO) if title in table] or ["iLISI"]
    parts = [
        f"{'total score' if title == TOTAL else title if title == 'iLISI' else title.lower()} {after[title]:.2f} "
        f"(95 % interval {after[f'{title} low']:.2f} to {after[f'{title} high']:.2f}; {before[title]:.2f} before integration)"
        for title in titles
    ]
    by = f"cell types {subject.label_key}" if subject.label_key else "no cell types"
    return (
        f"The result was scored with metrics of scIB (Luecken et al. 2022), as implemented in scbatchnorm {version('scbatchnorm')} "
        f"with {by}: {', '.join(parts)}; intervals are of subsampled cells."
    )


def _harm(findings: Findings) -> str:
    """What the diagnosis looked at and found."""
    found = findings.diagnosis
    if found is None:
        return ""
    return (
        f"Over-correction was looked for without cell types, among {len(found.states)} states (clusters within a batch that noise "
        f"leaves apart), by whether states merged, split, lost their neighbourhoods or were pulled onto states of other batches: {found.verdict}."
    )


def _changed(record: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters that are not the default ones and decide the result."""
    usual = defaults()
    found = {
        str(name): value.item() if isinstance(value, np.generic) else value for name, value in record["params"].items()
    }
    of_rep = {"stem"} if record.get("use_rep") else set()
    return {
        name: value
        for name, value in found.items()
        if name in usual and name not in _NO_MATTER | of_rep and value != usual[name]
    }


def call(subject: Subject, path_name: str, options: Mapping[str, object]) -> str:
    """Python that makes the integration and this report again, from the same AnnData; `options` are of `pl.report`."""
    lines = ["import scbatchnorm as sbn", ""]
    report = [f"adata, {path_name!r}"]
    if subject.record is None:
        report += [f"use_rep={subject.integrated!r}", f"batch_key={_literal(subject.batch_key)}"]
    else:
        lines += [*_integrate(subject, subject.record), ""]
        report += [] if subject.key is None else [f"key={subject.key!r}"]
        own = _literal(subject.batch_key) == _literal(recorded_keys(subject.record["batch_key"]))
        report += [] if own else [f"batch_key={_literal(subject.batch_key)}"]
    report += [] if subject.label_key is None else [f"label_key={subject.label_key!r}"]
    report += [] if subject.unintegrated == "X_pca" else [f"unintegrated={subject.unintegrated!r}"]
    report += [f"compare={subject.compared!r}"] if subject.compared else []
    report += [f"{name}={value!r}" for name, value in options.items() if value]
    return "\n".join([*lines, f"sbn.pl.report({', '.join(report)})"])


def _integrate(subject: Subject, record: Mapping[str, Any]) -> list[str]:
    """The call of `pp.integrate`, and how to see that it gave the same model."""
    changed, lines = _changed(record), []
    path = record.get("path")
    if isinstance(path, pd.DataFrame):
        changed["strength"] = [float(strength) for strength in path["strength"]]
    of_model = {name: value for name, value in changed.items() if name not in _OF_CALL}
    arguments = ["adata", _literal(recorded_keys(record["batch_key"]))]
    if of_model:
        settings = ", ".join(f"{name}={value!r}" for name, value in changed.items())
        lines.append(f"model = sbn.BatchNormAutoencoder({settings})")
        arguments.append("model=model")
    else:
        arguments += [f"{name}={value!r}" for name, value in changed.items()]
    arguments += [f"{name}={str(record[name])!r}" for name in ("layer", "use_rep") if record.get(name)]
    arguments += [mask] if (mask := _mask(subject)) else []
    arguments += [] if subject.key is None else [f"key_added={subject.key!r}"]
    lines.append(f"sbn.pp.integrate({', '.join(arguments)})")
    if record["params"]["rng"] is None:
        return [*lines, "# It was made without a seed: another embedding of the same kind comes out."]
    named = "adata" if subject.key is None else f"adata, key={subject.key!r}"
    return [
        *lines,
        "# The same weights, to the bit, with the versions named above, on the same type of machine:",
        f'sbn.BatchNormAutoencoder.from_anndata({named}).fingerprint() == "{record["fingerprint"]}"',
    ]


def _literal(key: object) -> str:
    return repr(key if isinstance(key, str) else list(key))  # type: ignore[call-overload]


def _mask(subject: Subject) -> str:
    """The argument that chooses the genes of the model; empty where none is needed."""
    record, var = subject.record or {}, subject.adata.var
    if record.get("use_rep") or "features" not in record:
        return ""
    used = np.asarray(subject.adata.var_names.isin(np.asarray(record["features"], dtype=str)))
    flags = {str(name): var[name].to_numpy() for name in var.columns if pd.api.types.is_bool_dtype(var[name])}
    usual = flags.get("highly_variable", np.ones(len(var), dtype=bool))
    if np.array_equal(usual, used):
        return ""
    if used.all():
        return "mask_var=None"
    column = next((name for name, flag in flags.items() if np.array_equal(flag, used)), None)
    slot = "scbatchnorm" if subject.key is None else subject.key
    return f"mask_var={column!r}" if column else f'mask_var=adata.var_names.isin(adata.uns[{slot!r}]["features"])'
