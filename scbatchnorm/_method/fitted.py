"""What a fit has learned, as a frozen value, and what can be computed with it."""

from __future__ import annotations

import copy
import hashlib
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from sklearn.utils.validation import check_array
from torch.nn import functional as F

from scbatchnorm._data.adata import read_like_fit
from scbatchnorm._data.batches import encode_batches
from scbatchnorm._data.blocks import Blocks, InMemory
from scbatchnorm._data.dask_blocks import DaskBlocks, is_lazy
from scbatchnorm._data.matrix import as_features
from scbatchnorm._method.calibration import calibrate_statistics, has_statistics
from scbatchnorm._method.reference import ReferenceCells
from scbatchnorm._method.training.history import empty_history, empty_shift_history
from scbatchnorm._runtime.device import run_network
from scbatchnorm.nn._moments import Moments
from scbatchnorm.nn.folding import fold_batchnorm
from scbatchnorm.nn.inspection import encoder_bound, shift_table, snapshot

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from numpy.typing import ArrayLike

    from scbatchnorm._data.plain import Arrays
    from scbatchnorm._data.types import Codes, Floats, Labels
    from scbatchnorm._method.stem import Stem
    from scbatchnorm._method.strength import Strength
    from scbatchnorm.nn.network import Autoencoder

#: How the arrays of the network, and those of a strength that differs between states, are called among the weights.
NETWORK = "network."
STATES = "strength."
#: Ending of a count of minibatches of the training; nothing depends on it afterwards.
UNUSED = "num_batches_tracked"
# Cells that are embedded at once; no result depends on it.
_ROWS = 65_536


@dataclass(frozen=True)
class LinearModel:
    """What is learned before the network: components, how much is corrected, and the offset of each batch."""

    stem: Stem
    strength: Strength
    offsets: Floats  # (batches, components)

    def weights(self) -> Arrays:
        """Copies of all arrays that decide what the model does."""
        arrays = {
            "stem.mean": self.stem.mean,
            "stem.components": self.stem.components,
            "stem.origin": self.stem.origin,
            "stem.scale": np.array([self.stem.scale]),
            "offsets": self.offsets,
        }
        if self.strength.states is not None:
            arrays |= {f"{STATES}{name}": value for name, value in vars(self.strength.states).items()}
        return {name: np.array(value) for name, value in arrays.items()}


