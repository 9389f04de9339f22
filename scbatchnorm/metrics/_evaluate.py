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
from scbatchnorm.metrics import _catalogue, _html, _inputs, _score, _table
from scbatchnorm.metrics import _comparison as _design
from scbatchnorm.metrics._representation import Representation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd
    from anndata import AnnData

    from scbatchnorm._data.types import Codes
    from scbatchnorm._runtime.progress import tqdm
    from scbatchnorm.metrics._catalogue import Metric
    from scbatchnorm.metrics._comparison import Design
    from scbatchnorm.metrics._inputs import Flavor, Groups
    from scbatchnorm.metrics._score import Score

# Cells of a sample. Intervals of these agree with those of half of 6 000 cells, and take a second each.
_MOST_DRAWN = 1000
# Filters of warnings and limits of threads belong to the whole process: two calls at once would not give them back.
_ALONE = threading.RLock()


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

    Read three things together: whether batches are mixed, whether biology is conserved, and what the controls score on
    the same cells. `adata` is not changed.

    Parameters
    ----------
    adata
        Annotated data. Only `obs` and `obsm` are read.
    use_rep
        Key or keys of `adata.obsm` with the representations to judge, of any tool.
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
        among the cells of each label: what perfect mixing would score here. Without labels batches are shuffled among
        all cells, which is too much to ask where batches hold different types.
    per_label
        Whether to return a row for each representation and label instead, with the metrics that single labels have.
    n_bootstrap
        Samples for the confidence intervals; 0 leaves them out. Each is a random half of the cells, at most about
        1 000 of them, for which everything is computed again. The widths themselves are uncertain by a sixth with 20,
        by a tenth with 50.
    max_cells
        Cells above which a sample of about so many, at least 1 000, stands for all of them wherever time or memory
        would grow beyond bounds: see Notes. `None` computes everything on all cells.
    flavor
        `"scib"` computes kBET, LISI, graph connectivity and PCR comparison as scib-metrics 0.5.10 does, see there.
    n_jobs
        Threads; `None` is what the libraries take, usually all cores.
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
        Means of the scIB metrics that were asked for and are defined, and 0.4 and 0.6 of these (Luecken et al., Nature
        Methods 2022). CiLISI, kNN preservation and what `"all"` adds are no part of them, so that totals compare with
        those of others; k-means takes the best of ten starts here, though, scib-metrics one.
    `... low`, `... high`
        95 % confidence interval of each of these: 1.96 standard deviations around the value.
    `notes`
        Why values are missing, and what was computed on a sample.

    Notebooks show it with scores and intervals in one column; copies and parts of it are shown as any other DataFrame.

    With `per_label=True`: rows (representation, label), columns `kind`, `cells`, `batches` (that have the label), and the
    metrics, without intervals.

    Notes
    -----
    Intervals come from subsampling (Politis and Romano, Annals of Statistics 1994). A bootstrap of the cells' values would
    come out several times too narrow, for cells share neighbours and clusters. Cells are drawn without replacement
    within each batch and label, everything is computed again, and the standard deviation over samples is scaled to the
    number of cells; all rows see the same samples. An interval is the uncertainty from having sampled these cells and
    not others of the same batches: not that of training with another seed, nor of other donors, which can be larger.
    On two data sets they were about right, but those of kBET twice too wide, and of graph connectivity too narrow
    (`benchmarks/RESULTS.md`).

    Up to `max_cells` cells everything is computed on all of them, and comparing all pairs up to 100 000. Of more, a
    sample is drawn at random within each batch and label, of each at least one cell. Silhouettes, isolated labels,
    kBET, graph connectivity and Leiden clusters are computed as if there were only the sample; LISI, CiLISI and kNN
    preservation for the cells of the sample, with their exact neighbours among all cells; k-means, BRAS and PCR
    comparison on all cells. Intervals are then those of as many cells as the sample has. kBET and graph connectivity
    depend on the number of cells: compare them only between samples of the same size.

    Where every label is in one batch only, mixing of batches cannot be told from mixing of labels: what is about batches
    is nan.

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
    _inputs.check_flavor(flavor)
    n_bootstrap = _n_bootstrap(n_bootstrap)
    n_jobs = None if n_jobs is None else _inputs.count(n_jobs, name="n_jobs")
    max_cells = None if max_cells is None else _inputs.count(max_cells, name="max_cells", least=_MOST_DRAWN)
    if per_label and label_key is None:
        msg = f"per_label=True needs label_key; it is None. Columns of adata.obs: {', '.join(map(str, adata.obs.columns)) or 'none'}."
        raise ValueError(msg)
    chosen = _catalogue.choose(metrics, label=label_key is not None, before=unintegrated is not None)
    seed, shuffle_seed, draw_seed = np.random.default_rng(rng).integers(2**31, size=3).tolist()
    design = _design.read(adata, use_rep, batch_key=batch_key, label_key=label_key, unintegrated=unintegrated)
    design = design.sampled(max_cells, np.random.default_rng((draw_seed, 1)))
    shuffled = design.shuffled(shuffle_seed) if controls else None
    shuffled_part = design.part.shuffled(shuffle_seed) if controls and design.part else None
    task = _Task(chosen, flavor, n_jobs, seed, shuffled, shuffled_part, per_label)
    n_bootstrap = 0 if per_label else n_bootstrap
    steps = len(task.names(design)) * len(chosen) + n_bootstrap
    with (
        _ALONE,
        progress_bar(steps, desc="metrics", unit="metric", progress=progress) as bar,
        warnings.catch_warnings(),
    ):
        # Clusters that stay empty. Set here, once, for filters belong to all threads.
        warnings.simplefilter("ignore", ConvergenceWarning)
        with threadpool_limits(n_jobs):
            rows = task.rows(design, bar)
        if per_label:
            return _table.by_label(rows, design)
        return _html.shown(_table.overall(rows, design, list(_draws(task, design, n_bootstrap, draw_seed, bar))))


