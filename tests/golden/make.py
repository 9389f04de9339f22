"""Writes the golden files of this version: models as files and in AnnData, and what they do to some cells.

Once a version is released its files are never written again: later versions must read them. Run as
`python tests/golden/make.py`; it refuses to replace a folder.
"""

from __future__ import annotations

import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np

from scbatchnorm import BatchNormAutoencoder, pp

HERE = Path(__file__).parent
BRIEF: dict[str, Any] = {
    "n_components": 8,
    "strength": 1.0,
    "n_hidden": 16,
    "n_epochs": 1,
    "min_steps": 6,
    "n_refreshes": 2,
    "progress": False,
}
MODELS: dict[str, dict[str, Any]] = {
    "default": {},
    "strength_0": {"strength": 0.0},
    "deep": {"n_layers": 3, "n_latent": 5, "strength": 0.5, "record_shift": True},
    "per_batch": {"statistics": "per_batch", "minibatch_size": 48},
    "switchable": {"norm": "switchable"},
    "whitened": {"norm": "whitened", "dropout": 0.1},
    "layer": {"norm": "layer"},
    "none": {"norm": "none", "offsets": False},
    "identity": {"stem": "identity"},
}
# Names of batches of one kind, or of several.
NAMES: dict[str, list[Any]] = {
    "default": ["a", "b", "c"],
    "deep": [1, 2, 3],
    "per_batch": [True, "True", 1.5],
}


def cells() -> tuple[np.ndarray, np.ndarray]:
    """Expression of two types, and positions of the batches among their names."""
    rng = np.random.default_rng(0)
    codes = np.arange(90) % 3
    rate = (
        np.exp(0.5 * rng.normal(size=(2, 40)))[rng.integers(2, size=90)] * np.exp(0.5 * rng.normal(size=(3, 40)))[codes]
    )
    return np.log1p(rng.poisson(rate)).astype(np.float32) * np.float32(0.9), codes


def by_state() -> tuple[BatchNormAutoencoder, np.ndarray, np.ndarray]:
    """A model that corrects one of four states only, and its cells."""
    rng = np.random.default_rng(100)
    types, batch = rng.integers(4, size=1200), rng.integers(2, size=1200)
    points = (8 * np.eye(4, 10)[types] + rng.normal(size=(1200, 10))).astype(np.float32)
    points[:, 5] += 1.5 * ((types == 1) & (batch == 1))
    model = BatchNormAutoencoder(stem="identity", min_steps=12, n_refreshes=2, n_epochs=1, n_hidden=16, progress=False)
    model.fit(points, batch)
    if model.strength_.states is None:
        msg = f"these cells do not give a model by state any more: {model.strength_.reason}"
        raise RuntimeError(msg)
    return model, points[:60], batch[:60]


def batch_names(name: str, codes: np.ndarray) -> np.ndarray:
    names = np.empty(3, dtype=object)
    names[:] = NAMES.get(name, NAMES["default"])
    return names[codes]


def main() -> None:
    folder = HERE / version("scbatchnorm")
    folder.mkdir()
    X, codes = cells()
    expected: dict[str, np.ndarray] = {"X": X[::3], "codes": codes[::3]}
    for name, params in MODELS.items():
        batch = batch_names(name, codes)
        model = BatchNormAutoencoder(**(BRIEF | params)).fit(X, batch)
        model.save(folder / f"{name}.safetensors")
        expected[name] = model.transform(X[::3], batch[::3])
    model, points, batch = by_state()
    model.save(folder / "by_state.safetensors")
    expected |= {"points": points, "point_batch": batch, "by_state": model.transform(points, batch)}
    adata = ad.AnnData(X[::3], obs={"batch": batch_names("default", codes)[::3].astype(str)})
    adata.strings_to_categoricals()
    pp.integrate(adata, "batch", model=BatchNormAutoencoder(**BRIEF))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adata.write_h5ad(folder / "integrated.h5ad", compression="gzip")
    np.savez_compressed(folder / "expected.npz", **expected)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