@dataclass(frozen=True)
class FittedModel(LinearModel):
    """All that a fit has learned.

    Points are coordinates of components in units of their spread, shape (cells, components), before the offsets of the batches
    are taken off; corrected points are where the network moves them. An embedding is in the units of principal component scores.
    """

    network: Autoencoder | None  # None: nothing is corrected
    batches: Labels  # (batches,) in the order of their codes
    features: Labels  # (features,)
    stem_kind: Literal["pca", "identity"]
    n_neighbors: int  # that make two cells anchors, here as in the mapping of new cells
    named: bool = False  # whether the features were named by the columns of a DataFrame
    stopped: str = "not trained"
    history: pd.DataFrame = field(default_factory=empty_history)
    shift_history: pd.DataFrame = field(default_factory=empty_shift_history)
    reference: ReferenceCells = field(default_factory=ReferenceCells.none)
    calibration: dict[str, Any] = field(default_factory=dict)

    @property
    def n_components(self) -> int:
        """Dimensions of the embedding."""
        return self.stem.components.shape[1]

    def weights(self) -> Arrays:
        """Copies of all arrays that decide what the model does, frozen statistics included."""
        arrays = super().weights()
        if self.network is not None:
            # 0-d arrays come back from files as scalars, so every array has at least one dimension.
            state = self.network.state_dict()
            arrays |= {f"{NETWORK}{name}": np.atleast_1d(tensor.cpu().numpy()).copy() for name, tensor in state.items()}
        return arrays

    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of all that decides what the model does; see `weights`."""
        digest = hashlib.sha256(np.float64(self.strength.value).tobytes())
        for name, array in sorted(self.weights().items()):
            if not name.endswith(UNUSED):
                digest.update(f"{name} {array.dtype.newbyteorder('<').str} {array.shape}".encode())
                digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()

    def read_points(self, blocks: Blocks) -> Floats:
        """Points of the cells of `blocks` (cells, features), shape (cells, components)."""
        return self.stem.standardise(blocks.product(self.stem.components, what="components"))

    def embed(self, products: Floats, codes: Codes) -> Floats:
        """Embedding of cells of the batches `codes` by their `products` with the components, in the memory that these take."""
        n_cells, width = len(products), self.n_components
        flat = products.reshape(-1)
        for start in range(0, n_cells, _ROWS):
            rows = slice(start, min(start + _ROWS, n_cells))
            points = self.stem.standardise(products[rows])
            # What is written here has been read: an embedding has no more columns than there are products.
            flat[rows.start * width : rows.stop * width] = self.stem.embed(self.correct(points, codes[rows])).ravel()
        del flat
        products.resize((n_cells, width), refcheck=False)
        return products

    def correct(self, points: Floats, codes: Codes) -> Floats:
        """Corrected points of cells of the batches `codes`, shape (cells, components)."""
        if self.network is None:
            return points
        network = fold_batchnorm(self.network)
        latent = run_network(network, network.encode, points - self.offsets[codes], codes)
        return points + self.strength.at(points, codes) * (latent - points)

    def decode(self, corrected: Floats, codes: Codes | None) -> Floats:
        """Features of corrected points (cells, components) as seen in the batches `codes`; `None`: the average over all batches."""
        strength = self._strength_of_corrected(corrected)
        network = None if self.network is None else fold_batchnorm(self.network)
        if codes is not None:
            return self.stem.decode(self._decode_points(corrected, codes, network, strength))
        levels = range(len(self.batches))
        seen = [self._decode_points(corrected, np.full(len(corrected), level), network, strength) for level in levels]
        return self.stem.decode(np.mean(seen, axis=0, dtype=np.float32))

    def _decode_points(self, corrected: Floats, codes: Codes, network: Autoencoder | None, strength: Floats) -> Floats:
        """Points as seen in the batches `codes`, blended with the corrected ones by the strength; not an exact inverse of `correct`."""
        if network is None:
            return corrected
        seen = run_network(network, network.decode, corrected, codes) + self.offsets[codes]
        return corrected + strength * (seen - corrected)

    def _strength_of_corrected(self, corrected: Floats) -> Floats:
        """Strength of cells by where they are after correction, shape (cells, 1)."""
        states = self.strength.states
        if states is None:
            return self.strength.at(corrected)
        moved = replace(states, points=self.correct(states.points, states.codes))
        return replace(self.strength, states=moved).at(corrected)

    def require_network(self, purpose: str) -> Autoencoder:
        """The network, or a ValueError that says that `purpose` needs one where nothing was trained."""
        if self.network is None:
            msg = f"{purpose} needs a network, and this model has none: strength is 0 ({self.strength.reason})."
            raise ValueError(msg)
        return self.network

    def recalibrated(self, points: Floats, codes: Codes) -> FittedModel:
        """The model with the frozen statistics of the cells `points` of the batches `codes`; raises where there are none to set."""
        network = copy.deepcopy(self.require_network("recalibrate"))
        if not has_statistics(network):
            msg = "recalibrate needs layers with statistics of cells; the norm of this model looks at each cell alone."
            raise ValueError(msg)
        if len(points) < 2:
            msg = f"X must have at least 2 cells to take statistics of; got {len(points)}."
            raise ValueError(msg)
        calibrate_statistics(network, points - self.offsets[codes], codes)
        return replace(
            self, network=network, calibration=self.calibration | {"by": "recalibrate", "n_cells": len(points)}
        )

    def covariate_shift(
        self, data: AnnData | ArrayLike, batch: ArrayLike | str | None, *, key: str | None
    ) -> pd.DataFrame:
        """See `nn.covariate_shift`; the offsets are its first layer."""
        network = self.require_network("covariate_shift")
        if hasattr(data, "obs_names"):
            data, batch = read_like_fit(cast("AnnData", data), self.features, batch, key)
        blocks = self._as_blocks(data)
        points, codes = self.read_points(blocks), encode_batches(batch, self.batches, blocks.shape[0])
        names = [str(name) for name in self.batches]
        device = next(network.parameters()).device
        moved = points - self.offsets[codes]
        moments = snapshot(network, torch.from_numpy(moved).to(device), torch.from_numpy(codes).to(device), len(names))
        groups = F.one_hot(torch.from_numpy(codes), len(names)).double()
        # Summed up again: bit by bit what the network is given.
        before = torch.from_numpy(moved + self.offsets[codes]).double()
        offsets = {
            ("offsets", "", "before"): Moments.of(before, groups),
            ("offsets", "", "after"): Moments.of(torch.from_numpy(moved).double(), groups),
        }
        return shift_table(offsets | moments, names)

    def without_cells(self) -> FittedModel:
        """Copy without the cells of the reference and the histories: what correcting needs, and all that has to travel for it."""
        return replace(
            self, reference=ReferenceCells.none(), history=empty_history(), shift_history=empty_shift_history()
        )

    def lipschitz_bound(self) -> float:
        """See `nn.lipschitz_bound`."""
        if self.network is None:
            return 1.0
        return math.inf if self.strength.states is not None else encoder_bound(self.network, self.strength.value)

    def _as_blocks(self, X: Any) -> Blocks:
        """`X` (cells, features) in blocks, checked."""
        if not (isinstance(X, Blocks) or is_lazy(X)):
            X = as_features(check_array(X, accept_sparse="csr", dtype=np.float32), self.stem_kind, where="X")
        if X.shape[1] != len(self.features):
            msg = f"X must have the {len(self.features)} features of the model; got {X.shape[1]}."
            raise ValueError(msg)
        if isinstance(X, Blocks):
            return X
        return DaskBlocks(X, where="X") if is_lazy(X) else InMemory(X)
