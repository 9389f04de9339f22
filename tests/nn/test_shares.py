"""What mixtures have learned is told layer by layer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from scbatchnorm.nn import BatchLayerNorm, MixedBatchNorm, SwitchableNorm, learned_shares


def rows(module):
    return {(row.of, row.statistics): row.share for row in learned_shares(module).itertuples()}


def test_switchable_has_shares_of_mean_and_variance():
    layer = SwitchableNorm(16)
    with torch.no_grad():
        layer.var_logit.copy_(torch.log(torch.tensor([1.0, 2.0, 5.0])))
    found = rows(layer)
    assert len(found) == 6
    np.testing.assert_allclose(
        [found["variance", k] for k in ("batch", "layer", "instance")], [1 / 8, 1 / 4, 5 / 8], rtol=1e-5
    )
    np.testing.assert_allclose([found["mean", k] for k in ("batch", "layer", "instance")], 1 / 3, rtol=1e-5)


def test_batch_layer_tells_the_share_of_inference():
    layer = BatchLayerNorm(4, equal_at=16.0)
    layer(torch.randn(48, 4, generator=torch.Generator().manual_seed(0)))
    assert rows(layer)["result", "batch"] == pytest.approx(48 / 64)
    assert rows(layer)["result", "layer"] == pytest.approx(16 / 64)


def test_layers_are_named_and_others_left_out():
    network = nn.Sequential(MixedBatchNorm(4), nn.ModuleDict({"deep": SwitchableNorm(4)}), nn.LayerNorm(4))
    table = learned_shares(network)
    assert table["layer"].unique().tolist() == ["1.deep"]
    assert table["norm"].unique().tolist() == ["SwitchableNorm"]
    empty = learned_shares(nn.Linear(2, 2))
    assert list(empty.columns) == list(table.columns)
    assert not len(empty)


def test_estimator(brief, X, batch):
    table = learned_shares(brief(norm="switchable").fit(X, batch))
    assert table["layer"].unique().tolist() == ["encoder.1", "encoder.4", "decoder.1", "decoder.4"]
    assert table.groupby(["layer", "of"])["share"].sum().to_numpy() == pytest.approx(1, rel=1e-5)
    assert (table["share"] - 1 / 3).abs().max() > 1e-3
    with pytest.raises(ValueError, match="learned_shares needs a network"):
        learned_shares(brief(strength=0).fit(X, batch))
