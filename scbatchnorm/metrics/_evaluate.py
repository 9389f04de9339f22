"""All metrics of one or several representations in a table, with intervals and controls."""

from __future__ import annotations

import os
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from scbatchnorm._runtime.progress import progress_bar
from scbatchnorm.metrics._catalogue import choose_metrics
from scbatchnorm.metrics._comparison import read_comparison
from scbatchnorm.metrics._inputs import check_count, check_flavor
from scbatchnorm.metrics._representation import Representation
from scbatchnorm.metrics._score import expand_score
from scbatchnorm.metrics._table import Row, build_label_table, build_table, with_html

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd
    from anndata import AnnData

    from scbatchnorm._data.types import Codes
    from scbatchnorm._runtime.progress import tqdm
    from scbatchnorm.metrics._catalogue import Metric
    from scbatchnorm.metrics._comparison import Comparison
    from scbatchnorm.metrics._inputs import Flavor, Groups
    from scbatchnorm.metrics._score import MetricScore

# Cells of a subsample. Intervals from these agree with those from half of 6 000 cells, and take a second each.
_MAX_SUBSAMPLE = 1000
# Filters of warnings and limits of threads are those of the process: two calls at once would not restore them.
_ONE_CALL_AT_A_TIME = threading.RLock()


def evaluate(
    adata: AnnData,
    use_rep: str | Sequence[str],
    *,
    batch_key: str | Sequence[str],
    label_key: str | None = None,
    unintegrated: str | None = "X_pca",
    metrics: Literal["default", "all"] | Sequence[str] = "default",
    controls: bool = True,
    per_label: bool = False,
    n_bootstrap: int = 20,
    max_cells: int | None = 100_000,
    flavor: Flavor = "default",
    n_jobs: int | None = None,
    rng: int | np.random.Generator | None = 0,
    progress: bool | None = None,
) -> pd.DataFrame:
    """How good an integration is: all metrics of one or several representations, with intervals and controls.

    Compare three things: whether batches are mixed, whether biology is conserved, and what the controls score on the
    same cells. `adata` is not changed.

    Parameters
    ----------
    adata
        Annotated data. Only `obs` and `obsm` are read.
    use_rep
        Key or keys of `adata.obsm` with the representations to evaluate, of any tool.
    batch_key
        Column of `adata.obs` with the batch, or several that are combined.
    label_key
        Column of `adata.obs` with cell types, which should not be clusters of one of the representations that are
        compared. Cells without a value are left out, with a warning. `None`: only the metrics that need no labels
        (iLISI, PCR comparison, kNN preservation), and no aggregates.
    unintegrated
        Key of `adata.obsm` with the principal components before integration: a control, and what PCR comparison and
        kNN preservation compare with. `None`: without these.
    metrics
        `"default"`: the ten of scIB, CiLISI and kNN preservation. `"all"`: also batch silhouette, NMI and ARI of Leiden
        clusters, and F1 of isolated labels (Leiden needs igraph). Or names: isolated_labels, kmeans_nmi, kmeans_ari,
        silhouette_label, clisi, knn_preservation, leiden_nmi, leiden_ari, isolated_labels_f1, bras, ilisi, kbet,
        graph_connectivity, pcr_comparison, cilisi, silhouette_batch.
    controls
        Whether to add rows for the unintegrated components, and for each representation with its batches shuffled
        among the cells of each label: the score of perfect mixing of these cells. Without labels batches are shuffled among
        all cells, which no integration should reach where batches have different types.
    per_label
        Whether to return a row for each representation and label instead, with the metrics that single labels have.
    n_bootstrap
        Samples for the confidence intervals; 0 leaves them out. Each is a random half of the cells, at most about
        1 000 of them, for which everything is computed again. The relative error of the widths is about a sixth with 20,
        a tenth with 50.
    max_cells
        With more cells, a sample of about so many, at least 1 000, stands for all of them in metrics whose time or memory
        would grow too much: see Notes. `None` computes everything on all cells.
    flavor
        `"scib"` computes kBET, LISI, graph connectivity and PCR comparison as scib-metrics 0.5.10 does, see there.
    n_jobs
        Threads; `None` is the default of the libraries, usually all cores.
    rng
        Seed or generator of clusters, shuffling and samples.
    progress
        Progress bar; `None` shows it in terminals and notebooks.

    Returns
    -------
    Table with a row per representation, by its key, and these columns:

    `kind`
        `"representation"`, or a control: `"unintegrated"` or `"shuffled"`.
    the metrics, conservation of biology first
        From 0 to 1, 1 is best (PCR comparison and ARI can be negative); nan where not defined.
    `Batch correction`, `Bio conservation`, `Total`
        Means of the scIB metrics that were requested and are defined, and their weighted sum, 0.4 and 0.6 (Luecken et al.,
        Nature Methods 2022). CiLISI, kNN preservation and what `"all"` adds are not included, so that totals can be
        compared with those of others; but k-means is the best of ten starts here, of one start in scib-metrics.
    `... low`, `... high`
        95 % confidence interval of each of these: the value ± 1.96 standard deviations.
    `notes`
        Why values are missing, and what was computed on a sample.

    Notebooks show it with scores and intervals in one column; copies and slices of it are shown as any DataFrame.

    With `per_label=True`: rows (representation, label), columns `kind`, `cells`, `batches` (that have the label), and the
    metrics, without intervals.

    Notes
    -----
    Intervals come from subsampling (Politis and Romano, Annals of Statistics 1994). A bootstrap of the cells' values would
    give intervals several times too narrow, for cells share neighbours and clusters. Cells are drawn without replacement
    within each batch and label, everything is computed again, and the standard deviation over samples is scaled to the
    number of cells; all rows see the same samples. An interval is the uncertainty from having sampled these cells and
    not others of the same batches: not that of training with another seed, nor of other donors, which can be larger.
    On two data sets they were about right, except those of kBET, twice too wide, and of graph connectivity, too narrow
    (`benchmarks/RESULTS.md`).

    Up to `max_cells` cells everything is computed on all of them; neighbours are exact up to 100 000 cells. Of more, a
    sample is drawn at random within each batch and label, at least one cell of each. Silhouettes, isolated labels,
    kBET, graph connectivity and Leiden clusters are computed on the sample alone; LISI, CiLISI and kNN
    preservation for the cells of the sample, with their exact neighbours among all cells; k-means, BRAS and PCR
    comparison on all cells. Intervals are then those for the number of cells in the sample. kBET and graph connectivity
    depend on the number of cells: compare them only between samples of the same size.

    Where every label is in one batch only, mixing of batches cannot be told from mixing of labels: metrics about batches
    are nan.

    Raises
    ------
    ImportError
        A metric with Leiden clusters, without igraph.
    KeyError
        A key names nothing in `adata`.
    ValueError
        A cell has no batch, coordinates are not finite or beyond 1e12, or a parameter is out of its range.

    Examples
    --------
    >>> import scanpy as sc
    >>> import scbatchnorm as sbn
    >>> adata = sbn.datasets.pbmc_planted()
    >>> sc.pp.pca(adata)
    >>> table = sbn.metrics.evaluate(adata, "X_pca", batch_key="batch", metrics=["ilisi", "pcr_comparison"])
    >>> table[["kind", "iLISI"]].round(2)
                            kind  iLISI
    representation
    X_pca           unintegrated   0.11
    """
    check_flavor(flavor)
    n_bootstrap = _check_n_bootstrap(n_bootstrap)
    n_jobs = None if n_jobs is None else check_count(n_jobs, name="n_jobs")
    max_cells = None if max_cells is None else check_count(max_cells, name="max_cells", minimum=_MAX_SUBSAMPLE)
    if per_label and label_key is None:
        msg = f"per_label=True needs label_key; it is None. Columns of adata.obs: {', '.join(map(str, adata.obs.columns)) or 'none'}."
        raise ValueError(msg)
    chosen_metrics = choose_metrics(metrics, label=label_key is not None, before=unintegrated is not None)
    seed, shuffle_seed, draw_seed = np.random.default_rng(rng).integers(2**31, size=3).tolist()
    comparison = read_comparison(adata, use_rep, batch_key=batch_key, label_key=label_key, unintegrated=unintegrated)
    comparison = comparison.with_sample(max_cells, np.random.default_rng((draw_seed, 1)))
    shuffled = comparison.shuffle_batches(shuffle_seed) if controls else None
    only_sample = comparison.only_sample
    shuffled_sample = only_sample.shuffle_batches(shuffle_seed) if controls and only_sample else None
    task = _Task(chosen_metrics, flavor, n_jobs, seed, shuffled, shuffled_sample, per_label)
    n_bootstrap = 0 if per_label else n_bootstrap
    steps = len(task.names(comparison)) * len(chosen_metrics) + n_bootstrap
    with (
        _ONE_CALL_AT_A_TIME,
        progress_bar(steps, desc="metrics", unit="metric", progress=progress) as bar,
        warnings.catch_warnings(),
    ):
        # Clusters that stay empty. Set once here, for filters are those of all threads.
        warnings.simplefilter("ignore", ConvergenceWarning)
        with threadpool_limits(n_jobs):
            rows = task.rows(comparison, bar)
        if per_label:
            return build_label_table(rows, comparison)
        return with_html(
            build_table(rows, comparison, list(_score_subsamples(task, comparison, n_bootstrap, draw_seed, bar)))
        )


