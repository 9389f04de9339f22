"""What layers with a learned mixture have learned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
from torch import nn

from scbatchnorm.nn.inspection import _fitted
from scbatchnorm.nn.mixtures import BatchLayerNorm, SwitchableNorm

if TYPE_CHECKING:
    from collections.abc import Iterator

_COLUMNS = ["layer", "norm", "of", "statistics", "share"]


def learned_shares(model: Any) -> pd.DataFrame:
    """Share that each kind of statistics has in each layer that mixes several.

    Parameters
    ----------
    model
        A fitted `BatchNormAutoencoder` or any torch module, with `SwitchableNorm` or `BatchLayerNorm` in it (whose share is
        not learned but follows from the size of the minibatches).

    Returns
    -------
    DataFrame with one row for each layer and kind of statistics, none if there are no such layers:

    `layer`, `norm` : str
        Name of the layer in the module, and its class.
    `of` : str
        What is mixed: `"mean"`, `"variance"`, or `"result"` for results of two normalisations.
    `statistics` : str
        `"batch"`, `"layer"` or `"instance"`.
    `share` : float
        From 0 to 1; those of one `of` add up to 1.

    Raises
    ------
    ValueError
        The estimator has no network, because nothing was corrected.

    Examples
    --------
    >>> from scbatchnorm.nn import SwitchableNorm, learned_shares
    >>> learned_shares(SwitchableNorm(8)).round(2)[["of", "statistics", "share"]].values.tolist()[:2]
    [['mean', 'batch', 0.33], ['mean', 'layer', 0.33]]
    """
    module = model if isinstance(model, nn.Module) else _fitted(model).require_network("learned_shares")
    rows = [(name, type(layer).__name__, *row) for name, layer in module.named_modules() for row in _shares_of(layer)]
    return pd.DataFrame(rows, columns=_COLUMNS)


def _shares_of(layer: nn.Module) -> Iterator[tuple[str, str, float]]:
    """Rows of one layer, without its name."""
    if isinstance(layer, SwitchableNorm):
        for of, shares in layer.shares.items():
            for name, share in shares.items():
                yield of, name, share
    elif isinstance(layer, BatchLayerNorm):
        share = float(layer.batch_share)
        yield "result", "batch", share
        yield "result", "layer", 1 - share
