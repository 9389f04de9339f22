"""What layers with a learned mixture have learned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
from torch import nn

from scbatchnorm.nn.mixtures import BatchLayerNorm, SwitchableNorm
from scbatchnorm.nn.normalization import MixedBatchNorm

if TYPE_CHECKING:
    from collections.abc import Iterator

_COLUMNS = ["layer", "norm", "of", "statistics", "share", "lowest", "highest"]


def learned_shares(model: Any) -> pd.DataFrame:
    """Share that each kind of statistics has in each layer that mixes several.

    Parameters
    ----------
    model
        A fitted `BatchNormAutoencoder` or any torch module, with `MixedBatchNorm(statistics="blend")`, `SwitchableNorm` or
        `BatchLayerNorm` in it (whose share is not learned but follows from the size of the minibatches).

    Returns
    -------
    DataFrame with one row for each layer and kind of statistics, none if there are no such layers:

    `layer`, `norm` : str
        Name of the layer in the module, and its class.
    `of` : str
        What is mixed: `"mean"`, `"variance"`, `"both"`, or `"result"` for results of two normalisations.
    `statistics` : str
        `"mixed"`, `"per_batch"`, `"batch"`, `"layer"` or `"instance"`.
    `share`, `lowest`, `highest` : float
        Mean over features, and the range: in [0, 1].

    Raises
    ------
    ValueError
        The estimator has no network, because nothing was corrected.

    Examples
    --------
    >>> from scbatchnorm.nn import MixedBatchNorm, learned_shares
    >>> learned_shares(MixedBatchNorm(3, 2, statistics="blend"))[["statistics", "share"]].values.tolist()
    [['mixed', 0.5], ['per_batch', 0.5]]
    """
    module = model if isinstance(model, nn.Module) else model._network("learned_shares")
    rows = [(name, type(layer).__name__, *row) for name, layer in module.named_modules() for row in _shares_of(layer)]
    return pd.DataFrame(rows, columns=_COLUMNS)


def _shares_of(layer: nn.Module) -> Iterator[tuple[str, str, float, float, float]]:
    """Rows of one layer, without its name."""
    if isinstance(layer, MixedBatchNorm) and layer.statistics == "blend":
        mixed = layer.mixed_share
        for name, share in (("mixed", mixed), ("per_batch", 1 - mixed)):
            yield "both", name, float(share.mean()), float(share.min()), float(share.max())
    elif isinstance(layer, SwitchableNorm):
        for of, shares in layer.shares.items():
            for name, one in shares.items():
                yield of, name, one, one, one
    elif isinstance(layer, BatchLayerNorm):
        batch = float(layer.batch_share)
        for name, one in (("batch", batch), ("layer", 1 - batch)):
            yield "result", name, one, one, one
