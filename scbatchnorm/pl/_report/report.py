"""Report on an integration as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scbatchnorm._runtime.atomic_files import check_output_path, write_atomically
from scbatchnorm._runtime.progress import progress_bar
from scbatchnorm.metrics._inputs import check_count

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from anndata import AnnData

# Least value of `max_cells_drawn`.
_FEWEST_DRAWN = 100


def report(
    adata: AnnData,
    path: str | os.PathLike[str],
    *,
    key: str | None = None,
    use_rep: str | None = None,
    batch_key: str | Sequence[str] | None = None,
    label_key: str | None = None,
    covariate_keys: Sequence[str] | str = (),
    control_genes: Sequence[str] = (),
    compare: Sequence[str] | str = (),
    unintegrated: str = "X_pca",
    title: str | None = None,
    max_cells_drawn: int = 50_000,
    overwrite: bool = False,
    rng: int | np.random.Generator | None = 0,
    progress: bool | None = None,
) -> Path:
    """Write a report on an integration: one HTML file that opens anywhere, without network.

    It begins with warnings, and answers: was a correction needed (:func:`scbatchnorm.pp.assess`), what was done, how do the
    cells look before and after, how good is the result (:func:`scbatchnorm.metrics.evaluate`, with controls and intervals), and
    did the integration go too far (:func:`scbatchnorm.tl.diagnose`). At its end are a paragraph for the methods of a paper, and the
    call that repeats the integration. Everything is computed anew, because stored results may be of other coordinates. It takes about a minute for
    thousands of cells, mostly for scores and UMAPs; UMAPs stored as `obsm[f"{key}_umap"]`, as by :func:`scbatchnorm.pl.embedding`, are used.

    Parameters
    ----------
    adata
        Annotated data with an integration; nothing is written to it.
    path
        The file to write, ending in `.html`.
    key
        Which integration of this package: its `key_added`; `None` is the package's own.
    use_rep
        Key of `adata.obsm` with the embedding of another tool, to report on instead. Needs `batch_key`.
    batch_key
        Column of `adata.obs` with the batch, or several that are combined; `None` takes that of the integration.
    label_key
        Column of `adata.obs` with cell types. Without them scores are those that need none, and clusters stand for types.
    covariate_keys
        Columns of `adata.obs` that a correction must not remove, such as condition or donor.
    control_genes
        Genes whose differences between cells of a batch should stay; see :func:`scbatchnorm.tl.diagnose`.
    compare
        Keys of `adata.obsm` with other embeddings, to be scored beside it.
    unintegrated
        Key of `adata.obsm` with the principal components before integration. Where it is missing, the model's own are used, if the
        integration is of this package.
    title
        Heading of the page; `None`: cells and batches.
    max_cells_drawn
        Most cells to draw, at least 100; of more cells a random sample is drawn.
    overwrite
        Whether to replace an existing file at `path`.
    rng
        Seed or generator of permutations, clusters, samples, UMAPs and the order of drawing.
    progress
        Progress bar; `None` shows it in terminals and notebooks.

    Returns
    -------
    The path of the file, absolute.

    Raises
    ------
    KeyError
        There is no integration under `key`, or another key names nothing in `adata`.
    ValueError
        `path` does not end in `.html`, parameters exclude each other, cells have no batch, or coordinates are not finite or
        beyond 1e12.
    FileExistsError, FileNotFoundError, PermissionError
        `path` exists and `overwrite` is not set; its folder does not exist, or cannot be written to.

    Examples
    --------
    >>> import scbatchnorm as sbn
    >>> adata = sbn.datasets.pbmc_planted()
    >>> sbn.pp.integrate(adata, "batch")
    >>> sbn.pl.report(adata, "report.html", label_key="cell_type")  # doctest: +SKIP
    PosixPath('/home/me/report.html')
    """
    # Imported here because other pictures do not need the metrics, which take seconds to import.
    from scbatchnorm.pl._report.compute import N_STEPS, compute_findings
    from scbatchnorm.pl._report.figures import DrawnCells
    from scbatchnorm.pl._report.inputs import read_integration
    from scbatchnorm.pl._report.page import render_page

    target = _check_path(path, overwrite=overwrite)
    max_cells_drawn = check_count(max_cells_drawn, name="max_cells_drawn", minimum=_FEWEST_DRAWN)
    integration = read_integration(
        adata,
        key=key,
        use_rep=use_rep,
        batch_key=batch_key,
        label_key=label_key,
        unintegrated=unintegrated,
        compare=compare,
    )
    seed = int(np.random.default_rng(rng).integers(2**31))
    with progress_bar(N_STEPS + 2, desc="report", unit="step", progress=progress) as bar:
        findings = compute_findings(
            integration, covariate_keys=covariate_keys, control_genes=control_genes, seed=seed, bar=bar
        )
        bar.set_postfix_str("UMAPs")
        drawn = DrawnCells.sample(integration, max_cells=max_cells_drawn, seed=seed)
        bar.update()
        bar.set_postfix_str("pictures")
        options = {"covariate_keys": _as_list(covariate_keys), "control_genes": _as_list(control_genes), "title": title}
        page = render_page(integration, findings, drawn, path_name=target.name, options=options)
        write_atomically(target, page.encode())
        bar.update()
    return target


def _check_path(path: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """Absolute path of the output, checked before anything is computed."""
    target = Path(path)
    if target.suffix.lower() not in {".html", ".htm"}:
        msg = f"path must end in .html; got {str(path)!r}."
        raise ValueError(msg)
    check_output_path("path", target, overwrite=overwrite, hint="overwrite=True")
    return target.absolute()


def _as_list(names: Sequence[str] | str) -> list[str]:
    return [names] if isinstance(names, str) else [str(name) for name in names]
