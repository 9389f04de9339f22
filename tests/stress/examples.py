"""Small fitted models of every sort, and all that can be seen of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scbatchnorm import BatchNormAutoencoder

if TYPE_CHECKING:
    from scbatchnorm._data.types import Floats, Labels

_BRIEF: dict[str, Any] = {
    "n_components": 8,
    "strength": 1.0,
    "n_hidden": 12,
    "n_epochs": 1,
    "min_steps": 6,
    "n_refreshes": 2,
    "progress": False,
}


def brief(**params: Any) -> BatchNormAutoencoder:
    """An estimator that trains for a moment, the network always in use."""
    return BatchNormAutoencoder(**(_BRIEF | params))


def expression(n_cells: int = 90, n_genes: int = 40) -> Floats:
    """Log-normalised expression of two cell types; the last third of the cells is shifted, each type by itself."""
    rng = np.random.default_rng(0)
    rate = np.where(np.arange(n_cells)[:, None] % 2 == np.arange(n_genes) % 2, 2.0, 0.5)
    rate[2 * n_cells // 3 :: 2, : n_genes // 3] += 4
    rate[2 * n_cells // 3 + 1 :: 2, 2 * n_genes // 3 :] += 4
    return np.log1p(rng.poisson(rate) * rng.uniform(0.8, 1.2, (n_cells, 1))).astype(np.float32)


def batches(names: list[Any], n_cells: int = 90) -> Labels:
    """The batch of each cell, an equal share of the cells each, one after the other."""
    levels = np.array(names) if len({type(name) for name in names}) == 1 else np.array(names, dtype=object)
    return levels[np.arange(n_cells) * len(names) // n_cells]


def _partly_shifted(n_cells: int = 300) -> tuple[Floats, np.ndarray]:
    """Coordinates of cells of four types, of which one is displaced in the second batch."""
    rng = np.random.default_rng(0)
    kind, batch = rng.integers(4, size=n_cells), rng.integers(2, size=n_cells)
    points = rng.normal(0, 2, (4, 10))[kind] + rng.normal(0, 0.6, (n_cells, 10))
    points[:, 3] += 1.5 * ((kind == 1) & (batch == 1))
    return points.astype(np.float32), batch


#: Names of the models of `fit_models`.
MODELS = ("strength 0", "network", "by state", "per batch", "identity", "shift")


def fit_models() -> dict[str, tuple[BatchNormAutoencoder, Floats, Labels]]:
    """Models by what is special about them, each with some cells and their batches to embed."""
    X, words = expression(), batches(["a", "b", "c"])
    named = pd.DataFrame(X, columns=[f"gene {i}" for i in range(X.shape[1])])
    points, halves = _partly_shifted()
    numbers, mixed = batches([10, 20, 30]), batches([1, "1", 2.5])
    models: dict[str, tuple[BatchNormAutoencoder, Any, Labels]] = {
        "strength 0": (brief(strength=0).fit(X, words), X, words),
        "network": (brief(n_latent=5).fit(named, words), named, words),
        "by state": (brief(stem="identity", strength="auto").fit(points, halves), points, halves),
        "per batch": (brief(statistics="per_batch", minibatch_size=48).fit(X, numbers), X, numbers),
        "identity": (brief(stem="identity", strength=0.5, norm="layer").fit(X[:, :6], words), X[:, :6], words),
        "shift": (brief(norm="switchable", record_shift=True).fit(X, mixed), X, mixed),
    }
    return {name: (model, X[::5], batch[::5]) for name, (model, X, batch) in models.items()}


def portrait(model: BatchNormAutoencoder, X: Floats, batch: Labels) -> dict[str, Any]:
    """Everything that can be seen of a model, the embedding of the cells `X` of these batches included."""
    embedding = model.transform(X, batch)
    return {
        "params": repr(sorted(model.get_params(deep=False).items())),
        "fingerprint": model.fingerprint(),
        "features": (model.features_.tolist(), model.n_features_in_, list(getattr(model, "feature_names_in_", []))),
        "batches": repr(model.batches_.tolist()),
        "strength": repr((model.strength_.value, model.strength_.evidence, model.strength_.reason)),
        "history": _text(model.history_),
        "shift_history": _text(model.shift_history_),
        "calibration": repr(sorted(model.calibration_.items())),
        "stopped": model.stopped_,
        "reference": model.reference_.fingerprint(),
        "embedding": embedding.tobytes(),
        "inverse": model.inverse_transform(embedding, batch).tobytes(),
        "inverse of all": model.inverse_transform(embedding).tobytes(),
    }


def _text(frame: pd.DataFrame) -> str:
    return f"{frame.dtypes.to_dict()}\n{frame.to_csv()}"


def differences(portrait: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Names of what two portraits do not have in common."""
    return [name for name in portrait if portrait[name] != other[name]]
