"""What a fitted model does: embed, invert, be looked at, be calibrated anew."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import _check_n_features, check_array, check_is_fitted, validate_data

from scbatchnorm._data.adata import read_like_fit
from scbatchnorm._data.batches import encode_batches
from scbatchnorm._data.blocks import Blocks, InMemory
from scbatchnorm._data.dask_blocks import DaskBlocks, is_lazy
from scbatchnorm._data.matrix import as_features
from scbatchnorm._method.calibration import calibrate_statistics, has_statistics
from scbatchnorm._persistence import record as _record
from scbatchnorm._runtime.device import run_network
from scbatchnorm.nn._moments import Moments
from scbatchnorm.nn.folding import fold_batchnorm
from scbatchnorm.nn.inspection import encoder_bound, shift_table, snapshot

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    import pandas as pd
    from anndata import AnnData
    from numpy.typing import ArrayLike

    from scbatchnorm._data.types import Codes, Floats, Labels, Matrix
    from scbatchnorm._method.reference import ReferenceCells
    from scbatchnorm._method.stem import Stem
    from scbatchnorm._method.strength import Strength
    from scbatchnorm.nn.network import Autoencoder

# Cells that are embedded at once; no result depends on it.
_ROWS = 65_536


class FittedAutoencoder(TransformerMixin, BaseEstimator):
    """The part of `BatchNormAutoencoder` that uses what `fit` has set and no hyperparameter of training."""

    n_neighbors: int
    stem: str
    progress: bool | None
    rng: int | np.random.Generator | None
    batches_: Labels
    features_: Labels
    stem_: Stem
    strength_: Strength
    offsets_: Floats
    network_: Autoencoder | None
    history_: pd.DataFrame
    shift_history_: pd.DataFrame
    calibration_: dict[str, Any]
    reference_: ReferenceCells
    stopped_: str

    def transform(self, X: ArrayLike, batch: ArrayLike | None = None) -> Floats:
        """Embedding of cells, float32 of shape (cells, components), in units of principal component scores.

        A cell's embedding depends on nothing but the model, the cell and its batch.

        Parameters
        ----------
        X
            Cells with the features of the fit, dense or sparse, (cells, features).
        batch
            Batch of each cell, shape (cells,), each one a batch of the fit. May be `None` if the fit had only one.

        Raises
        ------
        ValueError
            X has other features, values that are not finite, or cells farther from those of the fit than 1e12 times their spread; `batch`
            names one that the fit did not have.
        """
        check_is_fitted(self)
        blocks = self._blocks(X)
        codes = encode_batches(batch, self.batches_, blocks.shape[0])
        return self._embed(blocks.product(self.stem_.components, what="embedding"), codes)

    def inverse_transform(self, Z: ArrayLike, batch: ArrayLike | None = None) -> Floats:
        """Features (log-normalised expression) of points of the embedding, float32 of shape (cells, features).

        Parameters
        ----------
        Z
            Embedding, shape (cells, components).
        batch
            Batch in which each cell is to be seen, shape (cells,). `None`: the average over all batches.

        Raises
        ------
        ValueError
            `Z` has another number of components, or values that are not finite or out of range as in `transform`; `batch` names one that
            the fit did not have.
        """
        check_is_fitted(self)
        points = self.stem_.unembed(self._embedding(Z))
        if batch is not None or len(self.batches_) == 1:
            codes = encode_batches(batch, self.batches_, len(points))
            return self.stem_.decode(self._decode(points, codes, self._folded(), self._strength_of(points)))
        network, strength = self._folded(), self._strength_of(points)
        levels = range(len(self.batches_))
        seen = [self._decode(points, np.full(len(points), level), network, strength) for level in levels]
        return self.stem_.decode(np.mean(seen, axis=0, dtype=np.float32))

    def recalibrate(self, X: ArrayLike, batch: ArrayLike | None = None) -> Self:
        """Set the frozen statistics of all normalisation layers to those of these cells; weights and offsets stay.

        For cells of known batches whose composition or depth differs from that of the fit. Batches without cells here keep
        their own statistics where these are per batch. `fingerprint` changes, `calibration_` says what was done.

        Parameters
        ----------
        X
            Cells with the features of the fit, dense or sparse, (cells, features): many, for their statistics replace those of the fit.
        batch
            Batch of each cell, shape (cells,), each one a batch of the fit. May be `None` if the fit had only one.

        Raises
        ------
        ValueError
            The model has nothing to recalibrate, or X and `batch` do not fit it. It is then unchanged.
        """
        points, codes = self._network_input(X, batch)
        network = copy.deepcopy(self._network("recalibrate"))
        if not has_statistics(network):
            msg = "recalibrate needs layers with statistics of cells; the norm of this model looks at each cell alone."
            raise ValueError(msg)
        if len(points) < 2:
            msg = f"X must have at least 2 cells to take statistics of; got {len(points)}."
            raise ValueError(msg)
        calibrate_statistics(network, points, codes)
        self.network_ = network
        self.calibration_ = self.calibration_ | {"by": "recalibrate", "n_cells": len(points)}
        return self

    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of the weights, the frozen statistics and the strength: all that decides an embedding.

        Two models with the same fingerprint embed alike. `calibration_["fingerprint_of_fit"]` is that of the fit.
        """
        check_is_fitted(self)
        return _record.fingerprint(self)

    def get_feature_names_out(self, input_features: Sequence[str] | None = None) -> np.ndarray:
        """Names of the dimensions of the embedding; `input_features` is there for scikit-learn and ignored."""
        check_is_fitted(self)
        return np.array([f"scbatchnorm{i}" for i in range(self.stem_.components.shape[1])], dtype=object)

    def _embedding(self, Z: ArrayLike) -> Floats:
        """`Z` as float32 of shape (cells, components)."""
        embedding: Floats = check_array(Z, dtype=np.float32)
        n_components = self.stem_.components.shape[1]
        if embedding.shape[1] != n_components:
            msg = f"Z must have the {n_components} components of the embedding; got {embedding.shape[1]}."
            raise ValueError(msg)
        return embedding

    def _network(self, purpose: str) -> Autoencoder:
        """The network, or an error where nothing was trained."""
        check_is_fitted(self)
        if self.network_ is None:
            msg = f"{purpose} needs a network, and this model has none: strength is 0 ({self.strength_.reason})."
            raise ValueError(msg)
        return self.network_

    def _network_input(self, X: ArrayLike, batch: ArrayLike | None) -> tuple[Floats, Codes]:
        """What enters the network, shape (cells, components), and the batch codes of the cells."""
        points, codes = self._encode(X, batch)
        return points - self.offsets_[codes], codes

    def _encode(self, X: ArrayLike, batch: ArrayLike | None) -> tuple[Floats, Codes]:
        """Components of cells before the offsets are taken off, shape (cells, components), and their batch codes."""
        check_is_fitted(self)
        blocks = self._blocks(X)
        codes = encode_batches(batch, self.batches_, blocks.shape[0])
        return self.stem_.standardise(blocks.product(self.stem_.components, what="components")), codes

    def _blocks(self, X: ArrayLike | Blocks, *, fit: bool = False) -> Blocks:
        """`X` (cells, features) in blocks, checked; of a `fit` its features are those to remember."""
        if isinstance(X, Blocks):
            if fit:
                self.n_features_in_ = X.shape[1]
            return X
        if is_lazy(X):
            _check_n_features(self, X, reset=fit)
            return DaskBlocks(X, where="X", progress=self.progress)
        few = {"ensure_min_samples": 2, "ensure_min_features": 2} if fit else {}
        matrix: Matrix = validate_data(self, X, accept_sparse="csr", dtype=np.float32, reset=fit, **few)
        return InMemory(as_features(matrix, self.stem, where="X"))

    def _embed(self, products: Floats, codes: Codes) -> Floats:
        """Embedding of cells of the batches `codes` by their `products` with the components, in the memory that these take."""
        n_cells, width = len(products), self.stem_.components.shape[1]
        place = products.reshape(-1)
        for start in range(0, n_cells, _ROWS):
            rows = slice(start, min(start + _ROWS, n_cells))
            points = self.stem_.standardise(products[rows])
            # What is written here has been read: an embedding has no more columns than there are products.
            place[rows.start * width : rows.stop * width] = self.stem_.embed(self._latent(points, codes[rows])).ravel()
        del place
        products.resize((n_cells, width), refcheck=False)
        return products

    def _latent(self, points: Floats, codes: Codes) -> Floats:
        """Corrected components of the components `points` (cells, components) of cells of the batches `codes`."""
        network = self._folded()
        if network is None:
            return points
        latent = run_network(network, network.encode, points - self.offsets_[codes], codes)
        return points + self.strength_.at(points, codes) * (latent - points)

    def _folded(self) -> Autoencoder | None:
        """The network for inference, if there is one."""
        return None if self.network_ is None else fold_batchnorm(self.network_)

    def _covariate_shift(
        self, data: AnnData | ArrayLike, batch: ArrayLike | str | None, *, key: str | None
    ) -> pd.DataFrame:
        """See `nn.covariate_shift`."""
        network = self._network("covariate_shift")
        if hasattr(data, "obs_names"):
            data, batch = read_like_fit(cast("AnnData", data), self.features_, batch, key)
        points, codes = self._network_input(cast("ArrayLike", data), batch)
        names = [str(name) for name in self.batches_]
        device = next(network.parameters()).device
        x, batches = torch.from_numpy(points).to(device), torch.from_numpy(codes).to(device)
        found = snapshot(network, x, batches, len(names))
        whole = torch.from_numpy(points + self.offsets_[codes]).double()
        groups = torch.nn.functional.one_hot(torch.from_numpy(codes), len(names)).double()
        offsets = {
            ("offsets", "", "before"): Moments.of(whole, groups),
            ("offsets", "", "after"): Moments.of(torch.from_numpy(points).double(), groups),
        }
        return shift_table(offsets | found, names)

    def _lipschitz_bound(self) -> float:
        """See `nn.lipschitz_bound`."""
        check_is_fitted(self)
        if self.network_ is None:
            return 1.0
        return math.inf if self.strength_.states is not None else encoder_bound(self.network_, self.strength_.value)

    def _decode(self, points: Floats, codes: Codes, network: Autoencoder | None, strength: Floats) -> Floats:
        """Components before the offsets were taken off, as seen in the batches `codes`; blended like the embedding."""
        if network is None:
            return points
        seen = run_network(network, network.decode, points, codes) + self.offsets_[codes]
        return points + strength * (seen - points)

    def _strength_of(self, latent: Floats) -> Floats:
        """Strength of cells by where they are after correction, shape (cells, 1)."""
        states = self.strength_.states
        if states is None:
            return self.strength_.at(latent)
        moved = replace(states, points=self._latent(states.points, states.codes))
        return replace(self.strength_, states=moved).at(latent)
