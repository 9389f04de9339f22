"""Files of commands: checked before anything is computed, and replaced only by what is complete."""

from __future__ import annotations

import contextlib
import warnings
import zlib
from typing import TYPE_CHECKING, Any

from scbatchnorm._runtime.atomic_files import check_output_path, replace_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from anndata import AnnData

ANNDATA = (".h5ad", ".zarr")


def check_source(path: Path) -> None:
    """Raise unless there can be cells in `path`."""
    _check_suffix("input", path, ANNDATA)
    if not path.exists():
        msg = f"input does not exist: {path}."
        raise FileNotFoundError(msg)


def check_target(name: str, path: Path, suffixes: Sequence[str], *, overwrite: bool) -> None:
    """Raise if writing to `path` is bound to fail."""
    _check_suffix(name, path, suffixes)
    check_output_path(name, path, overwrite=overwrite, hint="--overwrite", folder=path.suffix == ".zarr")


def check_apart(source: Path, target: Path) -> None:
    """Raise if one of two stores, which are folders, lies in the other."""
    one, other = source.resolve(), target.resolve()
    if one in other.parents or other in one.parents:
        msg = f"-o/--output and the input must not lie in each other; got {target} and {source}."
        raise ValueError(msg)


def _check_suffix(name: str, path: Path, suffixes: Sequence[str]) -> None:
    """Raise unless the file that the option `name` gives has one of the endings."""
    if path.suffix not in suffixes:
        msg = f"{name} must end in {' or '.join(suffixes)}; got {path}."
        raise ValueError(msg)


def read(source: Path) -> AnnData:
    """All of a file."""
    import anndata as ad

    with opened(source):
        return ad.read_zarr(source) if source.suffix == ".zarr" else ad.read_h5ad(source)


def read_cells(source: Path, keys: Mapping[str, str]) -> AnnData:
    """Annotation of the cells, and the representations `keys` (key of obsm -> what errors call it).

    Expression is left where it is, it may be larger than the memory.
    """
    import anndata as ad
    from anndata.io import read_elem

    with opened(source) as file:
        if file["obs"].attrs.get("encoding-type") != "dataframe":
            return read(source)  # written before 2020
        available = sorted(file["obsm"]) if "obsm" in file else []
        missing = [name for key, name in keys.items() if key not in available]
        if not missing:
            return ad.AnnData(obs=read_elem(file["obs"]), obsm={key: read_elem(file["obsm"][key]) for key in keys})
    msg = f"{missing[0]} is not a key of obsm; keys: {', '.join(available) or 'none'}."
    raise KeyError(msg)


@contextlib.contextmanager
def opened(source: Path) -> Iterator[Any]:
    """The root of a file, as h5py or zarr give it; what goes wrong in reading it is said to be about the input."""
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
            with undamaged(source):
                yield file
        except (OSError, KeyError, ValueError) as error:
            msg = f"input cannot be read: {source} ({error})."
            raise OSError(msg) from error


@contextlib.contextmanager
def undamaged(source: Path) -> Iterator[None]:
    """OSError for the errors of all sorts with which decompression fails, and checksums."""
    try:
        yield
    except (RuntimeError, EOFError, ValueError, zlib.error) as error:
        if "compress" not in str(error) and "checksum" not in str(error):
            raise
        msg = f"{source} cannot be read, it is damaged ({error})."
        raise OSError(msg) from error


def write(adata: AnnData, target: Path) -> None:
    """All of `adata`, in the format that the ending says."""
    with replace_atomically(target) as (new,), warnings.catch_warnings():
        # Which version of the format anndata will write one day is nothing that users can act on.
        warnings.filterwarnings("ignore", message="Writing zarr v2 data|zarr v3 autosharding|Consolidated metadata")
        if target.suffix == ".zarr":
            adata.write_zarr(new)
        else:
            adata.write_h5ad(new)
