"""Corrected expression, from the model that `pp.integrate` left in `uns`."""

from __future__ import annotations

import logging
import math
import warnings
from importlib.metadata import version
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from scbatchnorm import _anndata, _batches, _checks, _expression, _matrix
from scbatchnorm._model import BatchNormAutoencoder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData

    from scbatchnorm._expression import Cells, Correction
    from scbatchnorm._typing import Codes, Labels, Matrix

logger = logging.getLogger(__name__)

_LIBRARIES = ("scbatchnorm", "anndata", "numpy", "scipy")


def correct(
    adata: AnnData,
    *,
    target: str = "average",
    genes: Literal["all", "hvg"] = "all",
    threshold: float | None = None,
    key: str | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | None:
    """Corrected log-normalised expression: each cell as if it had been measured in the average batch, or in one of them.

    Each gene is regressed on the corrected components of the cells (ridge), with slopes that batches share and an
    intercept and slopes of each batch. A value is what this predicts for the cell's state in the cell's own batch, and
    a residual. The prediction is replaced by that for the target, the residual is kept, stretched or shrunk to its
    spread in the target (at most twofold), and what would fall below 0 becomes 0. So genes that were not integrated are
    corrected as well, what the components do not explain stays as measured, and what was 0 may be a small number
    afterwards. What the embedding leaves of a batch effect stays in expression, too. States found in one batch only are
    shifted like the rest of their batch. Expression is copied unchanged where the integration had strength 0, and with
    a partial strength it goes that part of the way. The regressions are fitted to the cells in `adata`: a part of them
    gives slightly other values.

    For pictures, scores of gene sets and the like. Not for differential expression: one correction was fitted to all
    cells of a batch together, which tests of single cells do not know of, so p-values are too small, and effects of
    what differs between batches (condition, donor) are removed. Test raw counts, with the batch as a covariate, best
    summed up by sample. :func:`concordance` shows whether differences between cell types are those of before.

    Parameters
    ----------
    adata
        Annotated data as :func:`scbatchnorm.pp.integrate` left it; the expression that was integrated is corrected,
        `adata.X` or the layer.
    target
        `"average"`: the mean over the batches with cells in `adata`, each with equal weight. Or the name of a batch:
        its own cells do not change.
    genes
        `"all"`, or `"hvg"`: only those that were integrated; the others are copied as measured.
    threshold
        If given, values of the layer below it become 0 and it is sparse (CSR); 0.1 is hardly less accurate than `None`,
        a dense array with many values close to 0.
    key
        Which integration: its `key_added`.
    key_added
        Key of the layer, and with `"_correct"` behind it in `uns`; `None` is `"scbatchnorm"`.
    copy
        Work on a copy and return it.

    Returns
    -------
    Returns `None` if `copy=False`, else an `AnnData`. Sets the following fields:

    `adata.layers['scbatchnorm' | key_added]` : :class:`numpy.ndarray` or :class:`scipy.sparse.csr_matrix` (dtype `float32`)
        Corrected expression, shape (cells, genes), never negative, on the scale of the log-normalised expression. It
        is computed for 1 024 cells at a time: no other dense matrix of all cells and genes is made, only coefficients,
        (batches, components, genes) of them.
    `adata.uns['scbatchnorm_correct' | key_added + '_correct']` : :class:`dict`
        `params`, `fingerprint` and `strength` (value and reason) of the model, `batches` that the average is over or
        the target, `n_genes` that were corrected, and `versions`.

    Raises
    ------
    KeyError
        There is no integration, or genes, batches or the layer that it was made of are missing.
    ValueError
        The integration was of a representation, or its weights are not complete; `target`, `genes`, `threshold` or
        `key_added` are not what they must be; `key_added` is a layer that was not written by this function; values
        are negative, not finite or beyond 1e12. `adata` is unchanged.

    Warns
    -----
    UserWarning
        Values are larger than log-normalised ones can be.

    Examples
    --------
    >>> import scbatchnorm as sbn
    >>> adata = sbn.datasets.pbmc_planted()
    >>> sbn.pp.integrate(adata, "batch")
    >>> sbn.tl.correct(adata)
    >>> adata.layers["scbatchnorm"].shape
    (700, 765)
    >>> sbn.tl.correct(adata, target="protocol A", threshold=0.1, key_added="like_A")
    >>> adata.layers["like_A"].format, adata.uns["like_A_correct"]["params"]["target"]
    ('csr', 'protocol A')
    """
    slot, name = _anndata.Keys.of(key).uns, _anndata.Keys.of(key_added).uns
    _check_options(genes, threshold)
    model = BatchNormAutoencoder.from_anndata(adata, key=slot)
    _check_place(adata, name)
    source = _source(adata.uns[slot], slot)
    _checks.unique_genes(np.asarray(adata.var_names, dtype=str))
    cells = _cells(adata, model, slot)
    toward = _toward(target, model.batches_, cells.codes)
    expression = _Expression(adata, source, model.features_ if genes == "hvg" else None)
    correction = _fit(expression, cells, len(model.batches_), toward) if cells.strength.any() else None
    layer = _corrected(expression, correction, cells, threshold)
    params: dict[str, str | float] = {"target": str(target), "genes": genes, "key": slot}
    params |= {} if threshold is None else {"threshold": float(threshold)}
    params |= {} if source is None else {"layer": source}
    record = {
        "params": params,
        "fingerprint": model.fingerprint(),
        "strength": {"value": model.strength_.value, "reason": model.strength_.reason},
        "batches": model.batches_[toward].astype(str),
        "n_genes": expression.n_genes if correction is not None else 0,
        "versions": {library: version(library) for library in _LIBRARIES},
    }
    if copy:
        adata = adata.to_memory() if adata.isbacked else adata.copy()
    with warnings.catch_warnings():
        # A view becomes an object of its own, as in `pp.integrate`.
        warnings.simplefilter("ignore", ad.ImplicitModificationWarning)
        adata.layers[name] = layer
        adata.uns[_provenance(name)] = record
    how = "copied unchanged, strength is 0" if correction is None else f"{expression.n_genes} genes corrected"
    logger.info("added layers[%r], uns[%r]: %s", name, _provenance(name), how)
    return adata if copy else None


class _Expression:
    """The expression that was integrated, read a few cells at a time; `genes` are those to correct, `None` for all."""

    def __init__(self, adata: AnnData, layer: str | None, genes: Labels | None) -> None:
        self._where = "adata.X" if layer is None else f"adata.layers[{layer!r}]"
        values = adata.X if layer is None else adata.layers[layer]
        if layer is not None or not adata.isbacked or adata.is_view:
            values = _matrix.real(values, where=self._where)
        # Rows of another sparse format would each be searched for in the whole matrix.
        self._values = values.tocsr() if sparse.issparse(values) else values
        self._cells, self._genes = adata.obs_names, adata.var_names
        self.layer, self.shape = layer, adata.shape
        # All genes are taken as they lie, some by their places.
        self.columns = slice(None) if genes is None else adata.var_names.get_indexer(pd.Index(genes))
        self.n_genes = self.shape[1] if genes is None else len(genes)

    def rows(self, rows: slice) -> Matrix:
        """All genes of some cells, as they were measured, all finite; not to be written to."""
        block = _matrix.as_csr(self._values[rows], where=self._where)
        _checks.finite(block, where=self._where, cells=self._cells[rows], genes=self._genes)
        return block

    def to_correct(self, rows: slice) -> Matrix:
        """The genes to correct of some cells; raises where they are no log-normalised expression."""
        block = self.rows(rows)
        if not isinstance(self.columns, slice):
            return block[:, self.columns]  # checked as what was integrated
        if (block.data if sparse.issparse(block) else block).min(initial=0) < 0:
            lowest = block.min(axis=0)
            gene = int(np.argmin(lowest.toarray() if sparse.issparse(lowest) else lowest))
            msg = (
                f"{self._where} must be log-normalised expression, which is never negative; gene {str(self._genes[gene])!r} "
                "has negative values. To correct only the genes that were integrated: genes='hvg'."
            )
            raise ValueError(msg)
        return block


def _source(record: Mapping[str, Any], slot: str) -> str | None:
    """The layer that was integrated, `None` for `X`; raises where it was a representation."""
    if record.get("use_rep"):
        msg = (
            f"adata.uns[{slot!r}] is an integration of the representation {str(record['use_rep'])!r}, which has no genes to correct. "
            "Integrate expression: pp.integrate(adata, batch_key), without use_rep."
        )
        raise ValueError(msg)
    return str(record["layer"]) if record.get("layer") else None


def _cells(adata: AnnData, model: BatchNormAutoencoder, slot: str) -> Cells:
    """Corrected components, batches and strengths of the cells."""
    integrated, batch = _anndata.like_fit(adata, model.features_, None, slot)
    codes = _batches.codes(batch, model.batches_, adata.n_obs)
    points = model.stem_.unembed(model.transform(integrated, batch))
    return _expression.Cells(points, codes, model.strength_.at(model.stem_.encode(integrated), codes).ravel())


def _fit(expression: _Expression, cells: Cells, n_batches: int, toward: Codes) -> Correction:
    """What is done to the values of each batch, from one pass over the cells."""
    sums = _expression.no_sums(n_batches, cells.points.shape[1], expression.n_genes)
    for rows in _expression.chunks(expression.shape[0]):
        _expression.add(sums, expression.to_correct(rows), cells[rows])
    return _expression.correction(_expression.regress(sums), toward)


def _corrected(expression: _Expression, correction: Correction | None, cells: Cells, threshold: float | None) -> Matrix:
    """The layer, from a second pass over the cells; without a `correction` a copy of the expression."""
    parts, layer = [], np.empty(expression.shape if threshold is None else (0, 0), dtype=np.float32)
    for rows in _expression.chunks(expression.shape[0]):
        block = expression.rows(rows)
        block = block.toarray() if sparse.issparse(block) else block.copy()
        if correction is not None:
            block[:, expression.columns] = correction.apply(expression.to_correct(rows), cells[rows])
        if threshold is None:
            layer[rows] = block
        else:
            block[block < threshold] = 0
            parts.append(sparse.csr_matrix(block))
    return layer if threshold is None else sparse.vstack(parts, format="csr")


def _toward(target: str, levels: Labels, codes: Codes) -> Codes:
    """Codes of the batches whose average is the target."""
    present = np.unique(codes)
    if target == "average":
        return present
    named = present[levels[present].astype(str) == str(target)]
    if not len(named):
        available = _checks.listed(levels[present])
        msg = f"target={target!r} must be 'average' or a batch with cells in adata; batches: {available}."
        raise ValueError(msg)
    return named


def _check_options(genes: str, threshold: float | None) -> None:
    """Raise unless the options that are no names are in their range."""
    if not isinstance(genes, str) or genes not in {"all", "hvg"}:
        msg = f"genes must be 'all' or 'hvg'; got {genes!r}."
        raise ValueError(msg)
    if threshold is None:
        return
    number = isinstance(threshold, Real) and not isinstance(threshold, bool | np.bool_)
    if not number or not math.isfinite(threshold) or threshold < 0:
        msg = f"threshold must be None or a number of at least 0; got {threshold!r}."
        raise ValueError(msg)


def _check_place(adata: AnnData, name: str) -> None:
    """Raise if the layer `name` is somebody else's: counts that are overwritten are lost."""
    if name in adata.layers and _provenance(name) not in adata.uns:
        msg = (
            f"key_added={name!r} is a layer that tl.correct did not write; choose another name. "
            f"Layers: {_checks.listed(key for key in adata.layers if key is not None)}."
        )
        raise ValueError(msg)


def _provenance(name: str) -> str:
    """Key in `uns` of what is known about the layer `name`."""
    return f"{name}_correct"
