"""The reference that new cells are mapped onto: its model, and where its labelled cells are."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
from anndata import AnnData
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from scbatchnorm._data.adata import read_column
from scbatchnorm._data.batches import Batches
from scbatchnorm._data.checks import join_names
from scbatchnorm._estimator import BatchNormAutoencoder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from scbatchnorm._data.adata import Keys
    from scbatchnorm._data.types import Codes, Floats, Labels
    from scbatchnorm._method.fitted import FittedModel

_SUFFIXES = (".h5ad", ".zarr")


@dataclass(frozen=True)
class Labelled:
    """Reference cells that have a label."""

    points: Floats  # (cells, components) corrected components
    codes: Codes  # (cells,)
    names: Labels  # (labels,)


@dataclass(frozen=True)
class Reference:
    """What mapping needs of a reference."""

    model: FittedModel
    use_rep: str | None = None  # that was integrated
    labels: dict[str, Labelled] = field(default_factory=dict)


def read(
    reference: AnnData | BatchNormAutoencoder | str | Path, keys: Keys, label_keys: str | Sequence[str]
) -> Reference:
    """The model of `reference`, and its labels in the columns `label_keys`.

    Raises
    ------
    KeyError
        It is not integrated, or has no such columns.
    ValueError
        It is an estimator that is not fitted, or of which labels are wanted; or its record or file is not a whole model.
    TypeError
        It is something else.
    """
    label_keys = [label_keys] if isinstance(label_keys, str) else list(label_keys)
    if isinstance(reference, str | Path):
        reference = _from_file(Path(reference), keys)
    if isinstance(reference, AnnData):
        return _of_anndata(reference, keys, label_keys)
    if not isinstance(reference, BatchNormAutoencoder):
        msg = f"reference must be an integrated AnnData, a fitted BatchNormAutoencoder, or the path of the file of either; got {type(reference).__name__}."
        raise TypeError(msg)
    try:
        check_is_fitted(reference)
    except NotFittedError as error:
        msg = "reference must be fitted: it is a BatchNormAutoencoder that has seen no cells."
        raise ValueError(msg) from error
    if label_keys:
        msg = f"label_keys={label_keys!r} needs the cells of the reference, which a model alone does not have: give the integrated AnnData or its file as reference."
        raise ValueError(msg)
    return Reference(reference.fitted_)


def _of_anndata(reference: AnnData, keys: Keys, label_keys: list[str]) -> Reference:
    if keys.uns not in reference.uns:
        available = join_names(reference.uns) or "none"
        msg = f"reference has no integration {keys.uns!r} in uns; keys: {available}. Run pp.integrate on it first, or name its integration: key=..."
        raise KeyError(msg)
    model = BatchNormAutoencoder.from_anndata(reference, key=keys.uns).fitted_
    labels: dict[str, Labelled] = {}
    if label_keys:
        points = _places(reference, keys, model)
        labels = {label_key: _labelled(reference, label_key, points) for label_key in label_keys}
    return Reference(model, reference.uns[keys.uns].get("use_rep"), labels)


def _places(reference: AnnData, keys: Keys, model: FittedModel) -> Floats:
    """Corrected components of all cells, from the embedding."""
    if keys.obsm not in reference.obsm:
        available = join_names(reference.obsm) or "none"
        msg = (
            f"reference must have its embedding in obsm[{keys.obsm!r}] for labels to be transferred; keys: {available}."
        )
        raise KeyError(msg)
    embedding = np.asarray(reference.obsm[keys.obsm], dtype=np.float32)
    n_components = model.n_components
    if embedding.ndim != 2 or embedding.shape[1] != n_components or not np.isfinite(embedding).all():
        msg = f"reference.obsm[{keys.obsm!r}] must be the embedding that its model gives, {n_components} components, all finite; got shape {embedding.shape}."
        raise ValueError(msg)
    return model.stem.unembed(embedding)


def _labelled(reference: AnnData, label_key: str, points: Floats) -> Labelled:
    if label_key not in reference.obs:
        available = join_names(reference.obs.columns) or "none"
        msg = f"label_keys: {label_key!r} is not a column of reference.obs; columns: {available}."
        raise KeyError(msg)
    values = read_column(reference, "label_keys", label_key)
    given = values.notna().to_numpy()
    if not given.any():
        msg = f"label_keys: reference.obs[{label_key!r}] must have a value for at least one cell; all are missing."
        raise ValueError(msg)
    labels = Batches.from_column(values[given]).sorted_by_name()
    return Labelled(points[given], labels.codes, labels.levels)


def _from_file(path: Path, keys: Keys) -> AnnData | BatchNormAutoencoder:
    """A saved model, or the annotation, embedding and record in a file of cells; expression is left where it is."""
    if not path.exists():
        msg = f"reference does not exist: {path}."
        raise FileNotFoundError(msg)
    if path.suffix not in _SUFFIXES:
        return BatchNormAutoencoder.load(path)
    with _opened(path) as file:
        obs = ad.io.read_elem(file["obs"])
        found = {
            slot: {key: ad.io.read_elem(file[slot][key])}
            for slot, key in (("obsm", keys.obsm), ("uns", keys.uns))
            if slot in file and key in file[slot]
        }
    return AnnData(obs=obs, **found)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The root of a file."""
    try:
        if path.suffix == ".zarr":
            import zarr

            yield zarr.open_group(path, mode="r")
        else:
            import h5py

            with h5py.File(path, "r") as file:
                yield file
    except (OSError, KeyError) as error:
        msg = f"reference cannot be read: {path} ({error})."
        raise OSError(msg) from error
