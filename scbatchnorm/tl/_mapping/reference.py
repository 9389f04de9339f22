"""The reference that a query is mapped onto: its model, and its labelled cells in the space of the model."""

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
class LabelledCells:
    """Reference cells that have a label."""

    points: Floats  # (cells, components) corrected components
    codes: Codes  # (cells,) label of each
    names: Labels  # (labels,)


@dataclass(frozen=True)
class Reference:
    """Model and labels of a reference."""

    model: FittedModel
    use_rep: str | None = None  # the representation that was integrated
    labels: dict[str, LabelledCells] = field(default_factory=dict)  # by column of `obs`


def read_reference(
    reference: AnnData | BatchNormAutoencoder | str | Path, keys: Keys, label_keys: str | Sequence[str]
) -> Reference:
    """Model of `reference`, which is integrated under `keys`, and its labels in the columns `label_keys`.

    Raises
    ------
    KeyError
        It is not integrated, or has no such columns.
    ValueError
        It is an estimator that is not fitted, or labels are wanted of an estimator; or its record or file is not a complete model.
    TypeError
        It is something else.
    """
    label_keys = [label_keys] if isinstance(label_keys, str) else list(label_keys)
    if isinstance(reference, str | Path):
        reference = _read_file(Path(reference), keys)
    if isinstance(reference, AnnData):
        return _read_integrated(reference, keys, label_keys)
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


def _read_integrated(reference: AnnData, keys: Keys, label_keys: list[str]) -> Reference:
    """Reference in an AnnData that `pp.integrate` has written to."""
    if keys.uns not in reference.uns:
        available = join_names(reference.uns) or "none"
        msg = f"reference has no integration {keys.uns!r} in uns; keys: {available}. Run pp.integrate on it first, or name its integration: key=..."
        raise KeyError(msg)
    model = BatchNormAutoencoder.from_anndata(reference, key=keys.uns).fitted_
    labels: dict[str, LabelledCells] = {}
    if label_keys:
        points = _corrected_components(reference, keys, model)
        labels = {label_key: _read_labels(reference, label_key, points) for label_key in label_keys}
    return Reference(model, reference.uns[keys.uns].get("use_rep"), labels)


def _corrected_components(reference: AnnData, keys: Keys, model: FittedModel) -> Floats:
    """Corrected components of all cells by their embedding, shape (cells, components)."""
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


def _read_labels(reference: AnnData, label_key: str, points: Floats) -> LabelledCells:
    """Cells with a value in the column `label_key`, of all cells at `points` (cells, components)."""
    if label_key not in reference.obs:
        available = join_names(reference.obs.columns) or "none"
        msg = f"label_keys: {label_key!r} is not a column of reference.obs; columns: {available}."
        raise KeyError(msg)
    values = read_column(reference, "label_keys", label_key)
    labelled = values.notna().to_numpy()
    if not labelled.any():
        msg = f"label_keys: reference.obs[{label_key!r}] must have a value for at least one cell; all are missing."
        raise ValueError(msg)
    labels = Batches.from_column(values[labelled]).sorted_by_name()
    return LabelledCells(points[labelled], labels.codes, labels.levels)


def _read_file(path: Path, keys: Keys) -> AnnData | BatchNormAutoencoder:
    """A saved model, or an AnnData with `obs`, embedding and record of a store of cells; expression is not read."""
    if not path.exists():
        msg = f"reference does not exist: {path}."
        raise FileNotFoundError(msg)
    if path.suffix not in _SUFFIXES:
        return BatchNormAutoencoder.load(path)
    with _open_store(path) as store:
        obs = ad.io.read_elem(store["obs"])
        entries = {
            slot: {key: ad.io.read_elem(store[slot][key])}
            for slot, key in (("obsm", keys.obsm), ("uns", keys.uns))
            if slot in store and key in store[slot]
        }
    return AnnData(obs=obs, **entries)


@contextlib.contextmanager
def _open_store(path: Path) -> Iterator[Any]:
    """The root group of a .zarr or .h5ad store, read only; what fails inside is an `OSError` that names the path."""
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
