"""The estimator: stem, dial, offsets and network put together, over arrays."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from scbatchnorm import _anchors, _batches, _device, _history, _io, _parameters, _stem, _strength, _training
from scbatchnorm.nn.normalization import recalibrate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    import torch
    from anndata import AnnData
    from numpy.typing import ArrayLike
    from sklearn.utils import Tags

    from scbatchnorm._minibatch import Composition
    from scbatchnorm._typing import Codes, Floats, Matrix
    from scbatchnorm.nn.network import Autoencoder, Normalization

logger = logging.getLogger(__name__)


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
        How much of the correction is applied, from 0 (none) to 1 (all). `"auto"` decides by the data: 0 where
        neighbouring cells of different batches differ in no common direction.
    n_hidden, n_layers
        Width and number of the hidden layers of encoder and decoder.
    normalization
        Layer before each activation: `"batch"`, `"layer"` or `"none"`.
    minibatch_size
        Cells per step.
    minibatches
        `"mixed"`: every minibatch holds every batch, in proportion. `"shuffled"`: random. `"single"`: one batch each.
    n_epochs, min_steps, max_steps
        Steps of training: `n_epochs` passes over the cells, but at least `min_steps` and at most `max_steps`.
    learning_rate, weight_decay
        Peak of the one-cycle schedule, and decoupled decay of the weight matrices (AdamW).
    offsets
        Whether batches are moved onto each other by their anchors before training.
    anchor_weight, adversary_weight
        Weights of the anchor displacement and of the discriminator, beside reconstruction with weight 1; 0 leaves one out.
        Where batches are mixed already the discriminator has less of its weight.
    n_neighbors
        Nearest neighbours that make two cells of different batches anchors if mutual.
    n_refreshes
        How often anchors are found anew, in the latent space of that moment.
    rng
        Seed or generator. The same seed gives bitwise the same result on the same machine with the same number of threads.
    device
        `"auto"`: CUDA where there is one, else the CPU. Any torch device otherwise.
    progress
        Progress bar: `None` shows it in terminals and notebooks, not in logs.

    Attributes
    ----------
    batches_
        Names of the batches, in order of appearance, shape (batches,).
    strength_
        The strength applied, the evidence for it, and the reason in words.
    history_
        Losses, one row per epoch.
    stopped_
        Why training ended: `"completed"`, `"converged"`, `"interrupted"`, `"diverged"`, or `"not trained"`.
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
        normalization: Normalization = "batch",
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
        n_neighbors: int = 5,
        n_refreshes: int = 10,
        rng: int | np.random.Generator | None = 0,
        device: str | torch.device = "auto",
        progress: bool | None = None,
    ) -> None:
        self.n_components = n_components
        self.n_latent = n_latent
        self.stem = stem
        self.strength = strength
        self.n_hidden = n_hidden
        self.n_layers = n_layers
        self.normalization = normalization
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
        self.n_neighbors = n_neighbors
        self.n_refreshes = n_refreshes
        self.rng = rng
        self.device = device
        self.progress = progress

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def fit(self, X: ArrayLike, batch: ArrayLike | None = None) -> Self:
        """Learn the harmonised space.

        Parameters
        ----------
        X
            Log-normalised expression, or a representation with `stem="identity"`; dense or sparse, (cells, features).
        batch
            Batch of each cell, shape (cells,): any values that can be told apart. `None`: all cells are one batch.

        Raises
        ------
        ValueError
            A parameter, X or `batch` is not what it must be; the message names it.
        """
        _parameters.check(self)
        device = _device.resolve_device(self.device)
        matrix: Matrix = validate_data(
            self, X, accept_sparse="csr", dtype=np.float32, ensure_min_samples=2, ensure_min_features=2
        )
        codes, self.batches_ = _batches.factorize(batch, matrix.shape[0])
        self.features_ = getattr(self, "feature_names_in_", np.array([f"x{i}" for i in range(matrix.shape[1])]))
        rng = np.random.default_rng(self.rng)
        plain, leading = _stem.fit(matrix, self.stem, self.n_components, self.n_latent, rng)
        points = leading.encode(matrix)
        self.strength_ = self._choose_strength(points, codes, rng)
        logger.info("strength %.2f: %s", self.strength_.value, self.strength_.reason)
        self.stem_ = leading if self.strength_.value > 0 else plain
        self.offsets_ = np.zeros((len(self.batches_), self.stem_.components.shape[1]), dtype=np.float32)
        self.network_: Autoencoder | None = None
        self.history_ = _history.empty_history()
        self.stopped_ = "not trained"
        if self.strength_.value > 0:
            if self.offsets:
                self.offsets_ = self._find_offsets(matrix, points, codes, rng)
            self._train(points - self.offsets_[codes], codes, rng, device)
        return self

    def fit_transform(self, X: ArrayLike, batch: ArrayLike | None = None) -> Floats:
        """Fit to `X` and `batch`, and return their embedding; see `fit` and `transform`."""
        return self.fit(X, batch).transform(X, batch)

    def transform(self, X: ArrayLike, batch: ArrayLike | None = None) -> Floats:
        """Embedding of cells, float32 of shape (cells, components), in units of principal component scores.

        A cell's embedding depends on nothing but the model, the cell and its batch.

        Parameters
        ----------
        X
            Cells with the features of the fit, dense or sparse, (cells, features).
        batch
            Batch of each cell, shape (cells,), each one a batch of the fit. May be `None` if the fit had only one.
        """
        check_is_fitted(self)
        matrix: Matrix = validate_data(self, X, accept_sparse="csr", dtype=np.float32, reset=False)
        codes = _batches.codes(batch, self.batches_, matrix.shape[0])
        points = self.stem_.encode(matrix)
        if self.network_ is not None:
            latent = _device.run(self.network_, self.network_.encode, points - self.offsets_[codes], codes)
            points = points + np.float32(self.strength_.value) * (latent - points)
        return self.stem_.embed(points)

    def inverse_transform(self, Z: ArrayLike, batch: ArrayLike | None = None) -> Floats:
        """Features (log-normalised expression) of points of the embedding, float32 of shape (cells, features).

        Parameters
        ----------
        Z
            Embedding, shape (cells, components).
        batch
            Batch in which each cell is to be seen, shape (cells,). `None`: the average over all batches.
        """
        check_is_fitted(self)
        points = self.stem_.unembed(self._embedding(Z))
        if batch is not None or len(self.batches_) == 1:
            return self.stem_.decode(self._decode(points, _batches.codes(batch, self.batches_, len(points))))
        seen = [self._decode(points, np.full(len(points), level)) for level in range(len(self.batches_))]
        return self.stem_.decode(np.mean(seen, axis=0, dtype=np.float32))

    @classmethod
    def from_anndata(cls, adata: AnnData, *, key: str = "scbatchnorm") -> Self:
        """The model that `pp.integrate` left in `adata.uns[key]`, bit for bit; no file is read and no code run.

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
        return _io.from_record(cls, adata.uns[key], where=f"adata.uns[{key!r}]")

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

    def _choose_strength(self, points: Floats, codes: Codes, rng: np.random.Generator) -> _strength.Strength:
        if len(self.batches_) == 1:
            return _strength.Strength(0.0, float("nan"), "there is only one batch")
        if self.strength == "auto":
            return _strength.choose(points, codes, rng)
        return _strength.Strength(float(self.strength), float("nan"), "set by the caller")

    def _find_offsets(self, X: Matrix, points: Floats, codes: Codes, rng: np.random.Generator) -> Floats:
        """Offset of each batch, shape (batches, components), from a sketch of the cells."""
        rows = _anchors.sketch(codes, _anchors.per_batch(len(self.batches_)), rng)
        scores = _stem.batchwise_scores(X[rows], codes[rows], points.shape[1], rng)
        return _anchors.align(points[rows], scores, codes[rows], self.n_neighbors, rng)

    def _train(self, points: Floats, codes: Codes, rng: np.random.Generator, device: torch.device) -> None:
        trained = _training.train(
            points, codes, _training.Settings.of(self), rng, device=device, progress=self.progress
        )
        self.network_, self.history_, self.stopped_ = trained.network, trained.history, trained.stopped
        network = self.network_
        recalibrate(network, lambda: _device.run(network, network.reconstruct, points, codes))
        network.cpu()

    def _decode(self, points: Floats, codes: Codes) -> Floats:
        """Components before the offsets were taken off, as seen in the batches `codes`; blended like the embedding."""
        if self.network_ is None:
            return points
        seen = _device.run(self.network_, self.network_.decode, points, codes) + self.offsets_[codes]
        return points + np.float32(self.strength_.value) * (seen - points)
