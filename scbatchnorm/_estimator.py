"""The estimator: its parameters, what they mean, and scikit-learn's methods over arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import _check_n_features, check_array, check_is_fitted, validate_data

from scbatchnorm._data.adata import to_memory
from scbatchnorm._data.batches import Batches, encode_batches
from scbatchnorm._data.blocks import Blocks, InMemory
from scbatchnorm._data.dask_blocks import DaskBlocks, is_lazy
from scbatchnorm._data.matrix import as_features
from scbatchnorm._method.fit import fit
from scbatchnorm._method.parameters import FitParameters, check_parameters
from scbatchnorm._persistence.checkpoint import FileCheckpoint
from scbatchnorm._persistence.file import load_model, save_model
from scbatchnorm._persistence.restore import from_record
from scbatchnorm._runtime.device import resolve_device
from scbatchnorm._runtime.errors import TrainingDivergedError

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from typing import Self

    import pandas as pd
    import torch
    from anndata import AnnData
    from numpy.typing import ArrayLike
    from sklearn.utils import Tags

    from scbatchnorm._data.types import Floats, Labels, Matrix
    from scbatchnorm._method.fitted import FittedModel
    from scbatchnorm._method.reference import ReferenceCells
    from scbatchnorm._method.stem import Stem
    from scbatchnorm._method.strength import Strength
    from scbatchnorm._method.training.minibatches import Composition
    from scbatchnorm.nn.network import AdversaryNorm, Autoencoder, NetworkStatistics, Norm


Estimator = TypeVar("Estimator", bound="BatchNormAutoencoder")


class BatchNormAutoencoder(TransformerMixin, BaseEstimator):
    """Autoencoder that harmonises batches, with BatchNorm over minibatches that mix them all.

    A linear stem (principal components) is followed by a residual network. Between them batches are moved onto each
    other by the median displacement of their anchors (mutual nearest neighbours); the network learns what is left, from
    three losses: reconstruction, displacement of anchors, and a discriminator that tries to tell batches apart, two at
    a time and only where they share cell states.

    Parameters
    ----------
    n_components
        Principal components, and dimensions of an embedding that is not corrected; fewer where cells or features do not suffice.
    n_latent
        Leading components that are corrected, and dimensions of a corrected embedding: the others hide anchors in noise.
        Not with `stem="identity"`, which keeps its columns.
    stem
        `"pca"`: X is log-normalised expression. `"identity"`: X is a representation already and is used as it is.
    strength
        How much of the correction is applied, from 0 (none) to 1 (all). `"auto"` decides by the data, state by state: 0 where neighbouring
        cells of different batches differ no more in a common direction than random halves of one batch do.
    n_hidden, n_layers
        Width and number of the hidden layers of encoder and decoder.
    norm
        Layer before each activation. With statistics of minibatches: `"batch"`, `"switchable"` (learned mixture with layer and instance
        statistics), `"batch_layer"` (leans to layer statistics in small minibatches), `"whitened"` (decorrelates). Of each
        cell alone: `"layer"`, `"group"`, `"instance"`. `"none"`. See `scbatchnorm.nn`.
    statistics
        Whose statistics `norm="batch"` uses: `"mixed"` or `"per_batch"`; see `nn.MixedBatchNorm`.
    dropout
        Share of hidden units left out at each step of training.
    minibatch_size
        Cells per step.
    minibatches
        `"mixed"`: every minibatch holds every batch, in proportion. `"shuffled"`: random. `"single"`: one batch each.
    n_epochs, min_steps, max_steps
        Steps of training: as many as `n_epochs` passes over all cells that are learned from take, but at least `min_steps` and at most `max_steps`.
    learning_rate, weight_decay
        Peak of the one-cycle schedule, and decoupled decay of the weight matrices (AdamW).
    offsets
        Whether batches are moved onto each other by their anchors before training.
    anchor_weight, adversary_weight
        Weights of the anchor displacement and of the discriminator, beside reconstruction with weight 1; 0 leaves one out.
        Where batches are mixed already the discriminator has less of its weight.
    adversary_norm
        Of the discriminator: `"layer"`, or `"spectral"` (bounded spectral norms). Never statistics of minibatches, which leak the answer.
    n_neighbors
        Nearest neighbours that make two cells of different batches anchors if mutual.
    n_refreshes
        How often anchors are found anew, in the latent space of that moment.
    max_cells_fit
        Cells that are learned from, beside the principal components, which are those of all cells: of more a sketch is drawn in which every
        batch and every region is represented. `None`: all cells. They are in memory, with their features.
    record_shift
        Whether to keep, at each refresh, how far batches are apart at each normalisation, and how far its input moved.
    rng
        Seed or generator. The same seed gives bitwise the same result on the same machine, whatever the number of threads.
    device
        `"auto"`: CUDA where there is one, else the CPU. Any torch device otherwise.
    progress
        Progress bar: `None` shows it in terminals and notebooks, not in logs.
    checkpoint
        File in which `fit` notes after each refresh how far it is. If it is killed, the same `fit` (same data, parameters and versions)
        goes on from there, and ends as if it had not been. It stays there afterwards, and is replaced by the next fit that names it.

    Attributes
    ----------
    batches_
        Names of the batches, in order of appearance, shape (batches,).
    strength_
        The strength applied, the evidence for it, and the reason in words.
    history_
        Losses, one row per epoch.
    shift_history_
        With `record_shift`: `covariate_shift` at the start of each refresh and at the end, with `step` and `drift`.
    calibration_
        Of which cells the frozen statistics are: `by` (`"fit"` or `"recalibrate"`), `n_cells`, `fingerprint_of_fit`.
    reference_
        Sketch of the cells of the fit that `tl.map_query` places new cells among: `points` before offsets, `codes` of batches, and
        how much of the expression of a batch that was held out stays `unexplained`.
    stopped_
        Why training ended: `"completed"`, `"converged"`, `"interrupted"`, `"diverged"`, or `"not trained"`.
    fitted_
        All that was learned, the weights included, as one frozen value.
    features_
        Names of the features: the genes that `pp.integrate` used, the columns of a DataFrame, or x0, x1, ...
    n_features_in_
        Number of features of X.

    Examples
    --------
    >>> import numpy as np, scbatchnorm as sbn
    >>> rng = np.random.default_rng(0)
    >>> X = rng.gamma(1.0, size=(200, 30)).astype("float32")
    >>> batch = np.repeat(["monday", "friday"], 100)
    >>> X[100:] += 1
    >>> model = sbn.BatchNormAutoencoder(n_components=10, min_steps=50).fit(X, batch)
    >>> model.transform(X, batch).shape
    (200, 10)
    """

    def __init__(
        self,
        n_components: int = 50,
        *,
        n_latent: int = 30,
        stem: Literal["pca", "identity"] = "pca",
        strength: float | Literal["auto"] = "auto",
        n_hidden: int = 96,
        n_layers: int = 2,
        norm: Norm = "batch",
        statistics: NetworkStatistics = "mixed",
        dropout: float = 0.0,
        minibatch_size: int = 128,
        minibatches: Composition = "mixed",
        n_epochs: int = 10,
        min_steps: int = 800,
        max_steps: int = 2000,
        learning_rate: float = 4e-3,
        weight_decay: float = 1e-4,
        offsets: bool = True,
        anchor_weight: float = 1.0,
        adversary_weight: float = 3.0,
        adversary_norm: AdversaryNorm = "layer",
        n_neighbors: int = 5,
        n_refreshes: int = 10,
        max_cells_fit: int | None = 100_000,
        record_shift: bool = False,
        rng: int | np.random.Generator | None = 0,
        device: str | torch.device = "auto",
        progress: bool | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
    ) -> None:
        self.n_components = n_components
        self.n_latent = n_latent
        self.stem = stem
        self.strength = strength
        self.n_hidden = n_hidden
        self.n_layers = n_layers
        self.norm = norm
        self.statistics = statistics
        self.dropout = dropout
        self.minibatch_size = minibatch_size
        self.minibatches = minibatches
        self.n_epochs = n_epochs
        self.min_steps = min_steps
        self.max_steps = max_steps
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.offsets = offsets
        self.anchor_weight = anchor_weight
        self.adversary_weight = adversary_weight
        self.adversary_norm = adversary_norm
        self.n_neighbors = n_neighbors
        self.n_refreshes = n_refreshes
        self.max_cells_fit = max_cells_fit
        self.record_shift = record_shift
        self.rng = rng
        self.device = device
        self.progress = progress
        self.checkpoint = checkpoint

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def fit(self, X: ArrayLike, y: ArrayLike | None = None, *, batch: ArrayLike | None = None) -> Self:
        """Learn the harmonised space.

        Parameters
        ----------
        X
            Log-normalised expression, or a representation with `stem="identity"`; dense or sparse, (cells, features). A Dask array is read block
            by block, several times.
        y
            The batch, if `batch` is not given: `fit(X, batch)`. Otherwise not used: the labels of a later step of a pipeline.
        batch
            Batch of each cell, shape (cells,): any values that can be told apart. `None`: all cells are one batch.

        Raises
        ------
        ValueError
            A parameter, X or `batch` is not what it must be, values are not finite or beyond 1e12, or the checkpoint is of another fit; the
            message names it.
        TrainingDivergedError
            Losses were no longer finite. The model is fitted all the same, with the last good weights.
        """
        self._fit(X, y if batch is None else batch)
        return self

    def fit_transform(self, X: ArrayLike, y: ArrayLike | None = None, *, batch: ArrayLike | None = None) -> Floats:
        """Fit to `X` and `batch`, and return their embedding; see `fit` and `transform`."""
        products, batches = self._fit(X, y if batch is None else batch)
        return self.fitted_.embed(products, batches.codes)

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
        model = self._check_fitted()
        blocks = self._read(X)
        codes = encode_batches(batch, model.batches, blocks.shape[0])
        return model.embed(blocks.product(model.stem.components, what="embedding"), codes)

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
        model = self._check_fitted()
        embedding: Floats = check_array(Z, dtype=np.float32)
        if embedding.shape[1] != model.n_components:
            msg = f"Z must have the {model.n_components} components of the embedding; got {embedding.shape[1]}."
            raise ValueError(msg)
        points = model.stem.unembed(embedding)
        average = batch is None and len(model.batches) > 1
        return model.decode(points, None if average else encode_batches(batch, model.batches, len(points)))

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
        model = self._check_fitted()
        blocks = self._read(X)
        codes = encode_batches(batch, model.batches, blocks.shape[0])
        self._set_fitted(model.recalibrated(model.read_points(blocks), codes))
        return self

    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of the weights, the frozen statistics and the strength: all that decides an embedding.

        Two models with the same fingerprint embed alike. `calibration_["fingerprint_of_fit"]` is that of the fit.
        """
        return self._check_fitted().fingerprint()

    def get_feature_names_out(self, input_features: Sequence[str] | None = None) -> np.ndarray:
        """Names of the dimensions of the embedding; `input_features` is there for scikit-learn and ignored."""
        return np.array([f"scbatchnorm{i}" for i in range(self._check_fitted().n_components)], dtype=object)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the fitted model to one file, from which `load` gives it back bit for bit.

        The file is in the safetensors format: arrays, and a JSON header with parameters, names of features and batches, history,
        versions and a checksum. It holds no expression, but components of up to 16 000 cells of the fit, which
        `tl.map_query` places new cells among. Whatever happens while it is written, an existing file is whole, the old one or the new one.

        Parameters
        ----------
        path
            Where to write; any name, `.safetensors` is usual. Of a link, the file that it points at.
        overwrite
            Whether to replace a file that exists.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            There is nothing to save yet.
        FileExistsError
            The file exists, and `overwrite` is not set.
        OSError
            The folder does not exist or cannot be written to, the path is a folder, a device or a pipe, or the disk is full.

        Examples
        --------
        >>> import numpy as np, scbatchnorm as sbn
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> X = np.random.default_rng(0).gamma(1.0, size=(60, 10))
        >>> model = sbn.BatchNormAutoencoder(min_steps=20).fit(X, np.arange(60) % 2)
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, "model.safetensors")
        ...     model.save(path)
        ...     again = sbn.BatchNormAutoencoder.load(path)
        >>> again.fingerprint() == model.fingerprint()
        True
        """
        save_model(self._check_fitted(), self.get_params(deep=False), path, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """The model that `save` wrote. No code of the file is run, wherever it comes from.

        Names, sizes, types, values and checksum are checked before anything is used.

        Parameters
        ----------
        path
            File of this machine.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        ModelFileError
            It is no model, damaged, incomplete, or of a format that this version does not read; the message says which.

        Examples
        --------
        See `save`.
        """
        return _restore(cls, *load_model(path, _parameters(cls())))

    @classmethod
    def from_anndata(cls, adata: AnnData, *, key: str = "scbatchnorm") -> Self:
        """The model that `pp.integrate` left in `adata.uns[key]`, bit for bit; no file is read and no code run.

        Parameters
        ----------
        adata
            Annotated data, integrated.
        key
            The `key_added` of the integration.

        Raises
        ------
        KeyError
            `adata.uns` has no such key.
        ValueError
            What is there was not written by `pp.integrate`, or is not complete.
        """
        if key not in adata.uns:
            available = ", ".join(map(str, adata.uns)) or "none"
            msg = f"key={key!r} is not a key of adata.uns; keys: {available}. Run pp.integrate first."
            raise KeyError(msg)
        record, defaults = to_memory(adata.uns[key]), _parameters(cls())
        return _restore(cls, *from_record(record, defaults, where=f"adata.uns[{key!r}]"))

    def _fit(
        self, X: ArrayLike | Blocks, batch: ArrayLike | Batches | None, features: Labels | None = None
    ) -> tuple[Floats, Batches]:
        """Fit to cells, which are not checked again if they are `Blocks` with the names of their `features`.

        Returns their products with the components of the stem, (cells, components or more), and their batches.
        """
        params = _parameters(self)
        check_parameters(params, owner=type(self).__name__)
        device, rng = resolve_device(self.device), np.random.default_rng(self.rng)
        blocks = X if isinstance(X, Blocks) else self._read(X, fit=True)
        batches = batch if isinstance(batch, Batches) else Batches.from_values(batch, blocks.shape[0])
        self.n_features_in_ = blocks.shape[1]
        numbered = np.array([f"x{i}" for i in range(blocks.shape[1])])
        names: Labels = getattr(self, "feature_names_in_", numbered) if features is None else features
        checkpoint = None
        if self.checkpoint is not None:
            checkpoint = FileCheckpoint.open(self.checkpoint, params, blocks, batches, rng, device)
        result = fit(
            blocks,
            batches,
            names,
            FitParameters.from_params(params),
            rng=rng,
            device=device,
            progress=self.progress,
            checkpoint=checkpoint,
            named=hasattr(self, "feature_names_in_"),
        )
        self._set_fitted(result.model)
        if result.failure:
            raise TrainingDivergedError(result.failure, self)
        return result.products, batches

    def _set_fitted(self, model: FittedModel) -> None:
        """Hold what was learned: the one place where fitted attributes are set."""
        self.fitted_ = model
        self.batches_: Labels = model.batches
        self.features_: Labels = model.features
        self.stem_: Stem = model.stem
        self.strength_: Strength = model.strength
        self.offsets_: Floats = model.offsets
        self.network_: Autoencoder | None = model.network
        self.history_: pd.DataFrame = model.history
        self.shift_history_: pd.DataFrame = model.shift_history
        self.calibration_: dict[str, Any] = model.calibration
        self.reference_: ReferenceCells = model.reference
        self.stopped_: str = model.stopped

    def _check_fitted(self) -> FittedModel:
        """What was learned, or scikit-learn's NotFittedError."""
        check_is_fitted(self)
        return self.fitted_

    def _read(self, X: ArrayLike, *, fit: bool = False) -> Blocks:
        """`X` (cells, features) in blocks, checked; of a `fit` its features are those to remember."""
        if is_lazy(X):
            _check_n_features(self, X, reset=fit)
            return DaskBlocks(X, where="X", progress=self.progress)
        few = {"ensure_min_samples": 2, "ensure_min_features": 2} if fit else {}
        matrix: Matrix = validate_data(self, X, accept_sparse="csr", dtype=np.float32, reset=fit, **few)
        return InMemory(as_features(matrix, self.stem, where="X"))


def _parameters(estimator: BatchNormAutoencoder) -> dict[str, Any]:
    """All parameters of an estimator, those included that a subclass sets and does not take."""
    return {name: getattr(estimator, name) for name in BatchNormAutoencoder._get_param_names()}


def _restore(cls: type[Estimator], params: dict[str, Any], model: FittedModel) -> Estimator:
    """An estimator with these parameters that holds a fitted model."""
    estimator = cls(**{name: params[name] for name in cls._get_param_names()})
    estimator.n_features_in_ = len(model.features)
    if model.named:
        estimator.feature_names_in_ = model.features.astype(object)
    estimator._set_fitted(model)
    return estimator
