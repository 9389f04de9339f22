"""Files of commands: checked before anything is computed, and replaced only by complete files."""

from __future__ import annotations

import contextlib
import warnings
import zlib
from typing import TYPE_CHECKING, Any

from scbatchnorm._runtime.atomic_files import check_output_path, replace_atomically

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from anndata import AnnData

ANNDATA_SUFFIXES = (".h5ad", ".zarr")
FIGURE_SUFFIXES = (".png", ".pdf", ".svg")
# Suffixes of tables and their separators.
SEPARATORS = {".csv": ",", ".tsv": "\t"}


def check_source(path: Path) -> None:
    """Raise unless `path` exists and has a suffix of AnnData files."""
    _check_suffix("input", path, ANNDATA_SUFFIXES)
    if not path.exists():
        msg = f"input does not exist: {path}."
        raise FileNotFoundError(msg)


def check_target(name: str, path: Path, suffixes: Sequence[str], *, overwrite: bool) -> None:
    """Raise if writing to `path` is bound to fail."""
    _check_suffix(name, path, suffixes)
    check_output_path(name, path, overwrite=overwrite, hint="--overwrite", folder=path.suffix == ".zarr")


def check_targets(targets: Iterable[tuple[str, Path | None, Sequence[str]]], *, overwrite: bool) -> None:
    """Raise if writing to one of the files that were asked for is bound to fail: option, path, suffixes."""
    for name, path, suffixes in targets:
        if path is not None:
            check_target(name, path, suffixes, overwrite=overwrite)


def check_apart(source: Path, target: Path) -> None:
    """Raise if one of two stores, which may be folders, lies in the other."""
    one, other = source.resolve(), target.resolve()
    if one in other.parents or other in one.parents:
        msg = f"-o/--output and the input must not lie in each other; got {target} and {source}."
        raise ValueError(msg)


def _check_suffix(name: str, path: Path, suffixes: Sequence[str]) -> None:
    """Raise unless the file given by the option `name` has one of the suffixes."""
    if path.suffix not in suffixes:
        msg = f"{name} must end in {' or '.join(suffixes)}; got {path}."
        raise ValueError(msg)


def read_anndata(source: Path) -> AnnData:
    """Read a whole file."""
    import anndata as ad

    with open_root(source):
        return ad.read_zarr(source) if source.suffix == ".zarr" else ad.read_h5ad(source)


def read_cells(source: Path, keys: Mapping[str, str]) -> AnnData:
    """Read the annotation of the cells, and the representations `keys` (key of obsm -> its name in messages).

    Expression is not read, because it may be larger than the memory.
    """
    import anndata as ad
    from anndata.io import read_elem

    with open_root(source) as file:
        if file["obs"].attrs.get("encoding-type") != "dataframe":
            return read_anndata(source)  # written before 2020
        available = sorted(file["obsm"]) if "obsm" in file else []
        missing = [name for key, name in keys.items() if key not in available]
        if not missing:
            return ad.AnnData(obs=read_elem(file["obs"]), obsm={key: read_elem(file["obsm"][key]) for key in keys})
    msg = f"{missing[0]} is not a key of obsm; keys: {', '.join(available) or 'none'}."
    raise KeyError(msg)


@contextlib.contextmanager
def open_root(source: Path) -> Iterator[Any]:
    """Open the root of a file with h5py or zarr; errors while it is read name the input."""
    with contextlib.ExitStack() as stack:
        try:
            if source.suffix == ".zarr":
                import zarr

                file: Any = zarr.open_group(source, mode="r")
            else:
                import h5py

                file = stack.enter_context(h5py.File(source, "r"))
            if "obs" not in file:
                msg = "it holds no AnnData"
                raise ValueError(msg)
            with report_damage(source):
                yield file
        except (OSError, KeyError, ValueError) as error:
            msg = f"input cannot be read: {source} ({error})."
            raise OSError(msg) from error


@contextlib.contextmanager
def report_damage(source: Path) -> Iterator[None]:
    """Raise OSError for the errors of various types that failing decompression and checksums raise."""
    try:
        yield
    except (RuntimeError, EOFError, ValueError, zlib.error) as error:
        if "compress" not in str(error) and "checksum" not in str(error):
            raise
        msg = f"{source} cannot be read, it is damaged ({error})."
        raise OSError(msg) from error


def write_anndata(adata: AnnData, target: Path) -> None:
    """Write all of `adata`, in the format of the suffix."""
    with replace_atomically(target) as (new,), warnings.catch_warnings():
        # Users cannot act on warnings about future versions of the format.
        warnings.filterwarnings("ignore", message="Writing zarr v2 data|zarr v3 autosharding|Consolidated metadata")
        if target.suffix == ".zarr":
            adata.write_zarr(new)
        else:
            adata.write_h5ad(new)