@dataclass(frozen=True, eq=False)
class _Task:
    """What is asked of a design, and of parts of it."""

    metrics: list[Metric]
    flavor: Flavor
    n_jobs: int | None
    seed: int
    shuffled: Groups | None  # batches of the controls
    shuffled_part: Groups | None  # of the sample
    per_label: bool

    def names(self, design: Design) -> list[str]:
        """Representations to judge; the unintegrated one last, if it was asked for or is a control."""
        names = [name for name in design.names if name != design.unintegrated]
        last = design.unintegrated
        return [*names, last] if last is not None and (self.shuffled or last in design.names) else names

    def rows(self, design: Design, bar: tqdm | None = None) -> list[_table.Row]:
        """Representations, then the unintegrated one, then those with shuffled batches."""
        rows, controls = [], []
        before = None if design.unintegrated is None else self._representation(design, design.unintegrated, None)
        for name in self.names(design):
            own = name == design.unintegrated
            representation = before if before is not None and own else self._representation(design, name, before)
            row = _table.Row(name, "unintegrated" if own else "representation", {})
            control = _table.Row(f"{name}, batches shuffled", "shuffled", {})
            part = self._part(design, name)
            for metric in self.metrics:
                row.scores[metric] = self._score(metric, design, representation, part, shuffled=False)
                control.scores[metric] = row.scores[metric]
                if self.shuffled is not None and not own and metric.about == "batch":
                    control.scores[metric] = self._score(metric, design, representation, part, shuffled=True)
                if bar is not None:
                    bar.set_postfix_str(f"{name}: {metric.title}", refresh=False)
                    bar.update()
            rows.append(row)
            if self.shuffled is not None and not own:
                controls.append(control)
        return rows + controls

    def of(self, rows: Codes) -> _Task:
        """The same for some of the cells, in one thread."""
        shuffled = None if self.shuffled is None else self.shuffled.of(rows)
        return replace(self, n_jobs=1, shuffled=shuffled, shuffled_part=None)

    def _score(
        self, metric: Metric, design: Design, whole: Representation, part: Representation | None, *, shuffled: bool
    ) -> Score:
        """Of all cells, or of the sample where the metric takes one."""
        if part is None or design.part is None or design.sample is None or metric.scope != "sample":
            score = design.judge(metric, whole, self.shuffled if shuffled and self.shuffled else design.batches)
        else:
            batches = self.shuffled_part if shuffled and self.shuffled_part else design.part.batches
            score = design.part.judge(metric, part, batches)
            if self.per_label:
                score = _score.of_sample(score, design.sample, len(design.cells))
        # Of many cells the values of all metrics would take more memory than anything else.
        return score if self.per_label else replace(score, cells=None)

    def _representation(self, design: Design, name: str, before: Representation | None) -> Representation:
        points, rows = design.points[name], design.sample
        return Representation(points, design.batches, design.labels, before, self.flavor, self.n_jobs, self.seed, rows)

    def _part(self, design: Design, name: str) -> Representation | None:
        """Of the sample alone."""
        return None if design.part is None else self._representation(design.part, name, None)


def _draws(task: _Task, design: Design, n_draws: int, seed: int, bar: tqdm) -> Iterator[tuple[int, list[_table.Row]]]:
    """Number of cells and rows, of random parts of the cells."""
    generator = np.random.default_rng(seed)
    parts = [design.drawn(_MOST_DRAWN, generator) for _ in range(n_draws)]
    # Small arrays: one thread for each part is faster than several threads for one.
    with threadpool_limits(1), ThreadPoolExecutor(task.n_jobs or os.cpu_count()) as pool:
        for cells, rows in zip(
            parts, pool.map(lambda cells: task.of(cells).rows(design.of(cells)), parts), strict=True
        ):
            bar.set_postfix_str("confidence intervals", refresh=False)
            bar.update()
            yield len(cells), rows


def _n_bootstrap(value: object) -> int:
    n_bootstrap = _inputs.count(value, name="n_bootstrap", least=0)
    if n_bootstrap == 1:
        msg = "n_bootstrap must be 0 or at least 2: one sample has no spread; got 1."
        raise ValueError(msg)
    return n_bootstrap
