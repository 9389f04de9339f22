"""Did the integration go too far: by cluster, by gene and by cell, without labels."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.base import clone

from scbatchnorm._data.adata import Keys, check_writable
from scbatchnorm._runtime.messages import log_written
from scbatchnorm.tl._diagnosis import change as _change
from scbatchnorm.tl._diagnosis import controls as _controls
from scbatchnorm.tl._diagnosis import findings as _findings
from scbatchnorm.tl._diagnosis import genes as _genes
from scbatchnorm.tl._diagnosis import inputs as _judged
from scbatchnorm.tl._diagnosis import null as _null
from scbatchnorm.tl._diagnosis import outputs as _diagnosed
from scbatchnorm.tl._diagnosis import result as _report
from scbatchnorm.tl._diagnosis.result import Diagnosis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from scbatchnorm._data.types import Codes, Floats, Matrix
    from scbatchnorm.tl._diagnosis.change import Change
    from scbatchnorm.tl._diagnosis.findings import Findings
    from scbatchnorm.tl._diagnosis.inputs import Judged

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
    """Did the integration go too far? What it merged, split and changed, without labels.

    Looks for harm inside batches, where there is no batch effect to remove. In each batch clusters are found before
    integration that noise leaves apart, called states. The yardstick is a second measurement: the same cells with
    noise as large as the differences between neighbours.

    - *merged*: two states of a batch that a linear rule tells apart before, and no longer now;
    - *split*: a state that falls into pieces which were mingled before;
    - *lost*: a state whose cells keep fewer of their nearest neighbours than half of what the second measurement
      would, beyond chance;
    - *pulled*: a state together with one of another batch, although hardly any of their cells have a counterpart
      there (mutual nearest neighbours) and the two are much further apart than other states that were put together.

    States of fewer than 15 cells are not seen, nor are differences that neighbouring cells do not show before
    integration. Two related states that are private to one batch each cannot always be told from one state with a
    batch effect of its own: *pulled* names the clear cases only.

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
        Key of `adata.obsm` with the embedding of another tool, to judge instead; without displacements, and changes
        of genes.
    unintegrated
        Key of `adata.obsm` with the principal components before integration.
    layer
        Only with `use_rep`: layer with log-normalised expression, instead of `adata.X`, for markers and signals of
        genes. An integration of this package knows what it was given.
    control_genes
        Genes that differ between cells of a batch for reasons that integration should not touch, such as those of the
        X and Y chromosomes where batches hold cells of several donors. Flagged if neighbours used to tell a gene's
        expression and no longer do.
    calibrate
        Whether to split the two largest batches at random, each in two, integrate the halves with the same parameters
        and the strength that was applied, and report what is found where nothing was to be corrected. States then
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
        Correlation of the gene with its mean over the 15 nearest neighbours in the batch; nan for genes not looked at.
    `adata.var['diagnose_shift']`, `adata.var['diagnose_variance_lost']`
        Root mean square over batches of what the embedding added to the gene, log-normalised; share of the variance
        inside batches that is gone from the embedding, negative where there is more. Not with `use_rep`.
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
    >>> found = sbn.tl.diagnose(adata, "batch", label_key="cell_type")
    >>> found.verdict
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
    judged = _judged.read(
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
    calibration = _calibration(judged, generator) if calibrate else _null.none()
    much = _null.yardstick(calibration)
    findings = _findings.find(judged.before, judged.after, judged.batches.codes, generator, much=much)
    change = _change_of(judged)
    signals = _signals(judged, findings)
    states = _report.names_of(findings, judged.batch_names, _labels(judged, findings), _markers(judged, findings))
    states, merged, private = _report.tables(findings, states)
    for name in ("displacement", "displacement_own"):
        states[name] = np.nan if change is None else _report.means(getattr(change, name), findings.states)
    controls = _control_table(judged, control_genes, signals, change)
    reasons = [*_report.reasons(states, merged, private)]
    reasons += [_controls.sentence(controls)] if len(controls) else []
    reasons += [_null.sentence(calibration)] if calibrate else []
    reasons += [f"Genes were not looked at: {judged.no_genes}."] if judged.no_genes else []
    verdict = _report.verdict(states, merged, private, controls)
    changes = _changes(judged, findings, change, states.index.to_numpy())
    found = Diagnosis(verdict, tuple(reasons), states, merged, private, changes, controls, calibration)
    params = {
        "use_rep": judged.use_rep,
        "batch_key": batch_key if isinstance(batch_key, str) else np.asarray(batch_key, dtype=str),
        "label_key": label_key or "",
        "unintegrated": unintegrated,
        "calibrate": bool(calibrate),
    }
    written = _diagnosed.write(adata, slot, prefix, found, judged, findings, change, signals, params)
    log_written(logger, written, start)
    return found


def _calibration(judged: Judged, rng: np.random.Generator) -> pd.DataFrame:
    """What the same integration does to batches split at random."""
    if judged.model is None or judged.integrated is None:
        return _null.none()
    model = clone(judged.model).set_params(strength=float(judged.model.strength_.value), progress=False)

    def embed(matrix: Matrix, halves: Codes, generator: np.random.Generator) -> tuple[Floats, Floats]:
        fresh = clone(model).set_params(rng=int(generator.integers(2**31)))
        # Without strength it is the principal components.
        before = clone(fresh).set_params(strength=0.0).fit_transform(matrix, halves)
        return before, fresh.fit_transform(matrix, halves)

    return _null.table(judged.integrated, judged.batches.codes, judged.batch_names, embed, rng)


def _change_of(judged: Judged) -> Change | None:
    """Displacements, for which the coordinates before and after must be the same ones: those of a model."""
    if judged.model is None or judged.integrated is None:
        return None
    stem = judged.model.stem_
    before = stem.embed(stem.encode(judged.integrated))
    loadings = stem.components if judged.of_genes else None
    return _change.of(before, np.asarray(judged.after, dtype=np.float32), judged.batches.codes, loadings)


def _signals(judged: Judged, findings: Findings) -> dict[str, Floats]:
    """How well neighbours tell each gene of the expression, before, measured again and after."""
    if judged.expression is None:
        return {}
    near = {"before": findings.near, "again": findings.near_again, "after": findings.near_after}
    matrix = judged.expression.matrix
    return {f"signal_{name}": _genes.signal(matrix, findings.rows, found) for name, found in near.items()}


def _labels(judged: Judged, findings: Findings) -> list[str]:
    """What most labelled cells of each state are."""
    if judged.labels is None:
        return [""] * findings.states.n
    found = []
    for number in range(findings.states.n):
        inside = [label for label in judged.labels[findings.states.codes == number] if label is not None]
        names, counts = np.unique(np.array(inside, dtype=str), return_counts=True)
        found.append(str(names[counts.argmax()]) if len(names) else "")
    return found


def _markers(judged: Judged, findings: Findings) -> list[str]:
    """Genes that set each state apart in its batch."""
    if judged.expression is None:
        return [""] * findings.states.n
    return _genes.markers(judged.expression.matrix, judged.expression.names, findings.states, findings.rows)


def _control_table(
    judged: Judged, control_genes: Sequence[str], signals: dict[str, Floats], change: Change | None
) -> pd.DataFrame:
    """What became of the control genes."""
    genes = list(dict.fromkeys(map(str, control_genes)))
    if not genes:
        return _controls.none()
    places, values = judged.places(genes), dict.fromkeys(_controls.COLUMNS, np.full(len(genes), np.nan))
    values |= {name: found[places] for name, found in signals.items()}
    if (
        judged.model is not None
        and change is not None
        and change.shift is not None
        and change.variance_lost is not None
    ):
        of_model = pd.Index(judged.model.features_).get_indexer(pd.Index(genes))
        known = of_model >= 0
        lost, largest = (np.full(len(genes), np.nan) for _ in range(2))
        lost[known] = change.variance_lost[of_model[known]]
        largest[known] = np.abs(change.shift[of_model[known]]).max(axis=1)
        values |= {"variance_lost": lost, "largest_shift": largest}
    return _controls.table(genes, values, len(judged.before))


def _changes(judged: Judged, findings: Findings, change: Change | None, names: np.ndarray) -> pd.DataFrame:
    """Genes that moved most in each state, by name."""
    if judged.model is None or change is None or change.shift is None:
        return _change.none()
    loadings, genes = judged.model.stem_.components, np.asarray(judged.model.features_, dtype=object)
    table = _change.by_state(change, judged.batches.codes, findings.states, loadings, genes)
    table["state"] = names[table["state"].to_numpy(dtype=int)]
    table.index = pd.Index([str(place) for place in range(len(table))], dtype=object)
    return table
