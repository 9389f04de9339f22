from __future__ import annotations

import os
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import anndata as ad
import pandas as pd

from scbatchnorm.datasets._download import download_file
from scbatchnorm.datasets._registry import DATASETS

if TYPE_CHECKING:
    from anndata import AnnData

    from scbatchnorm.datasets._registry import Dataset

_CACHE = "SCBATCHNORM_CACHE"


def available() -> pd.DataFrame:
    """Table of the public data sets that :func:`scbatchnorm.datasets.load` knows.

    Returns
    -------
    One row per data set, by name, with these columns:

    `cells`, `genes`, `batches`, `cell_types`
        How many there are.
    `megabytes`
        Size of the download and of the file in the cache, in 10^6 bytes.
    `X`, `counts`
        Scale of the expression in `X`; where counts are, and whether they are whole numbers.
    `about`, `source`, `licence`, `citation`
        What was measured, where the file comes from, its licence there, and what to cite.

    Examples
    --------
    >>> import scbatchnorm as sbn
    >>> sbn.datasets.available()[["cells", "batches", "cell_types", "megabytes", "X"]]
                   cells  batches  cell_types  megabytes               X
    kang_2018      24673        8           8         38          counts
    scib_immune    33506       10          16       2065  log-normalised
    scib_lung      32472       16          17       1020  log-normalised
    scib_pancreas  16382        9          14        316  log-normalised
    """
    table = pd.DataFrame.from_dict({name: asdict(entry) for name, entry in DATASETS.items()}, orient="index")
    table["megabytes"] = (table["size"] / 1e6).round().astype(int)
    columns = ["cells", "genes", "batches", "cell_types", "megabytes", "X", "counts"]
    return table[[*columns, "about", "source", "licence", "citation"]]


def load(name: str, *, cache_dir: str | Path | None = None, progress: bool | None = None) -> AnnData:
    """Public benchmark data by name, downloaded once.

    The file is looked for in the cache. If it is not there it is downloaded. A transfer that breaks begins anew, up to
    three times at each address. The checksum is compared every time, so that everybody who loads a name has the same
    bytes; another file is downloaded again, or refused. Several processes may load the same name at once: one of them
    downloads.

    Parameters
    ----------
    name
        One of the names that :func:`available` lists.
    cache_dir
        Folder for the files. `None` is the environment variable `SCBATCHNORM_CACHE` or, without it, the folder
        `scbatchnorm` where the system keeps caches: `$XDG_CACHE_HOME` or `~/.cache`, on macOS `~/Library/Caches`,
        on Windows `%LOCALAPPDATA%`. It is made if it is missing.
    progress
        Whether a download shows a progress bar; `None` does so in terminals and notebooks.

    Returns
    -------
    The cells and genes of the file, with these fields:

    `X`
        Expression as in the file: counts, or log-normalised. :func:`available` says which, and where counts are.
    `obs["batch"]`, `obs["cell_type"]` : :class:`pandas.Categorical`
        Experimental batch and label, copied from the columns of the file that hold them. If the file has another
        column of this name, that one is kept as `"batch_in_file"` or `"cell_type_in_file"`.
    `uns["dataset"]` : :class:`dict`
        `name`, `batch` and `cell_type` (the columns of the file), `X`, `counts`, `about`, `source`, `licence`,
        `citation` and `checksum`.

    Raises
    ------
    ValueError
        There is no data set of this name.
    ConnectionError
        The file could not be downloaded in three tries: no network, the server is down, or has no such file.
    OSError
        The server sent another file; the disk is full; the folder cannot be written to.

    Examples
    --------
    >>> import scbatchnorm as sbn
    >>> adata = sbn.datasets.load("kang_2018")  # doctest: +SKIP
    >>> sbn.pp.integrate(adata, "batch")  # doctest: +SKIP
    """
    if name not in DATASETS:
        msg = f"name={name!r} is not a public data set; there are: {', '.join(DATASETS)}."
        raise ValueError(msg)
    entry = DATASETS[name]
    path = _cache_folder(cache_dir) / f"{name}.h5ad"
    download_file(path, entry, progress=progress)
    with warnings.catch_warnings():
        # The files are years old; anndata warns about their format, and their genes may repeat. Nobody can mend that.
        warnings.simplefilter("ignore")
        adata = ad.read_h5ad(path)
        adata.obs_names_make_unique()
        adata.var_names_make_unique()
    _name_columns(adata, entry)
    described = ("batch", "cell_type", "X", "counts", "about", "source", "licence", "citation", "checksum")
    adata.uns["dataset"] = {"name": name, **{field: getattr(entry, field) for field in described}}
    return adata


def _name_columns(adata: AnnData, entry: Dataset) -> None:
    """Copy the columns of batches and labels to `batch` and `cell_type`."""
    columns = {"batch": adata.obs[entry.batch], "cell_type": adata.obs[entry.cell_type]}
    for name, values in columns.items():
        if name in adata.obs and values.name != name:
            adata.obs[f"{name}_in_file"] = adata.obs[name]
        adata.obs[name] = values.astype("category")


def _cache_folder(cache_dir: str | Path | None) -> Path:
    """Where files are kept; made by the download."""
    chosen = cache_dir if cache_dir is not None else os.environ.get(_CACHE)
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "scbatchnorm"