@dataclass(frozen=True, eq=False)
class _Task:
    """Metrics to compute for a comparison and for subsamples of it."""

    metrics: list[Metric]
    flavor: Flavor
    n_jobs: int | None
    seed: int
    shuffled: Groups | None  # batches of the controls, None without controls
    shuffled_sample: Groups | None  # the same for the sample
    per_label: bool

    def names(self, comparison: Comparison) -> list[str]:
        """Representations to evaluate; the unintegrated one last, if it was requested or is a control."""
        names = [name for name in comparison.names if name != comparison.unintegrated]
        last = comparison.unintegrated
        return [*names, last] if last is not None and (self.shuffled or last in comparison.names) else names

    def rows(self, comparison: Comparison, bar: tqdm | None = None) -> list[Row]:
        """Rows of the representations, of the unintegrated one, then of those with shuffled batches."""
        rows, controls, only_sample = [], [], comparison.only_sample
        before = (
            None if comparison.unintegrated is None else self._representation(comparison, comparison.unintegrated, None)
        )
        for name in self.names(comparison):
            is_before = name == comparison.unintegrated
            representation = (
                before if before is not None and is_before else self._representation(comparison, name, before)
            )
            row = Row(name, "unintegrated" if is_before else "representation", {})
            control = Row(f"{name}, batches shuffled", "shuffled", {})
            sample = None if only_sample is None else self._representation(only_sample, name, None)
            for metric in self.metrics:
                row.scores[metric] = self._score(metric, comparison, representation, sample, shuffled=False)
                control.scores[metric] = row.scores[metric]
                if self.shuffled is not None and not is_before and metric.about == "batch":
                    control.scores[metric] = self._score(metric, comparison, representation, sample, shuffled=True)
                if bar is not None:
                    bar.set_postfix_str(f"{name}: {metric.title}", refresh=False)
                    bar.update()
            rows.append(row)
            if self.shuffled is not None and not is_before:
                controls.append(control)
        return rows + controls

    def select(self, rows: Codes) -> _Task:
        """The task for the cells in these rows, in one thread."""
        shuffled = None if self.shuffled is None else self.shuffled.select(rows)
        return replace(self, n_jobs=1, shuffled=shuffled, shuffled_sample=None)

    def _score(
        self,
        metric: Metric,
        comparison: Comparison,
        whole: Representation,
        sample: Representation | None,
        *,
        shuffled: bool,
    ) -> MetricScore:
        """Score of all cells, or of the sample alone for metrics of that scope."""
        only_sample = comparison.only_sample
        if sample is None or only_sample is None or comparison.sample is None or metric.scope != "sample":
            score = comparison.compute(
                metric, whole, self.shuffled if shuffled and self.shuffled else comparison.batches
            )
        else:
            batches = self.shuffled_sample if shuffled and self.shuffled_sample else only_sample.batches
            score = only_sample.compute(metric, sample, batches)
            if self.per_label:
                score = expand_score(score, comparison.sample, len(comparison.cells))
        # With many cells the values of single cells in all metrics would take more memory than everything else.
        return score if self.per_label else replace(score, cells=None)

    def _representation(self, comparison: Comparison, name: str, before: Representation | None) -> Representation:
        points, rows = comparison.points[name], comparison.sample
        return Representation(
            points, comparison.batches, comparison.labels, before, self.flavor, self.n_jobs, self.seed, rows
        )


def _score_subsamples(
    task: _Task, comparison: Comparison, n_subsamples: int, seed: int, bar: tqdm
) -> Iterator[tuple[int, list[Row]]]:
    """Number of cells and rows of each random subsample of the cells."""
    generator = np.random.default_rng(seed)
    subsamples = [comparison.draw_subsample(_MAX_SUBSAMPLE, generator) for _ in range(n_subsamples)]

    def score_cells(cells: Codes) -> list[Row]:
        return task.select(cells).rows(comparison.select(cells))

    # Small arrays: one thread for each subsample is faster than several threads for one.
    with threadpool_limits(1), ThreadPoolExecutor(task.n_jobs or os.cpu_count()) as pool:
        for cells, rows in zip(subsamples, pool.map(score_cells, subsamples), strict=True):
            bar.set_postfix_str("confidence intervals", refresh=False)
            bar.update()
            yield len(cells), rows


def _check_n_bootstrap(value: object) -> int:
    n_bootstrap = check_count(value, name="n_bootstrap", minimum=0)
    if n_bootstrap == 1:
        msg = "n_bootstrap must be 0 or at least 2: one sample has no spread; got 1."
        raise ValueError(msg)
    return n_bootstrap
