"""What a call has returned and written, as plain values that can be compared."""

from __future__ import annotations

import dataclasses
import hashlib
import pickle
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from scipy import sparse

from scbatchnorm import BatchNormAutoencoder

if TYPE_CHECKING:
    from collections.abc import Iterator

    import anndata as ad


def plain(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Arrays of numbers, and lists of everything else, by where they are."""
    if isinstance(value, Axes | Figure):
        value = drawn(value)
    elif isinstance(value, BatchNormAutoencoder):
        value = value.fingerprint()
    elif dataclasses.is_dataclass(value):
        value = vars(value)
    elif isinstance(value, pd.DataFrame):
        value = {"index": value.index.to_numpy()} | dict(value.items())
    elif sparse.issparse(value):
        value = value.toarray()
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from plain(entry, f"{name}.{key}")
    elif isinstance(value, list | tuple) and not all(isinstance(entry, str) for entry in value):
        for place, entry in enumerate(value):
            yield from plain(entry, f"{name}[{place}]")
    else:
        array = np.asarray(value)
        yield name, array.tolist() if array.dtype.kind not in "fiub" else array


def drawn(figure: Any) -> list[dict[str, Any]]:
    """What is on each axes of a picture."""
    figure = figure.figure
    return [
        {
            "texts": [text.get_text() for text in ax.findobj(Text)],
            "lines": [np.ma.filled(line.get_xydata().astype(float), np.nan) for line in ax.lines],
            "points": [np.ma.filled(found.get_offsets().astype(float), np.nan) for found in ax.collections],
            "colors": [found.get_facecolor() for found in ax.collections],
            "images": [np.ma.filled(image.get_array().astype(float), np.nan) for image in ax.images],
            "boxes": [patch.get_extents().bounds for patch in ax.patches],
        }
        for ax in figure.axes
    ]


def stored(adata: ad.AnnData) -> dict[str, str]:
    """Hashes of everything in `adata` as it is stored, by name: `X`, `obs['batch']`, `uns['scbatchnorm']`, ..."""
    parts: dict[str, Any] = {"X": adata.to_memory().X if adata.isbacked else adata.X}
    for slot in ("obs", "var", "layers", "obsm", "varm", "obsp", "varp", "uns"):
        parts |= {f"{slot}[{key!r}]": value for key, value in getattr(adata, slot).items() if key is not None}
    parts |= {"obs_names": adata.obs_names, "var_names": adata.var_names}
    if adata.raw is not None:
        parts |= {"raw.X": adata.raw.X, "raw.var": adata.raw.var}
    return {name: hashlib.sha256(pickle.dumps(bare(value))).hexdigest() for name, value in parts.items()}


def bare(value: Any) -> Any:
    """Bytes and words, for the same array may be pickled in several ways."""
    if sparse.issparse(value):
        arrays = value.coords if value.format == "coo" else (value.indices, value.indptr)
        return value.format, value.shape, *map(bare, (value.data, *arrays))
    if isinstance(value, pd.DataFrame):
        return bare(value.index), [(name, bare(column)) for name, column in value.items()]
    if isinstance(value, pd.Series | pd.Index):
        value = value.array
    if isinstance(value, pd.Categorical):
        return value.ordered, bare(value.categories), value.codes.tobytes()
    if isinstance(value, pd.api.extensions.ExtensionArray):
        return str(value.dtype), np.asarray(value, dtype=object).tolist()
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.dtype.str, value.shape, np.ma.getmaskarray(value).any(), np.asarray(value).tobytes()
    if isinstance(value, Mapping):
        return [(key, bare(entry)) for key, entry in value.items()]
    return value


def of(returned: Any, adata: ad.AnnData, slots: set[str]) -> dict[str, Any]:
    """What was `returned`, and what is in the `slots` of `adata`."""
    if hasattr(returned, "obs_names"):
        adata, returned = returned, None
    parts = {"": returned}
    for slot in slots:
        part, _, key = slot.partition("[")
        parts[slot] = getattr(adata, part)[key[1:-2]]
    return {name: value for slot, part in parts.items() for name, value in plain(part, slot)}


def same(found: dict[str, Any], expected: dict[str, Any], tolerance: float = 0) -> None:
    """Both are alike, numbers up to the `tolerance`."""
    assert set(found) == set(expected)
    for name, value in expected.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_allclose(found[name], value, atol=tolerance, rtol=0, err_msg=name)
        else:
            assert found[name] == value, name
