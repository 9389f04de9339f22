"""The estimator: its parameters, and what they mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from scbatchnorm._data.batches import Batches
from scbatchnorm._method.fit import FittingAutoencoder

if TYPE_CHECKING:
    import os
    from typing import Self

    import numpy as np
    import torch
    from numpy.typing import ArrayLike
    from sklearn.utils import Tags

    from scbatchnorm._data.types import Floats
    from scbatchnorm._method.training.minibatches import Composition
    from scbatchnorm.nn.network import AdversaryNorm, NetworkStatistics, Norm


class BatchNormAutoencoder(FittingAutoencoder):
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
        Steps of training: `n_epochs` passes over the cells, but at least `min_steps` and at most `max_steps`.
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
        blocks = self._start(X)
        batches = Batches.from_values(y if batch is None else batch, blocks.shape[0])
        self._fit(blocks, batches.codes, batches.levels)
        return self

    def fit_transform(self, X: ArrayLike, y: ArrayLike | None = None, *, batch: ArrayLike | None = None) -> Floats:
        """Fit to `X` and `batch`, and return their embedding; see `fit` and `transform`."""
        blocks = self._start(X)
        batches = Batches.from_values(y if batch is None else batch, blocks.shape[0])
        return self._embed(self._fit(blocks, batches.codes, batches.levels), batches.codes)
