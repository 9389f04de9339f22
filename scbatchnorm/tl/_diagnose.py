"""`tl.diagnose`: over-correction by state, by gene and by cell, without labels."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.base import clone

from scbatchnorm._data.adata import Keys, check_writable
from scbatchnorm._runtime.messages import log_written
from scbatchnorm.tl._diagnosis.calibration import (
    empty_calibration,
    excess_threshold,
    explain_calibration,
    integrate_halves,
)
from scbatchnorm.tl._diagnosis.change import empty_change_table, measure_change, rank_changed_genes
from scbatchnorm.tl._diagnosis.findings import compare_embeddings
from scbatchnorm.tl._diagnosis.genes import (
    CONTROL_COLUMNS,
    explain_control_genes,
    find_markers,
    make_control_table,
    measure_signal,
)
from scbatchnorm.tl._diagnosis.inputs import read_diagnosis_input
from scbatchnorm.tl._diagnosis.outputs import write_diagnosis
from scbatchnorm.tl._diagnosis.result import (
    Diagnosis,
    decide_verdict,
    explain_findings,
    make_tables,
    mean_by_state,
    name_states,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from scbatchnorm._data.types import Codes, Floats, Labels, Matrix
    from scbatchnorm.tl._diagnosis.change import Change
    from scbatchnorm.tl._diagnosis.findings import Findings
    from scbatchnorm.tl._diagnosis.inputs import DiagnosisInput

logger = logging.getLogger(__name__)

_UNS, _PREFIX = "scbatchnorm_diagnose", "diagnose"


def diagnose(
    adata: AnnData,
    batch_key: str | Sequence[str],
    *,
    label_key: str | None = None,
    key: str | None = None,
    use_rep: str | None = None,
    unintegrated: str = "X_pca",
    layer: str | None = None,
    control_genes: Sequence[str] = (),
    calibrate: bool = False,
    key_added: str | None = None,
    rng: int | np.random.Generator | None = 0,
) -> Diagnosis:
    """Test an integration for over-correction: states merged, split, lost or pulled, without labels.

    Cells are compared within batches, where there is no batch effect to remove. In each batch states are found before
    integration: clusters that stay separate under measurement noise. The reference is a simulated second measurement:
    the same cells with noise as large as the differences between neighbours.

    - *merged*: two states of a batch that a linear classifier separates before integration, and no longer after it;
    - *split*: a state that falls into parts which mixed before integration;
    - *lost*: a state whose cells keep less than half as many of their nearest neighbours as after the second
      measurement, beyond chance;
    - *pulled*: a state together with one of another batch, although hardly any of their cells have a counterpart
      there (mutual nearest neighbours) and the two are much further apart than other states that were put together.

    States of fewer than 15 cells are not detected, nor are differences that neighbouring cells do not show before
    integration. Two related states, each private to one batch, cannot always be distinguished from one state with a
    batch effect of its own: *pulled* reports the clear cases only.

    Parameters
    ----------
    adata
        Annotated data with an integration, and its principal components before. Expression must be in memory, not a Dask array; of
        another tool's embedding genes are then left out.
    batch_key
        Column of `adata.obs` with the batch, or several that are combined.
    label_key
        Column of `adata.obs` with cell types: names states by what most of their cells are, and is used for nothing
        else. Cells may lack a value.
    key
        Which integration of this package: its `key_added`.
    use_rep
        Key of `adata.obsm` with the embedding of another tool, to diagnose instead; without displacements and changes
        of genes.
    unintegrated
        Key of `adata.obsm` with the principal components before integration.
    layer
        Only with `use_rep`: layer with log-normalised expression, instead of `adata.X`, for markers and signals of
        genes. For an integration of this package the layer is known.
    control_genes
        Genes that differ between cells of a batch for reasons that integration should not touch, such as those of the
        X and Y chromosomes where batches hold cells of several donors. A gene is flagged if neighbours predicted its
        expression before integration and no longer do.
    calibrate
        Whether to split the two largest batches at random, each in two, integrate the halves with the same parameters
        and the strength that was applied, and report what is found where there is nothing to correct. States then
        count as merged only beyond what happens there.
    key_added
        Key in `uns` and of `varm`, and prefix of columns; `None` is `"scbatchnorm_diagnose"` in `uns` and
        `"diagnose"` elsewhere.
    rng
        Seed or generator.

    Returns
    -------
    A :class:`Diagnosis`, which prints as text: `verdict`, `reasons`, and tables. Sets the following fields:

    `adata.uns['scbatchnorm_diagnose' | key_added]` : :class:`dict`
        `verdict`, `reasons`, the tables `states`, `merged`, `private`, `changes`, `control_genes` and `calibration`,
        `batches` and `params`.
    `adata.obs['diagnose_state' | key_added + '_state']` : :class:`pandas.Series` (dtype `category`)
        The cell's state, "batch: state".
    `adata.obs['diagnose_kept']` : :class:`pandas.Series` (dtype `float64`)
        Share of the cell's 15 nearest neighbours in its batch that are still among them.
    `adata.obs['diagnose_displacement']`, `adata.obs['diagnose_displacement_own']`
        How far the cell was moved, and how far beyond the mean of its batch, in units of principal component scores.
        Not with `use_rep`.
    `adata.var['diagnose_signal_before']`, `adata.var['diagnose_signal_after']` : :class:`pandas.Series` (dtype `float64`)
        Correlation of the gene with its mean over the 15 nearest neighbours in the batch; nan for genes that were not examined.
    `adata.var['diagnose_shift']`, `adata.var['diagnose_variance_lost']`
        Root mean square over batches of what the embedding added to the gene, log-normalised; share of the variance
        within batches that is lost in the embedding, negative where there is more. Not with `use_rep`.
    `adata.varm['diagnose_shift' | key_added + '_shift']` : :class:`numpy.ndarray` (dtype `float64`)
        What was added in each batch beyond the mean over batches, shape (genes, batches), in the order of
        `uns[...]["batches"]`.

    Raises
    ------
    KeyError
        A key or gene is not in `adata`.
    ValueError
        Parameters exclude each other, cells have no batch, coordinates are not finite or beyond 1e12. `adata` is unchanged.

    Warns
    -----
    UserWarning
        Expression is larger than log-normalised values can be.

    Examples
    --------
    >>> import scanpy as sc, scbatchnorm as sbn
    >>> adata = sbn.datasets.pbmc_planted()
    >>> sc.pp.pca(adata)
    >>> sbn.pp.integrate(adata, "batch")
    >>> diagnosis = sbn.tl.diagnose(adata, "batch", label_key="cell_type")
    >>> diagnosis.verdict
    'nothing found'
    """
    start = time.perf_counter()
    slot = Keys.of(_UNS if key_added is None else key_added).uns
    prefix = _PREFIX if key_added is None else key_added
    if not isinstance(calibrate, (bool, np.bool_)):
        msg = f"calibrate must be True or False; got {calibrate!r}."
        raise ValueError(msg)
    if calibrate and use_rep is not None:
        msg = f"calibrate=True integrates anew, which only this package's own integration can; use_rep={use_rep!r} is another tool's."
        raise ValueError(msg)
    check_writable(adata)
    data = read_diagnosis_input(
        adata,
        batch_key,
        label_key=label_key,
        key=key,
        use_rep=use_rep,
        unintegrated=unintegrated,
        layer=layer,
        control_genes=control_genes,
    )
    generator = np.random.default_rng(rng)
    calibration = _calibrate(data, generator) if calibrate else empty_calibration()
    min_excess = excess_threshold(calibration)
    findings = compare_embeddings(data.before, data.after, data.batches.codes, generator, min_excess=min_excess)
    change = _measure_change(data)
    signals = _measure_signals(data, findings)
    names = name_states(findings, data.batch_names, _label_states(data, findings), _mark_states(data, findings))
    states, merged, private = make_tables(findings, names)
    for name in ("displacement", "displacement_own"):
        states[name] = np.nan if change is None else mean_by_state(getattr(change, name), findings.states)
    controls = _compare_controls(data, control_genes, signals, change)
    reasons = explain_findings(states, merged, private)
    reasons += [explain_control_genes(controls)] if len(controls) else []
    reasons += [explain_calibration(calibration)] if calibrate else []
    reasons += [f"Genes were not looked at: {data.no_genes}."] if data.no_genes else []
    diagnosis = Diagnosis(
        verdict=decide_verdict(states, merged, private, controls),
        reasons=tuple(reasons),
        states=states,
        merged=merged,
        private=private,
        changes=_rank_changes(data, findings, change, states.index.to_numpy()),
        control_genes=controls,
        calibration=calibration,
    )
    params = {
        "use_rep": data.use_rep,
        "batch_key": batch_key if isinstance(batch_key, str) else np.asarray(batch_key, dtype=str),
        "label_key": label_key or "",
        "unintegrated": unintegrated,
        "calibrate": bool(calibrate),
    }
    written = write_diagnosis(adata, slot, prefix, diagnosis, data, findings, change, signals, params)
    log_written(logger, written, start)
    return diagnosis


def _calibrate(data: DiagnosisInput, rng: np.random.Generator) -> pd.DataFrame:
    """What an integration with the same parameters and strength does to batches split at random."""
    if data.model is None or data.integrated is None:
        return empty_calibration()
    model = clone(data.model).set_params(strength=float(data.model.strength_.value), progress=False)

    def embed(matrix: Matrix, halves: Codes, generator: np.random.Generator) -> tuple[Floats, Floats]:
        unfitted = clone(model).set_params(rng=int(generator.integers(2**31)))
        # With strength 0 the embedding is the principal components.
        before = clone(unfitted).set_params(strength=0.0).fit_transform(matrix, halves)
        return before, unfitted.fit_transform(matrix, halves)

    return integrate_halves(data.integrated, data.batches.codes, data.batch_names, embed, rng)


def _measure_change(data: DiagnosisInput) -> Change | None:
    """Displacements; only for a model, whose coordinates before and after are comparable."""
    if data.model is None or data.integrated is None:
        return None
    stem = data.model.stem_
    before = stem.embed(stem.encode(data.integrated))
    loadings = None if data.model.stem == "identity" else stem.components
    return measure_change(before, np.asarray(data.after, dtype=np.float32), data.batches.codes, loadings)


def _measure_signals(data: DiagnosisInput, findings: Findings) -> dict[str, Floats]:
    """How well neighbours predict each gene, before integration, after a second measurement, and after integration."""
    if data.expression is None:
        return {}
    neighbours = {
        "signal_before": findings.neighbours_before,
        "signal_again": findings.neighbours_again,
        "signal_after": findings.neighbours_after,
    }
    matrix = data.expression.blocks.all()
    return {name: measure_signal(matrix, findings.rows, near) for name, near in neighbours.items()}


def _label_states(data: DiagnosisInput, findings: Findings) -> list[str]:
    """Most frequent label of each state."""
    if data.labels is None:
        return [""] * findings.states.n_states
    frequent = []
    for number in range(findings.states.n_states):
        inside = [label for label in data.labels[findings.states.codes == number] if label is not None]
        names, counts = np.unique(np.array(inside, dtype=str), return_counts=True)
        frequent.append(str(names[counts.argmax()]) if len(names) else "")
    return frequent


def _mark_states(data: DiagnosisInput, findings: Findings) -> list[str]:
    """Marker genes of each state in its batch."""
    if data.expression is None:
        return [""] * findings.states.n_states
    return find_markers(data.expression.blocks.all(), data.expression.names, findings.states, findings.rows)


def _compare_controls(
    data: DiagnosisInput, control_genes: Sequence[str], signals: dict[str, Floats], change: Change | None
) -> pd.DataFrame:
    """The table of the control genes."""
    genes = list(dict.fromkeys(map(str, control_genes)))
    values = dict.fromkeys(CONTROL_COLUMNS, np.full(len(genes), np.nan))
    if data.expression is not None:
        places = pd.Index(data.expression.names).get_indexer(pd.Index(genes))
        values |= {name: signal[places] for name, signal in signals.items()}
    if data.model is not None and change is not None and change.genes is not None:
        places = pd.Index(data.model.features_).get_indexer(pd.Index(genes))
        known = places >= 0
        lost, largest = (np.full(len(genes), np.nan) for _ in range(2))
        lost[known] = change.genes.variance_lost[places[known]]
        largest[known] = np.abs(change.genes.shift[places[known]]).max(axis=1)
        values |= {"variance_lost": lost, "largest_shift": largest}
    return make_control_table(genes, values, len(data.before))


def _rank_changes(data: DiagnosisInput, findings: Findings, change: Change | None, names: Labels) -> pd.DataFrame:
    """Genes that changed most in each state, with the names of states."""
    if data.model is None or change is None or change.genes is None:
        return empty_change_table()
    loadings, genes = data.model.stem_.components, np.asarray(data.model.features_, dtype=object)
    table = rank_changed_genes(change, data.batches.codes, findings.states, loadings, genes)
    table["state"] = names[table["state"].to_numpy(dtype=int)]
    table.index = pd.Index([str(place) for place in range(len(table))], dtype=object)
    return table
