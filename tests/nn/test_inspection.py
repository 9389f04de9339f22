"""Shift between batches at each layer, Lipschitz bounds and learned mixtures, against values computed by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from scbatchnorm.nn import (
    Autoencoder,
    BatchLayerNorm,
    LayerNorm,
    MixedBatchNorm,
    SwitchableNorm,
    covariate_shift,
    learned_shares,
    lipschitz_bound,
)
from scbatchnorm.nn.inspection import drift, snapshot
from scbatchnorm.nn.network import NORMS
from tests.conftest import expression, labels

COLUMNS = ["layer", "norm", "position", "batch", "n_cells", "mean_shift", "variance_shift"]


def apart(n=90, d=4, seed=0):
    """Three batches that differ in mean and scale."""
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.arange(n) % 3)
    x = rng.normal(size=(n, d)) * (1 + codes[:, None]) + 2 * codes[:, None] * np.arange(d)
    return torch.from_numpy(x.astype(np.float32)), torch.from_numpy(codes)


def network(norm="batch", *, n_layers=2, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = Autoencoder(4, 3, n_hidden=16, n_layers=n_layers, norm=norm)
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
    return made


def shifts_by_hand(x, codes):
    """Of each batch, in numpy."""
    x, codes = x.detach().double().numpy(), codes.numpy()
    mean, variance = x.mean(0), x.var(0)
    return [
        (
            np.sqrt(np.mean((x[codes == b].mean(0) - mean) ** 2 / variance)),
            np.sqrt(np.mean(np.log(x[codes == b].var(0) / variance) ** 2)),
        )
        for b in np.unique(codes)
    ]


def test_shift_is_that_of_the_formula():
    x, codes = apart()
    layer = nn.BatchNorm1d(4).eval()
    table = covariate_shift(nn.Sequential(layer), x, codes)
    assert list(table.columns) == COLUMNS
    assert table["layer"].unique().tolist() == ["0"]
    assert table["norm"].unique().tolist() == ["BatchNorm1d"]
    for position, values in (("before", x), ("after", layer(x))):
        rows = table[table["position"] == position].set_index("batch").loc[["0", "1", "2"]]
        np.testing.assert_allclose(rows[["mean_shift", "variance_shift"]], shifts_by_hand(values, codes), rtol=1e-6)
        assert rows["n_cells"].tolist() == [30, 30, 30]


def test_what_the_statistics_do_to_a_shift():
    """Mixed ones leave it, those of batches take it away."""
    x, codes = apart()

    def after(statistics):
        layer = MixedBatchNorm(4, 3, statistics=statistics)
        layer.recalibrate([(x, codes)])
        table = covariate_shift(layer, x, codes).set_index("position")
        return np.asarray(table.loc["before", "mean_shift"]), table.loc[["after"]]

    before, mixed = after("mixed")
    np.testing.assert_allclose(mixed["mean_shift"], before, rtol=1e-5)
    _, own = after("per_batch")
    assert own["mean_shift"].max() < 1e-5
    assert own["variance_shift"].max() < 1e-3


def test_batches_have_names_and_any_order():
    x, codes = apart()
    names = np.array(["x", "y", "z"])[codes]
    table = covariate_shift(nn.Sequential(LayerNorm(4)), x.numpy(), names).set_index(["position", "batch"])
    order = np.random.default_rng(0).permutation(len(x))
    other = covariate_shift(nn.Sequential(LayerNorm(4)), x.numpy()[order], pd.Series(names[order]))
    pd.testing.assert_frame_equal(other.set_index(["position", "batch"]).loc[table.index], table)


def test_module_is_left_as_it_is():
    """Modes, statistics, generator and hooks, also if it fails."""
    x, codes = apart()
    made = network().train()
    made.get_submodule("encoder.1").eval()
    before, state = {k: v.clone() for k, v in made.state_dict().items()}, torch.get_rng_state()
    covariate_shift(made, x, codes)
    with pytest.raises(RuntimeError):
        covariate_shift(made, x[:, :3], codes)
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
    assert [m.training for m in made.encoder] == [True, False, *[True] * 5]
    assert not any(m._forward_hooks for m in made.modules())
    assert torch.equal(torch.get_rng_state(), state)


def test_autoencoder_has_the_latent_points_between_encoder_and_decoder():
    x, codes = apart()
    made = network().eval()
    table = covariate_shift(made, x, codes)
    order = ["encoder.1", "encoder.4", "latent", "decoder.1", "decoder.4"]
    assert table["layer"].unique().tolist() == order
    with torch.no_grad():
        expected = shifts_by_hand(made.encode(x, codes), codes)
    rows = table[table["layer"] == "latent"].set_index("batch").loc[["0", "1", "2"]]
    np.testing.assert_allclose(rows[["mean_shift", "variance_shift"]], expected, rtol=1e-5)


def test_features_that_do_not_vary_are_left_out():
    x, codes = apart()
    constant = torch.cat([x, torch.full((len(x), 2), 7.0)], 1)
    one, more = (covariate_shift(nn.BatchNorm1d(v.shape[1]), v, codes) for v in (x, constant))
    before = [t.loc[t["position"] == "before", ["mean_shift", "variance_shift"]] for t in (one, more)]
    np.testing.assert_allclose(before[0], before[1], rtol=1e-6)


def test_batch_of_one_cell_has_no_variance():
    x, codes = apart()
    table = covariate_shift(nn.BatchNorm1d(4), x[:31], [*["a"] * 30, "b"])
    assert table.loc[table["batch"] == "b", "variance_shift"].isna().all()
    assert table.loc[table["batch"] == "b", "mean_shift"].notna().all()


def test_codes_are_those_that_the_module_takes():
    """Not names, whose order would have to be guessed, and not counted anew where a batch is missing."""
    x, codes = apart()
    layer = MixedBatchNorm(4, 3, statistics="per_batch")
    layer.recalibrate([(x, codes)])
    table = covariate_shift(layer, x[codes != 0], codes[codes != 0])
    assert table["batch"].unique().tolist() == ["1", "2"]
    assert table.loc[table["position"] == "after", "mean_shift"].max() < 1e-5
    with pytest.raises(ValueError, match="batch must be the codes of the batches that MixedBatchNorm takes"):
        covariate_shift(layer, x, np.array(["a", "b", "c"])[codes])


@pytest.mark.parametrize("batch", [None, "donor", [0, 1]])
def test_batches_of_a_module_must_be_given(batch):
    with pytest.raises(ValueError, match="batch must"):
        covariate_shift(nn.BatchNorm1d(4), apart()[0], batch)


def test_drift_is_how_far_the_mean_moved():
    x, codes = apart()
    layer = nn.Sequential(nn.BatchNorm1d(4)).eval()
    first, second = snapshot(layer, x, codes, 3), snapshot(layer, x + torch.tensor([3.0, 0.0, 0.0, 0.0]), codes, 3)
    assert np.isnan(list(drift(first, None).values())).all()
    expected = float(3 / x[:, 0].double().std(correction=0)) / 2  # one of four features
    assert drift(second, first)["0", "before"] == pytest.approx(expected)
    assert drift(first, first)["0", "before"] == 0


@pytest.mark.parametrize("norm", [n for n in NORMS if n != "switchable"])
@pytest.mark.parametrize("n_layers", [1, 2])
def test_no_two_cells_are_moved_apart_by_more_than_the_bound(norm, n_layers):
    made = network(norm, n_layers=n_layers).train()
    x, codes = apart(300)
    with torch.no_grad():
        made(x, codes)
        made.eval()
        bound = lipschitz_bound(made)
        near = x + 1e-2 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
        moved = (made.encode(x, codes) - made.encode(near, codes)).norm(dim=1) / (x - near).norm(dim=1)
    assert np.isfinite(bound)
    assert moved.max() <= bound
    if norm in {"batch", "none", "whitened"}:
        assert bound < 30 * moved.max()  # not the loose bound of those that look at a cell alone


def test_bound_of_a_linear_encoder_is_exact():
    made = Autoencoder(4, 3, n_hidden=8, n_layers=1).eval()
    with torch.no_grad():
        made.linear_in[4:8] = torch.diag(torch.tensor([1.0, 0.0, 0.0, -3.0]))
    assert lipschitz_bound(made) == pytest.approx(2)  # |1 + 1| and |1 - 3|
    frozen = nn.Sequential(nn.Linear(4, 4, bias=False), nn.BatchNorm1d(4)).eval()
    matrix = frozen.get_parameter("0.weight").detach() / np.sqrt(1 + 1e-5)
    assert lipschitz_bound(frozen) == pytest.approx(float(torch.linalg.svdvals(matrix)[0]), rel=1e-5)


def test_bound_of_what_is_not_known():
    assert lipschitz_bound(SwitchableNorm(8)) == np.inf
    constant = nn.Linear(8, 8)
    nn.init.zeros_(constant.weight)
    assert lipschitz_bound(nn.Sequential(SwitchableNorm(8), constant)) == 0
    with pytest.raises(TypeError, match="no bound is known for Conv1d"):
        lipschitz_bound(nn.Sequential(nn.Conv1d(1, 1, 1)))
    training = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).train()
    lipschitz_bound(training)
    assert training.training


def test_estimator(fitted):
    """Offsets and the network in one table, with the names of the batches; the bound holds for what `transform` does."""
    X, batch = expression(), labels()
    table = covariate_shift(fitted, X, batch)
    places = list(dict.fromkeys(zip(table["layer"], table["position"], strict=True)))
    assert places[:3] == [("offsets", "before"), ("offsets", "after"), ("encoder.1", "before")]
    assert ("latent", "after") in places
    assert table["batch"].unique().tolist() == ["a", "b", "c"]
    by_place = table.groupby(["layer", "position"])["mean_shift"].mean()
    assert by_place["offsets", "after"] < by_place["offsets", "before"]
    points = fitted.stem_.encode(X)
    codes = torch.from_numpy(np.unique(batch, return_inverse=True)[1])
    rows = table[(table["layer"] == "offsets") & (table["position"] == "before")]
    np.testing.assert_allclose(
        rows[["mean_shift", "variance_shift"]], shifts_by_hand(torch.from_numpy(points), codes), rtol=1e-4
    )
    bound = lipschitz_bound(fitted)
    embedding = fitted.transform(X, batch)
    for b in "abc":
        cells = batch == b
        moved = np.linalg.norm(embedding[cells][1:] - embedding[cells][:-1], axis=1)
        assert (moved <= bound * np.linalg.norm(X[cells][1:] - X[cells][:-1], axis=1)).all()


def test_estimator_without_a_network(brief, X, batch):
    model = brief(strength=0).fit(X, batch)
    assert lipschitz_bound(model) == 1
    with pytest.raises(ValueError, match="covariate_shift needs a network, and this model has none: strength is 0"):
        covariate_shift(model, X, batch)


def shares_of(module):
    return {(row.of, row.statistics): row.share for row in learned_shares(module).itertuples()}


def test_switchable_has_shares_of_mean_and_variance():
    layer = SwitchableNorm(16)
    with torch.no_grad():
        layer.var_logit.copy_(torch.log(torch.tensor([1.0, 2.0, 5.0])))
    found = shares_of(layer)
    assert len(found) == 6
    np.testing.assert_allclose(
        [found["variance", k] for k in ("batch", "layer", "instance")], [1 / 8, 1 / 4, 5 / 8], rtol=1e-5
    )
    np.testing.assert_allclose([found["mean", k] for k in ("batch", "layer", "instance")], 1 / 3, rtol=1e-5)


def test_batch_layer_tells_the_share_of_inference():
    layer = BatchLayerNorm(4, equal_at=16.0)
    layer(torch.randn(48, 4, generator=torch.Generator().manual_seed(0)))
    assert shares_of(layer)["result", "batch"] == pytest.approx(48 / 64)
    assert shares_of(layer)["result", "layer"] == pytest.approx(16 / 64)


def test_layers_with_shares_are_named_and_others_left_out():
    network = nn.Sequential(MixedBatchNorm(4), nn.ModuleDict({"deep": SwitchableNorm(4)}), nn.LayerNorm(4))
    table = learned_shares(network)
    assert table["layer"].unique().tolist() == ["1.deep"]
    assert table["norm"].unique().tolist() == ["SwitchableNorm"]
    empty = learned_shares(nn.Linear(2, 2))
    assert list(empty.columns) == list(table.columns)
    assert not len(empty)


def test_shares_of_an_estimator(brief, X, batch):
    table = learned_shares(brief(norm="switchable").fit(X, batch))
    assert table["layer"].unique().tolist() == ["encoder.1", "encoder.4", "decoder.1", "decoder.4"]
    assert table.groupby(["layer", "of"])["share"].sum().to_numpy() == pytest.approx(1, rel=1e-5)
    assert (table["share"] - 1 / 3).abs().max() > 1e-3
    with pytest.raises(ValueError, match="learned_shares needs a network"):
        learned_shares(brief(strength=0).fit(X, batch))
